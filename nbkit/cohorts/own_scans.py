"""Your own scans: a plain CSV; or a BIDS folder, be it ADNI or OASIS-3 as Clinica writes them, or CAPS t1_linear."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nbkit.core.checks import known, require
from nbkit.core.config import PROFILES
from nbkit.core.protocols import Cohort
from nbkit.data.bids import LEAVE_OUT
from nbkit.data.check import read_own
from nbkit.data.findings import left_out, raise_refused
from nbkit.data.own_needs import told
from nbkit.data.own_scans import data_hash, subjects_of


def build(
    path: Path | str, profile: str, *, sex_codes: Mapping[str, str] | None = None,
    clinical: Path | str | None = None,
) -> Cohort:
    """The cohort of a scan table (columns: :func:`nbkit.data.tables.survey_scan_table`) or of a BIDS folder.

    Layout and tables of a folder: :func:`nbkit.data.bids.read_bids`. Images are read on access and never copied to
    the cache, since such data are often not ours to copy. Headers are compared at once; NaN and constant images are
    refused when they are first looked at, by file; ``nbkit data check`` looks at all of them beforehand. Profiles
    "laptop" and "smoke" average blocks of voxels to about 2 and 3 mm; "paper" takes images as they are.

    Parameters
    ----------
    path : path
        A ``.csv``, or a folder.
    profile : {"smoke", "laptop", "overnight", "paper"}
    sex_codes : mapping, optional
        What the codes in the column sex mean.
    clinical : path, optional
        Folder with the original OASIS-3 tables; not needed when the data set holds them itself.

    Returns
    -------
    Cohort
        Restricted. Scans carry the diagnosis of their visit; covariates say ``converter``, ``onset_age``, ``cdr``
        and ``mmse`` (one per scan).

    Raises
    ------
    NbkitError
        For whatever names, tables or headers have wrong, by file (and row) and remedy.
    """
    path = Path(path)
    known(profile, PROFILES, "own_scans: profile")
    reading = read_own(path, sex_codes=sex_codes, clinical=clinical)
    table, source = reading.table, path.name if path.suffix.lower() == ".csv" else reading.name
    mend = "." if path.suffix.lower() == ".csv" else f", {LEAVE_OUT}"
    raise_refused(
        reading.findings, source, remedy=f"`nbkit data check` lists all of it with pictures. Correct each{mend}",
    )
    require(
        len(table) > 0, source, expected="an image that can be used", found="none",
        remedy="`nbkit data check` says of everybody why.",
    )
    subjects = subjects_of(table, source=source, profile=profile)
    return told(Cohort(f"own-{reading.name}", subjects, "restricted", {
        "source": source, "profile": profile, "files": len(table), "licence": "the owner's",
        "attribution": "own data, not shared", "data_hash": data_hash(table),
        "warnings": sum(not finding.refused for finding in reading.findings),
    }), left_out(reading.findings))
