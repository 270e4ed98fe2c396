"""Weights that come with the project: listed in ``data_manifests/weights.toml``, verified before they are read."""

from __future__ import annotations

import hashlib
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from nbkit.core.checks import known, require
from nbkit.core.project import FILES

LIST = FILES / "data_manifests" / "weights.toml"
FOLDER = FILES / "reference" / "weights"


def weights_list() -> dict[str, dict[str, Any]]:
    """What is listed, by name: system, sha256 of the weights, configuration, people trained on, and how it was made."""
    return tomllib.loads(LIST.read_text(encoding="utf-8")) if LIST.exists() else {}


@lru_cache(maxsize=8)
def shipped_folder(name: str) -> Path:
    """The folder of a saved system that comes with the project.

    Raises
    ------
    NbkitError
        For a name that is not listed, or weights that are missing or not those listed.
    """
    listed, folder = weights_list(), FOLDER / name
    known(name, listed, f"{LIST.name}: weights")
    file = folder / "weights.safetensors"
    found = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no such file"
    require(
        found == listed[name]["sha256"], f"{file}", expected=f"sha256 {listed[name]['sha256']}", found=found,
        remedy="The file was changed or not fetched: `git checkout -- reference/weights`, or `git lfs pull`.",
    )
    return folder
