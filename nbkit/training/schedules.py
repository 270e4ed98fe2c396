"""How a learning rate goes over a training: one table for all systems."""

from __future__ import annotations

import math

from nbkit.core.checks import known

SCHEDULES = ("constant", "linear", "cosine")


def rate_share(schedule: str, epoch: int, epochs: int, *, warm_up: int = 0) -> float:
    """Share of the learning rate at an epoch, counted from 1.

    Parameters
    ----------
    schedule : {"constant", "linear", "cosine"}
        Whether it stays, falls linearly to zero, or falls along half a cosine (Loshchilov & Hutter, ICLR 2017).
    epochs : int
        Of the whole training.
    warm_up : int
        Epochs over which it first rises linearly from nearly zero.
    """
    known(schedule, SCHEDULES, "rate_share: schedule")
    if epoch <= warm_up:
        return epoch / (warm_up + 1)
    done = (epoch - 1 - warm_up) / (epochs - warm_up)
    return {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[schedule]
