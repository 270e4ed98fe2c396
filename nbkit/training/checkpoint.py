"""Weights as safetensors beside a JSON of everything needed to use them. No pickle is ever read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from nbkit import __version__
from nbkit.core.checks import NbkitError, closest, known, require
from nbkit.core.config import Settings, digest
from nbkit.core.files import atomic

FORMAT = 1
_WEIGHTS, _RECORD = "weights.safetensors", "model.json"
_PARTS = {"config": dict, "constants": dict, "training_subjects": str}
_KEYS = {"format", "system", "nbkit", "history", "weights", "checksum", *_PARTS}
_AGAIN = "Save the model again, or point to the folder that save() wrote."
_DAMAGE = (
    ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, SafetensorError, TypeError,
    ValueError,
)
"""What libraries and constructors raise over a damaged file."""


def save_checkpoint(
    path: Path | str, tensors: Mapping[str, torch.Tensor], *, system: str, config: Mapping[str, Any],
    constants: Mapping[str, Any], training_subjects: str, history: Mapping[str, Any] | None = None,
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
    history : mapping, optional
        How its training went, JSON-able.
    """
    record = {
        "format": FORMAT, "system": system, "nbkit": __version__, "config": dict(config),
        "constants": dict(constants), "training_subjects": training_subjects, "history": dict(history or {}),
    }
    with atomic(path) as part:
        part.mkdir()
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part / _WEIGHTS)
        record["weights"] = _sum_of(part / _WEIGHTS)
        record["checksum"] = _checksum(record)
        (part / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


@contextmanager
def one_door(path: Path | str) -> Iterator[None]:
    """Whatever a damaged checkpoint makes a library or a constructor raise becomes one error that names the folder."""
    try:
        yield
    except NbkitError:
        raise
    except _DAMAGE as error:
        raise NbkitError(
            f"{path}", expected=f"a folder with {_RECORD} and {_WEIGHTS}, whole and of one model",
            found=f"{type(error).__name__}: {str(error)[:200]}",
            remedy=_AGAIN,
        ) from error


def _sum_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checksum(record: Mapping[str, Any]) -> str:
    """Of everything else in the record, as JSON has it."""
    return digest(json.loads(json.dumps({name: value for name, value in record.items() if name != "checksum"})))


def load_checkpoint(path: Path | str, *, system: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what :func:`save_checkpoint` wrote: (tensors, record).

    Raises
    ------
    NbkitError
        If a file is missing, damaged or changed since, or the weights belong to another system.
    """
    tensors, record = _read(Path(path), system)
    _check_sums(Path(path), record)
    return tensors, record


def _read(path: Path, system: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with one_door(path):
        record = json.loads((path / _RECORD).read_text(encoding="utf-8"))
        held = record if isinstance(record, dict) else {}
        wrong = [name for name, kind in _PARTS.items() if not isinstance(held.get(name), kind)]
        require(
            not wrong, f"{path / _RECORD}", expected=f"{', '.join(_PARTS)}", found=f"no {', '.join(wrong)} to use",
            remedy=_AGAIN,
        )
        require(
            record.get("format") == FORMAT and record.get("system") == system, f"{path / _RECORD}: system",
            expected=f"{system!r} (format {FORMAT})",
            found=f"{record.get('system')!r} (format {record.get('format')})",
            remedy="Load these weights with the system that saved them.",
        )
        return load_file(path / _WEIGHTS), record


def _check_sums(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse files that are not those that were saved; models of earlier versions carry no sums."""
    with one_door(path):
        sums = {_WEIGHTS: ("weights", _sum_of(path / _WEIGHTS)), _RECORD: ("checksum", _checksum(record))}
    # an earlier version wrote neither; one alone, or under another name, was damaged
    there = [key for key, _ in sums.values() if key in record]
    require(
        len(there) in (0, len(sums)) and set(record) <= _KEYS, f"{path / _RECORD}", expected="what was saved",
        found="other names in it", remedy=_AGAIN,
    )
    for name, (key, found) in sums.items():
        require(
            record.get(key, found) == found, f"{path / name}", expected="what was saved, to the last bit",
            found="a damaged file, or one that was changed since", remedy=_AGAIN,
        )


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
    history: Mapping[str, Any] = MappingProxyType({})
    """How its training went, where it tells: losses, errors on people kept back."""
    learned_from: frozenset[tuple[str, str]] = frozenset()
    """Cohort and id of whom it learned from, where :func:`nbkit.training.fitted.fitted` gave it."""

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
            constants=self._constants(), training_subjects=self.trained_on, history=self.history,
        )

    @classmethod
    def load(cls, path: Path | str, **given: Any) -> Self:
        """Read what :meth:`save` wrote; `given` is what the constructor takes beside the settings.

        Raises
        ------
        NbkitError
            For missing, unexpected or misshapen parts, by name.
        """
        tensors, record = _read(Path(path), cls.__name__)
        with one_door(path):
            model = cls(cls.settings.from_dict(record["config"]), **given)
            model.trained_on, model.history = record["training_subjects"], record.get("history", {})
            model._restore(tensors, Constants(record["constants"], str(path)), str(path))
        _check_sums(Path(path), record)
        return model


def load_weights(net: nn.Module, tensors: Mapping[str, torch.Tensor], where: str, *, prefix: str = "") -> None:
    """Give `net` the tensors whose names start with `prefix`, without it; missing or foreign ones are refused."""
    mine = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    check_tensors(mine, net.state_dict(), where)
    net.load_state_dict(mine)
