"""Sliding windows against scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from nbkit.core.windows import box_kernel, filter_separable, gaussian_kernel

X = np.random.default_rng(0).normal(size=(9, 12, 7))


@pytest.mark.parametrize("sigma", [0.8, 1.5, (1.5, 0.0, 2.0)])
def test_gaussian_equals_scipy_at_borders_too(sigma):
    sigmas = sigma if isinstance(sigma, tuple) else (sigma,) * 3
    ours = filter_separable(torch.tensor(X)[None, None], tuple(gaussian_kernel(s) for s in sigmas))[0, 0]
    np.testing.assert_allclose(ours, ndimage.gaussian_filter(X, sigmas, truncate=3.5), atol=1e-12)


@pytest.mark.parametrize("width", [1, 3, 7])
def test_box_equals_scipy(width):
    ours = filter_separable(torch.tensor(X)[None, None], (box_kernel(width),) * 3)[0, 0]
    np.testing.assert_allclose(ours, ndimage.uniform_filter(X, width), atol=1e-12)
