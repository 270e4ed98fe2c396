"""The autoencoder's objective: its terms, their weights and their reductions."""

import pytest
import torch
from torch import nn

from nbkit.core.seeds import torch_generator
from nbkit.core.checks import NbkitError
from nbkit.losses.adversarial import bce_discriminator, bce_generator, lsgan_discriminator, lsgan_generator
from nbkit.papers.mrextrap.losses import AutoencoderObjective
from nbkit.losses.perceptual import draw_slices, kl_to_standard_normal, perceptual_distance, random_features

WEIGHTS = {"perceptual": 2.0, "adversarial": 0.5, "kl": 0.1}


class Dimmer(nn.Module):
    """Reconstructs an image darker; latents are its mean and a constant spread."""

    def forward(self, x):
        return 0.8 * x, x.mean(dim=(2, 3, 4), keepdim=True), torch.full((len(x), 1, 1, 1, 1), 0.5)


class Mean(nn.Module):
    """A critic that scores the mean of an image."""

    def forward(self, x):
        return x.mean(dim=(1, 2, 3, 4))


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 1, 8, 9, 10, generator=torch_generator(1))


@pytest.fixture
def objective() -> AutoencoderObjective:
    return AutoencoderObjective(random_features(), slices=3, seed=5, **WEIGHTS)


def test_terms_and_weights(objective, image):
    made = objective.generate(Dimmer(), image)
    terms = objective.generator(Mean(), image, made)
    slices = draw_slices(image.shape[2:], 3, torch_generator(5, "slices", 1))
    wanted = {
        "l1": 0.2 * image.mean(dim=(1, 2, 3, 4)),
        "perceptual": perceptual_distance(random_features(), 0.8 * image, image, slices=slices),
        "kl": kl_to_standard_normal(made["mean"], made["sd"]),
        "adversarial": bce_generator(0.8 * image.mean(dim=(1, 2, 3, 4))),
    }
    for name, value in wanted.items():
        torch.testing.assert_close(terms[name], value)
    total = wanted["l1"] + 2 * wanted["perceptual"] + 0.1 * wanted["kl"] + 0.5 * wanted["adversarial"]
    torch.testing.assert_close(terms["total"], total)


def test_without_a_critic(objective, image):
    terms = objective.plain(Dimmer(), image)
    assert set(terms) == {"total", "l1", "perceptual", "kl"}
    torch.testing.assert_close(terms["total"], terms["l1"] + 2 * terms["perceptual"] + 0.1 * terms["kl"])


def test_slopes_and_a_late_perceptual_term(image):
    late = AutoencoderObjective(random_features(), slices=3, seed=5, **WEIGHTS, gradient=0.5, late=True)
    terms, apart = late.plain(Dimmer(), image), 0.2 * image
    slopes = [(apart.narrow(k, 1, n - 1) - apart.narrow(k, 0, n - 1)).abs() for k, n in ((2, 8), (3, 9), (4, 10))]
    torch.testing.assert_close(terms["gradient"], torch.stack([s.mean(dim=(1, 2, 3, 4)) for s in slopes]).mean(dim=0))
    assert set(terms) == {"total", "l1", "kl", "gradient"}
    torch.testing.assert_close(terms["total"], terms["l1"] + 0.5 * terms["gradient"] + 0.1 * terms["kl"])
    assert "perceptual" in late.generator(Mean(), image, late.generate(Dimmer(), image))


@pytest.mark.parametrize(("critic", "caught", "fooled"), [
    ({}, bce_discriminator, bce_generator),
    ({"critic": "least_squares"}, lsgan_discriminator, lsgan_generator),
])
def test_the_critic(image, critic, caught, fooled):
    """Cross-entropy as in Isola et al., whom the paper cites, unless least squares is asked for."""
    objective = AutoencoderObjective(random_features(), slices=3, seed=5, **WEIGHTS, **critic)
    made, score = objective.generate(Dimmer(), image), image.mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(objective.critic(Mean(), image, made)["total"], caught(score, 0.8 * score))
    torch.testing.assert_close(objective.generator(Mean(), image, made)["adversarial"], fooled(0.8 * score))


def test_an_unknown_critic_is_refused():
    with pytest.raises(NbkitError, match="Did you mean 'least_squares'"):
        AutoencoderObjective(random_features(), slices=3, seed=5, **WEIGHTS, critic="least_square")


def test_every_step_looks_at_other_slices_and_every_run_at_the_same(image):
    runs = []
    for _ in range(2):
        objective = AutoencoderObjective(random_features(), slices=1, seed=5, **WEIGHTS)
        runs.append([objective.plain(Dimmer(), image)["perceptual"] for _ in range(2)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert not torch.equal(*runs[0])
