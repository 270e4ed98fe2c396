"""Whether a deformation folds space, and how far it stays from folding. One value per field."""

from __future__ import annotations

import numpy as np
import torch

from nbkit.core.checks import require
from nbkit.geometry.flow import jacobian_determinant
from nbkit.geometry.warp import Displacement


def folding_fraction(
    displacement_mm: Displacement, *, affine: np.ndarray, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Share of voxels at which x -> x + u(x) folds: a Jacobian determinant that is not above zero.

    Parameters
    ----------
    displacement_mm : torch.Tensor
        u (B, 3, X, Y, Z) in mm, world components.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm).
    mask : torch.Tensor, optional
        (B, 1, X, Y, Z) bool, with B = 1 for one mask for all; by default every voxel counts.

    Returns
    -------
    torch.Tensor
        (B,) float64, from 0 to 1. Not finite counts as folded.
    """
    folded = ~(jacobian_determinant(displacement_mm, affine=affine) > 0)[:, None]
    if mask is None:
        return folded.double().mean(dim=(1, 2, 3, 4))
    inside = _fitting(mask.bool(), folded, "folding_fraction: mask")
    return (folded & inside).sum(dim=(1, 2, 3, 4)).double() / inside.sum(dim=(1, 2, 3, 4))


def smallest_jacobian(
    displacement_mm: Displacement, *, affine: np.ndarray, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Smallest Jacobian determinant of x -> x + u(x) over the voxels of `mask`, (B,): how far from folding it stays.

    Arguments as in :func:`folding_fraction`.
    """
    values = jacobian_determinant(displacement_mm, affine=affine)[:, None]
    if mask is not None:
        values = values.masked_fill(~_fitting(mask.bool(), values, "smallest_jacobian: mask"), torch.inf)
    return values.flatten(1).amin(dim=1)


def _fitting(mask: torch.Tensor, like: torch.Tensor, where: str) -> torch.Tensor:
    require(
        mask.ndim == 5 and mask.shape[1:] == like.shape[1:] and len(mask) in (1, len(like)), where,
        expected=f"shape {tuple(like.shape)}, or 1 in place of {len(like)}", found=tuple(mask.shape),
        remedy="Give it on the grid of the field, with a batch and a channel axis.",
    )
    return mask.expand(len(like), -1, -1, -1, -1)
