"""FDG-PET of your own: BIDS ``pet/`` folders and what Clinica makes of them, as ratios to a reference region.

A file counts as a ratio already when its name says so (Clinica's ``suvr-cerebellumPons2``) or its JSON, or one that
it inherits, gives the unit SUVR; otherwise a mask of the reference region is needed. Name and JSON say the tracer too:
what is of another one is never read as FDG.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pydantic

from nbkit.core.checks import NbkitError, check_finite, require
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.bids import BidsImage, absent, by_visit, named_images, visit_table
from nbkit.data.bids_files import LEAVE_OUT, PET_IMAGES, ignored, image_names
from nbkit.data.findings import Finding, raise_refused
from nbkit.data.pet_slices import STAGE_OF
from nbkit.data.sidecars import sidecar
from nbkit.geometry.affine import align
from nbkit.geometry.placement import place

log = logging.getLogger(__name__)

FDG = re.compile(r"fdg|gluco", re.IGNORECASE)
"""What names of fluorodeoxyglucose hold: 18FFDG, FDG, [18F]FDG, 2-deoxy-2-fluoro-D-glucose."""
_TRACER_ENTITIES = ("trc", "tracer", "acq")
"""Where names say the tracer; ``acq-`` in old ones of Clinica."""
_OTHERS = re.compile(
    r"av-?45|av-?1451|pib|florbeta|flutemet|flortauc|fbb|fbp|fmm|nav4694|mk-?6240|ucb-?j|raclo|dopa|pk11195|dpa-?714"
    r"|pbr28|amyloid|tau", re.IGNORECASE)
"""Other tracers, wherever in a name they stand."""
RATIOS = ("suvr", "suv ratio", "standardized uptake value ratio")
REGIONS = ("cerebellum", "pons", "cerebellumPons", "cerebellumPons2", "reference")
"""Values of ``label-`` of a mask of the reference region."""
DATA_SET_MASK = "reference_mask"
_STANDARD = ("MNI", "Ixi549")


class Sidecar(pydantic.BaseModel):
    """What is read of the JSON beside a scan."""

    Units: str = ""
    ReferenceRegion: str = "not named"
    TracerName: str = ""
    Radiopharmaceutical: str = ""


@dataclass(frozen=True)
class PetFile:
    """One FDG scan and what names, tables and sidecar say of it.

    Parameters
    ----------
    path : Path
    subject, session : str
    standard : bool
        Whether the name says that the image lies in MNI space.
    region : str
        Reference region.
    mask : Path or None
        Of the reference region; None when the image is a ratio already.
    age : float or None
        Years.
    sex : str or None
    diagnosis : str
    """

    path: Path
    subject: str
    session: str
    standard: bool
    region: str
    mask: Path | None
    age: float | None
    sex: str | None
    diagnosis: str

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
        beside the scan, or ``reference_mask.nii.gz`` in `root` for scans in MNI space. Lines in ``.bidsignore`` leave
        scans out.

    Raises
    ------
    NbkitError
        If there is no FDG scan; else one error that lists every scan without ratio or reference region, two scans in
        one session, and whatever the tables have wrong.
    """
    root = Path(root)
    files, findings, tracers = survey_pet(root)
    others = ", ".join(sorted(tracers)) or "none"
    require(
        bool(files) or any(f.refused for f in findings), root.resolve().name,
        expected="FDG scans, sub-X/ses-Y/pet/sub-X_ses-Y_trc-18FFDG_pet.nii.gz", found=f"{others} only" if tracers else
        "none", remedy="Give the folder that holds sub-* (BIDS) or subjects/ (Clinica's CAPS).",
    )
    for finding in (f for f in findings if not f.refused):
        log.warning("%s", finding)
    raise_refused(findings, root.resolve().name, remedy=f"Correct each, {LEAVE_OUT}")
    read = [BidsImage(str(file.path), file.subject, file.session, "pet") for file in files]
    without = {finding.subject for finding in absent(root, read, findings)} - {file.subject for file in files}
    if without:
        log.warning("%s: left out, no FDG scan: %s", root.resolve().name, ", ".join(sorted(without)))
    return files


def has_pet(root: Path) -> bool:
    """Whether a folder holds PET images, of whatever tracer."""
    return bool(image_names(root, PET_IMAGES))


def survey_pet(root: Path) -> tuple[tuple[PetFile, ...], list[Finding], frozenset[str]]:
    """As :func:`read_pet`, but faults are collected, not raised; and the names of other tracers that were met."""
    findings: list[Finding] = []
    found = [i for i in named_images(image_names(root, PET_IMAGES), findings) if i.contrast.startswith("pet")]
    told = {i.path: _told(i, root, findings) for i in found}
    fdg = [i for i in found if told[i.path] is not None and _is_fdg(i, told[i.path], findings)]
    others = frozenset(_tracer(i, told[i.path] or Sidecar()) for i in found if i not in fdg) - {""}
    chosen = [_best(several, findings) for several in by_visit(fdg)]
    regions = [_reference(image, told[image.path], root, findings) for image in chosen]
    _, good = visit_table(root, chosen, findings)
    files = [
        PetFile(r.file, r.subject, r.session, _standard(chosen[r.Index]), *regions[r.Index],
                *(None if pd.isna(value) else value for value in (r.age_years, r.sex)), r.diagnosis)
        for r in good.itertuples()
    ]
    findings += [Finding(
        f.subject, f.where, f"a diagnosis among {', '.join(STAGE_OF)}", f.diagnosis,
        "Leave people of other diagnoses out.",
    ) for f in files if f.diagnosis not in STAGE_OF]
    return tuple(files), list(dict.fromkeys(findings)), others


