"""What a prediction needs: the most memory that its tensors take at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from nbkit.core.protocols import Scan, TrajectoryModel

MIB = 2**20


def peak_bytes(act: Callable[[], Any]) -> int:
    """Most bytes that torch holds at once, on any device, while `act` runs, above what it held before.

    Read from the allocator's record (:mod:`torch.profiler`), which counts the working memory of operators too and does
    not depend on what else the process holds. Slower than the act alone: nothing is timed here.
    """
    # the profiler's library writes to the terminal otherwise; it reads this when it first starts
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=kinds, profile_memory=True) as record:
        made = act()
    del made
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def peak_memory(
    models: Mapping[str, TrajectoryModel], history: Sequence[Scan], age: float, diagnosis: str
) -> dict[str, float]:
    """MiB of tensors held at most while each model predicts one age (years) from a history; weights are not counted.

    Ask about a person whom no model met: a registration that is remembered takes no memory again.
    """
    return {
        name: peak_bytes(lambda model=model: model.predict(history, [age], diagnosis)) / MIB
        for name, model in models.items()
    }
