"""Your own scans, listed in a plain CSV: one row per file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nbkit.core.checks import known
from nbkit.core.config import PROFILES
from nbkit.core.protocols import Cohort
from nbkit.data.own_scans import data_hash, subjects_of
from nbkit.data.tables import read_scan_table


def build(path: Path | str, profile: str, *, sex_codes: Mapping[str, str] | None = None) -> Cohort:
    """The cohort of a scan table (columns: :func:`nbkit.data.tables.read_scan_table`).

    Images are read on access and never copied to the cache, since such data are often not ours to copy. Headers
    are compared at once; NaN and constant images are refused when they are first looked at, by row and file.
    Profiles "laptop" and "smoke" average blocks of voxels to about 2 and 3 mm; "paper" takes images as they are.

    Parameters
    ----------
    path : path
        The CSV.
    profile : {"smoke", "laptop", "paper"}
    sex_codes : mapping, optional
        What the codes in the column sex mean.

    Raises
    ------
    NbkitError
        By file and row, for whatever the table or the headers have wrong.
    """
    path = Path(path)
    known(profile, PROFILES, "own_csv: profile")
    table = read_scan_table(path, sex_codes=sex_codes)
    return Cohort(f"own-{path.stem}", subjects_of(table, source=path.name, profile=profile), "restricted", {
        "source": path.name, "profile": profile, "files": len(table), "licence": "the owner's",
        "attribution": "own data, not shared", "data_hash": data_hash(table),
    })
