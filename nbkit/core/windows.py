"""Local means over sliding windows, shared by SSIM and local correlation."""

from __future__ import annotations

import torch

Kernels = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def gaussian_kernel(sigma: float, *, truncate: float = 3.5) -> torch.Tensor:
    """Normalised 1D Gaussian of standard deviation `sigma` in voxels, length 2·round(truncate·sigma)+1."""
    radius = int(truncate * sigma + 0.5)
    x = torch.arange(-radius, radius + 1, dtype=torch.float64)
    k = torch.exp(-0.5 * (x / sigma) ** 2) if sigma > 0 else torch.ones(1, dtype=torch.float64)
    return k / k.sum()


def box_kernel(width: int) -> torch.Tensor:
    """Normalised 1D box of odd `width` voxels."""
    return torch.full((width,), 1.0 / width, dtype=torch.float64)


def filter_separable(x: torch.Tensor, kernels: Kernels) -> torch.Tensor:
    """Correlate (B, C, X, Y, Z) with one odd 1D kernel per axis; borders reflect (half-sample, scipy's "reflect")."""
    for axis, kernel in enumerate(kernels):
        x = _filter_axis(_reflect_axis(x, kernel.numel() // 2, axis + 2), kernel, axis + 2)
    return x


def filter_valid(x: torch.Tensor, kernels: Kernels) -> torch.Tensor:
    """As :func:`filter_separable`, only where the window fits: each axis loses its kernel's length minus 1 voxels."""
    for axis in (2, 1, 0):
        x = _filter_axis(x, kernels[axis], axis + 2)
    return x


def pad_reflect(x: torch.Tensor, radius: int) -> torch.Tensor:
    """Grow (B, C, X, Y, Z) by `radius` voxels on all six sides; borders reflect (half-sample)."""
    for axis in (2, 3, 4):
        x = _reflect_axis(x, radius, axis)
    return x


def _reflect_axis(x: torch.Tensor, radius: int, axis: int) -> torch.Tensor:
    n = x.shape[axis]
    if 0 < radius <= n:  # joining ends is several times faster than choosing every plane by index
        ends = (x.narrow(axis, start, radius).flip(axis) for start in (0, n - radius))
        return torch.cat([next(ends), x, next(ends)], dim=axis)
    index = torch.arange(-radius, n + radius, device=x.device) % (2 * n)
    return x.index_select(axis, torch.where(index >= n, 2 * n - 1 - index, index)) if radius else x


def _filter_axis(x: torch.Tensor, kernel: torch.Tensor, axis: int) -> torch.Tensor:
    # shifted sums: several times faster on a CPU than a one-channel convolution
    weights = kernel.tolist()
    size = x.shape[axis] - len(weights) + 1
    total = x.narrow(axis, 0, size) * weights[0]
    for start, weight in enumerate(weights[1:], 1):
        total.add_(x.narrow(axis, start, size), alpha=weight)
    return total
