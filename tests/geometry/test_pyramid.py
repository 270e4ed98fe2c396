"""Block averages keep their place in the world and come near to cubes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.measure import block_reduce

from nbkit.geometry.pyramid import block, block_affine, pad_to_multiple, shrink
from nbkit.geometry.warp import grid_positions
from tests.geometry.frames import FRAMES

SHAPE = (12, 8, 10)


@pytest.mark.parametrize("affine", FRAMES.values(), ids=FRAMES)
def test_a_linear_function_of_the_world_stays_where_it_is(affine):
    like = torch.empty(0, dtype=torch.float64)
    small, coarse = shrink(grid_positions(SHAPE, affine, like=like), affine, (3, 2, 5))
    assert torch.allclose(small, grid_positions((4, 4, 2), coarse, like=like), atol=1e-10)


def test_block_means_agree_with_scikit_image_and_ends_are_filled_with_the_last_voxel():
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, *SHAPE)))
    small, _ = shrink(image, np.eye(4), (5, 3, 4))
    filled = np.pad(image.numpy(), [(0, 0), (0, 0), (0, 3), (0, 1), (0, 2)], mode="edge")
    assert np.allclose(small, block_reduce(filled, (1, 1, 5, 3, 4), np.mean))
    assert torch.equal(pad_to_multiple(image, (5, 3, 4)), torch.from_numpy(filled))
    assert torch.equal(pad_to_multiple(image, (4, 2, 5)), image)


def test_blocks_come_near_to_cubes_of_the_wanted_size():
    slabs = np.diag([-1.0, 0.8, 5.0, 1.0])
    assert block((200, 250, 40), slabs, mm=4.0) == (4, 5, 1)
    assert block((200, 250, 40), slabs, mm=0.5) == (1, 1, 1)
    assert block((9, 7, 3), np.eye(4), mm=8.0) == (2, 1, 1)
    spacing = np.linalg.norm(block_affine(FRAMES["oblique"], (2, 3, 4))[:3, :3], axis=0)
    assert np.allclose(spacing, [3.0, 6.0, 3.6])
