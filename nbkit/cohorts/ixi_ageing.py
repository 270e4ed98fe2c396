"""ixi_ageing: real T1w baselines of 40 healthy adults (IXI), each with a simulated future of known truth."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from nbkit.core.checks import known, require
from nbkit.core.config import PROFILES, digest
from nbkit.core.device import one_thread
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Subject
from nbkit.core.seeds import numpy_generator
from nbkit.core.source import module_digest
from nbkit.core.volume import Volume, bounding_box
from nbkit.data import nifti
from nbkit.data.lazy import Shelf
from nbkit.data.manifest import Manifest, load_manifest
from nbkit.data.participants import all_files, sexes_and_ages
from nbkit.data.preprocess import Config, Prepared, Reference, place, prepare
from nbkit.phantom import records
from nbkit.phantom.acquisition import inhomogeneity, rician
from nbkit.phantom.ageing import Participant, Visit
from nbkit.phantom.anatomy import ATTRIBUTION, load_template
from nbkit.phantom.atlas import template_reference
from nbkit.phantom.longitudinal import Plan, ageing_parameters, brain_of, follow, grid_for, labels_of
from nbkit.phantom.muse import merge_codes, merge_labels
from nbkit.phantom.parameters import Parameters, load_parameters
from nbkit.phantom.regions import SIDES, Regions, fill_skull, from_labels

log = logging.getLogger(__name__)

NAME = "ixi_ageing"
PARAMETERS = Path(__file__).with_name("ixi_ageing.toml")
KIND = "real baseline, simulated follow-up"
_PEOPLE = "sample_datasets/demo_dataset_IXI/participants/participants.csv"
_ATLAS = "resources/lists/MUSE/MUSE_listROIs.csv"
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
    profile : {"smoke", "laptop", "paper"}
        Grids of 4, 3 and 1.5 mm (:func:`nbkit.phantom.longitudinal.grid_for`); smoke has 8 of the people.
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
    known(profile, PROFILES, f"{NAME}: profile")
    manifest, cache, parameters = manifest or load_manifest(NAME), cache or Cache(), load_parameters(PARAMETERS)
    plans = roster(manifest, profile, seed=seed, parameters=parameters)
    roles = manifest.subjects()
    files = {plan.person.id: all_files(manifest, roles[plan.person.id].values()) for plan in plans}
    codes = merge_codes(all_files(manifest, [_ATLAS])[_ATLAS], parameters)
    common = {"codes": codes, "grid": grid_for(profile, ageing_parameters()), "seed": seed}
    hashes = {name: {path: manifest.by_path[path].digest for path in paths} for name, paths in files.items()}
    key = functools.partial(_key, **common, source=module_digest(__name__))
    keys = [key(plan, hashes[plan.person.id]) for plan in plans]
    reference = template_reference(load_template(load_parameters()))
    make = functools.partial(_entry, **common, reference=reference, cache=cache)
    busy = n_jobs if not all(cache.holds(NAME, key) for key in keys) else 1  # no workers only to find folders
    jobs = Parallel(n_jobs=busy, return_as="generator")(
        delayed(make)(plan, tuple(files[plan.person.id].values()), key) for plan, key in zip(plans, keys, strict=True)
    )
    bar = tqdm(jobs, total=len(plans), desc=f"{NAME} ({profile})", unit="person", disable=not progress)
    shelf, names = Shelf(), dict(enumerate(_names(codes), start=1))
    people = [_person(plan, entry, names, shelf) for plan, entry in zip(plans, bar, strict=True)]
    truth = {subject.id: known_of for subject, known_of in people}
    provenance = _provenance(manifest, profile, seed, {n: [hashes[n], t.facts] for n, t in truth.items()})
    provenance["redrawn"] = [name for name, t in truth.items() if t.facts["draws"] > 1]
    return Cohort(manifest.name, tuple(subject for subject, _ in people), manifest.access, provenance, truth)


def roster(manifest: Manifest, profile: str, *, seed: int, parameters: Parameters) -> tuple[Plan, ...]:
    """The people of a profile, ordered by id, with course and ages of visits drawn from seed and id alone."""
    table = sexes_and_ages(all_files(manifest, [_PEOPLE])[_PEOPLE], manifest.subjects())
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


def _names(codes: Mapping[str, Any]) -> list[str]:
    """Names of the regions in the order of their codes, which are those of the simulated cohorts."""
    return [f"{structure}_{side}" for structure in codes for side in SIDES]


def _key(
    plan: Plan, hashes: Mapping[str, str], *, codes: Mapping[str, Any],
    grid: tuple[tuple[int, int, int], np.ndarray], seed: int, source: str,
) -> dict[str, Any]:
    """What a person's folder in the cache depends on."""
    return {
        "plan": dataclasses.asdict(plan), "files": hashes, "codes": codes, "grid": [grid[0], grid[1].tolist()],
        "seed": seed, "source": source, "parameters": ageing_parameters().digest(),
    }


