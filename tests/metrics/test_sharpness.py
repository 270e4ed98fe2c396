"""Sharpness against closed forms, an independent sum, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nbkit.core.checks import NbkitError
from nbkit.metrics.sharpness import gradient_energy, sharpness


def waves(*cycles: int, n: int = 16) -> torch.Tensor:
    """(len(cycles), 1, n, n, n): a sine along X for each number of cycles in the image."""
    phase = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    return torch.stack([torch.sin(c * phase).view(1, n, 1, 1).expand(1, n, n, n) for c in cycles])


def blurred(image: torch.Tensor) -> torch.Tensor:
    """The mean of three neighbours along X, around the border."""
    return (image + image.roll(1, 2) + image.roll(-1, 2)) / 3


def test_blurring_takes_the_square_of_the_filters_response_from_a_wave():
    image, cycles = waves(1, 3), torch.tensor([1.0, 3.0])
    response = (1 + 2 * torch.cos(2 * torch.pi * cycles / 16)) / 3
    assert torch.allclose(sharpness(blurred(image), image), response.double().square(), rtol=1e-6)


def test_the_truth_has_sharpness_one_and_more_blur_means_less():
    truth = torch.tensor(np.random.default_rng(5).standard_normal((1, 1, 14, 12, 10)))
    values = [
        float(sharpness(torch.tensor(ndimage.gaussian_filter(truth.numpy(), (0, 0, s, s, s))), truth))
        for s in (0, 0.5, 1, 2)
    ]
    assert values[0] == 1 and values == sorted(values, reverse=True) and values[1] < 0.7


def test_a_constant_changes_nothing_and_a_factor_counts_squared():
    truth = waves(2)
    assert float(sharpness(0.5 * truth + 7, truth)) == pytest.approx(0.25)


def test_energy_is_the_sum_over_pairs_that_both_lie_inside():
    g = np.random.default_rng(2)
    image, inside = g.standard_normal((5, 4, 3)), g.random((5, 4, 3)) < 0.6
    expected = sum(
        (image[a] - image[b]) ** 2 for a in np.ndindex(image.shape) for axis in range(3)
        if (b := tuple(np.add(a, np.eye(3, dtype=int)[axis])))[axis] < image.shape[axis] and inside[a] and inside[b]
    )
    found = gradient_energy(torch.tensor(image)[None, None], mask=torch.tensor(inside)[None, None])
    assert float(found) == pytest.approx(expected)


def test_what_lies_outside_the_mask_does_not_count():
    truth, mask = waves(1, n=12), torch.zeros(1, 1, 12, 12, 12, dtype=torch.bool)
    mask[..., 2:10, 2:10, 2:10] = True
    other = truth.where(mask, torch.full_like(truth, 50.0))
    assert float(sharpness(other, truth, mask=mask)) == 1


def test_a_constant_truth_and_other_shapes_are_refused():
    with pytest.raises(NbkitError, match="varies inside the mask"):
        sharpness(waves(1), torch.ones(1, 1, 16, 16, 16))
    with pytest.raises(NbkitError, match="on one grid"):
        sharpness(waves(1), waves(1, n=8))
