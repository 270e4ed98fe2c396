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
from nbkit.phantom.study import STRANGERS, Study, facts_of, half, other_people, store, stored

NAME = "ms_phantom"
GRIDS = {"smoke": Grid((4, 4, 2)), "laptop": Grid((2, 2, 1)), "overnight": Grid((1, 1, 1)), "paper": Grid((1, 1, 1))}
SMOKE_SUBJECTS = (6, 2)
"""Patients and controls of the smoke profile; the others have the published numbers."""


def build(
    profile: str, *, seed: int, cache: Cache | None = None, n_jobs: int = 1, progress: bool = True
) -> Cohort:
    """Simulate the cohort, or read what was simulated before.

    Parameters
    ----------
    profile : {"smoke", "laptop", "overnight", "paper"}
        Image grid: 3.6×3.6×6, 1.8×1.8×3 and twice the published 0.9×0.9×3 mm over the same field of view.
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
        looked at. ``truth[subject]``: load, count, sizes (mm³), severity (0-1) and distance to the ventricles (mm) of
        the lesions, T1, T2 (ms) and proton density of the tissues, and the images without noise by session and
        contrast (``noise_free``: partial volume, pose, inhomogeneity and gain are those of the images).

    Raises
    ------
    NbkitError
        For an unknown profile.
    """
    people = roster(known(profile, GRIDS, f"{NAME}.build: profile"), seed=seed, parameters=load_parameters())
    return _built(NAME, people, profile, seed, cache, n_jobs=n_jobs, progress=progress)


def strangers(
    profile: str, *, seed: int, times: int = 10, cache: Cache | None = None, n_jobs: int = 1, progress: bool = True
) -> Cohort:
    """`times` as many other people, drawn and made alike, for what can be learned from many.

    Their images are kept as 16-bit floats (a hundredth of the noise), and none without noise.
    """
    draw = partial(roster, known(profile, GRIDS, f"{NAME}.strangers: profile"), parameters=load_parameters())
    people = other_people(lambda own: draw(seed=own), seed=seed, times=times)
    return _built(NAME + STRANGERS, people, profile, seed, cache, n_jobs=n_jobs, progress=progress)


def _built(
    name: str, people: tuple[Person, ...], profile: str, seed: int, cache: Cache | None, /, **settings: Any
) -> Cohort:
    grid, parameters, few = GRIDS[profile], load_parameters(), name == NAME
    study = Study(name, profile, seed, module_digest(__name__), parameters, grid.target(parameters), cache)
    make = partial(_make, grid=grid, seed=seed, parameters=parameters, few=few)
    folders, shelf = study.made(people, make, **settings), Shelf()
    read = [_read(person, folder, shelf, few=few) for person, folder in zip(people, folders, strict=True)]
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


def _make(person: Person, folder: Path, *, grid: Grid, seed: int, parameters: Parameters, few: bool) -> None:
    made = simulate(person, grid=grid, seed=seed, parameters=parameters)
    images = made.images if few else {name: half(image) for name, image in made.images.items()}
    volumes = {"image": images, "mask": made.masks}
    tensors = {f"{kind}.{name}": v.data.contiguous() for kind, own in volumes.items() for name, v in own.items()}
    volumes |= {"noise_free": {name: half(image) for name, image in made.noise_free.items()}} if few else {}
    store(folder, volumes, {**made.truth, "sha256": hashlib.sha256(save(tensors)).hexdigest()})


def _read(person: Person, folder: Path, shelf: Shelf, *, few: bool) -> tuple[Subject, dict[str, Any]]:
    contrasts = load_parameters().groups("contrast")
    images, truth = stored(folder, "image", contrasts, shelf), facts_of(folder)
    if few:
        truth["noise_free"] = {"01": stored(folder, "noise_free", contrasts, shelf)}
    scan = Scan(person.id, "01", person.age, images, stored(folder, "mask", MASKS, shelf))
    covariates = {"age": person.age, "lesion_load_ml": person.load_ml}
    return Subject(person.id, person.sex, person.diagnosis, (scan,), covariates), truth
