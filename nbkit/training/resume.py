"""A training that was killed goes on: everything that changes in it, on disk every few minutes. No pickle."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nbkit.core import shelf
from nbkit.core.files import atomic
from nbkit.training import together

log = logging.getLogger(__name__)
EVERY_S = 300.0
"""Seconds between two checkpoints, at the end of an epoch."""
_TENSOR, _TUPLE, _PAIRS = "$tensor", "$tuple", "$pairs"


@dataclass
class _Place:
    """Where trainings keep what they have reached, and how many of each name there have been."""

    folder: Path
    every_s: float
    started: dict[str, int] = field(default_factory=dict)

    def next(self, label: str) -> Path:
        self.started[label] = self.started.get(label, 0) + 1
        name = "".join(c if c.isalnum() else "_" for c in label)
        return self.folder / f"{name}-{self.started[label]}"


_PLACE: ContextVar[_Place | None] = ContextVar("place", default=None)


@contextmanager
def resumable(folder: Path | str, *, every_s: float | None = None) -> Iterator[None]:
    """Let every training inside keep its state below `folder`, and go on from what is there; at the end it is removed.

    Trainings are told apart by their label and, of one label, by their order. After an error or a kill the folder
    stays; it must belong to one set of settings, people and sources, as a key of the cache does. Without `every_s` that
    of the one around it holds, or else :data:`EVERY_S`.
    """
    around = _PLACE.get()
    if every_s is None:
        every_s = around.every_s if around else EVERY_S
    token = _PLACE.set(_Place(Path(folder), every_s))
    try:
        yield
    finally:
        _PLACE.reset(token)
    if together.rank() == 0:
        shutil.rmtree(folder, ignore_errors=True)


class Progress:
    """State of one training on disk; does nothing outside :func:`resumable` or without state.

    Parameters
    ----------
    label : str
    state : mapping of str to object
        Whatever changes: with ``state_dict`` and ``load_state_dict`` (networks, optimisers, schedules, steps), torch
        generators, and lists and dicts of tensors and plain values, which are filled in place.
    """

    def __init__(self, label: str, state: Mapping[str, Any]) -> None:
        place = _PLACE.get()
        self.state, self.path = state, place.next(label) if place and state else None
        self.every_s, self.written = place.every_s if place else 0.0, time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """Bring `state` to where it was and return what was noted with it; None where nothing is kept."""
        if self.path is None or not self.path.exists():
            return None
        wrong = shelf.damage(self.path) if (self.path / shelf.SUMS).exists() else ""
        if wrong:
            log.warning("%s is damaged (%s): the training starts again", self.path, wrong)
            return None
        try:
            tensors = load_file(self.path / "state.safetensors")
            record = _unpacked(json.loads((self.path / "state.json").read_text(encoding="utf-8")), tensors)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            log.warning("%s cannot be read (%s): the training starts again", self.path, error)
            return None
        for name, thing in self.state.items():
            restore(thing, record["state"][name])
        log.info("goes on from %s", self.path)
        return record["noted"]

    def note(self, noted: Mapping[str, Any], *, last: bool = False) -> None:
        """Write state and `noted` if it is time; the `last` state too, so that what follows finds it done."""
        due = time.monotonic() - self.written >= self.every_s
        if self.path is None or together.rank() > 0 or not (due or last and self.path.exists()):
            return
        tensors: dict[str, torch.Tensor] = {}
        states = {name: _state_of(thing) for name, thing in self.state.items()}
        record = _packed({"state": states, "noted": dict(noted)}, tensors)
        with atomic(self.path) as part:
            part.mkdir()
            save_file(tensors, part / "state.safetensors")
            (part / "state.json").write_text(json.dumps(record), encoding="utf-8")
            shelf.write_sums(part)
        self.written = time.monotonic()


def _state_of(thing: Any) -> Any:
    if isinstance(thing, torch.Generator):
        return thing.get_state()
    return thing.state_dict() if hasattr(thing, "state_dict") else thing


def restore(thing: Any, value: Any) -> None:
    """Bring a network, an optimiser, a generator, or a list or dict in place, to the state `value`."""
    if isinstance(thing, torch.Generator):
        thing.set_state(value)
    elif isinstance(thing, torch.optim.Optimizer):
        thing.load_state_dict(value)
        _lay_out(thing)
    elif hasattr(thing, "load_state_dict"):
        thing.load_state_dict(value)
    else:
        thing.clear()
        (thing.extend if isinstance(thing, list) else thing.update)(value)


def _lay_out(optimiser: torch.optim.Optimizer) -> None:
    """Moments lie in memory as their weights do: fused steps walk through both at once."""
    for weights, state in optimiser.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == weights.shape:
                state[name] = torch.empty_like(weights, dtype=value.dtype).copy_(value)


def _packed(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """`value` with its tensors replaced by names; they go into `tensors`."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        return {_PAIRS: [[key, _packed(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [_packed(item, tensors) for item in value]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    return value


def _unpacked(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Inverse of :func:`_packed`."""
    if isinstance(value, list):
        return [_unpacked(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == _TENSOR:
        return tensors[content]
    if kind == _TUPLE:
        return tuple(_unpacked(item, tensors) for item in content)
    return {key: _unpacked(item, tensors) for key, item in content}
