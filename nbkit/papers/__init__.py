"""One file per system. Rank 4: imports no cohort, no phantom and no published number."""
