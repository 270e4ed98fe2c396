"""Where computation runs: DEVICE=auto|cpu|cuda|mps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from typing import TypeVar

import torch

from nbkit.core.checks import known, require

CHOICES = ("auto", "cpu", "cuda", "mps")
T = TypeVar("T")
R = TypeVar("R")


def pick_device(name: str | None = None) -> torch.device:
    """Resolve a device name; None reads the environment variable DEVICE, else "auto".

    Raises
    ------
    NbkitError
        For an unknown name (with the nearest valid one) or a device this machine lacks.
    """
    name = known(name or os.environ.get("DEVICE") or "auto", CHOICES, "pick_device: DEVICE")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if present[d]))
    require(
        present[name], "pick_device: DEVICE", expected=f"a machine with {name}", found="none",
        remedy="Use DEVICE=auto or DEVICE=cpu; `make doctor` shows what torch sees.",
    )
    return torch.device(name)


def autocast(device: torch.device, enabled: bool) -> AbstractContextManager:
    """bfloat16 autocast on `device`; a no-op when not `enabled` or on mps."""
    if not enabled or device.type == "mps":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def fast_half(device: torch.device) -> bool:
    """Whether bfloat16 convolutions are faster than float32 here (AVX512-BF16, AMX or a recent GPU)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type != "cpu":
        return False
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return bool(probe() or amx())


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one CPU thread: jobs side by side do not fight, and sums keep their order whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def side_by_side(act: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """``[act(item) for item in items]`` on as many threads as torch may use, torch itself on one thread in each.

    For CPU work made of many small steps: threads that meet after every step wait for the slowest, and on a busy
    machine that costs several times the work itself.
    """
    count = torch.get_num_threads()
    items = list(items)
    # each in a copy of the caller's context, so that what is set there holds in threads too
    contexts = [copy_context() for _ in items]
    with one_thread(), ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda context, item: context.run(act, item), contexts, items))


def spread(act: Callable[[T], R], items: Iterable[T], device: torch.device) -> list[R]:
    """:func:`side_by_side` where `device` is the CPU, one after the other where it is busy with one at a time."""
    return side_by_side(act, items) if device.type == "cpu" else [act(item) for item in items]
