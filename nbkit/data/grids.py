"""Coarser grids by block averages: the mean over whole blocks of voxels is its own anti-aliasing filter."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from nbkit.core.checks import known, require
from nbkit.core.config import PROFILES
from nbkit.core.volume import Volume

PROFILE_SPACING_MM = {"smoke": 3.0, "laptop": 2.0, "overnight": 0.0, "paper": 0.0}


def block_mean(volume: Volume, factor: tuple[int, int, int]) -> Volume:
    """Average blocks of `factor` voxels along X, Y, Z, as a scanner with larger voxels would.

    The affine moves with the block centres, so world coordinates stay exact. What is left over at the far
    end of an axis (fewer than `factor` voxels) is dropped; a factor of 1 changes nothing.

    Returns
    -------
    Volume
        float32, shape (C, X // fx, Y // fy, Z // fz).
    """
    require(
        all(1 <= f <= n for f, n in zip(factor, volume.shape, strict=True)), "block_mean: factor",
        expected=f"between 1 and the shape {volume.shape}", found=factor, remedy="Use smaller blocks.",
    )
    if set(factor) == {1}:
        return Volume(volume.data.float(), volume.affine, volume.history)
    step = np.diag([*map(float, factor), 1.0])
    step[:3, 3] = (np.array(factor) - 1) / 2
    data = F.avg_pool3d(volume.data.float()[None], factor)[0]
    return Volume(data, volume.affine @ step, (*volume.history, f"block mean {'×'.join(map(str, factor))}"))


def block_majority(mask: Volume, factor: tuple[int, int, int]) -> Volume:
    """A boolean mask on the grid of :func:`block_mean`: true where at least half of the block is."""
    share = block_mean(mask, factor)
    return share.with_data(share.data >= 0.5, "at least half")


def profile_factor(spacing: tuple[float, float, float], profile: str) -> tuple[int, int, int]:
    """Block size per axis that brings `spacing` (mm) nearest to a profile's: smoke 3 mm, laptop 2 mm, paper as is."""
    known(profile, PROFILES, "profile_factor: profile")
    return tuple(max(1, round(PROFILE_SPACING_MM[profile] / s)) for s in spacing)
