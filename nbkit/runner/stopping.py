"""A run that is asked to end, by whatever signal, ends as after Ctrl-C: its folder is valid and its report written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPS = (signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """Somebody asked a run to end, by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Within, SIGTERM and SIGHUP raise :class:`Stopped`: once, since make and batch systems ask more often.

    Yields a function after whose call they do nothing any more. What nohup ignores stays ignored.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {n: signal.SIG_DFL for n in STOPS if signal.getsignal(n) == signal.SIG_DFL}

    def ignore() -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)

    def stop(number: int, _: object) -> None:
        ignore()
        raise Stopped(number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield ignore
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
