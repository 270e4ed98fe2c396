"""How CounterSynth's training scans are varied: turned, moved and scaled, their contrast bent, noise added.

The public code does each of these with one probability through MONAI's transforms, whose defaults the ranges below
are; it adds an elastic part (less than a voxel) and shifts of the histogram, which are left out here: the first moves
nothing that can be seen, the second is a bend of contrast once more.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from nbkit.geometry.warp import Displacement, grid_positions, warp

TURN, SHIFT, SCALE = 0.18, 4.0, 0.10
"""Largest rotation about each axis (radians), translation (voxels) and change of scale."""
GAMMA, NOISE = (0.5, 4.5), 0.1
"""Exponents of the contrast, and the largest standard deviation of the noise, in that of the image."""


def standardised(image: torch.Tensor) -> torch.Tensor:
    """(X − mean) / SD over all voxels of each image (B, 1, X, Y, Z); a flat one stays at 0."""
    mean = image.mean(dim=(1, 2, 3, 4), keepdim=True)
    sd = (image - mean).square().mean(dim=(1, 2, 3, 4), keepdim=True).sqrt()
    return (image - mean) / sd.clamp(min=1e-6)


def varied(image: torch.Tensor, rng: np.random.Generator, *, share: float, affine: np.ndarray) -> torch.Tensor:
    """One scan (1, 1, X, Y, Z), 0 outside the head, each variation drawn with probability `share`."""
    moves, bends, blurs = rng.random(3) < share
    if moves:
        image = warp(image, placed(image, rng, affine), affine=affine)
    if bends:
        low, high = image.min(), image.max().clamp(min=image.min() + 1e-6)
        gamma = float(rng.uniform(*GAMMA))
        image = ((image - low) / (high - low)) ** gamma * (high - low) + low
    if blurs:
        noise = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
        image = image + rng.uniform(0, NOISE) * image.std() * noise
    return image


def placed(image: torch.Tensor, rng: np.random.Generator, affine: np.ndarray) -> Displacement:
    """Displacement (1, 3, X, Y, Z), mm, of a turn, a move and a change of scale about the middle of the grid."""
    places = grid_positions(image.shape[2:], affine)
    middle = places.mean(dim=(2, 3, 4), keepdim=True)
    mm = np.linalg.norm(affine[:3, :3], axis=0)
    turn = Rotation.from_euler("xyz", rng.uniform(-TURN, TURN, 3)).as_matrix()
    matrix = torch.from_numpy(turn * (1 + rng.uniform(-SCALE, SCALE, 3)))
    shift = torch.from_numpy(rng.uniform(-SHIFT, SHIFT, 3) * mm).float()
    turned = torch.einsum("ij,bjxyz->bixyz", matrix.float(), places - middle)
    return Displacement(turned + middle + shift[None, :, None, None, None] - places)
