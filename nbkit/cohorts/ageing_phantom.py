"""The embedded ageing cohort: MNI152 anatomies, five diagnoses, three to six visits, and the truth about them."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
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
from nbkit.phantom import records
from nbkit.phantom.ageing import Participant
from nbkit.phantom.anatomy import ATTRIBUTION, load_template
from nbkit.phantom.longitudinal import (
    GRIDS, Plan, ageing_parameters, brain_of, follow, grid_for, images_of, labels_of, person_at_first_visit,
)
from nbkit.phantom.parameters import Parameters, load_parameters
from nbkit.phantom.regions import FLUID, SIDES, template_maps

log = logging.getLogger(__name__)

NAME = "ageing_phantom"
DIAGNOSES = ("CN", "SMC", "EMCI", "LMCI", "AD")
TEMPLATE_MM: Mapping[str, int] = MappingProxyType({"smoke": 5, "laptop": 3, "paper": 1})
"""Voxel size of the template's maps, which are interpolated on the grid of the profile."""


def build(
    profile: str, *, seed: int, n_jobs: int = 1, cache: Cache | None = None, progress: bool = True
) -> Cohort:
    """Simulate the cohort, or read what was simulated before.

    Parameters
    ----------
    profile : {"smoke", "laptop", "paper"}
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
        ``truth`` an :class:`nbkit.phantom.records.AgeingTruth` per subject. Loaded when looked at.

    Raises
    ------
    NbkitError
        For an unknown profile.
    """
    known(profile, PROFILES, f"{NAME}.build: profile")
    cache, parameters = cache or Cache(), ageing_parameters()
    plans = roster(profile, seed=seed, parameters=parameters)
    keys = [_key(plan, profile=profile, seed=seed, source=module_digest(__name__)) for plan in plans]
    make = functools.partial(_entry, cache=cache, profile=profile, seed=seed)
    busy = n_jobs if not all(cache.holds(NAME, key) for key in keys) else 1  # no workers only to find folders
    jobs = Parallel(n_jobs=busy, return_as="generator")(map(delayed(make), plans, keys))
    bar = tqdm(jobs, total=len(plans), desc=f"{NAME} ({profile})", unit="person", disable=not progress)
    shelf, names = Shelf(), dict(enumerate(_region_names(parameters), start=1))
    people = [
        records.read_person(
            entry, id=plan.person.id, sex=plan.person.sex, label_names=names, shelf=shelf, covariates=_covariates(plan),
        )
        for plan, entry in zip(plans, bar, strict=True)
    ]
    truth = {subject.id: known_of for subject, known_of in people}
    provenance = _provenance(profile, seed, parameters, truth)
    return Cohort(NAME, tuple(subject for subject, _ in people), "embedded", provenance, truth)


def roster(profile: str, *, seed: int, parameters: Parameters) -> tuple[Plan, ...]:
    """Who is in the cohort: people in order of diagnosis, with the ages of their visits.

    Within a diagnosis, ages at baseline are the even quantiles of a normal distribution in random order, so that
    small groups cover the range too; counts of sexes and converters are exact.
    """
    c = parameters.section("cohort")
    counts = c["smoke"] if profile == "smoke" else [round(share * c[profile]) for share in c["share"]]
    plans: list[Plan] = []
    for diagnosis, count in zip(DIAGNOSES, counts, strict=True):
        rng = numpy_generator(seed, NAME, "roster", diagnosis)
        rate = dict(zip(("EMCI", "LMCI"), c["converters"], strict=True)).get(diagnosis, 0.0)
        sexes = rng.permutation(["F"] * round(count * c["women"]) + ["M"] * (count - round(count * c["women"])))
        converts = rng.permutation(np.arange(count) < round(count * rate))
        quantiles = (rng.permutation(count) + rng.uniform(size=count)) / count
        for k in range(count):
            who = f"{diagnosis.lower()}{k + 1:03d}"
            plans.append(_plan(who, str(sexes[k]), diagnosis, bool(converts[k]), quantiles[k], rng, parameters))
    return tuple(plans)


