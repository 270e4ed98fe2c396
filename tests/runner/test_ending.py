"""How a kernel's end is told."""

from __future__ import annotations

import signal

import pytest

from nbkit.runner import ending
from nbkit.runner.ending import describe, hint


@pytest.fixture(autouse=True)
def _ten_gigabytes(monkeypatch):
    monkeypatch.setattr(ending, "memory_bytes", lambda: 10_000_000_000)


@pytest.mark.parametrize(
    ("code", "given", "words"),
    [
        (-9, {"peak": 8_000_000_000}, "out of memory: the kernel was killed with 8.0 of 10.0 GB of memory. Use PRO"),
        (137, {"peak": 8_000_000_000}, "out of memory"),
        (-9, {"peak": 2_000_000_000, "killed": True}, "out of memory: the kernel was killed with 2.0 of 10.0 GB"),
        (-9, {"peak": 2_000_000_000}, "ended from outside (SIGKILL), with 2.0 of 10.0 GB of memory"),
        (-9, {}, "ended from outside (SIGKILL), with its memory unknown"),
        (-15, {"peak": 9_000_000_000}, "ended from outside (SIGTERM)"), (143, {}, "ended from outside (SIGTERM)"),
        (-1, {}, "ended from outside (SIGHUP)"), (-24, {}, "used up its time"), (-7, {}, "no room in /dev/shm"),
        (-11, {"peak": 9_900_000_000}, "crashed (SIGSEGV)"), (139, {}, "crashed (SIGSEGV)"), (-6, {}, "SIGABRT"),
        (1, {}, "ended by itself (exit code 1)"), (0, {}, "exit code 0"), (255, {}, "exit code 255"),
        (None, {}, "died"),
    ],
)
def test_the_end_of_a_kernel_in_words(code, given, words):
    said = describe(code, **given)
    assert words in said
    assert ("out of memory" in said) == (words.startswith("out of memory"))
    assert "BATCH" not in said


def test_every_signal_has_words():
    for number in signal.Signals:
        assert describe(-number) and describe(128 + number).replace("kernel", "")


@pytest.mark.parametrize(
    ("kind", "message", "words"),
    [
        ("MemoryError", "", "PROFILE=smoke"), ("_ArrayMemoryError", "Unable to allocate 8. GiB", "use PROFILE=smoke"),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB", "DEVICE=cpu"),
        ("RuntimeError", "DefaultCPUAllocator: can't allocate memory: you tried", "N_JOBS=1"),
        ("OSError", "[Errno 28] No space left on device", "disk is full"),
        ("SafetensorError", "I/O error: No space left on device (os error 28)", "disk is full"),
        ("KeyError", "'memory'", ""), ("ValueError", "in-memory table", ""), ("OSError", "no such file", ""),
    ],
)
def test_what_to_do_about_an_error_is_said_where_it_is_known(kind, message, words):
    said = hint(kind, message)
    assert words in said and bool(said) == bool(words)


def test_the_memory_there_is_and_the_kills_are_numbers():
    assert ending.kills_for_memory() >= 0
