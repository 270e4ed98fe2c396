"""The embedded MS cohort: 20 simulated patients and 4 controls as in the thesis, chapter 2."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save

from nbkit.core.checks import known
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import numpy_generator
from nbkit.core.source import module_digest
from nbkit.data.lazy import Shelf
from nbkit.phantom.lesions import draw_burdens
from nbkit.phantom.ms import MASKS, Grid, Person, exact_ages, simulate
from nbkit.phantom.parameters import Parameters, load_parameters
from nbkit.phantom.study import Study, facts_of, store, stored

NAME = "ms_phantom"
GRIDS = {"smoke": Grid((4, 4, 2)), "laptop": Grid((2, 2, 1)), "paper": Grid((1, 1, 1))}
SMOKE_SUBJECTS = (6, 2)
"""Patients and controls of the smoke profile; the others have the published numbers."""


def build(
    profile: str, *, seed: int, cache: Cache | None = None, n_jobs: int = 1, progress: bool = True
) -> Cohort:
    """Simulate the cohort, or read what was simulated before.

    Parameters
    ----------
    profile : {"smoke", "laptop", "paper"}
        Image grid: 3.6×3.6×6, 1.8×1.8×3 or the published 0.9×0.9×3 mm over the same field of view.
    seed : int
        The same seed gives the same images to the last bit, whatever `n_jobs`.
    cache : Cache, optional
        By default the user's cache folder.
    n_jobs : int
        Subjects made at a time (threads).
    progress : bool
        Show a progress bar while subjects are made or read.

    Returns
    -------
    Cohort
        One scan per subject with T1w, T2w, PDw, T1SE, DIR and FLAIR on one grid, masks, and the truth. Loaded when
        looked at.

    Raises
    ------
    NbkitError
        For an unknown profile.
    """
    grid, parameters = GRIDS[known(profile, GRIDS, f"{NAME}.build: profile")], load_parameters()
    people = roster(profile, seed=seed, parameters=parameters)
    study = Study(NAME, profile, seed, module_digest(__name__), parameters, grid.target(parameters), cache)
    make = partial(_make, grid=grid, seed=seed, parameters=parameters)
    folders, shelf = study.made(people, make, n_jobs=n_jobs, progress=progress), Shelf()
    read = [_read(person, folder, shelf) for person, folder in zip(people, folders, strict=True)]
    return study.cohort(read, [truth["sha256"] for _, truth in read])


def roster(profile: str, *, seed: int, parameters: Parameters) -> tuple[Person, ...]:
    """Patients, then controls, with the published ages and sexes and measured lesion loads and counts."""
    c = parameters.section("cohort")
    patients, controls = SMOKE_SUBJECTS if profile == "smoke" else (c["patients"], c["controls"])
    rng = numpy_generator(seed, NAME, "roster")
    load, count = draw_burdens(rng, patients, parameters=parameters)
    groups = []
    for kind, prefix, n in (("patient", "ms", patients), ("control", "hc", controls)):
        ages, women = exact_ages(rng, n, kind, c), round(n * c[f"{kind}_women"] / c[f"{kind}s"])
        sexes = rng.permutation(["F"] * women + ["M"] * (n - women))
        groups.append([(f"{prefix}{i + 1:02d}", str(sexes[i]), float(ages[i])) for i in range(n)])
    sick = [Person(*who, "MS", float(ml), int(k)) for who, ml, k in zip(groups[0], load, count, strict=True)]
    return (*sick, *(Person(*who, "HC", 0.0, 0) for who in groups[1]))


def _make(person: Person, folder: Path, *, grid: Grid, seed: int, parameters: Parameters) -> None:
    made = simulate(person, grid=grid, seed=seed, parameters=parameters)
    volumes = {"image": made.images, "mask": made.masks}
    tensors = {f"{kind}.{name}": v.data.contiguous() for kind, own in volumes.items() for name, v in own.items()}
    store(folder, volumes, {**made.truth, "sha256": hashlib.sha256(save(tensors)).hexdigest()})


def _read(person: Person, folder: Path, shelf: Shelf) -> tuple[Subject, dict[str, Any]]:
    images = stored(folder, "image", load_parameters().groups("contrast"), shelf)
    scan = Scan(person.id, "01", person.age, images, stored(folder, "mask", MASKS, shelf))
    covariates = {"age": person.age, "lesion_load_ml": person.load_ml}
    return Subject(person.id, person.sex, person.diagnosis, (scan,), covariates), facts_of(folder)
