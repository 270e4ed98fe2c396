"""One training loop that does not know what it trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from nbkit.core.checks import require
from nbkit.training import together
from nbkit.training.resume import Progress

_MEASURED_S, _WORTH_S = 10.0, 60.0
"""Seconds of training after which its length is told, where at least so many are left."""
Step = Callable[[Any], dict[str, float]]


@dataclass(frozen=True)
class StripRule:
    """Stop when the generalisation error rose in `patience` successive strips of `strip` epochs.

    Wei thesis 2.2.3 (the UP criterion of Prechelt 1998): STOP_1 stops after the first end-of-strip epoch t with
    E(t) > E(t − q); STOP_p stops after t iff STOP_{p−1} stops after t − q and E(t) > E(t − q).
    """

    strip: int = 5
    patience: int = 3

    def stops(self, errors: list[float]) -> bool:
        """Whether to stop, given the errors at the ends of all strips so far, the error at epoch 0 first."""
        rises = np.diff(errors[-self.patience - 1 :]) > 0
        return len(rises) == self.patience and bool(rises.all())


@dataclass
class History:
    """What happened: training loss per epoch, validation error at the end of each strip, where it stopped."""

    loss: list[float] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    stopped_early: bool = False
    best_epoch: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def train(
    step: Step, batches: Callable[[int], Iterable[Any]], *, epochs: int, rule: StripRule,
    validate: Callable[[], float] | None = None, keep: Callable[[], None] = lambda: None,
    begin: Callable[[int], None] = lambda epoch: None, state: Mapping[str, Any] | None = None,
    label: str = "training", progress: bool = False,
) -> History:
    """Run `step` over the batches of each epoch until `epochs` or until `rule` stops.

    A long training says after a few seconds how long it will take here. Inside
    :func:`nbkit.training.resume.resumable` it is kept at the end of an epoch, every few minutes, and goes on from
    there after a kill, to equal numbers. Several processes share it (:mod:`nbkit.training.together`).

    Parameters
    ----------
    step : callable
        Takes a batch, updates the model, returns a record containing ``total``.
    batches : callable
        ``batches(epoch)`` gives the batches of an epoch, epochs counted from 1.
    epochs : int
        The most epochs to run.
    rule : StripRule
    validate : callable or None
        Returns the generalisation error; called before the first epoch and at the end of each strip.
        None: no early stopping.
    keep : callable
        Called whenever the validation error is the lowest so far (to keep the weights).
    begin : callable
        ``begin(epoch)`` is called before each epoch (to set a learning rate).
    state : mapping of str to object
        Everything that training changes (:class:`nbkit.training.resume.Progress`): the step, draws, lists of records.
        What ``batches`` draws must depend on the epoch alone, or stand here.
    label : str
        Name in the progress bar.
    progress : bool
        Show a bar with the time left.
    """
    require(epochs > 0, "train: epochs", expected="at least 1", found=epochs, remedy="Raise it in the Config.")
    kept = Progress(label, state or {})
    reached = kept.read()
    history = History(**reached["history"]) if reached else History()
    if reached is None:
        _assess(history, 0, validate, keep)
    elif reached["finished"]:
        return history
    first, told = len(history.loss), _Forecast(label, epochs)
    bar = tqdm(total=epochs - first, desc=label, disable=not progress, leave=False)
    while (before := len(history.loss)) < epochs:
        epoch = min(before + together.count(), epochs)
        begin(epoch)
        mine = together.in_step(batches(before + 1 + together.rank()))
        losses = together.gathered(float(np.mean([step(batch)["total"] for batch in mine])))
        history.loss += losses[: epoch - before]
        bar.update(epoch - before)
        told.after(epoch - first, epochs - epoch)
        if epoch // rule.strip > before // rule.strip:
            _assess(history, epoch, validate, keep)
            if validate is not None and rule.stops(history.validation):
                history.stopped_early = True
                break
        kept.note({"history": history.as_dict(), "finished": False})
    bar.close()
    kept.note({"history": history.as_dict(), "finished": True}, last=True)
    return history


class _Forecast:
    """Says once how long a training takes here, measured on its first epochs."""

    def __init__(self, label: str, epochs: int) -> None:
        self.label, self.epochs, self.start, self.said = label, epochs, time.monotonic(), False

    def after(self, done: int, left: int) -> None:
        spent = time.monotonic() - self.start
        if self.said or spent < _MEASURED_S:
            return
        self.said, remaining = True, left * spent / done
        if remaining >= _WORTH_S:
            end = datetime.now() + timedelta(seconds=remaining)
            tqdm.write(
                f"{self.label}: {self.epochs} epochs, {spent / done:.2g} s each here; "
                f"ends at {end:%H:%M} at the latest"
            )


def _assess(history: History, epoch: int, validate: Callable[[], float] | None, keep: Callable[[], None]) -> None:
    if validate is None:
        return
    error = together.gathered(validate())[0]
    if not history.validation or error < min(history.validation):
        history.best_epoch = epoch
        keep()
    history.epochs.append(epoch)
    history.validation.append(error)
