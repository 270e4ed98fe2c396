"""The JSON beside a table: in which unit its ages are, and what its coded sexes mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbkit.core.checks import require
from nbkit.data.sidecars import read_object

_IN_YEARS = {"year": 1.0, "month": 1 / 12, "week": 7 / 365.25, "day": 1 / 365.25}
_SHORT = {"y": "year", "yr": "year", "a": "year", "mo": "month", "mon": "month", "wk": "week", "d": "day"}
_IN_WORDS = re.compile(r"\b(?:in |\()(year|month|week|day)s?\b", re.IGNORECASE)
_WORD = re.compile(r"year|month|week|day")


def read_sidecar(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds, its names in small letters; an empty one where there is no file.

    Raises
    ------
    NbkitError
        By file, for whatever is no JSON object.
    """
    found = read_object(path) if path.is_file() else {}
    return {str(name).lower(): value for name, value in found.items()}


def age_unit(sidecar: Mapping[str, Any], column: str, where: str) -> tuple[str, float]:
    """Unit of a column of ages, and what it is in years; years where the sidecar says nothing.

    Raises
    ------
    NbkitError
        For a unit that is none of time.
    """
    told = sidecar.get(column)
    told = {str(k).lower(): v for k, v in told.items()} if isinstance(told, dict) else {}
    words = str(told.get("units") or "").strip().lower().rstrip(".")
    if not words:
        said = _IN_WORDS.search(f"{told.get('longname', '')} {told.get('description', '')}")
        words = said[1].lower() if said else "year"
    named = set(_WORD.findall(words)) or {_SHORT.get(words.rstrip("s"))}
    unit = named.pop()
    require(
        unit in _IN_YEARS and not named, f"{where}: Units of {column}", expected="years, months, weeks or days",
        found=repr(words), remedy="Give the ages in years, and correct the unit.",
    )
    return unit, _IN_YEARS[unit]


def levels(sidecar: Mapping[str, Any], column: str) -> dict[str, str]:
    """What the codes of a column mean (``Levels``), in small letters."""
    told = sidecar.get(column)
    found = told.get("Levels") if isinstance(told, dict) else None
    pairs = found.items() if isinstance(found, dict) else ()
    return {str(code): str(m.get("Description", "") if isinstance(m, dict) else m).strip().lower() for code, m in pairs}
