"""The grid that volumes of real scans are read on, in the template's world."""

from __future__ import annotations

from nbkit.phantom.acquisition import Box, box_around
from nbkit.phantom.longitudinal import ageing_parameters

READ_GRID = (2.0, (84, 96, 84))
"""Voxel size (mm) and shape, round the template's centre; the field of view of the simulated cohorts."""


def reading_box() -> Box:
    """Shape and affine."""
    return box_around(ageing_parameters()["grid.centre"], *READ_GRID)
