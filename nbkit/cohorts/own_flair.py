"""Your own scans for FLAIR synthesis: people and contrasts that can serve, masks made where none are given."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from nbkit.core.checks import NbkitError, counted, require
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.source import module_digest
from nbkit.core.volume import Volume
from nbkit.data import brain, grids, nifti, tissue
from nbkit.data.check import read_own
from nbkit.data.lazy import LazyVolumes, Shelf, load_volume, save_volumes
from nbkit.data.nifti_header import files_of
from nbkit.data.own_needs import ANATOMY, HEALTHY, for_flair, told
from nbkit.data.tables import MASK

KIND = "own_masks"
TISSUES = ("nawm", "wm", "gm", "csf")
_FILE = "masks.safetensors"
Files = Mapping[str, Path]


def with_masks(cohort: Cohort, path: Path | str, profile: str, *, cache: Cache | None = None) -> Cohort:
    """The same scans with the masks that a T1w image gives, where none is given.

    Brain by :func:`nbkit.data.brain.kept_brain`; no lesions in controls; nawm, wm, gm and csf as the open MS cohort has
    them (:func:`nbkit.data.tissue.split_tissues`, at full resolution), where lesions are known. They are made when they
    are first looked at, and kept in the user's own cache.

    Parameters
    ----------
    cohort : Cohort
        As :func:`nbkit.cohorts.own_scans.build` gave it.
    path : path
        What it was read from.
    profile : {"smoke", "laptop", "overnight", "paper"}
    cache : Cache, optional

    Raises
    ------
    NbkitError
        By subject and file, when a mask is looked at that cannot be made.
    """
    table, shelf, cache = read_own(path).table, Shelf(), cache or Cache()
    files = {visit: {r.contrast: r.file for r in rows.itertuples()} for visit, rows in table.groupby(
        ["subject", "session"])}

    def of(subject: Subject) -> Subject:
        named = [(scan, files.get((scan.subject, scan.session), {})) for scan in subject.scans]
        return replace(subject, scans=tuple(_with_masks(scan, own, profile, shelf, cache) for scan, own in named))

    made = "brain found where none is given; nawm, wm, gm, csf: three-Gaussian split of T1w at full resolution"
    return replace(cohort, subjects=tuple(map(of, cohort)), provenance={**cohort.provenance, "masks": made})


def for_synthesis(cohort: Cohort, path: Path | str, profile: str, *, cache: Cache | None = None) -> Cohort:
    """The people whose first visit can serve, in the contrasts that all of them have, with their masks.

    Raises
    ------
    NbkitError
        If they do not suffice; what is needed is said.
    """
    usable = for_flair(read_own(path).table)
    require(
        not usable.lacks, f"{cohort.name}: FLAIR synthesis", expected=usable.lacks,
        found=counted(usable.counts()) or "nobody left out",
        remedy="`nbkit data check` says who lacks what.",
    )
    kept = {subject: set(rows["contrast"]) for subject, rows in usable.table.groupby("subject")}
    subjects = tuple(replace(s, scans=(_only(s.baseline, kept[s.id]),)) for s in cohort if s.id in kept)
    masked = with_masks(replace(cohort, subjects=subjects), path, profile, cache=cache)
    faults = {subject.id: _fault(subject.baseline) for subject in masked}
    good = masked.subset([name for name in masked.ids if not faults[name]])
    reasons = usable.counts() | Counter(filter(None, faults.values()))
    ill = [s for s in good if bool(s.baseline.mask("lesions").data.any())]
    require(
        len(good) > 1 and bool(ill), f"{cohort.name}: FLAIR synthesis",
        expected="at least two people that can be read, one of them with lesions",
        found=f"{len(good)}, {len(ill)} with lesions; left out: {counted(reasons) or 'nobody'}",
        remedy="`nbkit data check` looks at every image.",
    )
    return told(good, reasons)


def _fault(scan: Scan) -> str:
    """Why an image or a mask cannot be used, in words that name nobody; "" where all can."""
    try:
        for volumes in (scan.images, scan.masks):
            for name in volumes:
                volumes[name]
    except NbkitError as error:
        return f"people with a scan that cannot be used ({error.expected})"
    return ""


def _only(scan: Scan, names: set[str]) -> Scan:
    """The scan with some of its images."""
    images = scan.images
    return replace(scan, images=LazyVolumes(
        ("some", scan.subject, scan.session), [n for n in images if n in names], images.__getitem__, shelf=Shelf(0)))


def _with_masks(scan: Scan, files: Files, profile: str, shelf: Shelf, cache: Cache) -> Scan:
    if ANATOMY not in files:
        return scan
    lesions = "lesions" in scan.masks or (scan.diagnosis in HEALTHY)
    more = [name for name in ("brain", *(("lesions", *TISSUES) if lesions else ())) if name not in scan.masks]
    load = functools.partial(_mask, scan, files, profile, cache)
    owner = (scan.subject, scan.session, profile, KIND)
    return replace(scan, masks=LazyVolumes(owner, [*scan.masks, *more], load, shelf=shelf)) if more else scan


def _mask(scan: Scan, files: Files, profile: str, cache: Cache, name: str) -> Volume:
    if name in scan.masks:
        return scan.masks[name]
    used = [files[role] for role in (ANATOMY, f"{MASK}brain", f"{MASK}lesions") if role in files]
    stats = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for file in used for p in files_of(file)]
    lesions = f"{MASK}lesions" in files or scan.diagnosis in HEALTHY
    key = {"scan": [scan.subject, scan.session], "files": stats, "profile": profile, "lesions": lesions,
           "source": module_digest(__name__)}
    make = functools.partial(_make, files, profile, lesions)
    try:
        return cache.get(KIND, key, make, lambda folder: load_volume(folder / _FILE, name))
    except NbkitError as error:
        raise error.at(f"{scan.subject}/{scan.session}: mask {name} from {files[ANATOMY].name}") from error


def _make(files: Files, profile: str, lesions: bool, folder: Path) -> None:
    """The brain and, where lesions are known, the tissues of a T1w image, on the grid of the profile."""
    t1w = nifti.read_image(files[ANATOMY])
    given = files.get(f"{MASK}brain")
    # what `nbkit data check` draws, and refuses where it leaks
    inside = brain.checked(brain.kept_brain(t1w), t1w=t1w) if given is None else nifti.read_labels(given)
    masks = {"brain": inside.with_data(inside.data > 0)}
    factor = grids.profile_factor(t1w.spacing, profile)
    if not lesions:
        save_volumes(folder / _FILE, {"brain": grids.block_majority(masks["brain"], factor)})
        return
    place = files.get(f"{MASK}lesions")
    ill = nifti.read_labels(place).data > 0 if place else torch.zeros_like(masks["brain"].data)
    masks["lesions"] = masks["brain"].with_data(ill & masks["brain"].data, "inside the brain")
    masks |= tissue.split_tissues(t1w, brain=masks["brain"], lesions=masks["lesions"])
    save_volumes(folder / _FILE, tissue.coarse_masks(masks, factor))
