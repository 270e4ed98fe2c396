"""The one door for TOML: settings of data sets, manifests, ledgers."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from nbkit.core.checks import NbkitError


def read_toml(path: Path, *, remedy: str = "Correct the line.") -> dict[str, Any]:
    """What a TOML file says.

    Raises
    ------
    NbkitError
        By file, for one that cannot be opened, is not UTF-8, or no TOML; `remedy` says what to do.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise NbkitError(path.name, expected="TOML in UTF-8", found=str(error), remedy=remedy) from error
