"""The embedded ageing cohort: MNI152 anatomies, five diagnoses, three to six visits, and the truth about them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import truncnorm

from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.seeds import derive, numpy_generator
from nbkit.core.source import module_digest
from nbkit.core.volume import Volume
from nbkit.phantom.ageing import Participant
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.longitudinal import (
    Plan, ageing_parameters, brain_of, follow, grid_for, images_of, person_at_first_visit,
)
from nbkit.phantom.parameters import Parameters, load_parameters
from nbkit.phantom.records import read_people, read_volumes, write_person, write_volumes
from nbkit.phantom.regions import FLUID, Regions, sided, template_maps
from nbkit.phantom.study import STRANGERS, Study

NAME = "ageing_phantom"
DIAGNOSES = ("CN", "SMC", "EMCI", "LMCI", "AD")
TEMPLATE_MM = {"smoke": 5, "laptop": 3, "overnight": 2, "paper": 1}
"""Voxel size of the template's maps, which are interpolated on the grid of the profile."""
COARSE = "smoke"
"""The profile on whose grid strangers age."""
_HEADS = 4
"""Heads tried for a stranger whose course no flow on that grid brings about."""


def build(
    profile: str, *, seed: int, n_jobs: int = 1, cache: Cache | None = None, progress: bool = True
) -> Cohort:
    """Simulate the cohort, or read what was simulated before.

    Parameters
    ----------
    profile : {"smoke", "laptop", "overnight", "paper"}
        12 people at 5 mm, 100 at 3 mm, 300 at 1.5 mm.
    seed : int
        The same seed gives the same people and images to the last bit, whatever `n_jobs`.
    n_jobs : int
        People made at a time, the first time; any joblib backend will do.
    cache : Cache, optional
        By default the user's cache folder. One entry per person: a killed run goes on where it was.
    progress : bool
        Show a progress bar with the time left.

    Returns
    -------
    Cohort
        T1w scans, skull-stripped, white matter 1, all visits of a person aligned; brain mask; labels of the regions;
        ``truth`` an :class:`nbkit.phantom.records.AgeingTruth` per subject, the images without noise among it. Loaded
        when looked at.

    Raises
    ------
    NbkitError
        For an unknown profile.
    """
    parameters = ageing_parameters()
    study = Study(NAME, profile, seed, module_digest(__name__), parameters, grid_for(profile, parameters), cache)
    plans, make = roster(profile, seed=seed, parameters=parameters), partial(_make, profile=profile, seed=seed)
    folders = study.made(plans, make, prefer="processes", n_jobs=n_jobs, progress=progress)
    people = read_people(plans, folders, sided((*parameters.groups("structure"), FLUID)), _covariates)
    return study.cohort(
        people, [truth.as_dict() for _, truth in people], redrawn=[s.id for s, t in people if t.draws > 1],
        intensity="1 = white matter, 0 outside the skull", alignment="visits of a person exactly aligned",
    )


def strangers(
    profile: str, *, seed: int, times: int = 10, cache: Cache | None = None, n_jobs: int = 1, progress: bool = True
) -> Cohort:
    """`times` as many other people of the same design as volumes alone: true mm³ at every visit, no images.

    They are drawn as the people of the profile are, and age along the same flows on the grid of 5 mm (some .7 s a
    person, once). Against the same people at 3 mm, their sizes at baseline lie within 3 %, changes of ln volume within
    6 % (Decisions).
    """
    parameters = ageing_parameters()
    box = grid_for(COARSE, parameters)
    study = Study(NAME + STRANGERS, profile, seed, module_digest(__name__), parameters, box, cache)
    plans = tuple(
        replace(plan, person=replace(plan.person, id=f"x{k}{plan.person.id}"))
        for k in range(1, times + 1)
        for plan in roster(profile, seed=derive(seed, "strangers", k), parameters=parameters)
    )
    make = partial(_make_volumes, seed=seed)
    folders = study.made(plans, make, prefer="processes", n_jobs=n_jobs, progress=progress)
    people = read_volumes(plans, folders, _covariates)
    return study.cohort(people, [truth.as_dict() for _, truth in people], kind="volumes of simulated people")


