"""Weights as safetensors beside a JSON of everything needed to use them. No pickle is ever read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from nbkit import __version__
from nbkit.core.checks import NbkitError, closest, known, require
from nbkit.core.config import Settings
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


class Constants(dict):
    """What a checkpoint keeps beside the weights; a name that is not there is refused, with the nearest that is."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        super().__init__(values)
        self._where = where

    def __missing__(self, name: str) -> Any:
        return known(name, self, f"{self._where}: constants")


class Saved:
    """A system that is kept as a folder: tensors (safetensors) beside its settings and what else it learned (JSON).

    A subclass names its ``settings`` (the class of its ``config``) and says what it holds: ``_tensors()``,
    ``_constants()`` (JSON-able), and ``_restore(tensors, constants, where)``, which takes both back and refuses what
    does not fit, :func:`load_weights` being its usual means.
    """

    settings: ClassVar[type[Settings]]
    config: Any
    trained_on: str = ""

    def _tensors(self) -> Mapping[str, torch.Tensor]:
        raise NotImplementedError

    def _constants(self) -> Mapping[str, Any]:
        return {}

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        raise NotImplementedError

    def save(self, path: Path | str) -> None:
        """Write weights, settings and constants into the folder `path`, in one step."""
        save_checkpoint(
            path, self._tensors(), system=type(self).__name__, config=self.config.as_dict(),
            constants=self._constants(), training_subjects=self.trained_on,
        )

    @classmethod
    def load(cls, path: Path | str, **given: Any) -> Self:
        """Read what :meth:`save` wrote; `given` is what the constructor takes beside the settings.

        Raises
        ------
        NbkitError
            For missing, unexpected or misshapen parts, by name.
        """
        tensors, record = load_checkpoint(path, system=cls.__name__)
        model = cls(cls.settings.from_dict(record["config"]), **given)
        model.trained_on = record["training_subjects"]
        model._restore(tensors, Constants(record["constants"], str(path)), str(path))
        return model


def load_weights(net: nn.Module, tensors: Mapping[str, torch.Tensor], where: str, *, prefix: str = "") -> None:
    """Give `net` the tensors whose names start with `prefix`, without it; missing or foreign ones are refused."""
    mine = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    check_tensors(mine, net.state_dict(), where)
    net.load_state_dict(mine)
