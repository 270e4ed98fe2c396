"""Shared types and checks. Rank 0: imports nothing of nbkit; needs only numpy and torch."""
