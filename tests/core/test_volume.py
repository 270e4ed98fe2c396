"""Volumes keep their place in the world through cropping, and refuse nonsense."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume, bounding_box

OBLIQUE = np.array([[-1.8, 0.3, 0.1, 90], [0.2, 1.9, -0.4, -126], [0.1, 0.5, 2.9, -72], [0, 0, 0, 1.0]])


def test_spacing_and_voxel_volume():
    v = Volume(torch.zeros(2, 3, 4), np.diag([-2.0, 1.5, 3.0, 1.0]))
    assert v.data.shape == (1, 2, 3, 4)
    assert v.spacing == (2.0, 1.5, 3.0)
    assert v.voxel_volume == pytest.approx(9.0)


def test_totals_of_shares_are_volumes_in_double_precision():
    data = torch.full((2, 200, 200, 200), 0.1)
    data[1] = 0
    assert Volume(data, np.diag([-2.0, 1.5, 3.0, 1.0])).totals == pytest.approx(
        [float(np.float32(0.1)) * 8e6 * 9.0, 0.0], rel=1e-12
    )


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(0, 3)] * 3), st.tuples(*[st.integers(1, 3)] * 3))
def test_a_crop_keeps_world_positions(start, size):
    v = Volume(torch.arange(6 * 7 * 8.0).reshape(6, 7, 8), OBLIQUE)
    box = tuple(slice(a, a + n) for a, n in zip(start, size))
    c = v.crop(box)
    last = np.array([*(np.array(size) - 1), 1.0])
    np.testing.assert_allclose(c.affine @ last, v.affine @ (last + [*start, 0]), atol=1e-12)
    assert c.data[0, -1, -1, -1] == v.data[0][box][-1, -1, -1]
    assert c.history[-1].startswith("crop")


def test_bounding_box_is_tight_and_grows_inside_the_grid():
    mask = torch.zeros(5, 6, 7, dtype=torch.bool)
    mask[1, 2, 0] = mask[3, 2, 4] = True
    assert bounding_box(mask) == (slice(1, 4), slice(2, 3), slice(0, 5))
    assert bounding_box(mask, margin=2) == (slice(0, 5), slice(0, 5), slice(0, 7))
    with pytest.raises(NbkitError, match="empty mask"):
        bounding_box(mask & False)


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan)])
def test_bad_affines_are_refused(affine):
    with pytest.raises(NbkitError, match="affine"):
        Volume(torch.zeros(2, 2, 2), affine)


def test_batches_and_other_grids_are_refused():
    with pytest.raises(NbkitError, match="batch axis"):
        Volume(torch.zeros(1, 1, 2, 2, 2))
    v = Volume(torch.zeros(2, 2, 2), history=("read",))
    with pytest.raises(NbkitError, match="with_data"):
        v.with_data(torch.zeros(2, 2, 3))
    assert v.with_data(torch.ones(2, 2, 2), "filled").history == ("read", "filled")
    with pytest.raises(NbkitError, match="prediction"):
        v.check_grid(Volume(torch.zeros(2, 2, 2), np.diag([2.0, 1, 1, 1])), "prediction")
