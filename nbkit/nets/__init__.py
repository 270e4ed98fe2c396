"""Network blocks that several papers share. Rank 2: imports core and geometry."""
