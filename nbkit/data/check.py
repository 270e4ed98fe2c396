"""People's own data, checked to the end: every table, header and image, one verdict per subject."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nbkit.core.checks import NbkitError, require
from nbkit.core.volume import Volume
from nbkit.data import brain, nifti
from nbkit.data.bids import read_bids
from nbkit.data.findings import Finding, Reading
from nbkit.data.intensity import air_level, from_air
from nbkit.data.pet import has_pet, survey_pet
from nbkit.data.tables import MASK, images_first, is_mask, survey_scan_table

QUANTILES = (0.01, 0.5, 0.99)
# what a head and a brain measure, generously: outside, units or conversion are wrong
_FIELD_MM, _BRAIN_ML = (100.0, 400.0), tuple(1000 * litres for litres in brain.LITRES)
# the contrast that brains are found in
_FOUND_IN = "T1w"
# below a tenth of the range is air; fluid and bone may make up the tenth of a mask that is allowed there
_DARK, _INSIDE = 0.1, 0.9
_SHOWN = 3


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
    """Pass, refused or left out (nothing to read, and nothing wrong), with all that was found on one subject."""

    subject: str
    scans: int
    passed: bool
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> bool:
        """Whether something must be mended before a run can be had."""
        return not self.passed and (self.scans > 0 or not self.findings or any(f.refused for f in self.findings))

    @property
    def state(self) -> str:
        """In words."""
        return "pass" if self.passed else "refused" if self.refused else "left out"


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
    require(
        path.suffix.lower() == ".csv" or not path.is_file(), path.name, expected="a BIDS folder, or a table named .csv",
        found="another file", remedy="Save the table as .csv (README, 'Your own data', says what it holds).",
    )
    if path.suffix.lower() != ".csv":
        return _with_ages_told(_with_pet(read_bids(path, sex_codes=sex_codes, clinical=clinical), path))
    require(
        clinical is None, "--clinical", expected="a BIDS folder to go with it", found=path.name,
        remedy="A CSV carries age and diagnosis itself: leave --clinical out.",
    )
    return _with_ages_told(survey_scan_table(path, sex_codes=sex_codes))


def _with_ages_told(reading: Reading) -> Reading:
    """With a warning for every visit whose age is not known."""
    unknown = reading.table[reading.table["age_years"].isna()].drop_duplicates(["subject", "session"])
    told = (Finding(
        row.subject, row.source, f"the age at {row.session}", "none", "Notebooks of ageing do without this visit: give "
        "its age in years if it is known.", refused=False,
    ) for row in unknown.itertuples())
    return replace(reading, findings=tuple(dict.fromkeys((*reading.findings, *told))))


def _with_pet(reading: Reading, root: Path) -> Reading:
    """With what keeps FDG scans from being read; where there are other images, as one warning for the whole."""
    if not has_pet(root):
        return reading
    _, found, _ = survey_pet(root)
    further = tuple(f for f in found if f not in reading.findings)
    other = ~reading.files["contrast"].map(lambda name: is_mask(name) or name.startswith("pet")).astype(bool)
    if other.any() and further:
        told = "; ".join(f"{f.where}: {f.found}" for f in further[:_SHOWN]) + " ..." * (len(further) > _SHOWN)
        remedies = " ".join(dict.fromkeys(f.remedy for f in further[:_SHOWN]))
        further = (Finding(
            "", "FDG-PET", "scans that the notebook on PET can read", told,
            f"Nothing to do for the other notebooks. {remedies}", refused=False,
        ),)
    return replace(reading, findings=(*reading.findings, *further))


def look_at_images(
    reading: Reading, *, find: Callable[[Volume], Volume] | None = None, progress: bool = True
) -> Iterator[Look]:
    """Read every image once, one at a time, with the brain mask of its session.

    NaN and constant images, masks with fractions or without a voxel, and one scan under two names are refused;
    odd sizes are warnings.

    Parameters
    ----------
    reading : Reading
    find : callable, optional
        Finds the brain of a T1w scan whose session has no mask, as a run would
        (:func:`nbkit.data.brain.kept_brain`); what it finds is looked at too, and refused where a run refuses it.
    progress : bool
        Show a bar with the time left.
    """
    seen: dict[str, tuple[str, str]] = {}
    visits = [images_first(v) for _, v in reading.files.groupby(["subject", "session"], sort=True)]
    total = sum(len(v) - v["contrast"].map(is_mask).sum() for v in visits)
    with tqdm(total=total, desc=f"check {reading.name}", unit="scan", disable=not progress) as bar:
        for visit in visits:
            for look in _look_at_session(visit, seen, find):
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
        if not scans and not whole and not mine:
            remedy = "Bring the images, or leave the person out."
            mine += (Finding(subject, subject, "at least one image", "none", remedy),)
        result.append(Verdict(subject, scans, bool(scans) and not whole and not any(f.refused for f in mine), mine))
    return result


def _look_at_session(
    visit: pd.DataFrame, seen: dict[str, tuple[str, str]], find: Callable[[Volume], Volume] | None
) -> Iterator[Look]:
    masks = visit[visit["contrast"] == MASK + "brain"]
    mask, mask_faults = _read(masks.iloc[0]) if len(masks) else (None, [])
    for _, row in visit[~visit["contrast"].map(is_mask)].iterrows():
        image, faults = _read(row)
        fits, facts = None, {}
        if image is not None:
            same = mask is not None and mask.shape == image.shape and np.allclose(mask.affine, image.affine, atol=1e-2)
            fits = mask if same else None
            if find and mask is None and row["contrast"] == _FOUND_IN:
                fits, faults = _found(row, image, find)
            facts = {"stored": nifti.read_orientation(row["file"])} | _facts(image, fits)
            unscaled = () if faults else _unscaled(row, image, fits)
            faults = [*faults, *_twins(row, image, seen), *_odd(row, facts), *unscaled]
        age = pd.to_numeric(row["age_years"], errors="coerce")
        yield Look(
            row["subject"], row["session"], row["contrast"], None if pd.isna(age) else float(age),
            "diagnosis unknown" if pd.isna(row["diagnosis"]) else row["diagnosis"], row["place"], image, fits, facts,
            (*mask_faults, *faults),
        )


def _found(
    row: pd.Series, image: Volume, find: Callable[[Volume], Volume]
) -> tuple[Volume | None, list[Finding]]:
    """The brain as a run finds it, and why a run would refuse it."""
    inside = None
    try:
        inside = find(image)
        brain.checked(inside, t1w=from_air(image, inside))
    except NbkitError as error:
        found = Finding.of(error, row["subject"], row["place"], file=row["file"])
        return (inside if inside is not None and inside.data.any() else None), [found]
    return inside, []


def _read(row: pd.Series) -> tuple[Volume | None, list[Finding]]:
    """An image or a mask, or why it cannot be used."""
    try:
        if not is_mask(row["contrast"]):
            return nifti.read_image(row["file"]), []
        mask = nifti.read_labels(row["file"])
        mask = mask.with_data(mask.data > 0)
        require(
            bool(mask.data.any()), row["place"], expected="a brain mask with voxels in it", found="an empty one",
            remedy="Make the mask again.",
        )
        return mask, []
    except NbkitError as error:
        return None, [Finding.of(error, row["subject"], row["place"], file=row["file"])]


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
    inside = mask.numpy().astype(bool)
    dark, light = np.quantile(values, QUANTILES)[[0, 2]]
    bright = values > dark + _DARK * (light - dark)
    return facts | {"brain_ml": float(inside.sum()) * mask.voxel_volume / 1000, "inside": float(bright[inside].mean()),
                    "mask": mask.history[-1] if mask.history else "given"}


def _unscaled(row: pd.Series, image: Volume, mask: Volume | None) -> Iterator[Finding]:
    """A warning where intensities do not count from air, which preprocessing for ageing refuses."""
    try:
        if mask is not None and row["contrast"] == "T1w":
            air_level(image, mask)
    except NbkitError as error:
        yield Finding.of(error, row["subject"], f"{row['place']}: for ageing", refused=False)


def _twins(row: pd.Series, image: Volume, seen: dict[str, tuple[str, str]]) -> Iterator[Finding]:
    key, mine = hashlib.sha1(image.numpy().tobytes()).hexdigest(), (row["subject"], row["place"])
    other = seen.setdefault(key, mine)
    for (subject, here), (_, there) in ((mine, other), (other, mine)) if other != mine else ():
        yield Finding(
            subject, here, "an image of its own", f"the voxels of {there}",
            "One scan was copied over another: fetch or convert both again.",
        )


def _odd(row: pd.Series, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Warnings: sizes and masks that no head has."""
    sides, ml, inside = facts["field_mm"], facts.get("brain_ml", _BRAIN_ML[0]), facts.get("inside", 1.0)
    rules = (
        (min(sides) < _FIELD_MM[0] or max(sides) > _FIELD_MM[1], "a field of view of 100 to 400 mm",
         " × ".join(f"{s:.0f}" for s in sides) + " mm",
         "Is the whole head in the image, and are the voxel sizes in mm?"),
        (not _BRAIN_ML[0] <= ml <= _BRAIN_ML[1], f"a brain of {_BRAIN_ML[0]:.0f} to {_BRAIN_ML[1]:.0f} ml",
         f"a mask of {ml:.0f} ml",
         "Look at the outline on the page."),
        (inside < _INSIDE, "a mask on the head", f"{100 * (1 - inside):.0f} % of the mask where the image is dark",
         "Image and mask may not belong together, or be flipped: look at the outline on the page."),
    )
    for odd, expected, found, remedy in rules:
        if odd:
            yield Finding(row["subject"], row["place"], expected, found, remedy, refused=False)
