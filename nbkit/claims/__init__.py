"""What was published, what we observed, and the verdicts between the two. Rank 1: imports core only."""
