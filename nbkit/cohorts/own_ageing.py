"""Your own longitudinal T1w scans on the grid of the simulated cohorts: preprocessed, aligned, interpolated once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from nbkit.core.checks import require
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.data.check import read_own
from nbkit.data.tables import MASK
from nbkit.data.preprocess import Config, Source, prepare_files
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.atlas import template_reference
from nbkit.phantom.longitudinal import ageing_parameters, grid_for
from nbkit.phantom.parameters import load_parameters
from nbkit.phantom.reading import reading_box

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
    made stays in the user's own cache, never in results. Visits without T1w or without an age are left out.

    Parameters
    ----------
    cohort : Cohort
        As :func:`nbkit.cohorts.own_scans.build` gave it.
    path : path
        What it was read from.
    profile : {"smoke", "laptop", "paper"}
        Grids of 5, 3 and 1.5 mm.

    Raises
    ------
    NbkitError
        If nobody has a T1w scan with an age; by file, whatever preprocessing refuses.
    """
    shape, affine = grid_for(profile, ageing_parameters())
    files = _files(read_own(path).table)
    scans = [scan for subject in cohort for scan in subject.scans if scan.age is not None]
    visits = [scan for scan in scans if (scan.subject, scan.session) in files]
    require(
        bool(visits), f"{cohort.name}: scans", expected="T1w images of visits with an age", found="none",
        remedy="Add T1w images and ages; other contrasts do not help a model of ageing.",
    )
    sources = [Source(s.subject, s.session, *files[s.subject, s.session]) for s in visits]
    prepared = _prepared(sources, profile, cache=cache, n_jobs=n_jobs, progress=progress)
    made = {(s.subject, s.session): s for s in prepared}
    subjects = (replace(subject, scans=_prepared_scans(subject, made)) for subject in cohort)
    grid = {"shape": list(shape), "spacing_mm": [abs(float(affine[i, i])) for i in range(3)]}
    return replace(cohort, subjects=tuple(subject for subject in subjects if subject.scans), provenance={
        **cohort.provenance, "kind": "own scans, preprocessed", "grid": grid, "scans": len(visits),
        "intensity": "1 = white-matter peak of the scan, 0 outside the brain",
        "alignment": "each visit by itself, rigid",
    })


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
    profile : {"smoke", "laptop", "paper", "read"}
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
    (scan,) = _prepared([source], profile, cache=cache, n_jobs=1, progress=progress)
    return replace(scan, age=float(age))


def _prepared(
    sources: Sequence[Source], profile: str, *, cache: Cache | None, n_jobs: int, progress: bool
) -> Sequence[Scan]:
    shape, affine = reading_box() if profile == READ else grid_for(profile, ageing_parameters())
    return prepare_files(
        sources, template_reference(load_template(load_parameters())), shape=shape, affine=affine,
        config=Config(alignment="rigid"), cache=cache, n_jobs=n_jobs, progress=progress,
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
