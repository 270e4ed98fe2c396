"""Weights as safetensors beside a JSON of everything needed to use them. No pickle is ever read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nbkit import __version__
from nbkit.core.checks import NbkitError, closest, require
from nbkit.core.files import atomic

FORMAT = 1


def save_checkpoint(
    path: Path | str, tensors: Mapping[str, torch.Tensor], *, system: str, config: Mapping[str, Any],
    constants: Mapping[str, Any], training_subjects: str,
) -> None:
    """Write the folder `path` with ``weights.safetensors`` and ``model.json``, in one step.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
        The weights.
    system : str
        Name of the system, checked on loading.
    config : mapping
        The settings it was built with.
    constants : mapping
        What it learned from data besides weights (means, scale factors, bin edges).
    training_subjects : str
        Hash of the ids it was trained on.
    """
    record = {
        "format": FORMAT, "system": system, "nbkit": __version__, "config": dict(config),
        "constants": dict(constants), "training_subjects": training_subjects,
    }
    with atomic(path) as part:
        part.mkdir()
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part / "weights.safetensors")
        (part / "model.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def load_checkpoint(path: Path | str, *, system: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what :func:`save_checkpoint` wrote: (tensors, record).

    Raises
    ------
    NbkitError
        If a file is missing or damaged, or the weights belong to another system.
    """
    path = Path(path)
    try:
        record = json.loads((path / "model.json").read_text(encoding="utf-8"))
        tensors = load_file(path / "weights.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise NbkitError(
            f"{path}", expected="a folder with model.json and weights.safetensors", found=str(error),
            remedy="Save the model again, or point to the folder that save() wrote.",
        ) from error
    require(
        record.get("format") == FORMAT and record.get("system") == system, f"{path / 'model.json'}: system",
        expected=f"{system!r} (format {FORMAT})", found=f"{record.get('system')!r} (format {record.get('format')})",
        remedy="Load these weights with the system that saved them.",
    )
    return tensors, record


def check_tensors(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], where: str) -> None:
    """Refuse missing, unexpected or differently shaped weights, by name."""
    # near names are looked for only where one is missing: among a thousand that takes seconds for each
    for name in (n for n in expected if n not in found):
        raise NbkitError(
            f"{where}: weights", expected=name, found="no such tensor",
            remedy=f"{closest(name, found)}The file does not fit this Config.",
        )
    for name in expected:
        require(
            found[name].shape == expected[name].shape, f"{where}: weights {name}",
            expected=f"shape {tuple(expected[name].shape)}", found=tuple(found[name].shape),
            remedy="The weights were saved with another Config (inputs, width or depth).",
        )
    for name in (n for n in found if n not in expected):
        raise NbkitError(
            f"{where}: weights", expected="only tensors of this network", found=name,
            remedy=f"{closest(name, expected)}The file does not fit this Config.",
        )
