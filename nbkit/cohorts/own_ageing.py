"""Your own longitudinal T1w scans on the grid of the simulated cohorts: preprocessed, aligned, interpolated once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from nbkit.core.checks import NbkitError, require
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.data.check import read_own
from nbkit.data.own_needs import for_ageing, restricted, told
from nbkit.data.tables import MASK
from nbkit.data.preprocess import Config, Source, prepare_files
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.atlas import template_reference
from nbkit.phantom.longitudinal import ageing_parameters, grid_for
from nbkit.phantom.parameters import load_parameters
from nbkit.phantom.reading import reading_box

log = logging.getLogger(__name__)
CONTRAST, BRAIN = "T1w", f"{MASK}brain"
READ = "read"
"""Instead of a profile: the grid that volumes are read on."""


def on_template(
    cohort: Cohort, path: Path | str, profile: str, *, n_jobs: int = 1, cache: Cache | None = None,
    progress: bool = True,
) -> Cohort:
    """The cohort of a BIDS folder or a CSV with every T1w scan prepared as the open ageing cohort is.

    Brain by the mask of the session where there is one, else found; N4; white-matter peak at 1; rigidly laid on the
    MNI grid of the profile, because an affine would change volumes in mm³. Each visit is aligned by itself. What is
    made stays in the user's own cache, never in results. Visits without T1w or without an age, and scans that cannot be
    prepared, are left out; how many, and why, stands in the provenance (``left_out``).

    Parameters
    ----------
    cohort : Cohort
        As :func:`nbkit.cohorts.own_scans.build` gave it.
    path : path
        What it was read from.
    profile : {"smoke", "laptop", "overnight", "paper"}
        Grids of 5, 3 and 1.5 mm.

    Raises
    ------
    NbkitError
        If nobody has a T1w scan with an age that can be prepared.
    """
    shape, affine = grid_for(profile, ageing_parameters())
    usable = for_ageing(read_own(path).table)
    cohort = restricted(cohort, usable)
    files = _files(usable.table)
    visits = [scan for subject in cohort for scan in subject.scans]
    sources = [Source(s.subject, s.session, *files[s.subject, s.session]) for s in visits]
    refused: dict[tuple[str, str], NbkitError] = {}
    prepared = _prepared(sources, profile, left_out=refused, cache=cache, n_jobs=n_jobs, progress=progress)
    made = {(s.subject, s.session): s for s in prepared}
    for error in refused.values():
        log.info("left out: %s", error)
    # in words that name nobody
    faults = Counter(f"scans that cannot be prepared (expected {error.expected})" for error in refused.values())
    require(
        bool(made), f"{cohort.name}: scans", expected="scans that can be prepared", found="; ".join(faults),
        remedy="`nbkit data check` says of every scan what is wrong with it.",
    )
    subjects = (replace(subject, scans=_prepared_scans(subject, made)) for subject in cohort)
    grid = {"shape": list(shape), "spacing_mm": [abs(float(affine[i, i])) for i in range(3)]}
    return told(replace(cohort, subjects=tuple(subject for subject in subjects if subject.scans), provenance={
        **cohort.provenance, "kind": "own scans, preprocessed", "grid": grid, "scans": len(made),
        "intensity": "1 = white-matter peak of the scan, 0 outside the brain",
        "alignment": "each visit by itself, rigid",
    }), faults)


def one_scan(
    path: Path | str, age: float | None, profile: str, *, cache: Cache | None = None, progress: bool = True
) -> Scan | None:
    """One T1w file of your own, prepared as by :func:`on_template`; None when neither a path nor an age is given.

    Parameters
    ----------
    path : path or ""
        NIfTI, the head on or stripped, any orientation.
    age : float or None
        At the scan, years.
    profile : {"smoke", "laptop", "overnight", "paper", "read"}
        Whose grid, or at 2 mm the one that volumes are read on.

    Raises
    ------
    NbkitError
        For one of the two without the other, an impossible age, or whatever preprocessing refuses.
    """
    if not str(path) and age is None:
        return None
    number = isinstance(age, int | float) and 1.2 < age <= 120
    require(
        bool(str(path)) and number, f"one_scan: {Path(path).name or '(no file)'}, age {age!r}",
        expected="a T1w file and the age at the scan in years, above 1.2 and up to 120",
        found="no file" if not str(path) else f"the age {age!r}",
        remedy="Set own_scan and own_age together, or neither.",
    )
    source = Source("own", "1", Path(path).expanduser())
    (scan,) = _prepared([source], profile, cache=cache, progress=progress)
    return replace(scan, age=float(age))


def _prepared(sources: Sequence[Source], profile: str, **options: Any) -> list[Scan]:
    shape, affine = reading_box() if profile == READ else grid_for(profile, ageing_parameters())
    return prepare_files(
        sources, template_reference(load_template(load_parameters())), shape=shape, affine=affine,
        config=Config(alignment="rigid"), **options,
    )


def _files(table: pd.DataFrame) -> dict[tuple[str, str], tuple[Path, Path | None]]:
    """T1w file and brain mask, if any, by subject and session."""
    by_contrast = {
        name: {(r.subject, r.session): Path(r.file) for r in rows.itertuples()}
        for name, rows in table.groupby("contrast")
    }
    masks = by_contrast.get(BRAIN, {})
    return {visit: (file, masks.get(visit)) for visit, file in by_contrast.get(CONTRAST, {}).items()}


def _prepared_scans(subject: Subject, made: Mapping[tuple[str, str], Scan]) -> tuple[Scan, ...]:
    """The scans of a subject that were prepared, with what was made of them."""
    found = ((scan, made.get((scan.subject, scan.session))) for scan in subject.scans)
    return tuple(replace(scan, images=new.images, masks=new.masks) for scan, new in found if new)
