"""The scanner: slice averages, Rician moments, inhomogeneity, rigid poses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation

from nbkit.core.volume import Volume
from nbkit.phantom.acquisition import (
    Protocol, acquire, box_weights, draw_acquisition, inhomogeneity, integrate, rician, rician_mean, rigid,
)


@given(st.floats(1, 9))
def test_box_weights_are_the_overlaps_of_a_box(width):
    weights = box_weights(width).numpy()
    radius = len(weights) // 2
    edges = np.clip(np.arange(-radius, radius + 2) - 0.5, -width / 2, width / 2)
    np.testing.assert_allclose(weights, np.diff(edges) / width, atol=1e-12)


def test_one_voxel_changes_nothing_and_three_is_the_uniform_filter():
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, 9, 8, 7)))
    assert torch.equal(integrate(image, (1, 1, 1)), image)
    expected = ndimage.uniform_filter(image[0, 1].numpy(), (1, 3, 5), mode="reflect")
    np.testing.assert_allclose(integrate(image, (1, 3, 5))[0, 1].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("level", [0.0, 1.0, 5.0])
def test_rician_magnitudes_have_the_moments_of_rice(level):
    noise = torch.randn((2, 200_000), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = rician(torch.full((200_000,), level, dtype=torch.float64), noise).numpy()
    rice = stats.rice(level)
    assert (x**2).mean() == pytest.approx(level**2 + 2, rel=0.01)
    assert x.mean() == pytest.approx(rice.mean(), rel=0.01)
    assert x.std() == pytest.approx(rice.std(), rel=0.01)
    assert stats.kstest(x[:20_000], rice.cdf).pvalue > 0.001


def test_without_signal_the_mean_is_rayleighs():
    noise = 3 * torch.randn((2, 200_000), generator=torch.Generator().manual_seed(2))
    assert float(rician(torch.zeros(200_000), noise).mean()) == pytest.approx(3 * np.sqrt(np.pi / 2), rel=0.01)


@given(st.integers(0, 10_000), st.floats(0.01, 0.4))
def test_inhomogeneity_spans_its_level_and_is_smooth(seed, level):
    weights = torch.randn((3, 3, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    field = inhomogeneity((20, 24, 16), weights, level=level)
    assert float(field.max() - field.min()) == pytest.approx(level)
    assert float(field.mean()) == pytest.approx(1, abs=level / 2)
    steps = [float(d.abs().max()) for d in torch.gradient(field)]
    assert max(steps) < level / 2
    weights[0, 0, 0] += 5
    assert torch.allclose(inhomogeneity((20, 24, 16), weights, level=level), field)


@given(st.lists(st.floats(-180, 180), min_size=3, max_size=3), st.lists(st.floats(-9, 9), min_size=3, max_size=3))
def test_rigid_poses_agree_with_scipy(turn, shift):
    pose = rigid(turn, shift)
    np.testing.assert_allclose(pose[:3, :3], Rotation.from_euler("xyz", turn, degrees=True).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(pose[:3, 3], shift)


def still_draw():
    return draw_acquisition(np.random.default_rng(0), moved=False, turn_sd=1, shift_sd=1, gain_sd=0.0)


def test_thick_slices_average_what_lies_in_them():
    """Three fine samples per slice: the image is their mean, at the centre of the slice, when nothing else acts."""
    fine = torch.rand((1, 6, 5, 12), generator=torch.Generator().manual_seed(0)) + 1
    affine, coarse = np.eye(4), np.diag([1.0, 1.0, 3.0, 1.0])
    coarse[2, 3] = 1.0
    protocol = Protocol((6, 5, 4), coarse, voxel=(1.0, 1.0, 3.0), noise=0.0, inu=0.0)
    image = acquire(Volume(fine, affine), still_draw(), protocol=protocol)
    assert torch.allclose(image.data, fine.reshape(1, 6, 5, 4, 3).mean(-1), atol=1e-5)
    thin = acquire(Volume(fine, affine), still_draw(), protocol=Protocol((6, 5, 4), coarse, (1, 1, 1), 0.0, 0.0))
    assert torch.allclose(thin.data, fine[..., 1::3], atol=1e-5)


def test_signed_signals_become_magnitudes_after_mixing():
    mixed = torch.tensor([1.0, -1.0, -1.0]).expand(1, 4, 4, 3)
    image = acquire(Volume(mixed), still_draw(), protocol=Protocol((4, 4, 1), np.eye(4) @ rigid([0] * 3, [0, 0, 1]),
                                                                   (1, 1, 3), 0.0, 0.0))
    assert torch.allclose(image.data, torch.full_like(image.data, 1 / 3), atol=1e-6)


def test_the_reference_does_not_move_and_others_move_a_little():
    rng = np.random.default_rng(3)
    moved = draw_acquisition(rng, moved=True, turn_sd=0.2, shift_sd=0.2, gain_sd=0.1)
    assert np.array_equal(still_draw().pose, np.eye(4))
    assert 0 < np.abs(moved.pose - np.eye(4)).max() < 1
    assert moved.gain != 1


def test_the_same_draw_gives_the_same_image():
    signal = Volume(torch.rand((1, 8, 8, 8), generator=torch.Generator().manual_seed(0)))
    protocol = Protocol((8, 8, 8), np.eye(4), (1, 1, 2), noise=0.1, inu=0.1)
    draw = draw_acquisition(np.random.default_rng(4), moved=True, turn_sd=1, shift_sd=1, gain_sd=0.1)
    assert torch.equal(acquire(signal, draw, protocol=protocol).data, acquire(signal, draw, protocol=protocol).data)


@pytest.mark.parametrize("signal", [-40.0, 0.0, 3.0, 12.0, 300.0])
def test_the_mean_over_the_noise_is_that_of_many_shots(signal):
    shots = rician(torch.tensor(signal, dtype=torch.float64), 10 * torch.randn(2, 200_000, dtype=torch.float64,
                   generator=torch.Generator().manual_seed(3)))
    mean = float(rician_mean(torch.tensor(signal), 10.0))
    assert mean == pytest.approx(float(shots.mean()), abs=4 * float(shots.std()) / 200_000**0.5)
    assert float(rician_mean(torch.tensor(signal), 0.0)) == abs(signal)
