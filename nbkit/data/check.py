"""People's own data, checked to the end: every table, header and image, one verdict per subject."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nbkit.core.checks import NbkitError, require
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.bids import read_bids
from nbkit.data.findings import Finding, Reading
from nbkit.data.own_scans import MASK, grid_faults, images_first, is_mask
from nbkit.data.tables import survey_scan_table

QUANTILES = (0.01, 0.5, 0.99)
# what a head and a brain measure, generously: outside, units or conversion are wrong
_FIELD_MM, _BRAIN_ML = (100.0, 400.0), (500.0, 2500.0)
# below a tenth of the range is air; fluid and bone may make up the tenth of a mask that is allowed there
_DARK, _INSIDE = 0.1, 0.9


@dataclass(frozen=True, eq=False)
class Look:
    """One image that was looked at.

    Parameters
    ----------
    subject, session, contrast : str
    age : float or None
    diagnosis : str
    path : str
        Relative to the data set.
    image, mask : Volume or None
        In canonical order; None where it could not be read.
    facts : mapping
        Shape, spacing (mm), stored orientation, intensity quantiles, brain volume (ml), share of the mask that
        lies in the bright part of the image.
    findings : tuple of Finding
    """

    subject: str
    session: str
    contrast: str
    age: float | None
    diagnosis: str
    path: str
    image: Volume | None
    mask: Volume | None
    facts: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Pass or refused, with all that was found on one subject."""

    subject: str
    scans: int
    passed: bool
    findings: tuple[Finding, ...]


def read_own(
    path: Path | str, *, sex_codes: Mapping[str, str] | None = None, clinical: Path | str | None = None
) -> Reading:
    """Tables, names and headers of a CSV or a BIDS folder; faults are collected, not raised.

    Raises
    ------
    NbkitError
        Only when there is nothing to read: no such file or folder, columns missing, no image, tables of
        `clinical` missing.
    """
    path = Path(path)
    if path.suffix.lower() != ".csv":
        return read_bids(path, sex_codes=sex_codes, clinical=clinical)
    require(
        clinical is None, "--clinical", expected="a BIDS folder to go with it", found=path.name,
        remedy="A CSV carries age and diagnosis itself: leave --clinical out.",
    )
    return _read_csv(path, sex_codes)


def look_at_images(reading: Reading, *, progress: bool = True) -> Iterator[Look]:
    """Read every image once, one at a time, with the brain mask of its session.

    NaN and constant images, masks with fractions or without a voxel, and one scan under two names are refused;
    odd sizes are warnings.
    """
    seen: dict[str, tuple[str, str]] = {}
    visits = [images_first(v) for _, v in reading.files.groupby(["subject", "session"], sort=True)]
    total = sum(len(v) - v["contrast"].map(is_mask).sum() for v in visits)
    with tqdm(total=total, desc=f"check {reading.name}", unit="scan", disable=not progress) as bar:
        for visit in visits:
            for look in _look_at_session(visit, reading.root, seen):
                yield look
                bar.update()


def verdicts(reading: Reading, found: Iterable[Finding] = ()) -> list[Verdict]:
    """One verdict per subject, from the tables' findings and those of the images.

    A fault of the data set as a whole (no participants.tsv, mixed-up scores) refuses everybody; so does, for one
    person, having no scan that could be read.
    """
    everything = list(dict.fromkeys([*reading.findings, *found]))
    whole = any(f.refused for f in everything if not f.subject)
    counts = Counter(r.subject for r in reading.files.itertuples() if not is_mask(r.contrast))
    result = []
    for subject in reading.subjects:
        mine = tuple(f for f in everything if f.subject == subject)
        scans = counts[subject]
        if not scans and not whole and not any(f.refused for f in mine):
            remedy = "Bring the images, or leave the person out."
            mine += (Finding(subject, subject, "at least one image", "none", remedy),)
        result.append(Verdict(subject, scans, not whole and not any(f.refused for f in mine), mine))
    return result


def _read_csv(path: Path, sex_codes: Mapping[str, str] | None) -> Reading:
    table, raw, faults = survey_scan_table(path, sex_codes=sex_codes)
    findings = []
    for fault in faults:
        rows, found = ", ".join(str(r + 2) for r in fault.rows), fault.found
        for place in {_text(raw.at[r, "path"]) for r in fault.rows}:
            found = found.replace(place, Path(place).name) if Path(place).is_absolute() else found
        for subject in dict.fromkeys(_text(raw.at[r, "subject"]) for r in fault.rows):
            findings.append(Finding(subject, f"{path.name} row {rows}", fault.expected, found, fault.remedy))
    for _, visit in table.groupby(["subject", "session"]):
        for index, error in grid_faults(images_first(visit)):
            row = table.loc[index]
            where = f"{path.name} row {row['row']}, {_place(row)}{_against(error, visit)}"
            findings.append(Finding.of(error, row["subject"], where, file=row["file"]))
            table = table.drop(index=index)
    everyone = tuple(sorted({_text(s) for s in raw["subject"]} - {""}))
    return Reading(path.stem, path.parent, table, _there(raw, path.parent), everyone, tuple(findings))


