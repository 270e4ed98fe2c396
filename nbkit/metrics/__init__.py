"""Metrics: explicit range or voxel size, one value per subject. Rank 2: imports core and geometry, never losses."""
