"""One training loop that does not know what it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from nbkit.core.checks import require

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
    begin: Callable[[int], None] = lambda epoch: None, label: str = "training",
    progress: bool = False,
) -> History:
    """Run `step` over the batches of each epoch until `epochs` or until `rule` stops.

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
    label : str
        Name in the progress bar.
    progress : bool
        Show a bar with the time left.
    """
    require(epochs > 0, "train: epochs", expected="at least 1", found=epochs, remedy="Raise it in the Config.")
    history = History()
    _assess(history, 0, validate, keep)
    for epoch in tqdm(range(1, epochs + 1), desc=label, disable=not progress, leave=False):
        begin(epoch)
        history.loss.append(float(np.mean([step(batch)["total"] for batch in batches(epoch)])))
        if epoch % rule.strip:
            continue
        _assess(history, epoch, validate, keep)
        if validate is not None and rule.stops(history.validation):
            history.stopped_early = True
            break
    return history


def _assess(history: History, epoch: int, validate: Callable[[], float] | None, keep: Callable[[], None]) -> None:
    if validate is None:
        return
    error = validate()
    if not history.validation or error < min(history.validation):
        history.best_epoch = epoch
        keep()
    history.epochs.append(epoch)
    history.validation.append(error)
