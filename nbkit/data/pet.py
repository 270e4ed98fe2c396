"""FDG-PET of your own: BIDS ``pet/`` folders and what Clinica makes of them, as ratios to a reference region.

A file counts as a ratio already when its name says so (Clinica's ``suvr-cerebellumPons2``) or its JSON gives the unit
SUVR; otherwise a mask of the reference region is needed.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from nbkit.core.checks import check_finite, require
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.bids import session_name, subject_name
from nbkit.data.findings import Finding, raise_refused
from nbkit.data.pet_slices import STAGE_OF
from nbkit.data.preprocess import place
from nbkit.data.tables import COLUMNS, good_rows
from nbkit.data.visits import Visit, read_visits
from nbkit.geometry.affine import align

FDG = ("18FFDG", "FDG", "fdg", "18FDG")
"""Values of ``trc-`` that mean fluorodeoxyglucose; a name without tracer is taken for it."""
RATIOS = ("suvr", "suv ratio", "standardized uptake value ratio")
REGIONS = ("cerebellum", "pons", "cerebellumPons", "cerebellumPons2", "reference")
"""Values of ``label-`` of a mask of the reference region."""
DATA_SET_MASK = "reference_mask"
_PATTERNS = (
    "sub-*/ses-*/pet/*_pet.nii*", "sub-*/pet/*_pet.nii*", "subjects/sub-*/ses-*/pet_linear/*_pet.nii*",
    "subjects/sub-*/ses-*/pet/preprocessing/**/*_pet.nii*", "derivatives/*/sub-*/**/pet/*_pet.nii*",
)
_ENTITY = re.compile(r"([A-Za-z0-9]+)-([A-Za-z0-9]+)(?=_)")
_STANDARD = ("MNI", "Ixi549")


@dataclass(frozen=True)
class PetFile:
    """One FDG scan and what names, tables and sidecar say of it.

    Parameters
    ----------
    path : Path
    subject, session : str
    entities : mapping of str to str
        Of the file name, e.g. ``{"space": "MNI152NLin2009cSym", "suvr": "cerebellumPons2"}``.
    region : str
        Reference region, "" where none is known.
    mask : Path or None
        Of the reference region; None when the image is a ratio already.
    visit : Visit
        Age, sex, diagnosis.
    """

    path: Path
    subject: str
    session: str
    entities: Mapping[str, str]
    region: str = ""
    mask: Path | None = None
    visit: Visit = field(default_factory=Visit)

    @property
    def standard(self) -> bool:
        """Whether the name says that the image lies in MNI space."""
        return self.entities.get("space", "").startswith(_STANDARD)

    @property
    def where(self) -> str:
        """Subject, session and file name: the words for it in an error."""
        return f"{self.subject}/{self.session}: {self.path.name}"


def read_pet(root: Path | str) -> tuple[PetFile, ...]:
    """The FDG scans of a data set, by subject and session; images are not looked at.

    Parameters
    ----------
    root : path
        ``sub-*/[ses-*/]pet/*_pet.nii[.gz]`` with ``participants.tsv`` and, where ages or diagnoses change,
        ``sub-*_sessions.tsv``; or Clinica's CAPS (``subjects/sub-*/ses-*/pet_linear`` or ``pet/preprocessing``) with
        these tables copied into it. Masks of the reference region are named ``..._label-cerebellum_mask.nii.gz``
        beside the scan, or ``reference_mask.nii.gz`` in `root` for scans in MNI space.

    Raises
    ------
    NbkitError
        If there is no FDG scan; else one error that lists every scan without ratio or reference region, two scans in
        one session, and whatever the tables have wrong.
    """
    root = Path(root)
    require(root.is_dir(), root.name, expected="a folder", found="none", remedy="Check the path.")
    found = [f for f in _files(root) if f.entities.get("trc", FDG[0]) in FDG]
    require(
        bool(found), root.name, expected="FDG scans, sub-X/ses-Y/pet/sub-X_ses-Y_trc-18FFDG_pet.nii.gz", found="none",
        remedy="Give the folder that holds sub-* (BIDS) or subjects/ (Clinica's CAPS).",
    )
    chosen, findings = _one_each(found)
    referred = []
    for scan in chosen:
        region, mask = _reference(scan, root)
        referred.append(replace(scan, region=region, mask=mask))
        findings += [] if region else [_no_reference(scan)]
    visits = read_visits(
        root, {(f.subject, f.session) for f in referred}, clinical=None, subject_name=subject_name,
        session_name=session_name,
    )
    read = [replace(f, visit=visits.of.get((f.subject, f.session), Visit())) for f in referred]
    good, cells = _checked(read)
    raise_refused([*findings, *visits.findings, *cells], root.name, remedy="Correct each, or move the scan elsewhere.")
    return tuple(sorted(good, key=lambda f: (f.subject, f.session)))


def _files(root: Path) -> list[PetFile]:
    paths = sorted({path for pattern in _PATTERNS for path in root.glob(pattern) if path.is_file()})
    files = []
    for path in paths:
        entities = dict(_ENTITY.findall(path.name))
        if "sub" in entities:
            subject, session = subject_name(entities.pop("sub")), session_name(entities.pop("ses", "single"))
            files.append(PetFile(path, subject, session, entities))
    return files


def _one_each(files: list[PetFile]) -> tuple[list[PetFile], list[Finding]]:
    """One scan per session: a ratio before others, an image in MNI space before others; ties are refused."""
    visits: dict[tuple[str, str], list[PetFile]] = defaultdict(list)
    for file in files:
        visits[file.subject, file.session].append(file)
    chosen, findings = [], []
    for several in visits.values():
        several.sort(key=_rank)
        first = several[0]
        chosen.append(first)
        ties = [f.path.name for f in several if _rank(f) == _rank(first)]
        if len(ties) > 1:
            findings.append(Finding(
                first.subject, f"{first.subject}/{first.session}", "one FDG scan per session", " and ".join(ties),
                "Keep the reconstruction you trust.",
            ))
    return chosen, findings


def _rank(file: PetFile) -> tuple[bool, bool]:
    return "suvr" not in file.entities, not file.standard


def _reference(scan: PetFile, root: Path) -> tuple[str, Path | None]:
    """Region and mask; the region is "" when neither the image is a ratio nor there is a mask."""
    if "suvr" in scan.entities:
        return scan.entities["suvr"], None
    sidecar = scan.path.with_name(scan.path.name.split(".nii")[0] + ".json")
    notes = json.loads(sidecar.read_text(encoding="utf-8")) if sidecar.is_file() else {}
    if str(notes.get("Units", "")).lower() in RATIOS:
        return str(notes.get("ReferenceRegion", "not named")), None
    stem = scan.path.name.rpartition("_pet.nii")[0]
    for region in REGIONS:
        for path in sorted(scan.path.parent.glob(f"{stem}*_label-{region}_mask.nii*")):
            return region, path
    whole = [root / f"{DATA_SET_MASK}{ending}" for ending in (".nii.gz", ".nii")]
    mask = next((path for path in whole if path.is_file()), None) if scan.standard else None
    return ("reference", mask) if mask else ("", None)


def _no_reference(scan: PetFile) -> Finding:
    return Finding(
        scan.subject, scan.where, "an uptake ratio, or a mask of its reference region", "neither",
        "Run Clinica's pet-linear (its names carry suvr-), give the JSON \"Units\": \"SUVR\" if it is a ratio, or put "
        f"{scan.path.name.rpartition('_pet.nii')[0]}_label-cerebellum_mask.nii.gz beside it.",
    )


def _checked(files: list[PetFile]) -> tuple[list[PetFile], list[Finding]]:
    """Scans whose age, sex and diagnosis keep the rules of the table, and a finding for every cell that does not."""
    rows = [(f.subject, f.session, f.visit.age, f.visit.sex, f.visit.diagnosis, "FDG", str(f.path)) for f in files]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(object)
    table = table.where(table.notna(), None)
    good, faults = good_rows(table)
    findings = []
    for fault in faults:
        file = files[fault.rows[0]]
        column = fault.expected.partition(":")[0]
        findings.append(Finding(
            file.subject, file.where, fault.expected, f"{column} {table.at[fault.rows[0], column]!r}", fault.remedy,
        ))
    staged = [files[i] for i in good.index if files[i].visit.diagnosis in STAGE_OF]
    findings += [Finding(
        files[i].subject, files[i].where, f"a diagnosis among {', '.join(STAGE_OF)}", str(files[i].visit.diagnosis),
        "Leave people of other diagnoses out.",
    ) for i in good.index if files[i].visit.diagnosis not in STAGE_OF]
    return staged, findings


def uptake_ratio(scan: PetFile) -> Volume:
    """The image of a scan as a ratio to the mean of its reference region, in canonical (RAS) order.

    Raises
    ------
    NbkitError
        By file: an image that cannot be read, a mask on another grid or empty, or a region without uptake.
    """
    image = nifti.read_image(scan.path)
    if scan.mask is None:
        return image
    labels = nifti.read_labels(scan.mask)
    image.check_grid(labels, f"{scan.where}: against {scan.mask.name}")
    inside = labels.data > 0
    mean = float(image.data[inside].double().mean()) if bool(inside.any()) else 0.0
    require(
        mean > 0, f"{scan.where}: {scan.mask.name}", expected="uptake in the reference region",
        found="an empty mask" if not inside.any() else f"a mean of {mean:.3g}",
        remedy="Check that the mask belongs to this scan.",
    )
    return image.with_data(image.data / mean, f"over the mean of the {scan.region}")


def ratio_on(scan: PetFile, reference: Volume) -> Volume:
    """The uptake ratio of a scan on the grid of `reference`, through one interpolation, never below 0.

    A scan in MNI space by its name is taken as it lies; another is aligned to `reference` first (affine, by
    correlation: :func:`nbkit.geometry.affine.align`).

    Parameters
    ----------
    scan : PetFile
    reference : Volume
        An FDG image in MNI space.

    Raises
    ------
    NbkitError
        As :func:`uptake_ratio`; for NaN or a constant image, by file.
    """
    image = uptake_ratio(scan)
    check_finite(image.data, scan.where)
    matrix = np.eye(4) if scan.standard else align(image, reference, kind="affine")
    placed = place(image, matrix, shape=reference.shape, affine=reference.affine)
    return placed.with_data(placed.data.clamp(min=0))
