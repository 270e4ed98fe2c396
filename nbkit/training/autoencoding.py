"""Training an autoencoder whose critic joins late; networks, losses and batches are handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nbkit.training.loop import History, StripRule, train
from nbkit.training.schedules import rate_share
from nbkit.training.steps import AdversarialStep, Made, PlainStep, Terms

NOTED = 30


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
    adversarial_from: int, learning_rate: float, schedule: str, device: torch.device, half: bool, warm_up: int = 0,
    weight_decay: float = 0.0, averaged: float | None = None, validate: Callable[[nn.Module], float] | None = None,
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
    schedule, warm_up : str, int
        Of :func:`nbkit.training.schedules.rate_share`.
    half : bool
        bfloat16 autocast for the forward passes.
    weight_decay : float
        Of both networks, apart from the gradient (Loshchilov & Hutter, ICLR 2019).
    averaged : float, optional
        `net` ends with the exponential moving average of its weights, so much of it kept at each step.
    validate : callable, optional
        ``validate(net)`` gives the error on scans kept back, of the average where there is one; noted some
        :data:`NOTED` times, it stops nothing.
    """
    optimisers = tuple(
        torch.optim.AdamW(n.parameters(), lr=learning_rate, weight_decay=weight_decay) for n in (net, critic)
    )
    plain = PlainStep(net, optimisers[0], loss=objective.plain, device=device, half=half)
    adversarial = AdversarialStep(
        net, critic, optimisers, generate=objective.generate, generator_loss=objective.generator,
        discriminator_loss=objective.critic, device=device, half=half,
    )
    # both steps share networks and optimisers; each counts its own calls, for messages alone
    state: dict[str, Any] = {"step": adversarial, "objective": objective}
    if averaged is not None:
        state["average"] = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(averaged), use_buffers=True)
    step: Callable[[Any], dict[str, float]] = plain

    def begin(epoch: int) -> None:
        nonlocal step
        step = adversarial if epoch > adversarial_from else plain
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = learning_rate * rate_share(schedule, epoch, epochs, warm_up=warm_up)

    def stepped(batch: Any) -> dict[str, float]:
        record = step(batch)
        if averaged is not None:
            state["average"].update_parameters(net)
        return record

    def error() -> float:
        return validate(state["average"].module if averaged is not None else net)

    rule = StripRule(strip=max(1, epochs // NOTED), patience=epochs)
    history = train(
        stepped, batches, epochs=epochs, rule=rule, begin=begin, state=state, label="autoencoder",
        validate=None if validate is None else error,
    )
    if averaged is not None:
        net.load_state_dict(state["average"].module.state_dict())
    return history
