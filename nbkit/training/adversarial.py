"""Training a generator against its critics by Adam; networks, losses and batches are handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import nn

from nbkit.core.checks import known
from nbkit.training.loop import History, StripRule, train
from nbkit.training.schedules import SCHEDULES, rate_share
from nbkit.training.steps import AdversarialStep, Made, Terms


class Objective(Protocol):
    """The losses of both sides; each term one value per subject."""

    def generate(self, net: nn.Module, batch: Any) -> Made:
        """What the losses need."""

    def generator(self, critic: nn.Module, batch: Any, made: Made) -> Terms:
        """The generator's loss."""

    def critic(self, critic: nn.Module, batch: Any, made: Made) -> Terms:
        """The critic's own loss."""


def train_adversarial(
    net: nn.Module, critic: nn.Module, objective: Objective, *, batches: Callable[[int], Iterable[Any]], epochs: int,
    learning_rate: float, betas: tuple[float, float], schedule: str, device: torch.device, half: bool, label: str,
    noted: Callable[[dict[str, float]], None] = lambda record: None, state: Mapping[str, Any] | None = None,
) -> History:
    """Train `net` and `critic` in turns, one step of each per batch.

    Parameters
    ----------
    net, critic : torch.nn.Module
        On `device`; several networks that are updated together in one torch.nn.ModuleDict.
    objective : Objective
    batches : callable
        ``batches(epoch)`` gives the batches of an epoch, epochs counted from 1.
    learning_rate, betas
        Of Adam, for both sides.
    schedule : str
        Of :func:`nbkit.training.schedules.rate_share`.
    half : bool
        bfloat16 autocast for the forward passes.
    label : str
        Name in the progress bar.
    noted : callable
        Told the losses of every step, after it.
    state : mapping of str to object
        What changes besides both networks (:func:`nbkit.training.loop.train`).
    """
    known(schedule, SCHEDULES, "train_adversarial: schedule")
    optimisers = tuple(torch.optim.Adam(n.parameters(), lr=learning_rate, betas=betas) for n in (net, critic))
    step = AdversarialStep(
        net, critic, optimisers, generate=objective.generate, generator_loss=objective.generator,
        discriminator_loss=objective.critic, device=device, half=half,
    )

    def begin(epoch: int) -> None:
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = learning_rate * rate_share(schedule, epoch, epochs)

    def stepped(batch: Any) -> dict[str, float]:
        record = step(batch)
        noted(record)
        return record

    changes = {"step": step, **(state or {})}
    return train(stepped, batches, epochs=epochs, rule=StripRule(), begin=begin, state=changes, label=label)
