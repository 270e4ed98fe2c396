"""Training an autoencoder whose critic joins late; networks, losses and batches are handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import nn

from nbkit.training.loop import History, StripRule, train
from nbkit.training.steps import AdversarialStep, Made, PlainStep, Terms

SCHEDULES = ("constant", "linear")


class Objective(Protocol):
    """The losses of both sides; each term one value per subject. What it changes is kept with a training."""

    def state_dict(self) -> dict[str, Any]:
        """What a step changes in it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of ``state_dict``."""

    def generate(self, net: nn.Module, batch: Any) -> Made:
        """What the losses need."""

    def plain(self, net: nn.Module, batch: Any) -> Terms:
        """The autoencoder's loss without a critic."""

    def generator(self, critic: nn.Module, batch: Any, made: Made) -> Terms:
        """The autoencoder's loss with a critic."""

    def critic(self, critic: nn.Module, batch: Any, made: Made) -> Terms:
        """The critic's own loss."""


def train_autoencoder(
    net: nn.Module, critic: nn.Module, objective: Objective, batches: Callable[[int], Iterable[Any]], *, epochs: int,
    adversarial_from: int, learning_rate: float, schedule: str, device: torch.device, half: bool,
) -> History:
    """Train `net` with Adam, from the epoch after `adversarial_from` on against `critic`, which then trains as well.

    Parameters
    ----------
    net, critic : torch.nn.Module
        On `device`.
    objective : Objective
    batches : callable
        ``batches(epoch)`` gives the batches of an epoch, epochs counted from 1.
    learning_rate : float
        Of both networks.
    schedule : {"constant", "linear"}
        Whether the rate stays, or falls linearly to zero.
    half : bool
        bfloat16 autocast for the forward passes.
    """
    optimisers = tuple(torch.optim.Adam(n.parameters(), lr=learning_rate) for n in (net, critic))
    plain = PlainStep(net, optimisers[0], loss=objective.plain, device=device, half=half)
    adversarial = AdversarialStep(
        net, critic, optimisers, generate=objective.generate, generator_loss=objective.generator,
        discriminator_loss=objective.critic, device=device, half=half,
    )
    step: Callable[[Any], dict[str, float]] = plain

    def begin(epoch: int) -> None:
        nonlocal step
        step = adversarial if epoch > adversarial_from else plain
        left = 1 - (epoch - 1) / epochs if schedule == "linear" else 1.0
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = learning_rate * left

    # both steps share networks and optimisers; each counts its own calls, for messages alone
    return train(
        lambda batch: step(batch), batches, epochs=epochs, rule=StripRule(), begin=begin, label="autoencoder",
        state={"step": adversarial, "objective": objective},
    )
