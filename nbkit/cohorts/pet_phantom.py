"""The embedded FDG-PET cohort: controls, mild cognitive impairment and Alzheimer's disease at the published counts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.seeds import numpy_generator
from nbkit.core.source import module_digest
from nbkit.data.lazy import Shelf
from nbkit.phantom.fdg import (
    INTENSITY, Patient, fdg_grid, fdg_parameters, read_subject, roster, simulate, stranger, template_donor,
    with_noise_free, write_scan,
)
from nbkit.phantom.study import STRANGERS, Study, other_people

NAME = "pet_phantom"
TEMPLATE_MM = {"smoke": 4, "laptop": 3, "overnight": 2, "paper": 2}
"""Voxel size of the template's maps, which are interpolated on the grid of the profile."""


def build(
    profile: str, *, seed: int, n_jobs: int = 1, cache: Cache | None = None, progress: bool = True
) -> Cohort:
    """Simulate the cohort, or read what was simulated before.

    Parameters
    ----------
    profile : {"smoke", "laptop", "overnight", "paper"}
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
        holds what was drawn, mm³, and under "noise_free" by session the image without noise. Loaded when looked at.

    Raises
    ------
    NbkitError
        For an unknown profile.
    """
    people = roster(profile, seed=seed)
    return _built(NAME, people, profile, seed, cache, noise_free=True, n_jobs=n_jobs, progress=progress)


def strangers(
    profile: str, *, seed: int, times: int = 10, cache: Cache | None = None, n_jobs: int = 1, progress: bool = True
) -> Cohort:
    """`times` as many other people, drawn and made alike, without noise-free images: at laptop .2 s and .5 MB each."""
    people = other_people(lambda own: roster(profile, seed=own), seed=seed, times=times)
    return _built(
        NAME + STRANGERS, people, profile, seed, cache, noise_free=False, n_jobs=n_jobs, progress=progress)


def _built(
    name: str, people: tuple[Patient, ...], profile: str, seed: int, cache: Cache | None, /, *, noise_free: bool,
    **settings: Any,
) -> Cohort:
    study = Study(name, profile, seed, module_digest(__name__), fdg_parameters(), fdg_grid(profile), cache)
    make = partial(_make, profile=profile, seed=seed, noise_free=noise_free)
    folders, shelf = study.made(people, make, first=partial(template_donor, TEMPLATE_MM[profile]), **settings), Shelf()
    placed = list(zip(people, folders, strict=True))
    read = [read_subject(folder, person, shelf) for person, folder in placed]
    content = {s.id: facts for s, facts in read}
    if noise_free:
        read = [(s, with_noise_free(facts, at, who, shelf)) for (s, facts), (who, at) in zip(read, placed, strict=True)]
    return study.cohort(read, content, **INTENSITY)


def _make(person: Patient, folder: Path, *, profile: str, seed: int, noise_free: bool) -> None:
    head = stranger(person, numpy_generator(seed, person.id, "head"))
    scan = simulate(person, template_donor(TEMPLATE_MM[profile]), head, profile=profile, seed=seed)
    write_scan(folder, person, scan if noise_free else replace(scan, noise_free=None))
