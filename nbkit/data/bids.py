"""BIDS folders, as Clinica writes ADNI and OASIS-3 or plain, and CAPS t1_linear: names, tables, headers.

Raw BIDS sessions hold images on several grids; what is not on the grid of the session's T1w is left out with a
warning, since nothing here registers images.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import pandas as pd

from nbkit.core.checks import require
from nbkit.data.bids_files import (
    IGNORE, IMAGES, LEAVE_OUT, PET_IMAGES, all_image_names, ignored, image_names, person_and_session_folders,
)
from nbkit.data.derivatives import PREDICTED
from nbkit.data.findings import Finding, Reading
from nbkit.data.tables import COLUMNS, MASK, good_rows, is_mask, one_grid
from nbkit.data.visits import Key, named_visits, read_visits, session_name, subject_name

_KINDS = {"anat", "pet", "t1_linear", "pet_linear"}
_OTHER_KINDS = {"func", "dwi", "fmap", "perf", "meg", "eeg", "ieeg", "micr", "nirs", "motion", "mrs"}
_NAME = re.compile(
    r"(?P<entities>(?:[A-Za-z0-9]+-[A-Za-z0-9+]+_)+)(?P<suffix>[A-Za-z0-9]+)\.nii(?:\.gz)?", re.IGNORECASE)
_NOT_IMAGES = ("dseg", "probseg", "defacemask")
_MASKS = ("mask", "brainmask")
_OWN_SPACE = ("T1w", "orig", "native", "individual", "scanner")
"""Values of ``space-`` that mean the image's own."""
_TEXTS = (".tsv", ".json", ".txt")
_NOT_MAGNITUDE = ("phase", "real", "imag")


