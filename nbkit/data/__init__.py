"""Reading, checking and splitting data. Rank 2: imports core and geometry."""