def _there(raw: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The rows of a CSV, good or bad, that name a contrast and a file that exists."""
    rows = raw.dropna(subset=["path", "contrast"])
    rows = rows.assign(file=[(folder / p).resolve() for p in rows["path"]])
    return rows[np.array([f.is_file() for f in rows["file"]], dtype=bool)]


def _text(value: object) -> str:
    return "" if pd.isna(value) else str(value)


def _against(error: NbkitError, visit: pd.DataFrame) -> str:
    return f" against {_place(images_first(visit).iloc[0])}" if "against its" in error.where else ""


def _look_at_session(visit: pd.DataFrame, root: Path, seen: dict[str, tuple[str, str]]) -> Iterator[Look]:
    masks = visit[visit["contrast"] == MASK + "brain"]
    mask, mask_faults = (_read_mask(masks.iloc[0]) if len(masks) else (None, ()))
    for row in visit[~visit["contrast"].map(is_mask)].itertuples():
        where = _place(row)
        try:
            image = nifti.read_image(row.file)
        except NbkitError as error:
            faults = (*mask_faults, Finding.of(error, row.subject, where, file=row.file))
            yield Look(*_identity(row), None, None, {}, faults)
            continue
        fits = mask is not None and mask.shape == image.shape and np.allclose(mask.affine, image.affine, atol=1e-2)
        facts = {"stored": nifti.read_orientation(row.file)} | _facts(image, mask if fits else None)
        faults = (*mask_faults, *_twins(row, where, image, seen), *_odd(row.subject, where, facts))
        yield Look(*_identity(row), image, mask if fits else None, facts, faults)


def _identity(row: Any) -> tuple:
    age = pd.to_numeric(row.age_years, errors="coerce")
    age = None if age is None or pd.isna(age) else float(age)
    return row.subject, row.session, row.contrast, age, _text(row.diagnosis) or "diagnosis unknown", _place(row)


def _place(row: Any) -> str:
    """The file as the table names it; of an absolute path only the name, since pages carry none."""
    return Path(row.path).name if Path(row.path).is_absolute() else row.path


def _read_mask(row: pd.Series) -> tuple[Volume | None, tuple[Finding, ...]]:
    where = _place(row)
    try:
        labels = nifti.read_labels(row["file"])
    except NbkitError as error:
        return None, (Finding.of(error, row["subject"], where, file=row["file"]),)
    if not bool((labels.data > 0).any()):
        return None, (Finding(
            row["subject"], where, "a brain mask with voxels in it", "an empty one", "Make the mask again.",
        ),)
    return labels.with_data(labels.data > 0), ()


def _facts(image: Volume, mask: Volume | None) -> dict[str, Any]:
    values = image.numpy()
    low, median, high = np.quantile(values[values != 0] if (values != 0).any() else values, QUANTILES)
    facts = {
        "shape": image.shape, "spacing": tuple(round(s, 3) for s in image.spacing),
        "field_mm": tuple(n * s for n, s in zip(image.shape, image.spacing, strict=True)),
        "quantiles": (float(low), float(median), float(high)),
    }
    if mask is None:
        return facts
    brain = mask.numpy().astype(bool)
    dark, light = np.quantile(values, QUANTILES)[[0, 2]]
    bright = values > dark + _DARK * (light - dark)
    return facts | {
        "brain_ml": float(brain.sum()) * mask.voxel_volume / 1000, "inside": float(bright[brain].mean()),
    }


def _twins(row: Any, where: str, image: Volume, seen: dict[str, tuple[str, str]]) -> Iterator[Finding]:
    key = hashlib.sha1(image.numpy().tobytes()).hexdigest()
    if key in seen:
        other, place = seen[key]
        for subject, here, there in ((row.subject, where, place), (other, place, where)):
            yield Finding(
                subject, here, "an image of its own", f"the voxels of {there}",
                "One scan was copied over another: fetch or convert both again.",
            )
    seen.setdefault(key, (row.subject, where))


def _odd(subject: str, where: str, facts: Mapping[str, Any]) -> Iterator[Finding]:
    def odd(expected: str, found: str, remedy: str) -> Finding:
        return Finding(subject, where, expected, found, remedy, refused=False)

    sides = facts["field_mm"]
    if min(sides) < _FIELD_MM[0] or max(sides) > _FIELD_MM[1]:
        yield odd(
            "a field of view of 100 to 400 mm", " × ".join(f"{s:.0f}" for s in sides) + " mm",
            "Is the whole head in the image, and are the voxel sizes in mm?",
        )
    if "brain_ml" in facts and not _BRAIN_ML[0] <= facts["brain_ml"] <= _BRAIN_ML[1]:
        yield odd(
            "a brain of 500 to 2500 ml", f"a mask of {facts['brain_ml']:.0f} ml", "Look at the outline on the page.",
        )
    if facts.get("inside", 1.0) < _INSIDE:
        yield odd(
            "a mask on the head", f"{100 * (1 - facts['inside']):.0f} % of the mask where the image is dark",
            "Image and mask may not belong together, or be flipped: look at the outline on the page.",
        )