def _plan(
    who: str, sex: str, diagnosis: str, converts: bool, quantile: float, rng: np.random.Generator,
    parameters: Parameters,
) -> Plan:
    c = parameters.section("cohort")
    span = rng.uniform(*parameters[f"follow_up.{'converter' if converts else diagnosis}"])
    low, high = c["age_range"][0], c["age_range"][1] - span - c["jitter"]
    first = _truncated_normal(quantile, c["age_mean"], c["age_sd"], low, high)
    count = int(rng.choice(np.arange(3, 3 + len(c["visits"])), p=c["visits"]))
    steps = np.linspace(0, span, count)
    steps[1:] += rng.uniform(-c["jitter"], c["jitter"], count - 1)
    ages = tuple(round(float(first + step), 2) for step in steps)
    onset = round(ages[0] + span * rng.uniform(*c["onset"]), 2) if converts else None
    return Plan(Participant(who, sex, ages[0], diagnosis, converts), ages, onset)


def _truncated_normal(quantile: float, mean: float, sd: float, low: float, high: float) -> float:
    """Value at a quantile of a normal distribution cut to (low, high)."""
    normal = NormalDist(mean, sd)
    below, upto = normal.cdf(low), normal.cdf(high)
    return normal.inv_cdf(below + (upto - below) * min(max(quantile, 1e-6), 1 - 1e-6))


def _key(plan: Plan, *, profile: str, seed: int, source: str) -> dict[str, Any]:
    """What a person's folder in the cache depends on."""
    return {
        "plan": dataclasses.asdict(plan), "grid": GRIDS[profile], "seed": seed, "source": source,
        "parameters": ageing_parameters().digest(),
    }


def _entry(plan: Plan, key: Mapping[str, Any], *, cache: Cache, profile: str, seed: int) -> Path:
    """Folder of one person in the cache, made first if need be."""
    return cache.get(NAME, key, functools.partial(_make, plan, profile, seed), lambda folder: folder)


def _make(plan: Plan, profile: str, seed: int, folder: Path) -> None:
    parameters, template = ageing_parameters(), load_template(load_parameters())
    with one_thread():
        maps = template_maps(template, parameters, spacing=TEMPLATE_MM[profile])
        regions, tissues = person_at_first_visit(
            plan, maps, grid=grid_for(profile, parameters), template=template, parameters=parameters, seed=seed
        )
        course, brain = follow(plan, regions, parameters=parameters, seed=seed), brain_of(regions)
        visits = course.trajectory.visits
        images = images_of(visits, tissues, brain, parameters=parameters, seed=seed, person=plan.person.id)
        records.write_person(folder, course, images=images, labels=[labels_of(v.regions) for v in visits], brain=brain)


def _region_names(parameters: Parameters) -> tuple[str, ...]:
    return tuple(f"{name}_{side}" for name in (*parameters.groups("structure"), FLUID) for side in SIDES)


def _covariates(plan: Plan) -> dict[str, Any]:
    return {"converter": plan.person.converter, "onset_age": plan.onset_age}


def _provenance(
    profile: str, seed: int, parameters: Parameters, truth: Mapping[str, records.AgeingTruth]
) -> dict[str, Any]:
    shape, affine = grid_for(profile, parameters)
    return {
        "data_hash": digest([t.facts for t in truth.values()]), "attribution": ATTRIBUTION,
        "licence": "simulated; templates: see attribution", "parameters": parameters.digest(), "profile": profile,
        "seed": seed, "grid": {"shape": list(shape), "spacing_mm": [float(s) for s in np.diag(affine)[:3]]},
        "intensity": "1 = white matter, 0 outside the skull", "alignment": "visits of a person exactly aligned",
        "redrawn": [name for name, t in truth.items() if t.facts["draws"] > 1],
    }
