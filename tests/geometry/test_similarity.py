"""Similarities: numpy and scipy as independent implementations, invariances, closed forms, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats

from nbkit.core.checks import NbkitError
from nbkit.geometry.similarity import lncc, mse, ncc

SHAPE = (9, 8, 10)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def window_by_window(a: np.ndarray, b: np.ndarray, width: int) -> float:
    """Mean of the squared local correlation, straight from its definition."""
    padded = [np.pad(x, width // 2, mode="symmetric") for x in (a, b)]
    total = 0.0
    for place in np.ndindex(a.shape):
        cube = tuple(slice(p, p + width) for p in place)
        (va, cov), (_, vb) = np.cov(padded[0][cube].ravel(), padded[1][cube].ravel(), ddof=0)
        total += cov**2 / ((va + 1e-3 * a.var()) * (vb + 1e-3 * b.var()))
    return total / a.size


@pytest.mark.parametrize("width", [3, 5])
def test_lncc_is_its_definition(width):
    a, b = noise(2, 1, *SHAPE), noise(2, 1, *SHAPE, seed=1)
    b = b + 0.5 * a
    expected = [window_by_window(x[0].numpy(), y[0].numpy(), width) for x, y in zip(a, b, strict=True)]
    assert np.allclose(lncc(a, b, window=width), expected, rtol=1e-10)


def test_lncc_agrees_with_scipys_box_filter():
    a, b = noise(1, 1, 20, 17, 15), noise(1, 1, 20, 17, 15, seed=1)
    x, y = a[0, 0].numpy(), (a + b)[0, 0].numpy()
    mx, my, xx, yy, xy = (ndimage.uniform_filter(i, 9, mode="reflect") for i in (x, y, x * x, y * y, x * y))
    expected = (xy - mx * my) ** 2 / ((xx - mx**2 + 1e-3 * x.var()) * (yy - my**2 + 1e-3 * y.var()))
    assert float(lncc(a, a + b)) == pytest.approx(expected.mean(), rel=1e-10)


@given(st.floats(0.01, 1e4), st.floats(-1e3, 1e3), st.booleans())
def test_correlations_do_not_see_brightness_and_contrast(scale, shift, inverted):
    a, b = noise(1, 1, *SHAPE), noise(1, 1, *SHAPE, seed=1)
    sign = -1 if inverted else 1
    other = sign * scale * a + shift
    assert float(lncc(other, b, window=3)) == pytest.approx(float(lncc(a, b, window=3)), rel=1e-6)
    assert float(ncc(other, b)) == pytest.approx(sign * float(ncc(a, b)), rel=1e-6)


def test_lncc_of_an_image_with_itself_is_near_one_and_float32_agrees():
    a = noise(1, 1, *SHAPE)
    assert 0.99 < float(lncc(a, 5 - 3 * a, window=3)) < 1
    b = noise(1, 1, *SHAPE, seed=1)
    bright = (a + 1000).float(), (b + 1000).float()
    assert float(lncc(*bright, window=3)) == pytest.approx(float(lncc(a, b, window=3)), abs=1e-5)


def test_flat_regions_and_constant_images_count_nothing():
    a, b = noise(1, 1, 20, 8, 8), noise(1, 1, 20, 8, 8, seed=1)
    a[:, :, :10] = 3.0
    whole, half = lncc(a, a, window=3), lncc(a[:, :, 10:], a[:, :, 10:], window=3)
    assert 0.4 < float(whole) < 0.6 < float(half)
    still = torch.full_like(b, 7.0).requires_grad_()
    value = lncc(still, b, window=3) + ncc(still, b)
    assert float(value.detach()) == pytest.approx(0, abs=1e-12)
    assert bool(torch.isfinite(torch.autograd.grad(value.sum(), still)[0]).all())


def test_ncc_is_pearsons_correlation():
    a, b = noise(3, 2, *SHAPE), noise(3, 2, *SHAPE, seed=1)
    b = b + a
    expected = [stats.pearsonr(x.ravel(), y.ravel()).statistic for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    assert np.allclose(ncc(a, b), expected, rtol=1e-10)


def test_mse_is_the_mean_square_per_subject():
    a, b = noise(3, 2, *SHAPE), noise(3, 2, *SHAPE, seed=1)
    assert np.allclose(mse(a, b), np.square(a.numpy() - b.numpy()).mean(axis=(1, 2, 3, 4)))


@pytest.mark.parametrize("similarity", [lambda a, b: lncc(a, b, window=3), ncc, mse], ids=["lncc", "ncc", "mse"])
def test_exchange_subjects_and_gradients(similarity):
    a, b = noise(2, 1, 4, 3, 5), noise(2, 1, 4, 3, 5, seed=1)
    assert torch.allclose(similarity(a, b), similarity(b, a))
    assert torch.allclose(similarity(a, b)[1:], similarity(a[1:], b[1:]))
    assert torch.autograd.gradcheck(similarity, (a.requires_grad_(), b.requires_grad_()))


def test_bad_input_is_named():
    a = torch.rand(1, 1, 4, 4, 4)
    with pytest.raises(NbkitError, match=r"mse: a, b: expected two floating \(B, C, X, Y, Z\) tensors of one shape"):
        mse(a, a[..., 1:])
    with pytest.raises(NbkitError, match="lncc: a, b: expected two floating"):
        lncc(a.long(), a)
    with pytest.raises(NbkitError, match="ncc: a, b: .*as floats"):
        ncc(a[0], a[0])
    with pytest.raises(NbkitError, match="lncc: window: expected an odd width of at least 3 voxels, found 4"):
        lncc(a, a, window=4)
