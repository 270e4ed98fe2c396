"""BIDS folders, as Clinica writes ADNI and OASIS-3 or plain, and CAPS t1_linear: names, tables, headers.

Raw BIDS sessions hold images on several grids; what is not on the grid of the session's T1w is left out with a
warning, since nothing here registers images.
"""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from nbkit.core.checks import require
from nbkit.data.findings import Finding, Reading
from nbkit.data.own_scans import MASK, grid_faults, images_first, is_mask
from nbkit.data.tables import COLUMNS, good_rows
from nbkit.data.visits import Visit, Visits, read_visits

IGNORE = ".bidsignore"
LEAVE_OUT = f"or leave it out with a line in {IGNORE}."
_PATTERNS = (
    "sub-*/**/*.nii", "sub-*/**/*.nii.gz", "derivatives/*/sub-*/**/*_mask.nii*",
    "subjects/sub-*/*/t1_linear/*.nii", "subjects/sub-*/*/t1_linear/*.nii.gz", "subjects/sub-*/*/**/*_mask.nii*",
)
_KINDS = ("anat", "pet", "t1_linear")
_NAME = re.compile(r"(?P<entities>(?:[A-Za-z0-9]+-[A-Za-z0-9]+_)+)(?P<suffix>[A-Za-z0-9]+)\.nii(?:\.gz)?")
_NOT_IMAGES = ("dseg", "probseg", "defacemask")
_OWN_SOURCE = {"sex": "participants.tsv"}


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


def subject_name(label: str) -> str:
    """``OAS30001`` for ``sub-OAS30001``, ``sub-OASIS30001`` and ``OASIS30001``; other names lose their ``sub-``."""
    return re.sub(r"^OASIS3(?=\d{4}$)", "OAS3", label.removeprefix("sub-"))


def session_name(label: str) -> str:
    """``M006`` for ``ses-M6``, ``ses-M06`` and ``ses-M006``; other names lose their ``ses-``."""
    name = label.removeprefix("ses-")
    months = re.fullmatch(r"[Mm](\d+)", name)
    return f"M{int(months[1]):03d}" if months else name


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
    root = Path(root)
    require(root.is_dir(), f"{root}", expected="a folder", found="none", remedy="Check the path.")
    images, findings = _named(_files(root))
    require(
        bool(images) or bool(findings), f"{root.name}",
        expected="images named as in BIDS, sub-X/ses-Y/anat/sub-X_ses-Y_T1w.nii.gz", found="none",
        remedy="Give the folder that holds sub-*; or list the files in a CSV (README, 'Your own data').",
    )
    everyone = tuple(sorted({i.subject for i in images} | {f.subject for f in findings} - {""}))
    kept, doubles = _unambiguous(images)
    visits = read_visits(root, {(i.subject, i.session) for i in kept if not is_mask(i.contrast)},
                         clinical=clinical, subject_name=subject_name, session_name=session_name)
    files = _table(root, kept, visits, sex_codes or {})
    table, cells = _good(files[np.array([(i.subject, i.session) in visits.of for i in kept], dtype=bool)])
    table, grids = _one_grid(table)
    found = [*findings, *doubles, *visits.findings, *cells, *grids]
    return Reading(root.resolve().name, root, table, files, everyone, tuple(dict.fromkeys(found)))


def image_files(root: Path | str) -> list[Path]:
    """Every image and table that :func:`read_bids` would look at, for noticing that a data set has changed."""
    root = Path(root)
    return [root / p for p in _files(root)] + sorted(root.rglob("*.tsv"))


def _files(root: Path) -> list[str]:
    """Relative paths of images, without those that .bidsignore leaves out."""
    ignored = root / IGNORE
    lines = ignored.read_text(encoding="utf-8").split("\n") if ignored.is_file() else []
    patterns = [line.strip().strip("/") for line in lines if line.strip() and not line.startswith("#")]
    found = {p.relative_to(root).as_posix() for pattern in _PATTERNS for p in root.glob(pattern) if p.is_file()}
    return [p for p in sorted(found) if not any(_matches(p, pattern) for pattern in patterns)]


def _matches(path: str, pattern: str) -> bool:
    """Much as in .gitignore: a pattern leaves out what it names and all below; without a slash it counts anywhere.

    Unlike there, ``*`` crosses slashes, and ``!`` is not known.
    """
    parts = path.split("/")
    below = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    return any(fnmatch.fnmatchcase(p, pattern) for p in (below if "/" in pattern else [*below, *parts]))


def _named(paths: Iterable[str]) -> tuple[list[BidsImage], list[Finding]]:
    images, findings = [], []
    for path in paths:
        parts = path.split("/")
        match = _NAME.fullmatch(parts[-1])
        raw = next(p for p in parts if p.startswith("sub-"))
        mask = parts[-1].split(".")[0].endswith("_mask")
        if not (mask or set(parts) & set(_KINDS)):
            continue
        if match is None:
            findings.append(Finding(
                subject_name(raw), path, "a name such as sub-X_ses-Y_T1w.nii.gz", parts[-1],
                f"Rename the file, {LEAVE_OUT}",
            ))
            continue
        entities = dict(e.split("-") for e in match["entities"].strip("_").split("_"))
        findings += _misplaced(path, parts, entities)
        image = _image(path, entities, match["suffix"])
        images += [image] if image else []
    misplaced = {f.where for f in findings}
    return [i for i in images if i.path not in misplaced], findings


