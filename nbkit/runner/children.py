"""Processes that work for one run: side by side, and ended together."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence

from nbkit.runner.provenance import cpu_count


class Ended(Exception):
    """A process was ended because its run is."""


def share(at_once: int) -> int:
    """Cores of each of so many processes."""
    return max(1, cpu_count() // at_once)


class Children:
    """Processes of a run, which hold its lock as long as they live.

    Parameters
    ----------
    lock : int
        File descriptor of the lock (:func:`nbkit.runner.folder.locked`).
    at_once : int
        How many there are at a time; each takes its share of the cores.
    """

    def __init__(self, lock: int, at_once: int = 1) -> None:
        self.lock, self.at_once = lock, at_once
        self._living: set[subprocess.Popen] = set()
        self._ended, self._change = False, threading.Lock()

    def run(self, command: Sequence[str], *, env: Mapping[str, str], tells: int) -> int:
        """Start a process and wait for it: its exit status. It writes to the descriptor `tells`, which is closed here.

        Raises
        ------
        Ended
            If :meth:`end` was called before it ended by itself.
        """
        threads = {} if self.at_once == 1 else {"OMP_NUM_THREADS": str(share(self.at_once))}
        try:
            with self._change:
                if self._ended:
                    raise Ended
                child = subprocess.Popen(command, env={**threads, **env}, pass_fds=(self.lock, tells))
                self._living.add(child)
        finally:
            os.close(tells)
        code = child.wait()
        with self._change:
            self._living.discard(child)
            if self._ended:
                raise Ended
        return code

    def end(self) -> None:
        """Ask all to end, and start no more."""
        with self._change:
            self._ended = True
            for child in self._living:
                child.terminate()
