"""Losses: one value per subject. Rank 2: imports core and geometry."""
