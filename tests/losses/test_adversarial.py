"""Adversarial losses: closed forms, independent implementations, and the penalty of a discriminator known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_expit

from nbkit.core.checks import NbkitError
from nbkit.losses.adversarial import (
    bce_discriminator, bce_generator, lsgan_discriminator, lsgan_generator, r1_penalty, smooth_labels,
)

RNG = np.random.default_rng(3)
REAL, FAKE = (torch.from_numpy(RNG.normal(0, 3, (4, 1, 2, 3, 5))).float() for _ in range(2))


def test_least_squares_are_half_squared_distances_to_one_and_zero():
    real, fake = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [1.0, 1.0]])
    assert lsgan_discriminator(real, fake).tolist() == [2.0, 1.0]
    assert lsgan_generator(fake).tolist() == [0.5, 0.0]


def test_cross_entropy_agrees_with_scipy_and_stays_finite():
    real, fake = (x.double().flatten(1).numpy() for x in (REAL, FAKE))
    expected = torch.from_numpy((-log_expit(real) - log_expit(-fake)).mean(axis=1)).float()
    torch.testing.assert_close(bce_discriminator(REAL, FAKE), expected)
    torch.testing.assert_close(bce_generator(FAKE), torch.from_numpy(-log_expit(fake).mean(axis=1)).float())
    assert bce_generator(torch.tensor([-200.0])).item() == 200.0


@pytest.mark.parametrize("loss", [lsgan_discriminator, bce_discriminator])
def test_a_discriminator_is_best_where_it_is_right(loss):
    right, wrong = loss(torch.ones(2, 9), torch.zeros(2, 9)), loss(torch.zeros(2, 9), torch.ones(2, 9))
    assert (right < wrong).all()


@pytest.mark.parametrize("loss", [lsgan_generator, bce_generator])
def test_the_slope_pushes_a_refused_fake_towards_real(loss):
    fake = torch.full((1, 7), -2.0, requires_grad=True)
    loss(fake).sum().backward()
    assert (fake.grad < -0.1).all()


@pytest.mark.parametrize("loss", [lsgan_generator, bce_generator])
def test_one_value_per_subject_whatever_the_batch(loss):
    together, apart = loss(FAKE), torch.cat([loss(one) for one in FAKE.split(1)])
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(loss(FAKE[:, 0, 0, 0, 0]), loss(FAKE[:, :, :1, :1, :1]))


def test_penalty_of_a_discriminator_known_by_hand():
    """D(x) = Σ w x² per subject has the slope 2 w x."""
    weight = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)
    images = torch.from_numpy(RNG.normal(size=(2, 1, 3, 1, 1))).float().requires_grad_()
    scores = (weight[:, None, None] * images**2).flatten(1).sum(1)
    penalty = r1_penalty(scores, images)
    x = images.detach().flatten(1)
    torch.testing.assert_close(penalty.detach(), (2 * weight.detach() * x).square().sum(1) / 2)
    (slope,) = torch.autograd.grad(penalty.sum(), weight)
    torch.testing.assert_close(slope, (4 * weight.detach() * x**2).sum(0))


def test_penalty_of_a_network_against_finite_differences():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv3d(1, 3, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv3d(3, 1, 3)).double()
    images = torch.randn(1, 1, 4, 3, 3, dtype=torch.float64)
    step, slopes = 1e-6, []
    for i in range(images.numel()):
        move = F.one_hot(torch.tensor(i), images.numel()).double().view_as(images) * step
        slopes.append((net(images + move).sum() - net(images - move).sum()).item() / (2 * step))
    seen = images.clone().requires_grad_()
    assert r1_penalty(net(seen), seen).item() == pytest.approx(np.square(slopes).sum() / 2, rel=1e-5)


def test_penalty_wants_images_with_a_gradient():
    images = torch.randn(1, 1, 3, 3, 3)
    with pytest.raises(NbkitError, match="r1_penalty: images.*requires_grad_"):
        r1_penalty(images.sum(), images)


def test_cross_entropy_to_soft_labels_agrees_with_torch():
    labels = smooth_labels(REAL, FAKE, spread=0.1, generator=torch.Generator().manual_seed(1))
    parts = [F.binary_cross_entropy_with_logits(s, y, reduction="none") for s, y in zip((REAL, FAKE), labels)]
    expected = sum(part.flatten(1).mean(1) for part in parts)
    torch.testing.assert_close(bce_discriminator(REAL, FAKE, labels=labels), expected)
    hard = (torch.ones_like(REAL), torch.zeros_like(FAKE))
    torch.testing.assert_close(bce_discriminator(REAL, FAKE, labels=hard), bce_discriminator(REAL, FAKE))


def test_soft_labels_fill_their_ranges_and_repeat():
    many = torch.zeros(1000, 2)
    high, low = smooth_labels(many, many, spread=0.1, generator=torch.Generator().manual_seed(2))
    assert 0.9 <= high.min() < 0.905 and 0.995 < high.max() <= 1
    assert 0 <= low.min() < 0.005 and 0.095 < low.max() <= 0.1
    again = smooth_labels(many, many, spread=0.1, generator=torch.Generator().manual_seed(2))
    assert torch.equal(high, again[0]) and torch.equal(low, again[1]) and not torch.equal(1 - high, low)
