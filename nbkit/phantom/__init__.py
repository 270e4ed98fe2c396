"""Simulated brains and scanners with known truth. Rank 3: imports core, geometry and data."""