def _told(image: BidsImage, root: Path, findings: list[Finding]) -> Sidecar | None:
    """What the JSON of a scan says; None, and a finding, when it cannot be read."""
    try:
        return Sidecar.model_validate({k: v for k, v in sidecar(root, root / image.path).items() if v is not None})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        findings.append(Finding(
            image.subject, f"{image.path}: JSON: {'.'.join(map(str, first['loc']))}", "text", repr(first["input"]),
            "Correct the JSON beside the scan, or above it.",
        ))
    except NbkitError as error:
        findings.append(Finding(image.subject, error.where, error.expected, error.found, error.remedy))
    return None


def _tracer(image: BidsImage, told: Sidecar) -> str:
    """The first word for a tracer in name or JSON; "" if there is none."""
    entities = image.entities
    named = [entities.get(name, "") for name in _TRACER_ENTITIES[:2]] + [told.TracerName, told.Radiopharmaceutical]
    loose = [value for value in entities.values() if _OTHERS.search(value) or FDG.search(value)]
    return next(filter(None, (*named, *loose, entities.get(_TRACER_ENTITIES[2], ""))), "")


def _is_fdg(image: BidsImage, told: Sidecar, findings: list[Finding]) -> bool:
    """Whether a scan is of FDG; others are left out by name, and so is what contradicts itself."""
    words = {word for word in (image.entities.get("trc", ""), told.TracerName, told.Radiopharmaceutical) if word}
    if len({bool(FDG.search(word)) for word in words}) > 1:
        findings.append(Finding(
            image.subject, image.path, "one tracer in name and JSON", " and ".join(sorted(words)),
            f"Correct the one that is wrong, {LEAVE_OUT}",
        ))
        return False
    tracer = _tracer(image, told)
    if not tracer:
        findings.append(Finding(
            image.subject, image.path, "a tracer in name (trc-18FFDG) or JSON (TracerName)",
            "none; it is taken for FDG", "Say which tracer it is.", refused=False,
        ))
    elif not FDG.search(tracer):
        findings.append(Finding(
            image.subject, image.path, "FDG", f"the tracer {tracer}; the scan is left out",
            "Nothing to do, unless it is FDG: then say so as trc-18FFDG in the name.", refused=False,
        ))
    return not tracer or bool(FDG.search(tracer))


def _standard(image: BidsImage) -> bool:
    return image.entities.get("space", "").startswith(_STANDARD)


def _best(several: list[BidsImage], findings: list[Finding]) -> BidsImage:
    """One scan per session: a ratio, in MNI space, as little processed as can be, before others; ties are refused."""
    ranks = [
        ("suvr" not in image.entities, not _standard(image), "pvc" in image.entities, "fwhm" in image.entities,
         image.entities.get("desc") != "Crop") for image in several
    ]
    best = [image for image, rank in zip(several, ranks, strict=True) if rank == min(ranks)]
    if len(best) > 1:
        findings.append(Finding(
            best[0].subject, "/".join(best[0].visit), "one FDG scan per session",
            " and ".join(Path(image.path).name for image in best), f"Keep the reconstruction you trust, {LEAVE_OUT}",
        ))
    return best[0]


def _reference(
    image: BidsImage, told: Sidecar, root: Path, findings: list[Finding]
) -> tuple[str, Path | None]:
    """Region and mask; a finding when neither the image is a ratio nor there is a mask."""
    if "suvr" in image.entities:
        return image.entities["suvr"], None
    if told.Units.strip().lower() in RATIOS:
        return told.ReferenceRegion, None
    path = root / image.path
    stem = re.sub(r"_pet\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    masks = [(r, p) for r in REGIONS for p in sorted(path.parent.glob(f"{stem}*_label-{r}_mask.nii*"))]
    if _standard(image):
        masks += [("reference", p) for p in sorted(root.glob(f"{DATA_SET_MASK}.nii*"))]
    masks = [(r, p) for r, p in masks if not ignored(root, [p.relative_to(root).as_posix()])]
    if not masks:
        findings.append(Finding(
            image.subject, f"{'/'.join(image.visit)}: {path.name}",
            "an uptake ratio, or a mask of its reference region", "neither",
            "Run Clinica's pet-linear (its names carry suvr-), give the JSON \"Units\": \"SUVR\" if it is a ratio, "
            f"or put {stem}_label-cerebellum_mask.nii.gz beside it.",
        ))
    return masks[0] if masks else ("", None)


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
