"""Results kept in memory for the next question, by everything they depend on."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

from nbkit.core.volume import Volume

N = TypeVar("N")


class Recent:
    """The results used last.

    Parameters
    ----------
    capacity : int
        How many are kept; the one used longest ago goes first. Threads may share it; two that ask for the same at
        the same time may both make it.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def __reduce__(self):
        return type(self), (self._capacity,)

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, key: Hashable, value: Any) -> Any:
        """Keep `value` under `key`, and return it."""
        with self._lock:
            self._kept[key] = value
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and self._weight() > self._capacity:
                self._kept.popitem(last=False)
        return value

    def _weight(self) -> int:
        """What counts towards the capacity."""
        return len(self._kept)

    def peek(self, key: Hashable) -> Any | None:
        """The value under `key`, or None."""
        with self._lock:
            return self._kept.get(key)

    def get_all(self, keys: Mapping[N, Hashable], make: Callable[[list[N]], Iterable[Any]]) -> dict[N, Any]:
        """By name, the values under `keys`; ``make(names)`` gives those that are not there, all at once."""
        found = {name: self.peek(key) for name, key in keys.items()}
        new = [name for name, value in found.items() if value is None]
        made = zip(new, make(new) if new else (), strict=True)
        return found | {name: self.keep(keys[name], value) for name, value in made}

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value under `key`, made first if it is not there."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        return self.keep(key, make())


def fingerprint(volume: Volume) -> str:
    """Hex digits that change with any voxel, the type or the grid of a volume; its history does not count."""
    data = volume.data.detach().cpu().contiguous()
    total = hashlib.blake2b(f"{data.dtype} {tuple(data.shape)}".encode(), digest_size=16)
    total.update(volume.affine.tobytes())
    total.update(data.numpy().tobytes())
    return total.hexdigest()
