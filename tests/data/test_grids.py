"""Block averages: world coordinates stay exact, values agree with scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import block_reduce

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.data import grids

AFFINE = np.array([[0.9, 0.2, 0.0, -7.0], [-0.2, 1.1, 0.1, 4.0], [0.0, -0.1, 3.0, 2.0], [0, 0, 0, 1.0]])


def world(volume: Volume) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, volume.shape), [1.0], indexing="ij"), -1)[..., 0, :]
    return index @ volume.affine.T


@settings(max_examples=30, deadline=None)
@given(factor=st.tuples(*[st.integers(1, 3)] * 3), shape=st.tuples(*[st.integers(3, 9)] * 3))
def test_a_linear_field_keeps_its_value_at_every_block_centre(factor, shape):
    field = Volume(torch.zeros(shape), AFFINE)
    slope = np.array([0.3, -1.2, 0.7, 5.0])
    fine = field.with_data(torch.from_numpy(world(field) @ slope)[None])
    coarse = grids.block_mean(fine, factor)
    assert coarse.shape == tuple(n // f for n, f in zip(shape, factor, strict=True))
    np.testing.assert_allclose(coarse.numpy(), world(coarse) @ slope, atol=1e-4)


def test_values_agree_with_scikit_image():
    data = torch.rand(6, 9, 4)
    ours = grids.block_mean(Volume(data, AFFINE), (2, 3, 2)).numpy()
    np.testing.assert_allclose(ours, block_reduce(data.numpy(), (2, 3, 2), np.mean), rtol=1e-6)


def test_a_factor_of_one_changes_nothing():
    volume = Volume(torch.rand(3, 4, 5), AFFINE, ("read",))
    same = grids.block_mean(volume, (1, 1, 1))
    assert torch.equal(same.data, volume.data)
    assert same.history == ("read",)


def test_majority_is_half_or_more():
    mask = torch.zeros(4, 2, 2, dtype=torch.bool)
    mask[0] = True  # four of eight
    mask[2, 0, 0] = mask[2, 1, 1] = mask[3, 0, 1] = True  # three of eight
    coarse = grids.block_majority(Volume(mask), (2, 2, 2))
    assert coarse.data.dtype == torch.bool
    assert coarse.data.flatten().tolist() == [True, False]


@pytest.mark.parametrize(
    ("spacing", "profile", "factor"),
    [((1, 1, 1), "paper", (1, 1, 1)), ((1, 1, 1), "laptop", (2, 2, 2)), ((0.9, 0.9, 3), "laptop", (2, 2, 1)),
     ((1, 1, 1), "smoke", (3, 3, 3)), ((5, 5, 5), "smoke", (1, 1, 1))],
)
def test_profiles_bring_voxels_near_their_size(spacing, profile, factor):
    assert grids.profile_factor(spacing, profile) == factor


def test_unknown_profiles_and_blocks_larger_than_the_image_are_refused():
    with pytest.raises(NbkitError, match="Did you mean 'laptop'"):
        grids.profile_factor((1, 1, 1), "labtop")
    with pytest.raises(NbkitError, match="smaller blocks"):
        grids.block_mean(Volume(torch.rand(3, 3, 3)), (4, 1, 1))
