"""open_ms: real MS scans under an open licence (Lesjak 2017), read from whatever subset of patients is here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from nbkit.core.checks import known, require
from nbkit.core.config import PROFILES, digest
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.source import module_digest
from nbkit.data import nifti, tissue
from nbkit.data.lazy import Shelf
from nbkit.data.manifest import Manifest, load_manifest
from nbkit.phantom.study import credits_of, facts_of, made_folders, store, stored

log = logging.getLogger(__name__)

NAME = "open_ms"
CONTRASTS = ("T1w", "T1wCE", "T2w", "FLAIR")
MASKS = tissue.MASKS
_LESIONS = "mask:lesions"
_MASKS_TEXT = (
    "brain: not 0 in any contrast; lesions: published three-rater consensus; wm, gm, csf: three-Gaussian split of "
    "T1w at full resolution; nawm: wm more than 2 mm from lesions, 1 mm from other tissue, 4 mm from the brain's edge"
)


def build(
    profile: str, *, n_jobs: int = 1, cache: Cache | None = None, progress: bool = True,
    manifest: Manifest | None = None,
) -> Cohort:
    """The patients that are here, with T1w, T1wCE, T2w, FLAIR, the lesion consensus and a tissue split.

    Ages and sexes are not published with these files. Images are in the files' own units, skull-stripped, in
    FLAIR space; profile "paper" keeps their 1 mm grid, "laptop" and "smoke" average blocks to 2 and 3 mm.

    Parameters
    ----------
    profile : {"smoke", "laptop", "overnight", "paper"}
    n_jobs : int
        Patients prepared at a time, the first time; afterwards they come from the cache.
    cache : Cache, optional
    manifest : Manifest, optional
        Another list of files in the same roles.

    Raises
    ------
    NbkitError
        By patient and file: none here, a contrast missing, a wrong file, grids that differ, labels with fractions.
    """
    known(profile, PROFILES, f"{NAME}: profile")
    manifest, source, shelf = manifest or load_manifest(NAME), module_digest(__name__), Shelf()
    files, roles = located(manifest), manifest.subjects()
    present = f"{len(files)} of {len(roles)} patients present"
    log.info("%s: %s", NAME, present)
    hashes = {who: {role: manifest.by_path[path].digest for role, path in roles[who].items()} for who in files}
    keys = [{"patient": who, "profile": profile, "files": own, "source": source} for who, own in hashes.items()]
    jobs = [partial(_prepare, who, paths, profile) for who, paths in files.items()]
    folders = made_folders(NAME, profile, keys, jobs, cache=cache or Cache(), n_jobs=n_jobs, progress=progress)
    subjects = tuple(_subject(who, folder, shelf) for who, folder in zip(files, folders, strict=True))
    return Cohort(manifest.name, subjects, manifest.access, credits_of(manifest) | {
        "present": present, "profile": profile, "data_hash": digest(hashes), "masks": _MASKS_TEXT,
        "spacing_mm": list(subjects[0].baseline.images["FLAIR"].spacing),
    })


def located(manifest: Manifest) -> dict[str, dict[str, Path]]:
    """By patient, the verified file of each role, for the patients of whom any image is here.

    A patient of whom only some files are here is refused, so that a download cut short cannot pass unseen.
    """
    found = {}
    for patient, roles in manifest.subjects().items():
        absent = [path for path in roles.values() if manifest.find(path) is None]
        if all(roles[contrast] in absent for contrast in CONTRASTS if contrast in roles):
            continue
        absent += [contrast for contrast in (*CONTRASTS, _LESIONS) if contrast not in roles]
        require(
            not absent, f"{manifest.name} {patient}", expected="all its files", found=f"missing: {', '.join(absent)}",
            remedy=f"Run `nbkit data fetch {manifest.name}` to complete it, or move its other files away.",
        )
        found[patient] = {role: manifest.locate(path) for role, path in roles.items()}
    require(
        bool(found), manifest.name, expected="the files of at least one patient", found="none here",
        remedy=f"Run `make data COHORT=open` (`nbkit data fetch {manifest.name}`), or set NBKIT_MIRROR to a folder "
        f"that holds {manifest.folder}/.",
    )
    return found


def _prepare(patient: str, files: Mapping[str, Path], profile: str, folder: Path) -> None:
    images = {contrast: nifti.read_image(files[contrast]) for contrast in CONTRASTS}
    lesions = nifti.read_labels(files[_LESIONS])
    for role, volume in (*images.items(), (_LESIONS, lesions)):
        images["FLAIR"].check_grid(volume, f"{patient}: {files[role]} against its FLAIR")
    store(folder, *tissue.visit_with_lesions(images, lesions, profile, where=patient))


def _subject(patient: str, folder: Path, shelf: Shelf) -> Subject:
    images, masks = stored(folder, "image", CONTRASTS, shelf), stored(folder, "mask", MASKS, shelf)
    return Subject(patient, None, "MS", (Scan(patient, "baseline", None, images, masks),), facts_of(folder))
