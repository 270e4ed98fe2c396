"""What torch's CPU build lacks to carry tensors of a CUDA device; it must be there before torch is imported."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path


def build_guard(folder: Path) -> Path | None:
    """The compiled guard.cpp in `folder`; None without a C++ compiler."""
    compiler = next((found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), None)
    if compiler is None:
        return None
    torch, made = Path(find_spec("torch").origin).parent, folder / "guard.so"
    include, lib = torch / "include", torch / "lib"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-std=c++20", str(Path(__file__).with_name("guard.cpp")), "-o", str(made),
         f"-I{include}", f"-I{include / 'torch/csrc/api/include'}", f"-L{lib}", f"-Wl,-rpath,{lib}", "-lc10",
         "-ltorch_cpu"], check=True,
    )
    return made


def stand_in(guard: Path) -> None:
    """Let torch have it; the first thing in a new process."""
    ctypes.CDLL(str(guard)).stand_in()
