"""What deformations cost: closed forms in any frame, and the law of the moving average."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.geometry.warp import grid_positions
from nbkit.losses.deformation import MovingAverage, magnitude, smoothness
from tests.geometry.frames import FRAMES, SHAPE

MATRIX = torch.tensor([[0.2, -0.1, 0.3], [0.0, 0.5, 0.1], [-0.4, 0.2, 0.1]], dtype=torch.float64)


@pytest.mark.parametrize("affine", FRAMES.values(), ids=FRAMES)
def test_a_linear_field_costs_the_square_of_its_matrix_in_any_frame(affine):
    world = grid_positions(SHAPE, affine, like=torch.zeros(0, dtype=torch.float64))
    field = torch.einsum("ij,bjxyz->bixyz", MATRIX, world)
    both = torch.cat([field, 2 * field])
    expected = MATRIX.square().mean() * torch.tensor([1.0, 4.0])
    torch.testing.assert_close(smoothness(both, affine=affine), expected.double())


def test_a_translation_costs_its_length_but_no_slope():
    field = torch.tensor([3.0, 0.0, 4.0])[None, :, None, None, None].expand(2, 3, 4, 5, 6)
    assert magnitude(field).tolist() == pytest.approx([25 / 3, 25 / 3])
    assert smoothness(field, affine=np.eye(4)).tolist() == [0.0, 0.0]


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(0, 9))
def test_the_moving_average_is_the_mean_until_it_is_full(cap, seed):
    fields = torch.from_numpy(np.random.default_rng(seed).normal(size=(cap, 1, 3, 2, 2, 2)))
    average = MovingAverage(cap)
    for k, field in enumerate(fields, 1):
        value = average(field)
        torch.testing.assert_close(average.mean, fields[:k].mean(0))
        torch.testing.assert_close(value, magnitude(k / cap * fields[:k].mean(0)))


def test_a_full_average_forgets_by_one_share_of_its_memory():
    average = MovingAverage(4)
    for _ in range(8):
        average(torch.ones(1, 3, 2, 2, 2))
    average(torch.zeros(1, 3, 2, 2, 2))
    torch.testing.assert_close(average.mean, torch.full((1, 3, 2, 2, 2), 0.75))


def test_opposite_fields_cancel_and_a_drift_does_not():
    there_and_back, drift = MovingAverage(2), MovingAverage(2)
    for sign in (1.0, -1.0):
        last = there_and_back(torch.full((1, 3, 2, 2, 2), sign)), drift(torch.ones(1, 3, 2, 2, 2))
    assert last[0].item() == 0 and last[1].item() == 1


def test_the_slope_reaches_the_newest_field_only():
    average = MovingAverage(10)
    old, new = (torch.randn(1, 3, 2, 2, 2, requires_grad=True) for _ in range(2))
    average(old)
    average(new).sum().backward()
    assert old.grad is None and new.grad.abs().sum() > 0


def test_a_batch_gives_each_subject_the_same_value():
    fields = torch.randn(3, 3, 2, 2, 2)
    values = MovingAverage(3)(fields)
    torch.testing.assert_close(values, magnitude(fields.mean(0, keepdim=True)).expand(3))


@pytest.mark.parametrize("cost", [magnitude, MovingAverage(), lambda u: smoothness(u, affine=np.eye(4))])
def test_a_field_needs_three_components(cost):
    with pytest.raises(NbkitError, match=r"expected shape \(B, 3, X, Y, Z\), found \(1, 2, 4, 4, 4\)"):
        cost(torch.zeros(1, 2, 4, 4, 4))
