"""Vector fields that the laws of flows are tried on."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from nbkit.geometry.warp import grid_positions
from tests.geometry.frames import FRAMES, SHAPE

CENTRE = np.array([3.0, -5.0, 7.0])
GENERATOR = np.array([[0.05, -0.12, 0.03], [0.10, -0.08, 0.02], [-0.04, 0.06, 0.07]])
OTHER = np.array([[-0.07, 0.04, 0.11], [0.02, 0.09, -0.06], [0.08, -0.03, 0.05]])
INSIDE = (slice(None), slice(None), *(slice(4, -4),) * 3)


def linear_field(matrix: np.ndarray, affine: np.ndarray) -> torch.Tensor:
    """matrix · (x − CENTRE) at every voxel: the centre stays where it is."""
    offset = grid_positions(SHAPE, affine, like=torch.empty(0, dtype=torch.float64))
    offset = offset - torch.as_tensor(CENTRE).view(1, 3, 1, 1, 1)
    return torch.einsum("ij,bjxyz->bixyz", torch.as_tensor(matrix), offset)


def smooth_field(affine: np.ndarray, *, size_mm: float, seed: int = 0) -> torch.Tensor:
    """A smooth random field that fades out towards the border."""
    field = np.random.default_rng(seed).normal(size=(3, *SHAPE))
    window = [np.hanning(n + 2)[1:-1] for n in SHAPE]
    field = np.stack([ndimage.gaussian_filter(c, 2.5) for c in field]) * np.einsum("i,j,k->ijk", *window)
    return torch.from_numpy(field * size_mm / np.linalg.norm(field, axis=0).max())[None]


def swirl_at(place: np.ndarray) -> np.ndarray:
    """Velocity (3, ...) in mm at a place (3, ...) of a cube, each coordinate between 0 and 1."""
    x, y, z = (place - 0.5) * np.pi
    bump = (np.cos(x) * np.cos(y) * np.cos(z)) ** 2
    return 3 * bump * np.stack([np.sin(2 * y), -np.sin(2 * x), np.cos(x + z)])


def swirl(n: int) -> tuple[torch.Tensor, np.ndarray]:
    """A smooth 3 mm swirl, zero on the border of a 40 mm cube sampled n times per axis, in an oblique frame."""
    affine = FRAMES["oblique"].copy()
    affine[:3, :3] /= np.linalg.norm(affine[:3, :3], axis=0) * (n - 1) / 40
    return torch.from_numpy(swirl_at(np.indices((n, n, n)) / (n - 1)))[None], affine