@dataclass(frozen=True)
class BidsImage:
    """One image file and what its name says.

    Parameters
    ----------
    path : str
        Relative to the data set.
    subject, session : str
        One spelling per person and visit: ``OAS30001`` for sub-OAS30001 and sub-OASIS30001, ``M006`` for ses-M06
        and ses-M006, ``single`` where the data set has no sessions.
    contrast : str
        ``T1w``, ``FLAIR``, ``pet-18FFDG``, ..., or ``mask:brain``.
    entities : mapping
        Everything else in the name, e.g. ``{"run": "01"}``.
    """

    path: str
    subject: str
    session: str
    contrast: str
    entities: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The subject's and session's folder as it is spelled."""
        return "/".join(p for p in self.path.split("/") if p.startswith(("sub-", "ses-")) and "." not in p)

    @property
    def visit(self) -> Key:
        """Subject and session."""
        return self.subject, self.session


def read_bids(
    root: Path | str, *, sex_codes: Mapping[str, str] | None = None, clinical: Path | str | None = None
) -> Reading:
    """Read names, tables and headers of a data set; faults are collected, not raised.

    Parameters
    ----------
    root : path
        Has ``sub-*/[ses-*/]anat|pet`` with ``participants.tsv`` and ``sub-*_sessions.tsv``; or a CAPS folder
        (``subjects/sub-*/ses-*/t1_linear``) with these tables copied into it. Brain masks are named
        ``*_desc-brain_mask.nii.gz``, beside the image or below ``derivatives/*/``. Lines in ``.bidsignore``
        leave files out.
    sex_codes : mapping, optional
        What coded sexes mean, e.g. ``{"1": "M", "2": "F"}``.
    clinical : path, optional
        Folder with the original OASIS-3 tables; see :mod:`nbkit.data.oasis3`.

    Raises
    ------
    NbkitError
        Only when there is nothing to read: no folder, no image, a table that is none, clinical tables missing.
    """
    root, findings = Path(root), []
    images = list(named_images(image_names(root), findings))
    require(
        bool(images or findings), f"{root.resolve().name}",
        expected="images named as in BIDS, sub-X/ses-Y/anat/sub-X_ses-Y_T1w.nii.gz", found="none",
        remedy="Give the folder that holds sub-*; or list the files in a CSV (README, 'Your own data').",
    )
    findings += absent(root, images, findings)
    everyone = tuple(sorted({i.subject for i in images} | {f.subject for f in findings}))
    kept = [image for visit in by_visit(images) for image in _unambiguous(visit, findings)]
    files, table = visit_table(root, kept, findings, sex_codes=sex_codes, clinical=clinical)
    table = one_grid(table, findings, images_may_differ=True)
    return Reading(root.resolve().name, table, files, everyone, tuple(dict.fromkeys(findings)))


def image_files(root: Path | str) -> list[Path]:
    """Every image and table that a cohort is read from, for noticing that a data set has changed."""
    root = Path(root)
    images = [root / name for name in image_names(root, (*IMAGES, *PET_IMAGES))]
    return [p for p in (*images, *sorted(root.rglob("*.tsv")), *sorted(root.rglob("*pet.json"))) if p.is_file()]


def absent(root: Path, images: Iterable[BidsImage], findings: Iterable[Finding]) -> Iterator[Finding]:
    """Every person and visit that folders or tables name, of which there is neither one of `images` nor a finding.

    Whom .bidsignore leaves out is not missed.
    """
    everything = all_image_names(root)
    known = {i.visit for i in images} | {v for path in ignored(root, everything) if (v := _visit_of(path))}
    known |= {v for f in findings if (v := _visit_of(f.where))}
    people = {subject for subject, _ in known}
    there = list(person_and_session_folders(root))
    folders = {"/".join(filter(None, names)) for names in there}
    for subject, session, where in named_visits(root, there):
        if ignored(root, [f"sub-{subject}/_", f"sub-{subject}/ses-{session}/_", f"{where}/_"]):
            continue
        missing = subject not in people if session is None else (subject, session) not in known
        if missing:
            known.add((subject, session or "single"))
            what = "person" if session is None else "visit"
            found = sorted((root / where).rglob("*")) if where in folders else []  # a table may name what no folder can
            beside = next((p.name for p in found if not p.is_dir() and p.suffix not in _TEXTS), None)
            yield Finding(
                subject, where, f"an image of every {what} in anat or pet", f"none; the {what} is left out",
                f"There is {beside}, which is not read: images are .nii or .nii.gz in anat or pet." if beside else
                f"If there should be one, bring it: a download may be incomplete, or {what} and folder spelled apart.",
                refused=False,
            )


def _visit_of(path: str) -> Key | None:
    """Subject and session of a path by its folders."""
    parts = path.split("/")
    found = {p[:3].lower(): p[4:] for p in parts[:-1] if p[:4].lower() in ("sub-", "ses-")}
    return (subject_name(found["sub"]), session_name(found.get("ses", "single"))) if "sub" in found else None


def named_images(paths: Iterable[str], findings: list[Finding]) -> Iterator[BidsImage]:
    """Images and brain masks by what their names say; one that says nothing, or another folder, is a finding."""
    for path in paths:
        *parts, name = path.split("/")
        kinds, is_a_mask = {p.lower() for p in parts}, name.split(".")[0].lower().endswith(_MASKS)
        if not (kinds & _KINDS or is_a_mask) or kinds & _OTHER_KINDS:
            continue
        folders = {p[:3].lower(): p for p in parts if p[:4].lower() in ("sub-", "ses-")}
        subject, match = subject_name(folders["sub"][4:]), _NAME.fullmatch(_once_suffixed(name))
        odd = [p for p in folders.values() if p[:4] not in ("sub-", "ses-")]
        if match is None or odd:
            findings.append(Finding(
                subject, path, "a name such as sub-X_ses-Y_T1w.nii.gz", odd[0] if odd else name,
                f"Rename the {'folder' if odd else 'file'}, {LEAVE_OUT}"))
            continue
        entities = dict(e.split("-") for e in match["entities"].strip("_").split("_"))
        if {e: p[4:] for e, p in folders.items()} != {e: entities[e] for e in ("sub", "ses") if e in entities}:
            findings.append(Finding(
                subject, path, "a file named after its folder", name,
                f"A scan may lie with the wrong person or visit: move or rename it, {LEAVE_OUT}",
            ))
        elif contrast := _contrast(match["suffix"], entities):
            session = session_name(entities.get("ses", "single"))
            rest = {e: value for e, value in entities.items() if e not in ("sub", "ses")}
            yield BidsImage(path, subject, session, contrast, rest)
        elif match["suffix"] == "mask" and not {"desc", "label", "res"} & set(entities):
            findings.append(Finding(
                subject, path, "the name of a mask to say of what", "neither desc- nor label-; it is not used",
                "If it is of the brain, write desc-brain into the name.", refused=False,
            ))


def _once_suffixed(name: str) -> str:
    """``sub-1_pet_space-MNI_pet.nii`` and ``sub-1_T1w_brainmask.nii`` without what stands before: Clinica, fMRIPrep."""
    *parts, last = name.split("_")
    suffix = last.split(".")[0]
    return "_".join([p for p in parts if "-" in p or p != suffix and suffix not in _MASKS] + [last])


def _contrast(suffix: str, entities: Mapping[str, str]) -> str | None:
    """The contrast of a name; None for what is neither a scan nor a brain mask."""
    if entities.get("desc", "").startswith(PREDICTED):
        return None
    if suffix in _MASKS:
        brain = suffix != "mask" or "brain" in (entities.get("desc"), entities.get("label"))
        return f"{MASK}brain" if brain else None
    if suffix == "pet" and "trc" in entities:
        return f"pet-{entities['trc']}"
    return None if suffix in _NOT_IMAGES else suffix


def by_visit(images: Iterable[BidsImage]) -> list[list[BidsImage]]:
    """The images of each subject and session."""
    return [list(visit) for _, visit in groupby(sorted(images, key=attrgetter("visit")), attrgetter("visit"))]


def _unambiguous(visit: list[BidsImage], findings: list[Finding]) -> list[BidsImage]:
    """One file per contrast, and the mask that goes with them; what else there is, is a finding."""
    subject, session = visit[0].visit
    folders = sorted({i.folder for i in visit if not is_mask(i.contrast)})
    if len(folders) > 1:
        findings.append(Finding(
            subject, f"{subject}/{session}", "each session once", f"a duplicated session: {' and '.join(folders)}",
            "Both names mean one visit of one person: keep one of the folders.",
        ))
        return []
    if not folders:
        findings.append(Finding(
            subject, f"{subject}/{session}", "at least one image", f"only {', '.join(i.path for i in visit)}",
            f"Bring the image that the mask belongs to, {LEAVE_OUT}",
        ))
    chosen: dict[str, BidsImage] = {}
    twins = set()
    by_run = sorted(visit, key=lambda i: (
        "ce" in i.entities, _number(i.entities.get("run", "")), "desc" not in i.entities, i.path))
    for image in (i for i in by_run if not is_mask(i.contrast)):
        if image.entities.get("part") in _NOT_MAGNITUDE:
            findings.append(Finding(
                subject, image.path, "the magnitude of an image", f"part-{image.entities['part']}; it is left out",
                "Nothing to do where the magnitude is there too.", refused=False,
            ))
            continue
        first = chosen.setdefault(image.contrast, image)
        if image is not first and image.path.split(".nii")[0] == first.path.split(".nii")[0]:
            twins.add(image.contrast)
            findings.append(Finding(
                subject, first.path, "one file per name", f"two scans on one file name: {first.path}, {image.path}",
                "Keep one of .nii and .nii.gz.",
            ))
        elif image is not first:
            findings.append(Finding(
                subject, image.path, f"one {image.contrast} per session",
                f"a further {image.contrast}; {first.path} is used",
                f"Nothing to do; to have the other one used, leave this choice out in {IGNORE}.", refused=False,
            ))
    images = [image for contrast, image in chosen.items() if contrast not in twins]
    findings += [Finding(
        subject, i.path, f"a {i.contrast} without contrast agent", f"ce-{i.entities['ce']}; it is used",
        f"Bring the scan without contrast agent, {LEAVE_OUT}", refused=False,
    ) for i in images if "ce" in i.entities]
    return images + _masks_of(images, [i for i in by_run if is_mask(i.contrast)], findings)


def _masks_of(images: list[BidsImage], masks: list[BidsImage], findings: list[Finding]) -> list[BidsImage]:
    """The brain mask that names the space and the run of the session's T1w (or first image)."""
    image = next((i for i in images if i.contrast == "T1w"), images[0] if images else None)
    mine = [m for m in masks if image and _belongs(m.entities, image.entities)]
    # one that names the run is of it, whatever else lies there
    mine = [m for m in mine if "run" in m.entities] or mine
    if len(mine) == 1 or not masks or image is None:
        return mine
    where, told = f"{image.subject}/{image.session}", ", ".join(m.path for m in mine or masks)
    findings.append(Finding(
        image.subject, where, "one brain mask per scan", told, f"Keep the mask you trust, {LEAVE_OUT}",
    ) if mine else Finding(
        image.subject, where, f"a brain mask of {Path(image.path).name}", f"only of another space or run: {told}; none "
        "is used", "Name it as the image, with desc-brain (and space-T1w, if you like) before _mask.", refused=False,
    ))
    return []


def _belongs(mask: Mapping[str, str], image: Mapping[str, str]) -> bool:
    """Whether a mask's name allows that it is this image's; what it leaves out allows anything."""
    space = mask.get("space", image.get("space"))
    at_home = space == image.get("space") or "space" not in image and space in _OWN_SPACE
    return at_home and all(
        _number(mask[e]) == _number(image.get(e, "")) for e in ("run", "acq", "rec", "ce") if e in mask)


def _number(label: str) -> tuple[int, str]:
    """``1``, ``01`` and ``001`` are one run, before the second; words follow."""
    return (int(label), "") if label.isdecimal() else (10**9 if label else 0, label)


def visit_table(
    root: Path, images: list[BidsImage], findings: list[Finding], *, sex_codes: Mapping[str, str] | None = None,
    clinical: Path | str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row per image, numbered as in `images`, with what is known of its visit: all rows, and the good ones."""
    visits = read_visits(root, {i.visit for i in images if not is_mask(i.contrast)}, findings, clinical=clinical)
    visits = visits.assign(sex=visits["sex"].replace(dict(sex_codes or {})))
    rows = [(*i.visit, i.contrast, i.path, root / i.path, i.path, f"participants.tsv: {i.subject}") for i in images]
    files = pd.DataFrame(rows, columns=["subject", "session", "contrast", "path", "file", "place", "sex_source"])
    files = files.merge(visits, how="left", on=["subject", "session"]).astype({c: object for c in COLUMNS})
    files = files.where(files.notna(), None)
    return files, good_rows(files[files["source"].notna()], findings)
