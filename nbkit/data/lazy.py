"""Images that load when they are looked at, a shelf that forgets the oldest, and the file they wait in."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file

from nbkit.core.files import atomic
from nbkit.core.recent import Recent
from nbkit.core.volume import Volume


class Shelf(Recent):
    """The volumes used last, up to `capacity` bytes; shared by the scans of a cohort, and by threads.

    A copy sent to another process arrives empty.
    """

    def __init__(self, capacity: int = 512 * 2**20) -> None:
        super().__init__(capacity)

    def _weight(self) -> int:
        return sum(volume.data.nbytes for volume in self._kept.values())


class LazyVolumes(Mapping):
    """A read-only mapping of names to volumes that are loaded on access.

    Parameters
    ----------
    owner : hashable
        Subject, session, ...: tells the entries of different mappings on one shelf apart.
    names : sequence of str
        In the order to iterate.
    load : callable
        ``load(name) -> Volume``; picklable, so that a cohort can travel to worker processes.
    shelf : Shelf
    """

    def __init__(self, owner: Hashable, names: Sequence[str], load: Callable[[str], Volume], *, shelf: Shelf) -> None:
        self._owner, self._names, self._load, self._shelf = owner, tuple(names), load, shelf

    def __getitem__(self, name: str) -> Volume:
        if name not in self._names:
            raise KeyError(name)
        return self._shelf.get((self._owner, name), lambda: self._load(name))

    def __contains__(self, name: object) -> bool:
        # Mapping's own test would load the volume
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"LazyVolumes({self._owner}: {', '.join(self._names)})"


def save_volumes(path: Path, volumes: Mapping[str, Volume]) -> Path:
    """Write volumes of one grid into one safetensors file, each loadable alone with :func:`load_volume`."""
    first = next(iter(volumes.values()))
    for name, volume in volumes.items():
        first.check_grid(volume, f"{path.name}: {name}")
    tensors = {name: volume.data.contiguous() for name, volume in volumes.items()}
    notes = {"affine": json.dumps(first.affine.tolist())} | {n: json.dumps(v.history) for n, v in volumes.items()}
    with atomic(path) as part:
        save_file(tensors, part, metadata=notes)
    return path


def load_volume(path: Path, name: str) -> Volume:
    """Read one volume from a file of :func:`save_volumes`, with its affine and history."""
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
        return Volume(file.get_tensor(name), np.array(json.loads(notes["affine"])), tuple(json.loads(notes[name])))
