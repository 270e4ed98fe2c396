"""The embedded FDG-PET cohort: controls, mild cognitive impairment and Alzheimer's disease at the published counts."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.seeds import numpy_generator
from nbkit.core.source import module_digest
from nbkit.data.lazy import Shelf
from nbkit.phantom.fdg import (
    INTENSITY, Patient, fdg_grid, fdg_parameters, read_subject, roster, simulate, stranger, template_donor, write_scan,
)
from nbkit.phantom.study import Study

NAME = "pet_phantom"
TEMPLATE_MM = {"smoke": 4, "laptop": 3, "paper": 2}
"""Voxel size of the template's maps, which are interpolated on the grid of the profile."""


def build(
    profile: str, *, seed: int, n_jobs: int = 1, cache: Cache | None = None, progress: bool = True
) -> Cohort:
    """Simulate the cohort, or read what was simulated before.

    Parameters
    ----------
    profile : {"smoke", "laptop", "paper"}
        12 people per stage at 4 mm; 105, 208 and 98 at 3 or 2 mm.
    seed : int
        The same seed gives the same people and images to the last bit, whatever `n_jobs`.
    n_jobs : int
        People made at a time (threads).
    cache : Cache, optional
        By default the user's cache folder. One entry per person: a killed run goes on where it was.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Cohort
        One scan per person: image "FDG", uptake over that of the cerebellum, 0 outside the brain, in the world of
        MNI152 without scaling of heads; masks "brain", "gm" and "reference". Diagnoses are CN, MCI and AD. ``truth``
        holds what was drawn, and mm³. Loaded when looked at.

    Raises
    ------
    NbkitError
        For an unknown profile.
    """
    study = Study(NAME, profile, seed, module_digest(__name__), fdg_parameters(), fdg_grid(profile), cache)
    people, template = roster(profile, seed=seed), partial(template_donor, TEMPLATE_MM[profile])
    make = partial(_make, profile=profile, seed=seed)
    folders, shelf = study.made(people, make, first=template, n_jobs=n_jobs, progress=progress), Shelf()
    read = [read_subject(folder, person, shelf) for person, folder in zip(people, folders, strict=True)]
    return study.cohort(read, {s.id: facts for s, facts in read}, **INTENSITY)


def _make(person: Patient, folder: Path, *, profile: str, seed: int) -> None:
    head = stranger(person, numpy_generator(seed, person.id, "head"))
    donor = template_donor(TEMPLATE_MM[profile])
    write_scan(folder, person, simulate(person, donor, head, profile=profile, seed=seed))
