"""FDG-PET of your own: BIDS ``pet/`` folders and what Clinica makes of them, as ratios to a reference region.

A file counts as a ratio already when its name says so (Clinica's ``suvr-cerebellumPons2``) or its JSON gives the unit
SUVR; otherwise a mask of the reference region is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pydantic

from nbkit.core.checks import NbkitError, check_finite, require
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.bids import LEAVE_OUT, BidsImage, by_visit, image_names, named_images, visit_table
from nbkit.data.findings import Finding, raise_refused
from nbkit.data.pet_slices import STAGE_OF
from nbkit.geometry.affine import align
from nbkit.geometry.placement import place

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
_STANDARD = ("MNI", "Ixi549")


class Sidecar(pydantic.BaseModel):
    """What is read of the JSON beside a scan."""

    Units: str = ""
    ReferenceRegion: str = "not named"


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
    root, findings = Path(root), []
    images = named_images(image_names(root, _PATTERNS), findings)
    fdg = [i for i in images if i.entities.get("trc", FDG[0]) in FDG]
    require(
        bool(fdg), root.name, expected="FDG scans, sub-X/ses-Y/pet/sub-X_ses-Y_trc-18FFDG_pet.nii.gz", found="none",
        remedy="Give the folder that holds sub-* (BIDS) or subjects/ (Clinica's CAPS).",
    )
    chosen = [_best(several, findings) for several in by_visit(fdg)]
    regions = [_reference(image, root, findings) for image in chosen]
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
    raise_refused(findings, root.name, remedy=f"Correct each, {LEAVE_OUT}")
    return tuple(files)


def _standard(image: BidsImage) -> bool:
    return image.entities.get("space", "").startswith(_STANDARD)


def _best(several: list[BidsImage], findings: list[Finding]) -> BidsImage:
    """One scan per session: a ratio before others, an image in MNI space before others; ties are refused."""
    ranks = [("suvr" not in image.entities, not _standard(image)) for image in several]
    best = [image for image, rank in zip(several, ranks, strict=True) if rank == min(ranks)]
    if len(best) > 1:
        findings.append(Finding(
            best[0].subject, "/".join(best[0].visit), "one FDG scan per session",
            " and ".join(Path(image.path).name for image in best), f"Keep the reconstruction you trust, {LEAVE_OUT}",
        ))
    return best[0]


def _reference(image: BidsImage, root: Path, findings: list[Finding]) -> tuple[str, Path | None]:
    """Region and mask; a finding when neither the image is a ratio nor there is a mask."""
    if "suvr" in image.entities:
        return image.entities["suvr"], None
    path = root / image.path
    sidecar = _sidecar(path.with_name(path.name.split(".nii")[0] + ".json"))
    if sidecar.Units.lower() in RATIOS:
        return sidecar.ReferenceRegion, None
    stem = path.name.rpartition("_pet.nii")[0]
    masks = [(r, p) for r in REGIONS for p in sorted(path.parent.glob(f"{stem}*_label-{r}_mask.nii*"))]
    if _standard(image):
        masks += [("reference", p) for p in sorted(root.glob(f"{DATA_SET_MASK}.nii*"))]
    if not masks:
        findings.append(Finding(
            image.subject, f"{'/'.join(image.visit)}: {path.name}",
            "an uptake ratio, or a mask of its reference region", "neither",
            "Run Clinica's pet-linear (its names carry suvr-), give the JSON \"Units\": \"SUVR\" if it is a ratio, "
            f"or put {stem}_label-cerebellum_mask.nii.gz beside it.",
        ))
    return masks[0] if masks else ("", None)


def _sidecar(path: Path) -> Sidecar:
    try:
        return Sidecar.model_validate_json(path.read_bytes()) if path.is_file() else Sidecar()
    except pydantic.ValidationError as error:
        raise NbkitError(
            path.name, expected="a JSON object that describes the scan", found=error.errors()[0]["msg"],
            remedy="Correct the file, or take it away.",
        ) from error


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
