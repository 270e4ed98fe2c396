"""Shapes of masks: how deep a voxel lies, and which piece is the largest."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def depth(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Distance in mm of every voxel of `mask` to what is outside it; 0 outside."""
    return ndimage.distance_transform_edt(mask, sampling=spacing)


def largest_piece(mask: np.ndarray, *, corners: bool = False) -> np.ndarray:
    """The largest piece of `mask`, connected through faces, or also through edges and corners; nothing of nothing."""
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)) if corners else None)
    return pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:]) if count else mask
