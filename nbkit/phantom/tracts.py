"""Where white matter is anisotropic: along main bundles most, in crossing fibres near the cortex least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage

from nbkit.core.volume import Volume
from nbkit.phantom.anatomy import Template
from nbkit.phantom.parameters import Parameters

_STEP = 0.5
"""mm between points along a bundle."""


@lru_cache(maxsize=1)
def template_coherence(template: Template, parameters: Parameters) -> Volume:
    """:func:`coherence` of the template, with the bundles of the parameter file (``bundles``, both sides)."""
    white = template.fractions.with_data(template.fractions.data[1:2])
    reach = 2 * parameters["tracts.radius"] ** 2
    near = {
        kind: np.exp(-(_distance(list(parameters.section(f"bundles.{kind}").values()), white) ** 2) / reach)
        for kind in parameters.groups("bundles")
    }
    return coherence(white, near, parameters=parameters)


def coherence(white: Volume, near: Mapping[str, np.ndarray], *, parameters: Parameters) -> Volume:
    """Anisotropy (AD − RD) of white matter over its mean, from depth below the surface and nearness to bundles.

    Parameters
    ----------
    white : Volume
        (1, X, Y, Z) share of white matter, 0-1.
    near : mapping of str to numpy.ndarray
        By kind of bundle ("commissural", "projection", ...), (X, Y, Z), from 0 (far) to 1 (inside).
    parameters : Parameters
        ``tracts``.

    Returns
    -------
    Volume
        (1, X, Y, Z) float32 with mean 1 over white matter.
    """
    p, share = parameters.section("tracts"), white.data[0].numpy()
    depth = ndimage.distance_transform_edt(share > 0.5, sampling=white.spacing)
    level = p["edge"] + (p["deep"] - p["edge"]) * np.minimum(depth / p["depth"], 1)
    for kind, closeness in near.items():
        level = np.maximum(level, level + (p[kind] - level) * closeness)
    level = level + 1 - float((level * share).sum() / share.sum())
    return Volume(torch.from_numpy(level[None].astype(np.float32)), white.affine, ("main bundles",))


def _distance(lines: Sequence[Sequence[Sequence[float]]], grid: Volume) -> np.ndarray:
    """mm to the nearest of some lines (points in world mm, x ≥ 0, and their mirror images), (X, Y, Z)."""
    points = np.concatenate([_sampled(np.asarray(line, dtype=float)) for line in lines])
    points = np.concatenate([points, points * (-1, 1, 1)])
    voxels = np.rint(np.c_[points, np.ones(len(points))] @ np.linalg.inv(grid.affine).T)[:, :3].astype(int)
    free = np.ones(grid.shape, dtype=bool)
    free[tuple(voxels[((voxels >= 0) & (voxels < grid.shape)).all(axis=1)].T)] = False
    return ndimage.distance_transform_edt(free, sampling=grid.spacing)


def _sampled(line: np.ndarray) -> np.ndarray:
    """Points on straight pieces between the corners of a line, (n, 3)."""
    lengths = np.linalg.norm(np.diff(line, axis=0), axis=1)
    at = np.concatenate([[0], np.cumsum(lengths)])
    along = np.arange(0, at[-1] + _STEP, _STEP)
    return np.stack([np.interp(along, at, axis) for axis in line.T], axis=1)
