"""Similarity of two images as registration and losses see it: one differentiable value per subject."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from nbkit.core.checks import require
from nbkit.core.windows import box_kernel, filter_separable

_FLAT = 1e-3
"""Share of an image's variance below which a window counts as flat: flat windows tell nothing about position."""
_TINY = 1e-30


class _BoxMean(torch.autograd.Function):
    """Mean over a cube of odd `width`. Reflecting borders make the filter its own adjoint, so backward is forward."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, width: int) -> torch.Tensor:
        ctx.width = width
        return filter_separable(x, (box_kernel(width),) * 3)

    @staticmethod
    def backward(ctx, slope: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _BoxMean.apply(slope, ctx.width), None


def lncc(a: torch.Tensor, b: torch.Tensor, *, window: int = 9) -> torch.Tensor:
    """Squared correlation of two images in a sliding cube, averaged over all voxels.

    Per window cov² / ((var_a + ε_a)(var_b + ε_b)), with ε a thousandth of the variance of the whole image, so
    that flat regions give 0. Unchanged by an affine change of either image's intensities, also by inversion.
    Windows at the border see the image reflected.

    Parameters
    ----------
    a, b : torch.Tensor
        (B, C, X, Y, Z), floating point, any unit; channels are compared one with one.
    window : int
        Odd width of the cube in voxels.

    Returns
    -------
    torch.Tensor
        (B,), from 0 to 1 (the same up to contrast).

    Raises
    ------
    NbkitError
        For different shapes, integer images or an even window.

    References
    ----------
    Avants et al., Med Image Anal 2008 (cross-correlation metric, window 9 by default).
    """
    _check_pair(a, b, "lncc")
    require(
        window % 2 == 1 and window > 1, "lncc: window", expected="an odd width of at least 3 voxels", found=window,
        remedy="Use 5, 7 or 9.",
    )
    # taking off the mean changes no covariance, and keeps float32 from losing small ones in large squares
    a, b = (x - x.detach().mean(dim=(2, 3, 4), keepdim=True) for x in (a, b))
    means = _BoxMean.apply(torch.cat([a, b, a * a, b * b, a * b], dim=1), window)
    mean_a, mean_b, square_a, square_b, product = means.chunk(5, dim=1)
    spread_a = square_a - mean_a * mean_a + _flat(a)
    spread_b = square_b - mean_b * mean_b + _flat(b)
    covariance = product - mean_a * mean_b
    return (covariance / spread_a * (covariance / spread_b)).flatten(1).mean(dim=1)


def ncc(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Pearson correlation of two images over all voxels, (B,), from -1 to 1; 0 where one of them is constant.

    `a` and `b` are (B, C, X, Y, Z), floating point, any unit.
    """
    _check_pair(a, b, "ncc")
    return F.cosine_similarity(*(x.flatten(1) - x.flatten(1).mean(dim=1, keepdim=True) for x in (a, b)))


def mse(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of two images (B, C, X, Y, Z) over all voxels and channels, (B,), in their unit²."""
    _check_pair(a, b, "mse")
    return (a - b).square().flatten(1).mean(dim=1)


def _flat(x: torch.Tensor) -> torch.Tensor:
    return _FLAT * x.var(dim=(2, 3, 4), keepdim=True, correction=0) + _TINY


def _check_pair(a: torch.Tensor, b: torch.Tensor, where: str) -> None:
    require(
        a.shape == b.shape and a.ndim == 5 and a.is_floating_point() and b.is_floating_point(), f"{where}: a, b",
        expected="two floating (B, C, X, Y, Z) tensors of one shape",
        found=f"{a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}",
        remedy="Resample one image onto the grid of the other first (nbkit.geometry.warp.resample), as floats.",
    )
