"""The embedded FDG-PET cohort: controls, mild cognitive impairment and Alzheimer's disease at the published counts."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from nbkit.core.checks import known
from nbkit.core.config import PROFILES, digest
from nbkit.core.device import one_thread
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.seeds import numpy_generator
from nbkit.core.source import module_digest
from nbkit.data.lazy import Shelf
from nbkit.phantom.anatomy import ATTRIBUTION
from nbkit.phantom.fdg import GRIDS, Patient, fdg_grid, fdg_parameters, roster, simulate, stranger, template_donor
from nbkit.phantom.fdg_records import read_subject, write_scan

log = logging.getLogger(__name__)

NAME = "pet_phantom"
TEMPLATE_MM: Mapping[str, int] = MappingProxyType({"smoke": 4, "laptop": 3, "paper": 2})
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
    known(profile, PROFILES, f"{NAME}.build: profile")
    cache, people = cache or Cache(), roster(profile, seed=seed)
    keys = [_key(person, profile=profile, seed=seed, source=module_digest(__name__)) for person in people]
    if not all(cache.holds(NAME, key) for key in keys):
        template_donor(TEMPLATE_MM[profile])  # once, before the threads ask for it together
    make = functools.partial(_entry, cache=cache, profile=profile, seed=seed)
    jobs = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(map(delayed(make), people, keys))
    bar = tqdm(jobs, total=len(people), desc=f"{NAME} ({profile})", unit="person", disable=not progress)
    shelf = Shelf()
    with one_thread():
        read = [read_subject(entry, person, shelf=shelf) for person, entry in zip(people, bar, strict=True)]
    truth = {subject.id: facts for subject, facts in read}
    return Cohort(NAME, tuple(s for s, _ in read), "embedded", _provenance(profile, seed, truth), truth)


def _key(person: Patient, *, profile: str, seed: int, source: str) -> dict[str, Any]:
    return {
        "person": dataclasses.asdict(person), "grid": GRIDS[profile], "seed": seed, "source": source,
        "parameters": fdg_parameters().digest(),
    }


def _entry(person: Patient, key: Mapping[str, Any], *, cache: Cache, profile: str, seed: int) -> Path:
    """Folder of one person in the cache, made first if need be."""
    return cache.get(NAME, key, functools.partial(_make, person, profile, seed), lambda folder: folder)


def _make(person: Patient, profile: str, seed: int, folder: Path) -> None:
    head = stranger(person, numpy_generator(seed, person.id, "head"))
    donor = template_donor(TEMPLATE_MM[profile])
    write_scan(folder, person, simulate(person, donor, head, profile=profile, seed=seed))


def _provenance(profile: str, seed: int, truth: Mapping[str, Any]) -> dict[str, Any]:
    shape, affine = fdg_grid(profile)
    return {
        "data_hash": digest(truth), "attribution": ATTRIBUTION, "licence": "simulated; templates: see attribution",
        "parameters": fdg_parameters().digest(), "profile": profile, "seed": seed,
        "grid": {"shape": list(shape), "spacing_mm": [float(s) for s in np.diag(affine)[:3]]},
        "intensity": "uptake over the mean of the cerebellum, 0 outside the brain", "alignment": "rigid, MNI152",
    }
