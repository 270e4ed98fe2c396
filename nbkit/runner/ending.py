"""How a process ended, in words."""

from __future__ import annotations

import signal

OUT_OF_MEMORY = "out of memory: lower BATCH or use PROFILE=smoke"
# SIGKILL as the shell and as Python report it; 138 is what some container runtimes give
KILLED = (137, 138, -signal.SIGKILL)


def describe(code: int | None) -> str:
    """What a kernel's exit code means to a reader."""
    if code in KILLED:
        return OUT_OF_MEMORY
    return f"the kernel died (exit code {code})" if code is not None else "the kernel died"
