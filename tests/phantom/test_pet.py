"""PET resolution and noise: closed forms, scipy, and laws of the noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nbkit.core.volume import Volume
from nbkit.phantom import pet

UNEVEN = np.diag([1.0, 2.0, 1.5, 1.0])


def test_blur_is_scipys_gaussian_in_mm():
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 20, 16, 18)).astype(np.float32))
    blurred = pet.blur(Volume(image, UNEVEN), 4.0)
    sigma = 4.0 / pet.FWHM_PER_SD / np.array([1.0, 2.0, 1.5])
    for mine, raw in zip(blurred.data.numpy(), image.numpy(), strict=True):
        expected = ndimage.gaussian_filter(raw.astype(np.float64), sigma, truncate=3.5)
        np.testing.assert_allclose(mine, expected, atol=1e-5)


def test_a_point_becomes_half_as_high_at_half_the_width():
    point = torch.zeros(1, 41, 41, 41, dtype=torch.float64)
    point[0, 20, 20, 20] = 1
    spread = pet.blur(Volume(point, np.eye(4)), 8.0).data[0]
    assert float(spread[24, 20, 20] / spread[20, 20, 20]) == pytest.approx(0.5, rel=1e-6)
    assert float(spread.sum()) == pytest.approx(1.0, rel=1e-9)


def test_no_width_changes_nothing():
    image = Volume(torch.rand(1, 4, 4, 4))
    assert pet.blur(image, 0) is image


@pytest.mark.parametrize("voxel", [1.22, 2.44])
def test_variances_of_voxel_and_of_what_is_left_add(voxel):
    left = pet.fwhm_left(2.7, voxel)
    assert (left / pet.FWHM_PER_SD) ** 2 + voxel**2 / 12 == pytest.approx((2.7 / pet.FWHM_PER_SD) ** 2)
    assert pet.fwhm_left(2.7, 6.0) == 0


@given(sd=st.floats(0.01, 3), seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_noise_scales_with_sd_and_depends_on_the_seed_alone(sd, seed):
    image = Volume(torch.linspace(0, 1, 6 * 5 * 4).reshape(1, 6, 5, 4))
    unit = pet.add_noise(image, np.random.default_rng(seed), sd=1.0).data - image.data
    noisy = pet.add_noise(image, np.random.default_rng(seed), sd=sd).data
    torch.testing.assert_close(noisy - image.data, sd * unit, atol=1e-5, rtol=1e-4)
    again, other = (pet.add_noise(image, np.random.default_rng(s), sd=sd).data for s in (seed, seed + 1))
    assert torch.equal(noisy, again) and not torch.equal(noisy, other)


def test_smoothing_correlates_neighbours_and_leaves_the_stated_share():
    flat, inner = Volume(torch.zeros(1, 80, 80, 80)), (slice(4, -4),) * 3  # borders reflect
    drawn = (pet.add_noise(flat, np.random.default_rng(3), sd=0.5, smooth_voxels=width) for width in (0, 0.8))
    white, smooth = (volume.data[0][inner] for volume in drawn)
    assert float(white.std()) == pytest.approx(0.5, rel=0.02)
    assert float(smooth.std()) == pytest.approx(0.5 * pet.noise_left(0.8), rel=0.02)
    pair = [torch.corrcoef(torch.stack([n[1:].flatten(), n[:-1].flatten()]))[0, 1] for n in (white, smooth)]
    assert abs(float(pair[0])) < 0.02 < 0.5 < float(pair[1])
    assert pet.noise_left(0) == 1
