"""Your own scans, listed in a plain CSV: one row per file."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from nbkit.core.checks import NbkitError, check_same_grid, known, require
from nbkit.core.config import PROFILES, digest
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data import grids, lazy, nifti
from nbkit.data.tables import read_scan_table

_MASK = "mask:"


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
    shelf = lazy.Shelf()
    subjects = tuple(_subject(rows, path, profile, shelf) for _, rows in table.groupby("subject", sort=True))
    return Cohort(f"own-{path.stem}", subjects, "restricted", {
        "source": path.name, "profile": profile, "files": len(table), "licence": "the owner's",
        "attribution": "own data, not shared", "data_hash": _data_hash(table),
    })


def _subject(rows: pd.DataFrame, csv: Path, profile: str, shelf: lazy.Shelf) -> Subject:
    visits = sorted((visit for _, visit in rows.groupby("session")), key=_by_age)
    first = visits[0].iloc[0]
    scans = tuple(_scan(visit, csv, profile, shelf) for visit in visits)
    return Subject(first["subject"], _or_none(first["sex"]), first["diagnosis"], scans)


def _by_age(visit: pd.DataFrame) -> tuple[bool, float, str]:
    age = visit["age_years"].iloc[0]
    return pd.isna(age), 0.0 if pd.isna(age) else float(age), visit["session"].iloc[0]


def _scan(visit: pd.DataFrame, csv: Path, profile: str, shelf: lazy.Shelf) -> Scan:
    subject, session, age = visit.iloc[0][["subject", "session", "age_years"]]
    rows = {r.contrast: (r.row, r.file) for r in visit.itertuples()}
    images = [c for c in rows if not c.startswith(_MASK)]
    who = f"{csv.name} {subject}/{session}"
    require(
        bool(images), who, expected="at least one image", found=f"only {', '.join(rows)}",
        remedy="Add a row for each contrast of the session.",
    )
    _check_grids(rows, images[0], who)
    load = functools.partial(_load, rows, who, profile)
    masks = [c.removeprefix(_MASK) for c in rows if c.startswith(_MASK)]
    return Scan(
        subject, session, None if pd.isna(age) else float(age),
        lazy.LazyVolumes(who, images, load, shelf=shelf),
        lazy.LazyVolumes(f"{who} {_MASK}", masks, functools.partial(_load_mask, rows, who, profile), shelf=shelf),
    )


def _check_grids(rows: Mapping[str, tuple[int, Path]], reference: str, who: str) -> None:
    shape, affine = nifti.read_grid(rows[reference][1])
    for contrast, (row, file) in rows.items():
        check_same_grid(shape, affine, *nifti.read_grid(file), f"{who}: row {row}, {file} against its {reference}")


def _load(rows: Mapping[str, tuple[int, Path]], who: str, profile: str, contrast: str) -> Volume:
    image = _at_row(nifti.read_image, rows[contrast], who)
    return grids.block_mean(image, grids.profile_factor(image.spacing, profile))


def _load_mask(rows: Mapping[str, tuple[int, Path]], who: str, profile: str, name: str) -> Volume:
    labels = _at_row(nifti.read_labels, rows[_MASK + name], who)
    mask = labels.with_data(labels.data > 0)
    return grids.block_majority(mask, grids.profile_factor(mask.spacing, profile))


def _at_row(read, place: tuple[int, Path], who: str) -> Volume:
    row, file = place
    try:
        return read(file)
    except NbkitError as error:
        raise NbkitError(
            f"{who}: row {row}, {error.where}", expected=error.expected, found=error.found, remedy=error.remedy,
        ) from error


def _or_none(value: object) -> str | None:
    return None if pd.isna(value) else str(value)


def _data_hash(table: pd.DataFrame) -> str:
    """Changes when a row, or the size or date of a file, does; reading every image would take too long."""
    stats = [file.stat() for file in table["file"]]
    rows = table.drop(columns=["file"]).astype(str).values.tolist()
    return digest([rows, [(s.st_size, s.st_mtime_ns) for s in stats]])
