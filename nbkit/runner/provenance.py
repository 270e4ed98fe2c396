"""Where results come from: code, packages, machine. Names no user and no absolute path."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch

import nbkit
from nbkit.core.device import fast_half, pick_device
from nbkit.core.files import source_digest
from nbkit.runner.ending import memory_bytes

ROOT = Path(nbkit.__file__).resolve().parents[1]
WITHOUT_METADATA = ("torch", "numpy", "scipy", "pandas", "nibabel", "nilearn", "scikit-learn", "papermill", "monai")


def collect() -> dict[str, Any]:
    """Code version, packages and machine of this process, JSON-able."""
    code = {"nbkit": nbkit.__version__, "source": code_digest(), "git": git_state()}
    return {**code, **machine(), "packages": packages()}


def code_digest() -> str:
    """Twelve hex digits of nbkit's source as it runs."""
    return source_digest(Path(nbkit.__file__).parent)


def git_state() -> dict[str, Any]:
    """Commit of the clone and whether files differ from it; both None outside a clone."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain") if commit else None
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    if not (ROOT / ".git").exists():  # an installed wheel may lie in a clone of something else
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """Python, processor, memory, device and the torch settings that can change digits."""
    device = pick_device()
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpus": cpu_count(),
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "device": str(device),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "torch": {
            "threads": torch.get_num_threads(),
            "bf16_fast": fast_half(device),
            "tf32": torch.backends.cuda.matmul.allow_tf32 if cuda else None,
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "cudnn_benchmark": torch.backends.cudnn.benchmark if cuda else None,
            "cuda": torch.version.cuda if cuda else None,
        },
    }


def cpu_count() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def packages() -> dict[str, str]:
    """Versions of what nbkit depends on, as installed."""
    try:
        needed = [r for r in requires("nbkit") or () if "extra ==" not in r]
    except PackageNotFoundError:
        needed = list(WITHOUT_METADATA)
    names = sorted({_name(r) for r in needed} | {"torch", "numpy"})
    return {n: v for n in names if (v := installed(n))}


def _name(requirement: str) -> str:
    return next(iter("".join(c if c.isalnum() or c in "-_." else " " for c in requirement).split()))


def installed(package: str) -> str | None:
    """Installed version of a package; None when it is absent."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
