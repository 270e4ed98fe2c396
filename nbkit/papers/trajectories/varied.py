"""Heads that no scanner made: what a segmenter must not mind is drawn at random from real scans and their labels.

Shape (turned, scaled, bent, mirrored), contrast (a curve of greys, or new greys for every structure), inhomogeneity,
resolution, noise, and the edge of the brain mask (Billot et al., Med Image Anal 86:102789, 2023, on real images).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from nbkit.core.config import Settings
from nbkit.core.windows import filter_separable, gaussian_kernel
from nbkit.geometry.warp import Displacement, grid_positions, warp


@dataclass(frozen=True)
class Variety(Settings):
    """How far heads are varied; all our choice.

    Attributes
    ----------
    shape : float
        Share of heads of another shape; the others keep theirs.
    turn, scale, shift, bend : float
        Largest rotation about each axis (degrees), change of size along each axis (1), shift (mm), and standard
        deviation (mm) of a smooth displacement.
    synthetic : float
        Share of images drawn from the labels, with a grey and a texture for every structure.
    gamma, bias, noise : float
        Largest log exponent of the curve of greys, standard deviation of the log field, and of the noise (1 = range).
    blurred, coarsest : float
        Share of images seen in larger voxels first, and the largest of those (mm).
    """

    shape: float = 0.8
    turn: float = 8.0
    scale: float = 0.1
    shift: float = 4.0
    bend: float = 2.0
    synthetic: float = 0.15
    gamma: float = 0.6
    bias: float = 0.2
    noise: float = 0.08
    blurred: float = 0.5
    coarsest: float = 5.0


_BENT_MM = 24.0
"""Spacing of the points that bend a head."""
_BIAS_POINTS = 4
"""Along each axis, of the field of inhomogeneity."""


def reshaped(
    maps: Mapping[str, torch.Tensor], affine: np.ndarray, variety: Variety, rng: torch.Generator
) -> dict[str, torch.Tensor]:
    """Maps (1, X, Y, Z) of one head, alike turned, scaled, shifted and bent; whole numbers stay whole.

    Parameters
    ----------
    maps : mapping of str to torch.Tensor
        Floating maps are interpolated, all others take the nearest voxel.
    affine : numpy.ndarray
        4×4, voxel to world (mm).
    variety : Variety
    rng : torch.Generator
    """
    shape = tuple(next(iter(maps.values())).shape[1:])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    centre = affine @ np.array([*((np.array(shape) - 1) / 2), 1.0])
    turn = np.radians(variety.turn) * _between(rng, 3)
    scale = np.diag(1 + variety.scale * _between(rng, 3))
    x, y, z = (_rotation(axis, angle) for axis, angle in enumerate(turn))
    linear = torch.from_numpy(x @ y @ z @ scale - np.eye(3)).float()
    away = grid_positions(shape, affine) - torch.from_numpy(centre[:3]).float()[None, :, None, None, None]
    moved = torch.einsum("ij,bjxyz->bixyz", linear, away)
    moved = moved + torch.from_numpy(variety.shift * _between(rng, 3)).float()[None, :, None, None, None]
    points = [max(4, round(n * s / _BENT_MM)) for n, s in zip(shape, spacing, strict=True)]
    bent = variety.bend * torch.randn(1, 3, *points, generator=rng)
    moved = Displacement(moved + F.interpolate(bent, size=shape, mode="trilinear", align_corners=True))
    found = {}
    for name, value in maps.items():
        mode = "linear" if value.is_floating_point() else "nearest"
        found[name] = warp(value[None].float(), moved, affine=affine, mode=mode)[0].to(value.dtype)
    return found


def seen(image: torch.Tensor, spacing: float, variety: Variety, rng: torch.Generator) -> torch.Tensor:
    """An image (1, X, Y, Z) as another scanner might give it: its curve of greys, field, resolution and noise.

    The result runs from about 0 to 1; `spacing` is that of the image (mm).
    """
    low, high = float(image.min()), float(image.max())
    image = ((image - low) / max(high - low, 1e-6)).clamp(0, 1)
    curve, coarse, kind, level = torch.rand(4, generator=rng).tolist()
    image = image ** float(np.exp(variety.gamma * (2 * curve - 1)))
    field = variety.bias * torch.randn(1, 1, *[_BIAS_POINTS] * 3, generator=rng)
    image = image * F.interpolate(field, size=image.shape[1:], mode="trilinear", align_corners=True)[0].exp()
    if kind < variety.blurred:
        image = in_voxels_of(image, spacing, spacing + (variety.coarsest - spacing) * coarse)
    return image + variety.noise * level * torch.randn(image.shape, generator=rng)


def in_voxels_of(image: torch.Tensor, spacing: float, coarse: float) -> torch.Tensor:
    """An image (C, X, Y, Z) averaged over voxels of `coarse` mm and interpolated back to its own of `spacing` mm."""
    size = [max(2, round(n * spacing / coarse)) for n in image.shape[1:]]
    small = F.interpolate(image[None], size=size, mode="area")
    return F.interpolate(small, size=image.shape[1:], mode="trilinear")[0]


def painted(classes: torch.Tensor, count: int, rng: torch.Generator) -> torch.Tensor:
    """An image (1, X, Y, Z) with a grey and a texture for each of `count` classes, blurred a little; class 0 is 0."""
    mean, spread = torch.rand(count, generator=rng), 0.08 * torch.rand(count, generator=rng)
    mean[0] = spread[0] = 0.0
    index = classes.long()
    image = mean[index] + spread[index] * torch.randn(classes.shape, generator=rng)
    sigma = 0.3 + 0.6 * float(torch.rand((), generator=rng))
    return filter_separable(image[None], (gaussian_kernel(sigma),) * 3)[0]


def mirrored(maps: Mapping[str, torch.Tensor], swap: torch.Tensor, *, codes: str) -> dict[str, torch.Tensor]:
    """Maps (1, X, Y, Z) with left and right exchanged; in the map `codes`, code k becomes ``swap[k]``."""
    turned = {name: value.flip(1) for name, value in maps.items()}
    return turned | {codes: swap[turned[codes].long()].to(maps[codes].dtype)}


def _between(rng: torch.Generator, count: int) -> np.ndarray:
    """Draws between −1 and 1."""
    return 2 * torch.rand(count, generator=rng, dtype=torch.float64).numpy() - 1


def _rotation(axis: int, angle: float) -> np.ndarray:
    i, j = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix
