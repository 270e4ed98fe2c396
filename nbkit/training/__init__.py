"""One loop, a few kinds of step, cross-validation; everything else is handed in. Rank 1: imports core."""
