"""Training a generator against its critic, looked at on the way: every step's losses, and what it made by then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nbkit.core.checks import known
from nbkit.training.adversarial import Objective
from nbkit.training.autoencoding import SCHEDULES
from nbkit.training.loop import StripRule, train
from nbkit.training.steps import AdversarialStep


@dataclass
class Watched:
    """What happened: the record of every step (:class:`~nbkit.training.steps.AdversarialStep`), and what was seen at
    chosen numbers of steps."""

    records: list[dict[str, float]] = field(default_factory=list)
    seen: dict[int, torch.Tensor] = field(default_factory=dict)


def moments(steps: int, count: int) -> tuple[int, ...]:
    """`count` numbers of steps from 0 to `steps`, denser at the start; fewer where they would coincide."""
    return tuple(dict.fromkeys(round(steps * (i / (count - 1)) ** 2) for i in range(count)))


def train_watched(
    net: nn.Module, critic: nn.Module, objective: Objective, *, batch: Callable[[int], Any], steps_per_epoch: int,
    epochs: int, learning_rate: float, betas: tuple[float, float], schedule: str, device: torch.device,
    look: Callable[[], torch.Tensor], looks: int, label: str,
) -> Watched:
    """Train by Adam, one step of each side per batch.

    Parameters
    ----------
    net, critic : torch.nn.Module
        On `device`.
    objective : Objective
    batch : callable
        ``batch(n)`` gives the n-th batch, counted from 0.
    steps_per_epoch, epochs : int
    learning_rate, betas
        Of Adam, for both sides.
    schedule : {"constant", "linear"}
        Whether the rate stays, or falls linearly to zero.
    look : callable
        What is seen of the generator as it is.
    looks : int
        How often it is looked at, before and after training included (:func:`moments`); at least 2.
    label : str
        Name in the progress bar.
    """
    known(schedule, SCHEDULES, "train_watched: schedule")
    optimisers = tuple(torch.optim.Adam(n.parameters(), lr=learning_rate, betas=betas) for n in (net, critic))
    step = AdversarialStep(
        net, critic, optimisers, generate=objective.generate, generator_loss=objective.generator,
        discriminator_loss=objective.critic, device=device,
    )
    watched, when = Watched(), moments(epochs * steps_per_epoch, looks)

    def noted(item: Any) -> dict[str, float]:
        watched.records.append(step(item))
        if len(watched.records) in when:
            watched.seen[len(watched.records)] = look()
        return watched.records[-1]

    def begin(epoch: int) -> None:
        left = 1 - (epoch - 1) / epochs if schedule == "linear" else 1.0
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = learning_rate * left

    def batches(epoch: int) -> Iterator[Any]:
        return (batch((epoch - 1) * steps_per_epoch + n) for n in range(steps_per_epoch))

    watched.seen[0] = look()
    train(noted, batches, epochs=epochs, rule=StripRule(), begin=begin, label=label)
    return watched
