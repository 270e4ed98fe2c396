"""From the checked table of people's own files to subjects with scans that load when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from nbkit.core.checks import NbkitError, require
from nbkit.core.config import digest
from nbkit.core.protocols import Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data import grids, lazy, nifti
from nbkit.data.nifti_header import files_of
from nbkit.data.tables import MASK, SCORES, is_mask

_DEMENTED = "AD"
Reader = Callable[[Path], Volume]


def subjects_of(table: pd.DataFrame, *, source: str, profile: str) -> tuple[Subject, ...]:
    """Subjects of a checked table, in order of their names; scans by age, images read on access.

    Parameters
    ----------
    table : pandas.DataFrame
        As in :class:`nbkit.data.findings.Reading`; ``cdr`` and ``mmse`` become covariates with one value per visit,
        ``edss`` and ``t2_load_ml`` with that of the first visit, which has ``age`` with them.
    source : str
        Name of the table or folder, for errors.
    profile : {"smoke", "laptop", "overnight", "paper"}
        Blocks of voxels are averaged to about 3 mm, 2 mm, or not at all.
    """
    shelf = lazy.Shelf()
    return tuple(_subject(rows, source, profile, shelf) for _, rows in table.groupby("subject", sort=True))


def data_hash(table: pd.DataFrame) -> str:
    """Changes when a row, or the size or date of a file, does; reading every image would take too long."""
    stats = [part.stat() for file in table["file"] for part in files_of(file)]
    rows = table.drop(columns=["file"]).astype(str).values.tolist()
    return digest([rows, [(s.st_size, s.st_mtime_ns) for s in stats]])


def _subject(rows: pd.DataFrame, source: str, profile: str, shelf: lazy.Shelf) -> Subject:
    """Sessions by age; those without one by name, and last."""
    by_age = rows.sort_values(["age_years", "session"], kind="stable")
    visits = [visit for _, visit in by_age.groupby("session", sort=False)]
    first = visits[0].iloc[0]
    scans = tuple(_scan(visit.sort_index(), source, profile, shelf) for visit in visits)
    return Subject(first["subject"], _or_none(first["sex"]), first["diagnosis"], scans, _covariates(visits, scans))


def _covariates(visits: list[pd.DataFrame], scans: tuple[Scan, ...]) -> dict[str, object]:
    """Whether and when dementia began between visits, and the scores of each visit where there are any."""
    demented = [s.diagnosis == _DEMENTED for s in scans]
    converter = any(demented) and not demented[0]
    onset = scans[demented.index(True)].age if converter else None
    scores = {name: [_or_none(v.iloc[0][name], float) for v in visits] for name in ("cdr", "mmse") if name in visits[0]}
    first = {name: _or_none(visits[0].iloc[0][name], float) for name in SCORES if name in visits[0]}
    return {"converter": converter, "onset_age": onset, **scores, **first, **({"age": scans[0].age} if first else {})}


def _scan(visit: pd.DataFrame, source: str, profile: str, shelf: lazy.Shelf) -> Scan:
    first = visit.iloc[0]
    who = f"{source} {first['subject']}/{first['session']}"
    masked = visit["contrast"].map(is_mask)
    require(
        not masked.all(), who, expected="at least one image", found=f"only {', '.join(visit['contrast'])}",
        remedy="Add a row for each contrast of the session.",
    )
    images, masks = (
        lazy.LazyVolumes((who, read.__name__), list(places), partial(_load, places, who, profile, read), shelf=shelf)
        for read, places in ((nifti.read_image, _places(visit[~masked])), (nifti.read_labels, _places(visit[masked])))
    )
    age = _or_none(first["age_years"], float)
    return Scan(first["subject"], first["session"], age, images, masks, diagnosis=first["diagnosis"])


def _places(rows: pd.DataFrame) -> dict[str, tuple[str, Path]]:
    """By contrast, or name of a mask, where its file lies, in words and as a path."""
    return {row.contrast.removeprefix(MASK): (row.place, row.file) for row in rows.itertuples()}


def _load(places: Mapping[str, tuple[str, Path]], who: str, profile: str, read: Reader, name: str) -> Volume:
    place, file = places[name]
    try:
        volume = read(file)
    except NbkitError as error:
        raise error.at(f"{who}: {place}") from error
    factor = grids.profile_factor(volume.spacing, profile)
    if read is nifti.read_image:
        return grids.block_mean(volume, factor)
    return grids.block_majority(volume.with_data(volume.data > 0), factor)


def _or_none(value: object, kind: type = str) -> object:
    return None if pd.isna(value) else kind(value)
