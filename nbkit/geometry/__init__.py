"""Warps, flows and their derivatives in world millimetres. Rank 1: imports core only."""