def roster(profile: str, *, seed: int, parameters: Parameters) -> tuple[Plan, ...]:
    """Who is in the cohort: people in order of diagnosis, with the ages of their visits.

    Within a diagnosis, ages at baseline are the even quantiles of a normal distribution in random order, so that
    small groups cover the range too; counts of sexes and converters are exact.
    """
    c = parameters.section("cohort")
    many = c["laptop" if profile == "overnight" else profile]
    counts = many if profile == "smoke" else [round(share * many) for share in c["share"]]
    plans: list[Plan] = []
    for diagnosis, count in zip(DIAGNOSES, counts, strict=True):
        rng = numpy_generator(seed, NAME, "roster", diagnosis)
        rate = dict(zip(("EMCI", "LMCI"), c["converters"], strict=True)).get(diagnosis, 0.0)
        sexes = rng.permutation(["F"] * round(count * c["women"]) + ["M"] * (count - round(count * c["women"])))
        converts = rng.permutation(np.arange(count) < round(count * rate))
        quantiles = (rng.permutation(count) + rng.uniform(size=count)) / count
        for k in range(count):
            who = f"{diagnosis.lower()}{k + 1:03d}", str(sexes[k]), diagnosis, bool(converts[k])
            plans.append(_plan(*who, quantile=quantiles[k], rng=rng, parameters=parameters))
    return tuple(plans)


def _plan(
    id: str, sex: str, diagnosis: str, converts: bool, *, quantile: float, rng: np.random.Generator,
    parameters: Parameters,
) -> Plan:
    c = parameters.section("cohort")
    span = rng.uniform(*parameters[f"follow_up.{'converter' if converts else diagnosis}"])
    limits = np.array([c["age_range"][0], c["age_range"][1] - span - c["jitter"]])
    first = truncnorm.ppf(quantile, *(limits - c["age_mean"]) / c["age_sd"], loc=c["age_mean"], scale=c["age_sd"])
    count = int(rng.choice(np.arange(3, 3 + len(c["visits"])), p=c["visits"]))
    steps = np.linspace(0, span, count)
    steps[1:] += rng.uniform(-c["jitter"], c["jitter"], count - 1)
    ages = tuple(round(float(first + step), 2) for step in steps)
    onset = round(ages[0] + span * rng.uniform(*c["onset"]), 2) if converts else None
    return Plan(Participant(id, sex, ages[0], diagnosis, converts), ages, onset)


def _covariates(plan: Plan) -> dict[str, object]:
    return {"converter": plan.person.converter, "onset_age": plan.onset_age}


def _make(plan: Plan, folder: Path, *, profile: str, seed: int) -> None:
    regions, tissues = _first_visit(plan, profile, seed)
    course, brain = follow(plan, regions, parameters=ageing_parameters(), seed=seed), brain_of(regions)
    images, noise_free = (
        images_of(
            course.trajectory.visits, tissues, brain, parameters=ageing_parameters(), seed=seed,
            person=plan.person.id, noise=noise,
        ) for noise in (True, False)
    )
    write_person(folder, course, images=images, brain=brain, noise_free=noise_free)


def _make_volumes(plan: Plan, folder: Path, *, seed: int) -> None:
    """A stranger's volumes; where no flow on the coarse grid brings the course about, of another head."""
    for head in range(_HEADS):
        drawn = derive(seed, "head", head) if head else seed
        try:
            regions, _ = _first_visit(plan, COARSE, drawn)
            found = follow(plan, regions, parameters=ageing_parameters(), seed=drawn)
            break
        except NbkitError:
            if head == _HEADS - 1:
                raise
    write_volumes(folder, found)


def _first_visit(plan: Plan, profile: str, seed: int) -> tuple[Regions, Volume]:
    parameters, template = ageing_parameters(), load_template(load_parameters())
    maps = template_maps(template, parameters, spacing=TEMPLATE_MM[profile])
    return person_at_first_visit(
        plan, maps, grid=grid_for(profile, parameters), template=template, parameters=parameters, seed=seed
    )
