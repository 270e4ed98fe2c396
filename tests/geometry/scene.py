"""Analytic scenes in world millimetres: what registration is tried on, rendered on any grid without interpolation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from nbkit.core.volume import Volume
from tests.geometry.frames import FRAMES

CENTRE = np.array([3.0, -5.0, 7.0])
_RNG = np.random.default_rng(5)
_PLACES, _WIDTHS, _HEIGHTS = _RNG.uniform(-22, 22, (24, 3)), _RNG.uniform(4, 8, 24), _RNG.uniform(0.4, 1.0, 24)
_WAVES = _RNG.normal(size=(60, 3))
_WAVES *= 2 * np.pi / (_RNG.uniform(10, 25, 60) * np.linalg.norm(_WAVES, axis=1))[:, None]
_PHASES = _RNG.uniform(0, 2 * np.pi, 60)

Map = Callable[[np.ndarray], np.ndarray]


def grid(name: str, *, spacing: tuple[float, float, float], extent: float = 84.0) -> Volume:
    """An empty volume in a frame of :data:`tests.geometry.frames.FRAMES`, around CENTRE, `extent` mm wide."""
    linear = FRAMES[name][:3, :3] / np.linalg.norm(FRAMES[name][:3, :3], axis=0) * spacing
    shape = tuple(int(extent / s) for s in spacing)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, CENTRE - linear @ (np.array(shape) - 1) / 2
    return Volume(torch.zeros(1, *shape), affine)


def places(like: Volume) -> np.ndarray:
    """World positions (N, 3) of the voxels of `like`."""
    index = np.indices(like.shape).reshape(3, -1)
    return (like.affine[:3, :3] @ index + like.affine[:3, 3:]).T


def scene(world: np.ndarray) -> np.ndarray:
    """Intensity (N,) at places (N, 3) in mm: 24 blobs of 4-8 mm within 22 mm of CENTRE along each axis, 0 far away."""
    gap = (world - CENTRE)[:, None] - _PLACES
    return np.exp(-np.square(gap).sum(axis=-1) / (2 * _WIDTHS**2)) @ _HEIGHTS


def texture(world: np.ndarray) -> np.ndarray:
    """Intensity (N,) at places (N, 3) in mm: waves of 10-25 mm in all directions, fading out 30 mm from CENTRE."""
    gap = world - CENTRE
    return np.exp(-np.square(np.square(gap).sum(axis=1) / 28**2)) * (12 + np.cos(gap @ _WAVES.T + _PHASES).sum(axis=1))


def render(like: Volume, back: Map = lambda world: world) -> Volume:
    """The scene on the grid of `like`, where `back` says which place of the scene is seen at a place of the image."""
    return like.with_data(torch.from_numpy(scene(back(places(like))).reshape(like.shape)).float()[None])
