"""BIDS folders, as Clinica writes ADNI and OASIS-3 or plain, and CAPS t1_linear: names, tables, headers.

Raw BIDS sessions hold images on several grids; what is not on the grid of the session's T1w is left out with a
warning, since nothing here registers images.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import pandas as pd

from nbkit.core.checks import require
from nbkit.data.derivatives import PREDICTED
from nbkit.data.findings import Finding, Reading
from nbkit.data.tables import COLUMNS, MASK, good_rows, is_mask, one_grid
from nbkit.data.visits import Key, read_visits, session_name, subject_name

IGNORE = ".bidsignore"
LEAVE_OUT = f"or leave it out with a line in {IGNORE}."
_PATTERNS = (
    "sub-*/**/*.nii", "sub-*/**/*.nii.gz", "derivatives/*/sub-*/**/*_mask.nii*",
    "subjects/sub-*/*/t1_linear/*.nii", "subjects/sub-*/*/t1_linear/*.nii.gz", "subjects/sub-*/*/**/*_mask.nii*",
)
_KINDS = {"anat", "pet", "t1_linear", "pet_linear"}
_NAME = re.compile(r"(?P<entities>(?:[A-Za-z0-9]+-[A-Za-z0-9]+_)+)(?P<suffix>[A-Za-z0-9]+)\.nii(?:\.gz)?")
_NOT_IMAGES = ("dseg", "probseg", "defacemask")


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
        bool(images or findings), f"{root.name}",
        expected="images named as in BIDS, sub-X/ses-Y/anat/sub-X_ses-Y_T1w.nii.gz", found="none",
        remedy="Give the folder that holds sub-*; or list the files in a CSV (README, 'Your own data').",
    )
    everyone = tuple(sorted({i.subject for i in images} | {f.subject for f in findings}))
    kept = [image for visit in by_visit(images) for image in _unambiguous(visit, findings)]
    files, table = visit_table(root, kept, findings, sex_codes=sex_codes, clinical=clinical)
    table = one_grid(table, findings, images_may_differ=True)
    return Reading(root.resolve().name, table, files, everyone, tuple(dict.fromkeys(findings)))


def image_files(root: Path | str) -> list[Path]:
    """Every image and table that :func:`read_bids` would look at, for noticing that a data set has changed."""
    root = Path(root)
    return [root / p for p in image_names(root)] + sorted(root.rglob("*.tsv"))


def image_names(root: Path, patterns: Iterable[str] = _PATTERNS) -> list[str]:
    """Relative paths of images, without those that .bidsignore leaves out."""
    require(root.is_dir(), f"{root}", expected="a folder", found="none", remedy="Check the path.")
    ignored = root / IGNORE
    lines = ignored.read_text(encoding="utf-8").split("\n") if ignored.is_file() else []
    left_out = [line.strip().strip("/") for line in lines if line.strip() and not line.startswith("#")]
    found = {p.relative_to(root).as_posix() for pattern in patterns for p in root.glob(pattern) if p.is_file()}
    return [p for p in sorted(found) if not any(_matches(p, pattern) for pattern in left_out)]


def _matches(path: str, pattern: str) -> bool:
    """Much as in .gitignore: a pattern leaves out what it names and all below; without a slash it counts anywhere.

    Unlike there, ``*`` crosses slashes, and ``!`` is not known.
    """
    parts = path.split("/")
    below = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    return any(fnmatch.fnmatchcase(p, pattern) for p in (below if "/" in pattern else [*below, *parts]))


def named_images(paths: Iterable[str], findings: list[Finding]) -> Iterator[BidsImage]:
    """Images and brain masks by what their names say; one that says nothing, or another folder, is a finding."""
    for path in paths:
        *parts, name = path.split("/")
        if not (name.split(".")[0].endswith("_mask") or _KINDS.intersection(parts)):
            continue
        folders = {p.split("-")[0]: p.split("-", 1)[1] for p in parts if p.startswith(("sub-", "ses-"))}
        subject, match = subject_name(folders["sub"]), _NAME.fullmatch(name)
        if match is None:
            findings.append(Finding(
                subject, path, "a name such as sub-X_ses-Y_T1w.nii.gz", name, f"Rename the file, {LEAVE_OUT}"))
            continue
        entities = dict(e.split("-") for e in match["entities"].strip("_").split("_"))
        if folders != {e: entities[e] for e in ("sub", "ses") if e in entities}:
            findings.append(Finding(
                subject, path, "a file named after its folder", name,
                f"A scan may lie with the wrong person or visit: move or rename it, {LEAVE_OUT}",
            ))
        elif contrast := _contrast(match["suffix"], entities):
            session = session_name(entities.get("ses", "single"))
            rest = {e: value for e, value in entities.items() if e not in ("sub", "ses")}
            yield BidsImage(path, subject, session, contrast, rest)


def _contrast(suffix: str, entities: Mapping[str, str]) -> str | None:
    """The contrast of a name; None for what is neither a scan nor a brain mask."""
    if entities.get("desc", "").startswith(PREDICTED):
        return None
    if suffix == "mask":
        return f"{MASK}brain" if entities.get("desc") == "brain" else None
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
    chosen: dict[str, BidsImage] = {}
    twins = set()
    by_run = sorted(visit, key=lambda i: (i.entities.get("run", ""), "desc" not in i.entities, i.path))
    for image in (i for i in by_run if not is_mask(i.contrast)):
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
                "Nothing to do; to have the other one used, leave this choice out in .bidsignore.", refused=False,
            ))
    images = [image for contrast, image in chosen.items() if contrast not in twins]
    return images + _masks_of(images, [i for i in by_run if is_mask(i.contrast)], findings)


def _masks_of(images: list[BidsImage], masks: list[BidsImage], findings: list[Finding]) -> list[BidsImage]:
    """The brain mask that names the space and the run of the session's T1w (or first image)."""
    image = next((i for i in images if i.contrast == "T1w"), images[0] if images else None)
    mine = [m for m in masks if image and all(
        m.entities.get(e) in (image.entities.get(e), None) for e in ("space", "run"))]
    if len(mine) < 2:
        return mine
    findings.append(Finding(
        image.subject, f"{image.subject}/{image.session}", "one brain mask per scan",
        ", ".join(m.path for m in mine), f"Keep the mask you trust, {LEAVE_OUT}",
    ))
    return []


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
