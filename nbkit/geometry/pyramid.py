"""Coarser grids for registration: block averages whose blocks are as near to cubes, in mm, as the voxels allow."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

Factor = tuple[int, int, int]

_FEWEST_VOXELS = 4


def block(shape: tuple[int, int, int], affine: np.ndarray, *, mm: float) -> Factor:
    """Voxels per block along X, Y, Z that bring the spacing of `affine` nearest to `mm`.

    At least 1, so a grid is never refined, and few enough that about four blocks remain on each axis.
    """
    spacing = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    return tuple(max(1, min(round(mm / s), n // _FEWEST_VOXELS)) for s, n in zip(spacing, shape, strict=True))


def block_affine(affine: np.ndarray, factor: Factor) -> np.ndarray:
    """Voxel-to-world matrix of the block centres."""
    step = np.diag([*map(float, factor), 1.0])
    step[:3, 3] = (np.array(factor) - 1) / 2
    return np.asarray(affine, dtype=np.float64) @ step


def pad_to_multiple(image: torch.Tensor, factor: Factor) -> torch.Tensor:
    """Repeat the last voxels of (B, C, X, Y, Z) until each axis is a multiple of `factor`; the affine stays."""
    missing = [-n % f for n, f in zip(image.shape[2:], factor, strict=True)]
    return F.pad(image, [m for extra in reversed(missing) for m in (0, extra)], mode="replicate")


def shrink(image: torch.Tensor, affine: np.ndarray, factor: Factor) -> tuple[torch.Tensor, np.ndarray]:
    """Block means of an image (B, C, X, Y, Z) and the voxel-to-world matrix of the result.

    A block that reaches past the end of an axis is filled up with the last voxel there.
    """
    return F.avg_pool3d(pad_to_multiple(image, factor), factor), block_affine(affine, factor)
