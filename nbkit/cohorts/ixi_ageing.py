"""ixi_ageing: real T1w baselines of 40 healthy adults (IXI), each with a simulated future of known truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Subject
from nbkit.core.seeds import numpy_generator
from nbkit.core.source import module_digest
from nbkit.core.volume import Volume, bounding_box
from nbkit.data import nifti
from nbkit.data.manifest import Manifest, load_manifest
from nbkit.data.participants import all_files
from nbkit.data.preprocess import Config, Prepared, Reference, prepare
from nbkit.phantom.acquisition import Box, inhomogeneity, rician
from nbkit.phantom.ageing import Participant, Visit
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.atlas import template_reference
from nbkit.phantom.longitudinal import Plan, ageing_parameters, brain_of, follow, grid_for
from nbkit.phantom.muse import Codes, codes_of, laid_on, people_of, regions_of
from nbkit.phantom.parameters import Parameters, load_parameters
from nbkit.phantom.records import AgeingTruth, read_people, write_person
from nbkit.phantom.regions import sided
from nbkit.phantom.study import Study

NAME = "ixi_ageing"
PARAMETERS = Path(__file__).with_name("ixi_ageing.toml")
KIND = "real baseline, simulated follow-up"
_HEALTHY = "CN"


def build(
    profile: str, *, seed: int, n_jobs: int = 1, cache: Cache | None = None, progress: bool = True,
    manifest: Manifest | None = None,
) -> Cohort:
    """The real baselines, and what would become of each person along a drawn course of healthy ageing or disease.

    The baseline is the person's own scan: brain cut out by its DLMUSE labels (which fill the skull, fluid included),
    N4, white-matter peak at 1, laid on the grid of the simulated cohorts rigidly, because an affine would change the
    mm³ that are the truth. Labels are merged to the structures of those cohorts and aged as they are. A follow-up is
    the scan itself, seen through flow and rigid transform in one interpolation: the noise of the baseline moves
    along, and noise, gain and a faint bias field of its own are added, so that "no change" does not win by an
    identical background.

    The baseline visit has the diagnosis CN whatever the course, because nothing is simulated in it. The diagnosis of
    the subject, and of all follow-ups, is the course: disease begins on the day of the baseline scan.

    Parameters
    ----------
    profile : {"smoke", "laptop", "overnight", "paper"}
        Grids of 5, 3 and 1.5 mm (:func:`nbkit.phantom.longitudinal.grid_for`); smoke has 8 of the people.
    seed : int
        Courses, visits, rates and noise; the real scans do not depend on it.
    n_jobs : int
        People prepared at a time, the first time; any joblib backend will do.
    cache : Cache, optional
        One entry per person: a killed run goes on where it was.
    progress : bool
        Show a bar with the time left.
    manifest : Manifest, optional
        Another list of files in the same roles.

    Returns
    -------
    Cohort
        As :func:`nbkit.cohorts.ageing_phantom.build` gives it; access is "open".

    Raises
    ------
    NbkitError
        For an unknown profile; by person and file: missing, wrong, on another grid.
    """
    box, manifest = grid_for(profile, ageing_parameters()), manifest or load_manifest(NAME)
    study = Study(manifest.name, profile, seed, module_digest(__name__), ageing_parameters(), box, cache)
    parameters, roles = load_parameters(PARAMETERS), manifest.subjects()
    plans = roster(manifest, profile, seed=seed, parameters=parameters)
    files = {plan.person.id: all_files(manifest, roles[plan.person.id].values()) for plan in plans}
    hashes = {name: {path: manifest.by_path[path].digest for path in paths} for name, paths in files.items()}
    codes = codes_of(manifest, parameters)
    reference = template_reference(load_template(load_parameters()))
    make = partial(_make, files=files, reference=reference, codes=codes, box=box, seed=seed)
    folders = study.made(
        plans, make, depends=lambda plan: [hashes[plan.person.id], codes, parameters.digest()], prefer="processes",
        n_jobs=n_jobs, progress=progress,
    )
    people = [_real_first(*one) for one in read_people(plans, folders, sided(codes), _covariates)]
    return study.cohort(
        people, {s.id: [hashes[s.id], truth.as_dict()] for s, truth in people}, [manifest], kind=KIND,
        redrawn=[s.id for s, truth in people if truth.draws > 1], labels="DLMUSE, merged",
        intensity="1 = white-matter peak of the scan, 0 outside the skull",
        simulated="follow-ups: the person's own scan, its noise included, moved along a prescribed flow, with bias, "
        "gain and noise added; the people are healthy, the courses LMCI and AD are not theirs",
    )


def roster(manifest: Manifest, profile: str, *, seed: int, parameters: Parameters) -> tuple[Plan, ...]:
    """The people of a profile, ordered by id, with course and ages of visits drawn from seed and id alone."""
    table = people_of(manifest)
    by_age = sorted(table, key=lambda name: (table[name][1], name))
    courses = parameters["cohort.courses"]
    plans = []
    for four in range(-(-len(by_age) // len(courses))):
        drawn = numpy_generator(seed, NAME, "courses", four).permutation(courses)
        names = by_age[four * len(courses):(four + 1) * len(courses)]
        if profile != "smoke" or four in parameters["cohort.smoke_fours"]:
            plans += [_plan(name, *table[name], str(c), seed, parameters) for name, c in zip(names, drawn)]
    return tuple(sorted(plans, key=lambda plan: plan.person.id))


def _plan(name: str, sex: str, age: float, course: str, seed: int, parameters: Parameters) -> Plan:
    rng, jitter = numpy_generator(seed, NAME, name, "visits"), parameters["cohort.jitter"]
    count = int(rng.choice(parameters["cohort.visits"]))
    years = np.linspace(0, rng.uniform(*parameters[f"follow_up.{course}"]), count)
    years[1:-1] += rng.uniform(-jitter, jitter, count - 2)
    return Plan(Participant(name, sex, age, course), tuple(round(float(age + year), 2) for year in years))


def _make(
    plan: Plan, folder: Path, *, files: Mapping[str, Mapping[str, Path]], reference: Reference, codes: Codes, box: Box,
    seed: int,
) -> None:
    image, mask = files[plan.person.id].values()
    t1w, labels = nifti.read_image(image), nifti.read_labels(mask)
    t1w.check_grid(labels, f"{mask} against {image.name}")
    scan = prepare(t1w, reference, config=Config(alignment="rigid"), mask=labels)
    sharp = regions_of(labels.crop(bounding_box(labels.data[0] > 0)), codes, scan.matrix)
    regions = laid_on(box, sharp, scan.matrix, where=f"{NAME}: {labels.history[0]}", least=0.99)
    course, brain = follow(plan, regions, parameters=ageing_parameters(), seed=seed), brain_of(regions)
    later = course.trajectory.visits[1:]
    images = [scan.image_on(brain), *(_followed(scan, visit, brain, plan.person.id, seed) for visit in later)]
    write_person(folder, course, images=images, brain=brain)


def _followed(scan: Prepared, visit: Visit, brain: Volume, person: str, seed: int) -> Volume:
    """The scan at a later visit, with a bias field, gain and noise of its own."""
    p, rng = ageing_parameters().section("scan"), numpy_generator(seed, NAME, person, "scan", visit.age)
    image = scan.image_on(brain, displacement=visit.displacement)
    weights = torch.from_numpy(rng.normal(size=(3, 3, 3)))
    bias = inhomogeneity(image.shape, weights, level=p["inu"] * p["inu_left"]).float()[None]
    bias = bias / bias[brain.data].mean() * float(np.exp(rng.normal(0, p["gain"])))
    voxel = max(image.voxel_volume, load_parameters(PARAMETERS)["cohort.scan_voxel"])
    sd = p["noise"] * min(1.0, (p["voxel"] ** 3 / voxel) ** 0.5)
    noise = torch.from_numpy(rng.normal(0, sd, (2, *image.data.shape))).float()
    data = rician(image.data * bias, noise) * brain.data
    return image.with_data(data, f"aged to {visit.age:g} years, bias, gain, Rician noise of {sd:.4f}")


def _covariates(plan: Plan) -> dict[str, Any]:
    ill = plan.person.diagnosis != _HEALTHY
    return {"converter": False, "onset_age": plan.ages[0] if ill else None, "kind": KIND}


def _real_first(subject: Subject, truth: AgeingTruth) -> tuple[Subject, AgeingTruth]:
    """The subject with the diagnosis of the real scan at its first visit."""
    first, *later = subject.scans
    return replace(subject, scans=(replace(first, diagnosis=_HEALTHY), *later)), truth