def _entry(
    plan: Plan, files: tuple[Path, Path], key: Mapping[str, Any], *, reference: Reference, codes: Mapping[str, Any],
    grid: tuple[tuple[int, int, int], np.ndarray], seed: int, cache: Cache,
) -> Path:
    """Folder of one person in the cache, made first if need be."""
    make = functools.partial(_make, plan, files, reference=reference, codes=codes, grid=grid, seed=seed)
    return cache.get(NAME, key, make, lambda folder: folder)


def _make(
    plan: Plan, files: tuple[Path, Path], folder: Path, *, reference: Reference, codes: Mapping[str, Any],
    grid: tuple[tuple[int, int, int], np.ndarray], seed: int,
) -> None:
    t1w, labels = nifti.read_image(files[0]), nifti.read_labels(files[1])
    t1w.check_grid(labels, f"{files[1]} against {files[0].name}")
    with one_thread():
        scan = prepare(t1w, reference, config=Config(alignment="rigid"), mask=labels)
        regions = regions_on(grid, labels.crop(bounding_box(labels.data[0] > 0)), codes, scan.matrix)
        course, brain = follow(plan, regions, parameters=ageing_parameters(), seed=seed), brain_of(regions)
        visits = course.trajectory.visits
        images = [scan.image_on(brain), *(_followed(scan, visit, brain, plan.person.id, seed) for visit in visits[1:])]
        records.write_person(folder, course, images=images, labels=[labels_of(v.regions) for v in visits], brain=brain)


def regions_on(
    grid: tuple[tuple[int, int, int], np.ndarray], labels: Volume, codes: Mapping[str, Any], matrix: np.ndarray
) -> Regions:
    """Shares of the structures on a grid of the template's world, by one interpolation of a MUSE label map.

    Parameters
    ----------
    grid : (shape, affine)
    labels : Volume
        MUSE codes in the world of the scan.
    codes : mapping
        Of :func:`nbkit.phantom.muse.merge_codes`.
    matrix : numpy.ndarray
        4×4, world of the template to world of the scan.
    """
    merged = merge_labels(labels, codes, matrix)
    sharp = from_labels(merged, {name: (code,) for code, name in enumerate(_names(codes), start=1)})
    maps = place(sharp.maps, matrix, shape=grid[0], affine=grid[1])
    share = float(maps.data.sum(dtype=torch.float64)) * maps.voxel_volume / sum(sharp.volumes.values())
    require(
        share > 0.99, f"{NAME}: {labels.history[0]}", expected="a brain inside the grid", found=f"{share:.1%} of it",
        remedy="Look at the scan and its labels: the alignment to the template failed.",
    )
    return fill_skull(Regions(sharp.names, maps), maps.with_data(maps.data.sum(dim=0, keepdim=True)))[0]


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


def _person(
    plan: Plan, entry: Path, names: Mapping[int, str], shelf: Shelf
) -> tuple[Subject, records.AgeingTruth]:
    ill = plan.person.diagnosis != _HEALTHY
    covariates = {"converter": False, "onset_age": plan.ages[0] if ill else None, "kind": KIND}
    subject, truth = records.read_person(
        entry, id=plan.person.id, sex=plan.person.sex, label_names=names, shelf=shelf, covariates=covariates
    )
    real = dataclasses.replace(subject.scans[0], diagnosis=_HEALTHY)
    return dataclasses.replace(subject, scans=(real, *subject.scans[1:])), truth


def _provenance(manifest: Manifest, profile: str, seed: int, content: Mapping[str, Any]) -> dict[str, Any]:
    shape, affine = grid_for(profile, ageing_parameters())
    return {
        "kind": KIND, "source": f"{manifest.repository} at commit {manifest.commit}", "licence": manifest.licence,
        "attribution": f"{manifest.attribution}. {ATTRIBUTION}", "citation": list(manifest.citation),
        "profile": profile, "seed": seed, "data_hash": digest(content), "parameters": ageing_parameters().digest(),
        "grid": {"shape": list(shape), "spacing_mm": [float(s) for s in np.diag(affine)[:3]]},
        "intensity": "1 = white-matter peak of the scan, 0 outside the skull", "labels": "DLMUSE, merged",
        "simulated": "follow-ups: the person's own scan, its noise included, moved along a prescribed flow, with bias, "
        "gain and noise added; the people are healthy, the courses LMCI and AD are not theirs",
    }
