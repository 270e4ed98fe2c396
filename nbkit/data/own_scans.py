"""From the checked table of people's own files to subjects with scans that load when they are looked at."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nbkit.core.checks import NbkitError, check_same_grid, require
from nbkit.core.config import digest
from nbkit.core.protocols import Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data import grids, lazy, nifti
from nbkit.data.tables import SCORES

MASK = "mask:"
_DEMENTED = "AD"


@dataclass(frozen=True)
class Place:
    """Where a scan comes from: the words for it in an error, and its file."""

    label: str
    file: Path


def subjects_of(table: pd.DataFrame, *, source: str, profile: str) -> tuple[Subject, ...]:
    """Subjects of a checked table, in order of their names; scans by age, images read on access.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`nbkit.data.tables.read_scan_table` returns it; ``cdr`` and ``mmse`` become covariates with one value
        per visit, ``edss`` and ``t2_load_ml`` with that of the first visit, which has ``age`` with them.
    source : str
        Name of the table or folder, for errors.
    profile : {"smoke", "laptop", "paper"}
        Blocks of voxels are averaged to about 3 mm, 2 mm, or not at all.
    """
    shelf = lazy.Shelf()
    return tuple(_subject(rows, source, profile, shelf) for _, rows in table.groupby("subject", sort=True))


def sessions_of(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The sessions of one subject by age; without an age, by name and last."""
    return sorted((visit for _, visit in rows.groupby("session")), key=_by_age)


def grid_faults(visit: pd.DataFrame) -> Iterator[tuple[int, NbkitError]]:
    """Rows of one session, by label, whose grid is not that of its first image, or whose header cannot be read."""
    reference = visit.iloc[0]["contrast"]
    first = None
    for row in visit.itertuples():
        try:
            here = nifti.read_grid(row.file)
            first = first or here
            check_same_grid(*first, *here, f"{row.file} against its {reference}")
        except NbkitError as error:
            yield row.Index, error


def is_mask(contrast: str) -> bool:
    """Whether a contrast of the table names a mask."""
    return contrast.startswith(MASK)


def images_first(visit: pd.DataFrame) -> pd.DataFrame:
    """The rows of one session with images before masks."""
    return visit.sort_values("contrast", key=lambda names: names.map(is_mask), kind="stable")


def data_hash(table: pd.DataFrame) -> str:
    """Changes when a row, or the size or date of a file, does; reading every image would take too long."""
    stats = [file.stat() for file in table["file"]]
    rows = table.drop(columns=["file"]).astype(str).values.tolist()
    return digest([rows, [(s.st_size, s.st_mtime_ns) for s in stats]])


def _subject(rows: pd.DataFrame, source: str, profile: str, shelf: lazy.Shelf) -> Subject:
    visits = sessions_of(rows)
    first = visits[0].iloc[0]
    scans = tuple(_scan(visit, source, profile, shelf) for visit in visits)
    return Subject(first["subject"], _or_none(first["sex"]), first["diagnosis"], scans, _covariates(visits, scans))


def _covariates(visits: list[pd.DataFrame], scans: tuple[Scan, ...]) -> dict[str, object]:
    """Whether and when dementia began between visits, and the scores of each visit where there are any."""
    demented = [s.diagnosis == _DEMENTED for s in scans]
    converter = any(demented) and not demented[0]
    onset = next((s.age for s, ill in zip(scans, demented, strict=True) if ill), None) if converter else None
    scores = {
        name: [_or_none(v.iloc[0][name], float) for v in visits] for name in ("cdr", "mmse") if name in visits[0]
    }
    first = {name: _or_none(visits[0].iloc[0][name], float) for name in SCORES if name in visits[0]}
    return {"converter": converter, "onset_age": onset, **scores, **first, **({"age": scans[0].age} if first else {})}


def _by_age(visit: pd.DataFrame) -> tuple[bool, float, str]:
    age = visit["age_years"].iloc[0]
    return pd.isna(age), 0.0 if pd.isna(age) else float(age), visit["session"].iloc[0]


def _scan(visit: pd.DataFrame, source: str, profile: str, shelf: lazy.Shelf) -> Scan:
    first = visit.iloc[0]
    places = {r.contrast: Place(f"row {r.row}, {r.file}", r.file) for r in visit.itertuples()}
    images = [c for c in places if not is_mask(c)]
    who = f"{source} {first['subject']}/{first['session']}"
    require(
        bool(images), who, expected="at least one image", found=f"only {', '.join(places)}",
        remedy="Add a row for each contrast of the session.",
    )
    for index, error in grid_faults(images_first(visit)):
        raise NbkitError(
            f"{who}: row {visit.at[index, 'row']}, {error.where}", expected=error.expected, found=error.found,
            remedy=error.remedy,
        )
    masks = [c.removeprefix(MASK) for c in places if is_mask(c)]
    return Scan(
        first["subject"], first["session"], _or_none(first["age_years"], float),
        lazy.LazyVolumes(who, images, functools.partial(_load, places, who, profile), shelf=shelf),
        lazy.LazyVolumes(f"{who} {MASK}", masks, functools.partial(_load_mask, places, who, profile), shelf=shelf),
        diagnosis=first["diagnosis"],
    )


def _load(places: Mapping[str, Place], who: str, profile: str, contrast: str) -> Volume:
    image = _told(nifti.read_image, places[contrast], who)
    return grids.block_mean(image, grids.profile_factor(image.spacing, profile))


def _load_mask(places: Mapping[str, Place], who: str, profile: str, name: str) -> Volume:
    labels = _told(nifti.read_labels, places[MASK + name], who)
    mask = labels.with_data(labels.data > 0)
    return grids.block_majority(mask, grids.profile_factor(mask.spacing, profile))


def _told(read, place: Place, who: str) -> Volume:
    try:
        return read(place.file)
    except NbkitError as error:
        raise NbkitError(
            f"{who}: {place.label}", expected=error.expected, found=error.found, remedy=error.remedy,
        ) from error


def _or_none(value: object, kind: type = str) -> object:
    return None if pd.isna(value) else kind(value)
