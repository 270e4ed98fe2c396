"""The adversarial step: who is updated when, against whom, and what stops it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nbkit.core.checks import NbkitError
from nbkit.training.steps import AdversarialStep, NonFiniteLoss


class Scale(nn.Module):
    """One number that multiplies."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x · value."""
        return x * self.value


def make(value=(2.0, 3.0), *, rate=(0.1, 0.01), generate=None, **more) -> AdversarialStep:
    """A generator g·z against a discriminator d·x; it loses d·g·z, the discriminator −d·g·z."""
    generator, critic = Scale(value[0]), Scale(value[1])
    losses = {
        "generator_loss": lambda d, batch, made: {"total": d(made["x"]), "twice": 2 * d(made["x"])},
        "discriminator_loss": lambda d, batch, made: {"total": -d(made["x"])},
    } | more
    optimisers = tuple(torch.optim.SGD(net.parameters(), lr=r) for net, r in zip((generator, critic), rate))
    generate = generate or (lambda net, batch: {"x": net(batch)})
    return AdversarialStep(generator, critic, optimisers, generate=generate, device=torch.device("cpu"), **losses)


def test_one_turn_by_hand():
    """g = 2, d = 3, z = 1: d rises by 0.01·g to 3.02, then g falls by 0.1·d."""
    step = make()
    record = step(torch.tensor([1.0, 1.0]))
    assert record == pytest.approx({"critic_total": -6.0, "total": 6.04, "twice": 12.08})
    assert step.discriminator.value.item() == pytest.approx(3.02)
    assert step.generator.value.item() == pytest.approx(2 - 0.302)


def test_several_turns_of_the_discriminator_each_see_new_examples():
    made = []

    def generate(net, batch):
        made.append(torch.is_grad_enabled())
        return {"x": net(batch)}

    step = make(generate=generate, critic_steps=3)
    step(torch.tensor([1.0]))
    assert made == [False, False, True]
    assert step.discriminator.value.item() == pytest.approx(3.06)
    assert step.generator.value.item() == pytest.approx(2 - 0.306)


def test_neither_side_reaches_the_weights_of_the_other():
    seen = {}

    def critic_loss(d, batch, made):
        seen["history"] = made["x"].requires_grad
        return {"total": -d(made["x"])}

    step = make(discriminator_loss=critic_loss)
    step(torch.tensor([1.0]))
    assert seen["history"] is False
    assert step.discriminator.value.grad.item() == -2  # its own loss only, not the generator's
    assert step.discriminator.value.requires_grad


def test_weights_that_were_frozen_stay_frozen():
    step = make()
    step.discriminator.extra = nn.Parameter(torch.tensor(1.0), requires_grad=False)
    step(torch.tensor([1.0]))
    assert not step.discriminator.extra.requires_grad and step.discriminator.value.requires_grad


@pytest.mark.parametrize(("side", "term"), [("generator_loss", "odd"), ("discriminator_loss", "critic_odd")])
def test_a_term_that_is_not_finite_is_named_with_its_step(side, term):
    step = make()
    step(torch.tensor([1.0]))
    step.losses = tuple(
        (lambda d, batch, made: {"total": made["x"], "odd": made["x"] / 0}) if name == side else loss
        for name, loss in zip(("generator_loss", "discriminator_loss"), step.losses)
    )
    before = [net.value.item() for net in (step.generator, step.discriminator)]
    with pytest.raises(NonFiniteLoss, match=f"training step 1: loss term '{term}'"):
        step(torch.tensor([1.0]))
    after = [net.value.item() for net in (step.generator, step.discriminator)]
    assert after[0] == before[0] and (side == "generator_loss" or after[1] == before[1])
    assert step.discriminator.value.requires_grad


def test_gradients_are_clipped():
    step = make(clip=0.5)
    step(torch.tensor([1.0]))
    assert step.discriminator.value.item() == pytest.approx(3.005, abs=1e-6)
    assert step.generator.value.item() == pytest.approx(1.95, abs=1e-6)


def test_half_precision_runs_the_networks_in_bfloat16():
    kinds = []

    def generate(net, batch):
        kinds.append((batch @ batch.T).dtype)
        return {"x": net(batch)}

    make(generate=generate, half=True)(torch.ones(2, 2))
    make(generate=generate)(torch.ones(2, 2))
    assert kinds == [torch.bfloat16, torch.float32]


def test_no_turn_for_the_discriminator_is_refused():
    with pytest.raises(NbkitError, match="critic_steps: expected at least 1, found 0"):
        make(critic_steps=0)


def test_a_toy_generator_learns_the_mean_of_the_real():
    """Least squares GAN on one number: fakes end where real numbers are."""
    torch.manual_seed(0)
    generator, critic = nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    optimisers = tuple(torch.optim.Adam(n.parameters(), lr=r) for n, r in ((generator, 0.01), (critic, 0.02)))
    step = AdversarialStep(
        generator, critic, optimisers,
        generate=lambda net, real: {"x": net(torch.randn_like(real))},
        generator_loss=lambda d, real, made: {"total": (d(made["x"]) - 1) ** 2},
        discriminator_loss=lambda d, real, made: {"total": (d(real) - 1) ** 2 + d(made["x"]) ** 2},
        device=torch.device("cpu"),
    )
    ends = []
    for k in range(600):
        step(3 + 0.5 * torch.randn(64, 1))
        ends += [generator.bias.item()] if k >= 400 else []
    assert sum(ends) / len(ends) == pytest.approx(3, abs=0.5)
