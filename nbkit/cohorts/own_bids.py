"""Your own BIDS folder: ADNI or OASIS-3 as Clinica writes them, plain BIDS, or CAPS t1_linear."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nbkit.core.checks import known
from nbkit.core.config import PROFILES
from nbkit.core.protocols import Cohort
from nbkit.data.bids import LEAVE_OUT, read_bids
from nbkit.data.findings import raise_refused
from nbkit.data.own_scans import data_hash, subjects_of


def build(
    path: Path | str, profile: str, *, sex_codes: Mapping[str, str] | None = None,
    clinical: Path | str | None = None,
) -> Cohort:
    """The cohort of a BIDS folder (layout and tables: :func:`nbkit.data.bids.read_bids`).

    Images are read on access and never copied to the cache. NaN and constant images are refused when they are
    first looked at; ``nbkit data check`` looks at all of them beforehand. Profiles as in
    :func:`nbkit.cohorts.own_csv.build`.

    Parameters
    ----------
    path : path
    profile : {"smoke", "laptop", "paper"}
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
        Listing whatever names, tables or headers have wrong, by file and remedy.
    """
    known(profile, PROFILES, "own_bids: profile")
    reading = read_bids(path, sex_codes=sex_codes, clinical=clinical)
    raise_refused(
        reading.findings, reading.name,
        remedy=f"`nbkit data check` lists all of it with pictures. Correct each, {LEAVE_OUT}",
    )
    subjects = subjects_of(reading.table, source=reading.name, profile=profile)
    return Cohort(f"own-{reading.name}", subjects, "restricted", {
        "source": reading.name, "profile": profile, "files": len(reading.table), "licence": "the owner's",
        "attribution": "own data, not shared", "data_hash": data_hash(reading.table),
        "warnings": sum(not f.refused for f in reading.findings),
    })
