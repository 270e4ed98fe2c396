"""Pull-back warps in world millimetres: the one place where displacements become sampler coordinates."""

from __future__ import annotations

from typing import NewType

import numpy as np
import torch
import torch.nn.functional as F

from nbkit.core.checks import known, require
from nbkit.core.volume import Volume

Displacement = NewType("Displacement", torch.Tensor)
"""Displacement field u (B, 3, X, Y, Z) in mm, world components: the transform is x -> x + u(x)."""

_SAMPLER_MODES = {"linear": "bilinear", "nearest": "nearest"}
_PADDINGS = ("zeros", "border")


def check_field(field: torch.Tensor, where: str) -> None:
    """Refuse a vector field that is not (B, 3, X, Y, Z)."""
    require(
        field.ndim == 5 and field.shape[1] == 3, where, expected="shape (B, 3, X, Y, Z)", found=tuple(field.shape),
        remedy="Give one world component (mm) per channel, with a batch axis in front.",
    )


def to_voxels(field: torch.Tensor, affine: np.ndarray) -> torch.Tensor:
    """World components (mm) of a vector field (B, 3, X, Y, Z) as components in voxels of `affine`."""
    linear = torch.as_tensor(np.linalg.inv(np.asarray(affine, dtype=np.float64)[:3, :3])).to(field)
    return torch.einsum("ij,bjxyz->bixyz", linear, field)


def grid_positions(
    shape: tuple[int, int, int], affine: np.ndarray, *, like: torch.Tensor | None = None
) -> torch.Tensor:
    """Coordinates affine·(i, j, k, 1) of every voxel, shape (1, 3, X, Y, Z).

    With the affine of an image these are world positions in mm. Device and dtype follow `like`.
    """
    like = torch.empty(0) if like is None else like
    a = torch.as_tensor(np.asarray(affine, dtype=np.float64)).to(like)
    i, j, k = (torch.arange(n, device=a.device, dtype=a.dtype) for n in shape)
    rows = [(a[r, 0] * i)[:, None, None] + (a[r, 1] * j)[:, None] + a[r, 2] * k + a[r, 3] for r in range(3)]
    return torch.stack(rows)[None]


def warp(
    image: torch.Tensor, displacement_mm: Displacement, *, affine: np.ndarray,
    image_affine: np.ndarray | None = None, mode: str = "linear", padding: str = "zeros",
) -> torch.Tensor:
    """Pull `image` back through x -> x + u(x): ``moved(x) = image(x + u(x))``.

    Parameters
    ----------
    image : torch.Tensor
        (B, C, X, Y, Z), floating point.
    displacement_mm : torch.Tensor
        (B, 3, X', Y', Z') in mm with world components, on the grid of the result; B may be 1 for either.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm) of the displacement and of the result.
    image_affine : numpy.ndarray, optional
        4×4 voxel-to-world of `image`; by default the same as `affine`.
    mode : {"linear", "nearest"}
    padding : {"zeros", "border"}
        What lies outside `image`: zeros (linear values fade over one voxel), or its border voxels.

    Returns
    -------
    torch.Tensor
        (B, C, X', Y', Z').

    Raises
    ------
    NbkitError
        For a wrong shape, mode or padding, or an integer image.
    """
    check_field(displacement_mm, "warp: displacement_mm")
    require(
        image.ndim == 5 and image.is_floating_point(), "warp: image", expected="a floating (B, C, X, Y, Z) tensor",
        found=f"{image.dtype} {tuple(image.shape)}", remedy="Add batch and channel axes and call .float() first.",
    )
    image_affine = affine if image_affine is None else image_affine
    to_image = np.linalg.inv(image_affine) @ affine
    positions = grid_positions(displacement_mm.shape[2:], to_image, like=image)
    positions = positions + to_voxels(displacement_mm.to(image), image_affine)
    return _sample(image, positions, mode=mode, padding=padding)


def resample(
    volume: Volume, shape: tuple[int, int, int], affine: np.ndarray, *, mode: str = "linear", padding: str = "zeros"
) -> Volume:
    """Interpolate `volume` at the voxel centres of another grid; the caller averages first when that grid is coarser.

    Parameters
    ----------
    volume : Volume
        Any dtype; boolean and integer data come back in their own dtype (use ``mode="nearest"``).
    shape, affine
        Spatial shape (X, Y, Z) and 4×4 voxel-to-world of the new grid.
    mode, padding
        As in :func:`warp`.
    """
    data = volume.data
    require(
        data.is_floating_point() or mode == "nearest", "resample: mode", expected="'nearest' for labels and masks",
        found=repr(mode), remedy="Use mode='nearest', or convert the data with .float() to get fractions.",
    )
    values = data[None] if data.is_floating_point() else data[None].double()
    positions = grid_positions(shape, np.linalg.inv(volume.affine) @ affine, like=values)
    moved = _sample(values, positions, mode=mode, padding=padding)[0].to(data.dtype)
    return Volume(moved, affine, volume.history + (f"resample {mode} to {'×'.join(map(str, shape))}",))


def _sample(image: torch.Tensor, positions: torch.Tensor, *, mode: str, padding: str) -> torch.Tensor:
    """`image` (B, C, X, Y, Z) at voxel `positions` (B, 3, X', Y', Z')."""
    known(mode, _SAMPLER_MODES, "warp: mode")
    known(padding, _PADDINGS, "warp: padding")
    batch = max(image.shape[0], positions.shape[0])
    size = torch.tensor(image.shape[2:]).to(positions).clamp(min=2).view(1, 3, 1, 1, 1)
    unit = (positions * (2 / (size - 1)) - 1).flip(1).movedim(1, -1)
    return F.grid_sample(
        image.expand(batch, *image.shape[1:]), unit.expand(batch, *unit.shape[1:]),
        mode=_SAMPLER_MODES[mode], padding_mode=padding, align_corners=True,
    )
