"""What a manifest's cohorts read in the same way: its files, and the table of its people."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from nbkit.core.checks import known, require
from nbkit.core.protocols import SEXES
from nbkit.data.manifest import Manifest
from nbkit.data.text_tables import read_text_table


def all_files(manifest: Manifest, paths: Collection[str]) -> dict[str, Path]:
    """Verified files by relative path; all of them or none, with the command that fetches them."""
    found = {path: manifest.locate(path) for path in paths}
    absent = [path for path, file in found.items() if file is None]
    require(
        not absent, manifest.name, expected="all its files", found=f"missing: {', '.join(absent)}",
        remedy=f"Run `make data COHORT=open` (`nbkit data fetch {manifest.name}`), or set NBKIT_MIRROR to a folder "
        f"that holds {manifest.folder}/.",
    )
    return found


MISSING = ("", "n/a", "na", "nan", "xx", ".")
"""What stands for a value that is not there, in any capitals."""
_SEXES = {"f": "F", "female": "F", "woman": "F", "m": "M", "male": "M", "man": "M"}


def number(cell: str, *, where: str) -> float | None:
    """A cell as a number, with a decimal point or comma; None where it is missing."""
    text = cell.strip()
    if text.lower() in MISSING:
        return None
    require(
        re.fullmatch(r"[-+]?\d+([.,]\d+)?", text) is not None, where, expected="a number, or n/a", found=repr(cell),
        remedy="Use the published table.",
    )
    return float(text.replace(",", "."))


def sex_of(cell: str, *, where: str) -> str | None:
    """A cell as "F" or "M"; None where it is missing."""
    text = cell.strip().lower()
    return None if text in MISSING else _SEXES[known(text, _SEXES, where)]


def sexes_and_ages(path: Path, wanted: Collection[str]) -> dict[str, tuple[str, float]]:
    """Sex and age (years) by subject, from a NiChart table with the columns MRID, Age and Sex.

    Raises
    ------
    NbkitError
        For a missing column, an unknown sex, or somebody of `wanted` who is not in the table.
    """
    table = {
        row.MRID: (known(row.Sex, SEXES, f"{path.name}: Sex of {row.MRID}"), _age(row.Age, f"{path.name}: {row.MRID}"))
        for row in read_text_table(path, ("MRID", "Age", "Sex")).itertuples()
    }
    absent = sorted(set(wanted) - set(table))
    require(
        not absent, f"{path}", expected="age and sex of everybody", found=f"none for {', '.join(absent)}",
        remedy="Use the published table.",
    )
    return {name: table[name] for name in wanted}


def _age(cell: str, where: str) -> float:
    age = number(cell, where=f"{where}: Age")
    require(age is not None, f"{where}: Age", expected="years", found=repr(cell), remedy="Use the published table.")
    return age
