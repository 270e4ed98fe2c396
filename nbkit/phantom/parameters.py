"""The phantom's numbers, read from one file where each stands with its unit and source."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nbkit.core.checks import known, require
from nbkit.core.config import digest

MS_PARAMETERS = Path(__file__).with_name("ms_parameters.toml")
_FIELDS = {"value", "unit", "source"}


class Parameters(Mapping):
    """Frozen numbers by dotted name, e.g. ``parameters["tissue.wm.t1"]``.

    Parameters
    ----------
    entries : mapping of str to mapping
        Each with ``value``, ``unit`` and ``source``.
    """

    def __init__(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self.entries = MappingProxyType(dict(entries))
        self._sections: dict[str, dict[str, Any]] = {}
        for name, entry in self.entries.items():
            parts = name.split(".")
            for k in range(1, len(parts)):
                self._sections.setdefault(".".join(parts[:k]), {})[".".join(parts[k:])] = entry["value"]

    def __getitem__(self, name: str) -> Any:
        if name not in self.entries:
            known(name, self.entries, "Parameters: name")
        return self.entries[name]["value"]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __hash__(self) -> int:
        return hash(self._digest)

    def section(self, prefix: str) -> dict[str, Any]:
        """Values below ``prefix.``, keyed by the rest of their names; an unknown prefix is refused."""
        if prefix not in self._sections:
            known(prefix, self._sections, "Parameters.section: prefix")
        return dict(self._sections[prefix])

    def groups(self, prefix: str) -> tuple[str, ...]:
        """Names of the groups one level below `prefix`, in file order (e.g. the contrasts)."""
        return tuple(dict.fromkeys(name.split(".")[0] for name in self.section(prefix)))

    def digest(self) -> str:
        """Twelve hex digits that change when any value changes."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest({name: entry["value"] for name, entry in self.entries.items()})


@lru_cache(maxsize=4)
def load_parameters(path: Path = MS_PARAMETERS) -> Parameters:
    """Read a parameter file.

    Raises
    ------
    NbkitError
        If an entry lacks its value, unit or source.
    """
    return Parameters(_flatten(tomllib.loads(Path(path).read_text(encoding="utf-8")), Path(path).name))


def load_layers(*paths: Path) -> Parameters:
    """One set of numbers from several files, later ones over earlier ones."""
    return Parameters({name: entry for path in paths for name, entry in load_parameters(path).entries.items()})


def _flatten(tree: Mapping[str, Any], where: str, prefix: str = "") -> dict[str, Mapping[str, Any]]:
    entries: dict[str, Mapping[str, Any]] = {}
    for key, item in tree.items():
        table = isinstance(item, Mapping)
        if table and not set(item) & _FIELDS:
            entries |= _flatten(item, where, f"{prefix}{key}.")
            continue
        require(
            table and set(item) == _FIELDS, f"{where}: {prefix}{key}", expected="value, unit and source",
            found=", ".join(item) if table else repr(item),
            remedy="Every number of the phantom stands with its unit and source.",
        )
        entries[f"{prefix}{key}"] = item
    return entries
