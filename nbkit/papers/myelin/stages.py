"""Systems trained in stages with the earlier ones frozen: each is trained once, and read back by all that share it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nbkit.core.checks import known, require
from nbkit.core.config import Settings, digest
from nbkit.core.device import fast_half
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.papers.myelin.losses import ConditionalObjective
from nbkit.training.checkpoint import load_checkpoint, load_weights, save_checkpoint
from nbkit.training.loop import History, StripRule, train
from nbkit.training.schedules import SCHEDULES, rate_share
from nbkit.training.steps import AdversarialStep, PlainStep

_LOCKS: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""Folds run as threads; two that need one stage must not both train it."""


def stage_key(cohort: Cohort, validation: Cohort | None, *, source: str) -> dict[str, Any] | None:
    """What all stages fitted on `cohort` depend on; None for a cohort without data_hash, of which nothing can be kept.

    Parameters
    ----------
    validation : Cohort or None
        Its errors are part of the history that is kept.
    source : str
        Digest of the modules that compute, see :func:`~nbkit.core.source.module_digest`.
    """
    data = cohort.provenance.get("data_hash")
    watched = list(validation.ids) if validation else []
    key = {"cohort": cohort.name, "data": data, "train": list(cohort.ids), "validation": watched, "source": source}
    return None if data is None else key


def kept_stage(
    net: nn.Module, key: Mapping[str, Any] | None, fit: Callable[[], dict[str, Any]], *,
    stages: Sequence[Settings], system: str, cache: Cache | None = None,
) -> dict[str, Any]:
    """Train a stage, or read its weights into `net` where the same was trained before, one thread at a time.

    Parameters
    ----------
    key : mapping or None
        See :func:`stage_key`; None: train, and keep nothing.
    fit : callable
        Trains `net` and returns its history.
    stages : sequence of Settings
        What each stage up to this one depends on; with `key` and `system` they identify the weights.
    system : str

    Returns
    -------
    dict
        The history.
    """
    if key is None:
        return fit()
    settings = [stage.as_dict() for stage in stages]

    def make(folder: Path) -> None:
        history = {"history": fit()}
        save_checkpoint(
            folder / "stage", net.state_dict(), system=system, config=settings[-1], constants=history,
            training_subjects=digest(key["train"]),
        )

    def load(folder: Path) -> dict[str, Any]:
        tensors, record = load_checkpoint(folder / "stage", system=system)
        load_weights(net, tensors, str(folder))
        return record["constants"]["history"]

    full = {**key, "system": system, "stages": settings}
    with _LOCKS[digest(full)]:
        return (cache or Cache()).get("stages", full, make, load)


@dataclass(frozen=True)
class StageSettings(Settings):
    """How a stage is trained; defaults as in Wei thesis 3.3.1.

    Attributes
    ----------
    learning_rate : float
        Of Adam, for both sides.
    schedule, clip
        "constant" and none as published. Small profiles let a larger rate fall linearly to zero ("linear") and shorten
        gradients to the norm `clip`.
    epochs : int
    critic_steps : int
        Updates of the critic per update of the generator.
    crop, batch, crops_per_epoch
        None and 1: whole images one by one. Otherwise crops, see ``crops``.
    crops : {"grid", "focus"}
        All patches of half overlap, once an epoch (4.3.1), or as many as ``crops_per_epoch`` at random places, every
        second one around a place of interest.
    validate_every : int
        Epochs between errors on a validation cohort, if one is given; nothing stops early.
    half : bool or None
        bfloat16 autocast; None: on a GPU that is faster with it.
    """

    learning_rate: float = 1e-4
    schedule: str = "constant"
    clip: float | None = None
    epochs: int = 400
    critic_steps: int = 1
    crop: tuple[int, int, int] | None = None
    batch: int = 1
    crops_per_epoch: int = 0
    crops: str = "grid"
    validate_every: int = 5
    half: bool | None = None
    device: str = "auto"
    seed: int = 7

    def __post_init__(self) -> None:
        known(self.schedule, SCHEDULES, f"{type(self).__qualname__}: schedule")
        known(self.crops, ("grid", "focus"), f"{type(self).__qualname__}: crops")
        require(
            self.crop is None or self.crops == "grid" or self.crops_per_epoch > 0,
            f"{type(self).__qualname__}: crops_per_epoch", expected="at least 1 with crops at random",
            found=self.crops_per_epoch, remedy="Raise it, or use whole images.",
        )

    def on(self, device: torch.device) -> bool:
        """Whether to use bfloat16 on `device`."""
        return device.type != "cpu" and fast_half(device) if self.half is None else self.half


def train_stage(
    net: nn.Module, critic: nn.Module | None, objective: ConditionalObjective, settings: StageSettings, *,
    batches: Callable[[int], Iterable[Any]], device: torch.device, validate: Callable[[], float] | None, label: str,
    draws: Mapping[str, torch.Generator] | None = None,
) -> History:
    """Train one stage by Adam, against `critic` if there is one; the last weights stay.

    Parameters
    ----------
    net, critic : torch.nn.Module
        On `device`.
    objective : ConditionalObjective
    settings : StageSettings
    batches : callable
        ``batches(epoch)`` gives the batches of an epoch, epochs counted from 1.
    validate : callable or None
        Gives an error, which is recorded before training and every ``settings.validate_every`` epochs.
    label : str
        Name in the progress bar.
    draws : mapping of str to torch.Generator
        What networks and objective draw from, kept with a training.
    """
    s, sides = settings, [side for side in (net, critic) if side is not None]
    optimisers = tuple(torch.optim.Adam(side.parameters(), lr=s.learning_rate) for side in sides)
    common = {"device": device, "half": s.on(device), "clip": s.clip}
    step: Callable[[Any], dict[str, float]]
    if critic is None:
        step = PlainStep(net, optimisers[0], loss=objective.plain, **common)
    else:
        step = AdversarialStep(
            net, critic, optimisers, generate=objective.generate, generator_loss=objective.generator,
            discriminator_loss=objective.critic, critic_steps=s.critic_steps, **common,
        )

    def begin(epoch: int) -> None:
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = s.learning_rate * rate_share(s.schedule, epoch, s.epochs)

    # patience beyond the number of strips: the rule only says when to look
    rule = StripRule(s.validate_every, s.epochs + 1)
    return train(
        step, batches, epochs=s.epochs, rule=rule, validate=validate, begin=begin, label=label,
        state={"step": step, **(draws or {})},
    )
