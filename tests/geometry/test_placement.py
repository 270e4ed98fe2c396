"""Placing is one interpolation of the composed transform, and keeps means on coarser grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nbkit.core.volume import Volume
from nbkit.geometry.placement import place
from nbkit.geometry.warp import Displacement
from tests.data.test_preprocess import SHAPE, centred, head, turned


def smooth_field(shape, seed, size_mm):
    noise = np.random.default_rng(seed).normal(size=(3, *shape))
    field = np.stack([ndimage.gaussian_filter(n, 3) for n in noise])
    return Displacement(torch.from_numpy(size_mm * field / np.abs(field).max()).float()[None])


def test_place_is_one_interpolation_of_the_composed_transform():
    image = head()[0]
    shape, affine = (40, 44, 42), turned((5, -3), (2, 1, 0)) @ centred((40, 44, 42))
    matrix, shift = turned((9, 7), (4, -6, 3)), smooth_field((40, 44, 42), 0, 6.0)
    placed = place(image, matrix, shape=shape, affine=affine, displacement=shift)
    world = np.einsum("ij,jxyz->ixyz", affine[:3, :3], np.indices(shape)) + affine[:3, 3, None, None, None]
    at = np.linalg.inv(image.affine) @ matrix
    moved = world + shift[0].double().numpy()
    voxels = np.einsum("ij,jxyz->ixyz", at[:3, :3], moved) + at[:3, 3, None, None, None]
    expected = ndimage.map_coordinates(image.data[0].double().numpy(), voxels, order=1, mode="constant")
    inner = (voxels > 1).all(axis=0) & (voxels.T < np.array(SHAPE) - 2).all(axis=-1).T
    np.testing.assert_allclose(placed.data[0].numpy()[inner], expected[inner], atol=0.05)
    assert sum("interpolation" in step for step in placed.history) == 1
    assert not any("resample" in step for step in placed.history)


def test_place_on_a_coarser_grid_keeps_means_and_does_not_alias():
    i, j, k = np.indices((48, 48, 48))
    checks = Volume(torch.from_numpy(((i + j + k) % 2).astype(np.float32)), np.eye(4))
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = 6
    coarse = place(checks, np.eye(4), shape=(10, 10, 10), affine=affine).data
    torch.testing.assert_close(coarse, torch.full_like(coarse, 0.5), atol=2e-3, rtol=0)
    blob = torch.zeros(48, 48, 48)
    blob[16:32, 18:30, 20:28] = 1.0
    share = place(Volume(blob, np.eye(4)), np.eye(4), shape=(12, 12, 12), affine=np.diag([4.0, 4, 4, 1]))
    assert float(share.data.sum()) * 64 == pytest.approx(float(blob.sum()), rel=0.01)
