"""The feature space of slices: fixed, and ordered as the corruptions are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nbkit.core.checks import NbkitError
from nbkit.papers.pet_dcgan.metrics import density_coverage, frechet_distance
from nbkit.papers.pet_dcgan.features import LENGTH, SliceFeatureNet


def heads(count: int, seed: int, *, cold: float = 0.0, size: int = 32) -> torch.Tensor:
    """Ovals with a bright rim and two bright spots; `cold` takes that share of the rim's back half away."""
    rng, (x, y) = np.random.default_rng(seed), np.indices((size, size)) - (size - 1) / 2
    images = []
    for _ in range(count):
        a, b = rng.normal((11, 13), 0.5)
        radius = np.hypot(x / a, y / b)
        rim = np.exp(-(((radius - 0.85) / 0.15) ** 2)) * (1 - cold * (y < 0)) * rng.normal(1, 0.05)
        spots = np.exp(-((np.abs(x) - 4) ** 2 + (y - 1) ** 2) / 6) * rng.normal(1, 0.05)
        images.append((2 * np.clip(0.8 * rim + 0.9 * spots + 0.2 * (radius < 1), 0, 1) - 1) * np.ones(()))
    return torch.from_numpy(np.stack(images)).float()[:, None]


TRAIN, OTHERS = heads(60, 0), heads(60, 1)


@pytest.fixture(scope="module")
def net() -> SliceFeatureNet:
    return SliceFeatureNet().fit(TRAIN)


def distance(net: SliceFeatureNet, images: torch.Tensor) -> float:
    return frechet_distance(net(TRAIN), net(images))


def blurred(images: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma)))


def noisy(images: torch.Tensor, sd: float) -> torch.Tensor:
    return images + sd * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "steps",
    [
        [blurred(OTHERS, s) for s in (0.7, 1.0, 1.5, 2.0)],
        [noisy(OTHERS, s) for s in (0.05, 0.1, 0.2)],
        [heads(60, 1, cold=c) for c in (0.1, 0.2, 0.4)],
        [torch.roll(OTHERS, s, dims=3) for s in (1, 2, 4)],
    ],
    ids=["blur", "noise", "disease", "shift"],
)
def test_the_more_an_image_is_changed_the_farther_it_lies(net, steps):
    found = [distance(net, OTHERS), *(distance(net, images) for images in steps)]
    assert found == sorted(found) and found[-1] > 3 * found[0]


def test_other_people_are_covered_and_one_repeated_is_not(net):
    real = net(TRAIN)
    assert density_coverage(real, net(OTHERS)).coverage > 0.85
    assert density_coverage(real, net(OTHERS[:1].repeat(60, 1, 1, 1))).coverage < 0.3


def test_weights_are_the_same_every_time(net):
    again = SliceFeatureNet().fit(TRAIN)
    assert torch.equal(again(OTHERS), net(OTHERS)) and net(OTHERS).shape == (60, LENGTH)
    assert not any(p.requires_grad for p in net.parameters())


def test_every_image_by_itself_and_all_together_have_the_same_features(net):
    torch.testing.assert_close(torch.cat([net(image[None]) for image in OTHERS[:5]]), net(OTHERS[:5]))


def test_training_images_are_standard_before_the_projection(net):
    z = (net._pooled(TRAIN) - net.mean) / net.sd
    assert z.mean(dim=0).abs().max() < 1e-4 and z.std(dim=0).max() < 1 + 1e-4
    assert (z.std(dim=0) > 0.99).float().mean() > 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SliceFeatureNet()(OTHERS), r"Call fit\(images\)"),
        (lambda: SliceFeatureNet().fit(OTHERS[:1]), "2 images or more"),
        (lambda: SliceFeatureNet().fit(OTHERS.repeat(1, 3, 1, 1)), r"\(N, 1, S, S\)"),
        (lambda: SliceFeatureNet().fit(OTHERS[..., :16, :16]), "32 or more"),
    ],
)
def test_what_it_cannot_take_is_refused(call, message):
    with pytest.raises(NbkitError, match=message):
        call()
