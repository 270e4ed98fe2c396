"""The embedded MS cohort: 20 simulated patients and 4 controls as in the thesis, chapter 2."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from nbkit.core.checks import known
from nbkit.core.config import PROFILES, digest
from nbkit.core.files import Cache, write_json
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import numpy_generator
from nbkit.core.source import module_digest
from nbkit.core.volume import Volume
from nbkit.phantom.anatomy import ATTRIBUTION
from nbkit.phantom.lesions import draw_burdens
from nbkit.phantom.ms import Grid, Person, Simulated, simulate
from nbkit.phantom.parameters import Parameters, load_parameters

log = logging.getLogger(__name__)

NAME = "ms_phantom"
GRIDS: Mapping[str, Grid] = MappingProxyType(
    {"smoke": Grid((4, 4, 2)), "laptop": Grid((2, 2, 1)), "paper": Grid((1, 1, 1))}
)
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
        One scan per subject with T1w, T2w, PDw, T1SE, DIR and FLAIR on one grid, masks, and the truth.

    Raises
    ------
    NbkitError
        For an unknown profile.
    """
    known(profile, PROFILES, "ms_phantom.build: profile")
    cache, parameters, grid = cache or Cache(), load_parameters(), GRIDS[profile]
    people = roster(profile, seed=seed, parameters=parameters)
    source = module_digest(__name__)
    jobs = (delayed(_cached)(cache, p, grid, seed, parameters, source) for p in people)
    entries = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(jobs)
    entries = list(tqdm(entries, total=len(people), desc=f"{NAME} ({profile})", disable=not progress))
    truth = {person.id: entry[1] for person, entry in zip(people, entries, strict=True)}
    subjects = tuple(_subject(person, entry[0]) for person, entry in zip(people, entries, strict=True))
    provenance = _provenance(profile, seed, grid, parameters, [t["sha256"] for t in truth.values()])
    return Cohort(NAME, subjects, "embedded", provenance, truth)


def roster(profile: str, *, seed: int, parameters: Parameters) -> tuple[Person, ...]:
    """Patients, then controls, with the published ages and sexes and measured lesion loads and counts."""
    c = parameters.section("cohort")
    patients, controls = SMOKE_SUBJECTS if profile == "smoke" else (c["patients"], c["controls"])
    rng = numpy_generator(seed, NAME, "roster")
    load, count = draw_burdens(rng, patients, parameters=parameters)
    groups = []
    for kind, prefix, n in (("patient", "ms", patients), ("control", "hc", controls)):
        women = round(n * c[f"{kind}_women"] / c[f"{kind}s"])
        ages = _ages(rng, n, c[f"{kind}_age_mean"], c[f"{kind}_age_sd"], c["age_range"])
        sexes = rng.permutation(["F"] * women + ["M"] * (n - women))
        groups.append([(f"{prefix}{i + 1:02d}", str(sexes[i]), float(ages[i])) for i in range(n)])
    sick = [Person(*who, "MS", float(ml), int(k)) for who, ml, k in zip(groups[0], load, count, strict=True)]
    return (*sick, *(Person(*who, "HC", 0.0, 0) for who in groups[1]))


def _ages(rng: np.random.Generator, n: int, mean: float, sd: float, limits: tuple[float, float]) -> np.ndarray:
    """Ages in years with exactly the published mean and standard deviation, inside `limits`."""
    while True:
        ages = rng.standard_normal(n)
        ages = np.round(mean + sd * (ages - ages.mean()) / ages.std(ddof=1), 1)
        if limits[0] <= ages.min() and ages.max() <= limits[1]:
            return ages


def _cached(
    cache: Cache, person: Person, grid: Grid, seed: int, parameters: Parameters, source: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors by name, truth) of one subject."""
    key = {
        "person": dataclasses.asdict(person), "grid": grid.factors, "seed": seed,
        "parameters": parameters.digest(), "source": source,
    }

    def make(folder: Path) -> None:
        _write(simulate(person, grid=grid, seed=seed, parameters=parameters), folder)

    shape, affine = grid.target(parameters)
    return cache.get(NAME, key, make, lambda folder: _read(folder, affine))


def _write(result: Simulated, folder: Path) -> None:
    tensors = {f"image.{name}": v.data.contiguous() for name, v in result.images.items()}
    tensors |= {f"mask.{name}": v.data.contiguous() for name, v in result.masks.items()}
    save_file(tensors, folder / "scan.safetensors")
    total = hashlib.sha256((folder / "scan.safetensors").read_bytes()).hexdigest()
    write_json(folder / "truth.json", {**result.truth, "sha256": total})


def _read(folder: Path, affine: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    tensors = load_file(folder / "scan.safetensors")
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    parts: dict[str, dict[str, Volume]] = {"image": {}, "mask": {}}
    for name, data in tensors.items():
        kind, _, label = name.partition(".")
        parts[kind][label] = Volume(data, affine, ("simulated",))
    return parts, truth


def _subject(person: Person, parts: Mapping[str, Mapping[str, Volume]]) -> Subject:
    images = {c: parts["image"][c] for c in load_parameters().groups("contrast")}
    scan = Scan(person.id, "01", person.age, images, parts["mask"])
    covariates = {"age": person.age, "lesion_load_ml": person.load_ml}
    return Subject(person.id, person.sex, person.diagnosis, (scan,), covariates)


def _provenance(
    profile: str, seed: int, grid: Grid, parameters: Parameters, hashes: list[str]
) -> dict[str, Any]:
    shape, affine = grid.target(parameters)
    return {
        "data_hash": digest(hashes), "attribution": ATTRIBUTION, "licence": "simulated; templates: see attribution",
        "parameters": parameters.digest(), "profile": profile, "seed": seed,
        "grid": {"shape": list(shape), "spacing_mm": [float(s) for s in np.diag(affine)[:3]]},
    }