def _misplaced(path: str, parts: list[str], entities: Mapping[str, str]) -> Iterator[Finding]:
    folders = {p.split("-")[0]: p.split("-", 1)[1] for p in parts[:-1] if p.startswith(("sub-", "ses-"))}
    named = {e: entities[e] for e in ("sub", "ses") if e in entities}
    if folders != named:
        yield Finding(
            subject_name(folders["sub"]), path, "a file named after its folder", parts[-1],
            f"A scan may lie with the wrong person or visit: move or rename it, {LEAVE_OUT}",
        )


def _image(path: str, entities: dict[str, str], suffix: str) -> BidsImage | None:
    subject, session = subject_name(entities.pop("sub")), session_name(entities.pop("ses", "single"))
    if suffix == "mask":
        is_brain = entities.get("desc") == "brain"
        return BidsImage(path, subject, session, MASK + "brain", entities) if is_brain else None
    if suffix in _NOT_IMAGES:
        return None
    contrast = f"pet-{entities['trc']}" if suffix == "pet" and "trc" in entities else suffix
    return BidsImage(path, subject, session, contrast, entities)


def _unambiguous(images: list[BidsImage]) -> tuple[list[BidsImage], list[Finding]]:
    """One file per subject, session and contrast, and the findings for all others."""
    visits: dict[tuple[str, str], list[BidsImage]] = defaultdict(list)
    for image in images:
        visits[image.subject, image.session].append(image)
    kept, findings = [], []
    for (subject, session), found in visits.items():
        folders = sorted({i.folder for i in found if not is_mask(i.contrast)})
        if len(folders) > 1:
            findings.append(Finding(
                subject, f"{subject}/{session}", "each session once", f"a duplicated session: {' and '.join(folders)}",
                "Both names mean one visit of one person: keep one of the folders.",
            ))
            continue
        chosen, more = _one_each(found)
        kept += chosen
        findings += more
    return kept, findings


def _one_each(found: list[BidsImage]) -> tuple[list[BidsImage], list[Finding]]:
    by_contrast: dict[str, list[BidsImage]] = defaultdict(list)
    for image in sorted(found, key=lambda i: (i.entities.get("run", ""), "desc" not in i.entities, i.path)):
        by_contrast[image.contrast].append(image)
    masks = by_contrast.pop(MASK + "brain", [])
    chosen, findings = [], []
    for contrast, several in by_contrast.items():
        first, *others = several
        twins = [i.path for i in others if i.path.split(".nii")[0] == first.path.split(".nii")[0]]
        if twins:
            findings.append(Finding(
                first.subject, first.path, "one file per name", f"two scans on one file name: {first.path}, {twins[0]}",
                "Keep one of .nii and .nii.gz.",
            ))
            continue
        chosen.append(first)
        findings += [Finding(
            first.subject, i.path, f"one {contrast} per session", f"a further {contrast}; {first.path} is used",
            "Nothing to do; to have the other one used, leave this choice out in .bidsignore.", refused=False,
        ) for i in others]
    brain, more = _mask_of(chosen, masks)
    return chosen + brain, findings + more


def _mask_of(chosen: list[BidsImage], masks: list[BidsImage]) -> tuple[list[BidsImage], list[Finding]]:
    """The brain mask that names the space and the run of the session's T1w (or first image)."""
    image = next((i for i in chosen if i.contrast == "T1w"), chosen[0] if chosen else None)
    if image is None:
        return [], []
    space, run = image.entities.get("space"), image.entities.get("run")
    mine = [m for m in masks if m.entities.get("space") in (space, None) and m.entities.get("run") in (run, None)]
    if len(mine) < 2:
        return mine, []
    return [], [Finding(
        image.subject, f"{image.subject}/{image.session}", "one brain mask per scan", ", ".join(m.path for m in mine),
        f"Keep the mask you trust, {LEAVE_OUT}",
    )]


def _table(root: Path, images: list[BidsImage], visits: Visits, sex_codes: Mapping[str, str]) -> pd.DataFrame:
    """The normalised table, a row per image, with what is known of its visit."""
    rows = []
    for image in images:
        visit = visits.of.get((image.subject, image.session), Visit())
        sex = sex_codes.get(visit.sex or "", visit.sex)
        rows.append((image.subject, image.session, visit.age, sex, visit.diagnosis, image.contrast, image.path,
                     root / image.path, visit.source, visit.cdr, visit.mmse))
    table = pd.DataFrame(rows, columns=[*COLUMNS, "file", "source", "cdr", "mmse"])
    table = table.astype({c: object for c in COLUMNS})
    return table.where(table.notna(), None).assign(row=range(1, len(table) + 1))


def _good(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Rows that keep the rules for cells, and a finding for each cell that breaks one."""
    good, faults = good_rows(table)
    findings = []
    for fault in faults:
        row, column = table.loc[fault.rows[0]], fault.expected.partition(":")[0]
        visit = "" if column == "sex" else f" {row['session']}"
        where = f"{_OWN_SOURCE.get(column, row['source'])}: {row['subject']}{visit}"
        found = f"{column} {'empty' if pd.isna(row[column]) else repr(row[column])}"
        findings.append(Finding(row["subject"], where, fault.expected, found, fault.remedy))
    return good, findings


def _one_grid(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Drop images that are not on the grid of their session's T1w (or first image); refuse masks that are not."""
    findings, dropped = [], []
    for (subject, _), visit in table.groupby(["subject", "session"], sort=False):
        visit = images_first(visit.sort_values("contrast", key=lambda c: c != "T1w", kind="stable"))
        for index, error in grid_faults(visit):
            row = visit.loc[index]
            other_grid = "against its" in error.where
            drop = other_grid and not is_mask(row["contrast"])
            against = f" against {visit.iloc[0]['path']}" if other_grid else ""
            findings.append(Finding.of(error, subject, row["path"] + against, file=row["file"], refused=not drop))
            dropped.append(index)
    return table.drop(index=dropped), findings
