"""Image metrics against scikit-image, closed forms and bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from nbkit.core.checks import NbkitError
from nbkit.metrics.image import mae, mse, psnr, ssim

SHAPE = (45, 21, 17)  # longer than one slab of planes on the first axis


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two subjects, two channels, in a range of about 1000; the second subject is farther off."""
    g = np.random.default_rng(3)
    truth = 400 + 150 * g.standard_normal((2, 2, *SHAPE))
    noise = np.array([20.0, 90.0])[:, None, None, None, None]
    prediction = truth + noise * g.standard_normal(truth.shape)
    return torch.tensor(prediction, dtype=torch.float32), torch.tensor(truth, dtype=torch.float32)


@pytest.fixture(scope="module")
def mask() -> torch.Tensor:
    """A different blob per subject, one of them touching the border."""
    x, y, z = torch.meshgrid(*[torch.arange(n) for n in SHAPE], indexing="ij")
    first = (x - 20) ** 2 + (y - 10) ** 2 + (z - 8) ** 2 < 60
    return torch.stack([first, (x < 12) & (z > 3)])[:, None]


def reference(prediction: torch.Tensor, truth: torch.Tensor, data_range: float, full: bool = False):
    return structural_similarity(
        prediction.double().numpy(), truth.double().numpy(), data_range=data_range, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=full,
    )


def test_ssim_equals_scikit_image(pair):
    prediction, truth = pair
    values = ssim(prediction, truth, data_range=1000.0)
    for b in range(2):
        expected = np.mean([reference(prediction[b, c], truth[b, c], 1000.0) for c in range(2)])
        assert float(values[b]) == pytest.approx(expected, abs=1e-6)
    assert values[0] > values[1] + 0.05


def test_masked_ssim_is_the_mean_of_the_reference_map_borders_included(pair, mask):
    prediction, truth = pair
    values = ssim(prediction, truth, data_range=1000.0, mask=mask)
    for b in range(2):
        maps = [reference(prediction[b, c], truth[b, c], 1000.0, full=True)[1] for c in range(2)]
        expected = np.mean([m[mask[b, 0].numpy()] for m in maps])
        assert float(values[b]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("depth", [1, 3])
def test_ssim_of_slices_equals_scikit_image_in_2d(pair, depth):
    prediction, truth = (image[..., :depth] for image in pair)
    values = ssim(prediction, truth, data_range=1000.0, dims=2)
    for b in range(2):
        each = [reference(prediction[b, c, ..., z], truth[b, c, ..., z], 1000.0) for c in (0, 1) for z in range(depth)]
        assert float(values[b]) == pytest.approx(np.mean(each), abs=1e-6)


@pytest.mark.parametrize("planes", [slice(6, 7), slice(2, 9)])
def test_masked_ssim_of_slices_is_the_mean_of_the_2d_maps(pair, mask, planes):
    prediction, truth, inside = (image[..., planes] for image in (*pair, mask))
    values = ssim(prediction, truth, data_range=1000.0, mask=inside, dims=2)
    for b in range(2):
        seen = []
        for c, z in np.ndindex(2, truth.shape[-1]):
            plane = reference(prediction[b, c, ..., z], truth[b, c, ..., z], 1000.0, full=True)[1]
            seen.append(plane[inside[b, 0, ..., z].numpy()])
        assert float(values[b]) == pytest.approx(np.concatenate(seen).mean(), abs=1e-6)


@pytest.mark.parametrize("offset", [-5e4, 5e4])
def test_ssim_survives_intensities_far_above_their_range(pair, offset):
    prediction, truth = (image[:1, :1].double() + offset for image in pair)
    expected = reference(prediction[0, 0], truth[0, 0], 1000.0)
    assert float(ssim(prediction, truth, data_range=1000.0)) == pytest.approx(expected, abs=1e-5)


def test_ssim_laws(pair):
    prediction, truth = pair
    assert torch.allclose(ssim(truth, truth, data_range=1000.0), torch.ones(2, dtype=torch.float64), atol=1e-6)
    forth, back = ssim(prediction, truth, data_range=1000.0), ssim(truth, prediction, data_range=1000.0)
    assert torch.allclose(forth, back, atol=1e-6)
    scaled = ssim(prediction * 7, truth * 7, data_range=7000.0)
    assert torch.allclose(scaled, forth, atol=1e-6)


def test_mse_and_psnr_equal_scikit_image(pair):
    prediction, truth = pair
    for b in range(2):
        a, t = prediction[b].double().numpy(), truth[b].double().numpy()
        assert float(mse(prediction, truth)[b]) == pytest.approx(mean_squared_error(a, t), rel=1e-12)
        expected = peak_signal_noise_ratio(t, a, data_range=900.0)
        assert float(psnr(prediction, truth, data_range=900.0)[b]) == pytest.approx(expected, rel=1e-12)
    assert math.isinf(float(psnr(truth, truth, data_range=1.0)[0]))


def test_masked_means_ignore_what_lies_outside(pair, mask):
    prediction, truth = pair
    spoilt = torch.where(mask, prediction, 1e6)
    for metric in (mse, mae):
        assert torch.equal(metric(spoilt, truth, mask=mask), metric(prediction, truth, mask=mask))
    gap = (prediction - truth).double()
    by_hand = torch.stack([gap[b][:, mask[b, 0]].abs().mean() for b in range(2)])
    assert torch.allclose(mae(prediction, truth, mask=mask), by_hand, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, t, m: mse(a[..., 1:], t), r"mse: prediction: expected shape \(2, 2, 45, 21, 17\)"),
        (lambda a, t, m: mse(a[0], t[0]), r"mse: truth: expected shape \(B, C, X, Y, Z\)"),
        (lambda a, t, m: mae(a, t, mask=m[:1]), r"mae: mask: expected shape \(2, 1, 45, 21, 17\)"),
        (lambda a, t, m: mse(a, t, mask=m & (torch.arange(2) < 1)[:, None, None, None, None]), r"empty masks at \[1\]"),
        (lambda a, t, m: psnr(a, t, data_range=0.0), "psnr: data_range: expected a positive number, found 0.0"),
        (lambda a, t, m: ssim(a[..., :9], t[..., :9], data_range=1.0), "ssim: truth: expected more than 10 voxels"),
        (lambda a, t, m: ssim(a[:, :, :, :9], t[:, :, :, :9], data_range=1.0, dims=2), "more than 10 voxels"),
        (lambda a, t, m: ssim(a, t, data_range=1.0, dims=1), r"ssim: dims: expected 2 \(slices\) or 3"),
    ],
)
def test_bad_input_is_refused(pair, mask, change, message):
    with pytest.raises(NbkitError, match=message):
        change(*pair, mask)
