"""How a process ended, in words: by its exit status, the memory it had, and what the system says."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

SMALLER = "Use PROFILE=smoke, N_JOBS=1, or a machine with more memory"
AGAIN = "the same command goes on from here"
# of the memory there is; above it, a process that was killed is taken to have been killed for that
MUCH = 0.7
_FULL = re.compile(r"can't allocate|cannot allocate|unable to allocate|not enough memory|out of memory", re.I)
_ROOM = re.compile(r"No space left|Disk quota|File too large|requested and \d+ written", re.I)


def memory_bytes() -> int:
    """Memory this process may use: of the machine, or of its container where that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [_read(f"/sys/fs/cgroup/{name}") for name in ("memory.max", "memory/memory.limit_in_bytes")]
    return min([total, *(int(text) for text in limits if text.isdigit())])


def kills_for_memory() -> int:
    """How many processes the system has killed for memory since it was started; 0 where it does not tell."""
    counts = re.findall(r"^oom_kill (\d+)", _read("/proc/vmstat") + "\n" + _read("/sys/fs/cgroup/memory.events"), re.M)
    return sum(map(int, counts))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def describe(code: int | None, *, peak: int = 0, killed: bool = False) -> str:
    """What the end of a kernel means to a reader.

    Parameters
    ----------
    code : int or None
        Exit status as Python gives it (-9) or a shell (137).
    peak : int
        The most memory it had, bytes.
    killed : bool
        The system killed a process for memory meanwhile.
    """
    if code is None:
        return f"the kernel died; {AGAIN}"
    number = -code if code < 0 else code - 128 if code > 128 else 0
    name = signal.Signals(number).name if number in set(signal.Signals) else ""
    had = f"with {peak / 1e9:.1f} of {memory_bytes() / 1e9:.1f} GB of memory" if peak else "with its memory unknown"
    if number == signal.SIGKILL and (killed or peak > MUCH * memory_bytes()):
        return f"out of memory: the kernel was killed {had}. {SMALLER}"
    if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        return f"the kernel was ended from outside ({name}), {had}: {AGAIN}"
    if number == signal.SIGXCPU:
        return f"the kernel used up its time (SIGXCPU; `ulimit -t`), {had}: {AGAIN}"
    if number == signal.SIGBUS:
        return f"the kernel crashed (SIGBUS), {had}: often no room in /dev/shm or on the disk. Free some; {AGAIN}"
    if name:
        return f"the kernel crashed ({name}), {had}: a fault of a library. Run it again, else open an issue"
    return f"the kernel ended by itself (exit code {code}), {had}: {AGAIN}"


def hint(kind: str, message: str) -> str:
    """What to do about an error of a cell that is about memory or room; else nothing."""
    if _ROOM.search(message):
        return " (the disk is full: free some room, `nbkit cache` shows what finished work takes)"
    if not ("Memory" in kind or _FULL.search(message)):
        return ""
    if "CUDA" in message:
        return " (out of memory on the GPU: use DEVICE=cpu or PROFILE=smoke)"
    return f" (out of memory: {SMALLER[0].lower()}{SMALLER[1:]})"
