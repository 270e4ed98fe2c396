"""One training shared by several processes, one a GPU: each learns from other epochs, and they step alike.

Every process runs the same command, started by ``torchrun`` (``make train DEVICES=4``). Weights start equal; before
each update the gradients are averaged over the processes, so that they stay equal. Process r of n takes epochs r + 1,
r + 1 + n, ..., so n epochs pass at a time, with one update where one process makes n (Goyal et al., arXiv 1706.02677:
a batch n times as large). The first process alone writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import distributed

T = TypeVar("T")
_END = object()


@contextmanager
def joined() -> Iterator[None]:
    """Meet the other processes that ``torchrun`` started, on a GPU of one's own where there are any; alone, nothing."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    gpu = torch.cuda.is_available() and os.environ.get("DEVICE", "auto") in ("auto", "cuda")
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if gpu else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def count() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def wait() -> None:
    """Until all are here."""
    if count() > 1:
        distributed.barrier()


def gathered(value: float) -> list[float]:
    """The value of every process, in order."""
    if count() == 1:
        return [value]
    mine = torch.tensor([value], dtype=torch.float64, device=_device())
    all_of_them = [torch.empty_like(mine) for _ in range(count())]
    distributed.all_gather(all_of_them, mine)
    return [float(one) for one in all_of_them]


def in_step(batches: Iterable[T]) -> Iterator[T]:
    """Batches, as long as every process has one."""
    if count() == 1:
        yield from batches
        return
    own = iter(batches)
    while all(gathered(float((batch := next(own, _END)) is not _END))):
        yield batch


def average(gradients: Iterable[torch.Tensor | None]) -> None:
    """Replace gradients by their mean over the processes, in place; what has none has none in any."""
    if count() == 1:
        return
    mine = [gradient for gradient in gradients if gradient is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in mine])
    distributed.all_reduce(flat)
    for gradient, mean in zip(mine, (flat / count()).split([g.numel() for g in mine]), strict=True):
        gradient.copy_(mean.view(gradient.shape))


def _device() -> torch.device:
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
