"""Seeds that depend on what is drawn, never on batch size, order or device count."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive(run_seed: int, *parts: object) -> int:
    """A 63-bit seed from the run's seed and the names of stage, subject, ... (stable across machines)."""
    text = "\x1f".join([str(int(run_seed)), *map(str, parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def torch_generator(run_seed: int, *parts: object) -> torch.Generator:
    """A CPU generator; draws are made on the CPU and moved, so every device sees the same numbers."""
    return torch.Generator("cpu").manual_seed(derive(run_seed, *parts))


def numpy_generator(run_seed: int, *parts: object) -> np.random.Generator:
    """A numpy generator for the same naming scheme."""
    return np.random.default_rng(derive(run_seed, *parts))
