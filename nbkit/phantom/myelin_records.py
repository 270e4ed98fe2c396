"""People of a myelin cohort made once, kept on disk, and read back when they are looked at."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from nbkit.core.device import one_thread
from nbkit.core.files import Cache, write_json
from nbkit.core.protocols import Scan, Subject
from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume
from nbkit.data.lazy import LazyVolumes, Shelf, load_volume, save_volumes
from nbkit.phantom.ms import Grid
from nbkit.phantom.myelin import CONTRASTS, MASKS, SESSIONS, TRUTH, Head, simulate
from nbkit.phantom.myelin_people import MONTHS, Person, draw_edss, myelin_parameters

GRIDS: Mapping[str, Grid] = {"smoke": Grid((4, 4, 4)), "laptop": Grid((2, 2, 2)), "paper": Grid()}
"""The published 1.22 mm, and blocks of 2 and 4 of its voxels."""
NULL = "_null"
"""Ending of the names of cohorts in which nothing happens between the time points."""


@dataclass(frozen=True)
class Study:
    """What all people of a cohort share.

    Parameters
    ----------
    name : str
        Of the cohort; its cache entries stand under it.
    profile : {"smoke", "laptop", "paper"}
    seed : int
    changed : bool
        False for the null experiment.
    source : str
        Digest of the code.
    """

    name: str
    profile: str
    seed: int
    changed: bool
    source: str

    @property
    def grid(self) -> Grid:
        """Of the images."""
        return GRIDS[self.profile]

    def facts(self) -> dict[str, Any]:
        """For the provenance of a cohort."""
        shape, affine = self.grid.target(myelin_parameters())
        return {
            "parameters": myelin_parameters().digest(), "profile": self.profile, "seed": self.seed,
            "grid": {"shape": list(shape), "spacing_mm": [round(float(s), 4) for s in np.diag(affine)[:3]]},
            "null": not self.changed,
        }


def make_people(
    study: Study, people: Sequence[Person], head: Callable[[Person], Head], *, depends: Callable[[Person], Any],
    cache: Cache, n_jobs: int = 1, progress: bool = True,
) -> tuple[tuple[Subject, ...], dict[str, Any], list[str]]:
    """Simulate people, or find those simulated before, and give all patients their EDSS.

    Parameters
    ----------
    study : Study
    people : sequence of Person
    head : callable
        ``head(person) -> Head``; called only for people who are not in the cache.
    depends : callable
        ``depends(person)``: what their head depends on, JSON-able; part of the key.
    cache : Cache
    n_jobs : int
        People made at a time (threads).
    progress : bool

    Returns
    -------
    subjects : tuple of Subject
        Images and masks load when they are looked at.
    truth : dict
        By subject: "t0", "t1" with their true maps, and "facts".
    hashes : list of str
        SHA-256 of what was written, by person.
    """
    entry = partial(_entry, study, head=head, depends=depends, cache=cache)
    jobs = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(delayed(entry)(p) for p in people)
    bar = tqdm(jobs, total=len(people), desc=f"{study.name} ({study.profile})", disable=not progress)
    with one_thread():
        folders = dict(zip((p.id for p in people), bar, strict=True))
    facts = {name: json.loads((f / "facts.json").read_text(encoding="utf-8")) for name, f in folders.items()}
    scores, shelf = _scores(study, facts), Shelf()
    subjects = tuple(_subject(p, folders[p.id], facts[p.id], scores.get(p.id), shelf) for p in people)
    truth = {
        p.id: {
            **{scan.session: _volumes(folders[p.id], scan.session, "truth", TRUTH, shelf) for scan in subject.scans},
            "facts": {**facts[p.id], "edss": scores.get(p.id)},
        }
        for p, subject in zip(people, subjects, strict=True)
    }
    return subjects, truth, [facts[p.id]["sha256"] for p in people]


def _entry(
    study: Study, person: Person, *, head: Callable[[Person], Head], depends: Callable[[Person], Any], cache: Cache
) -> Path:
    """Folder of one person in the cache, made first if need be."""
    parameters = myelin_parameters()
    key = {
        "person": dataclasses.asdict(person), "grid": study.grid.factors, "seed": study.seed,
        "changed": study.changed, "parameters": parameters.digest(), "source": study.source,
        "depends": depends(person),
    }

    def make(folder: Path) -> None:
        visits, facts = simulate(
            person, head(person), grid=study.grid, seed=study.seed, parameters=parameters, changed=study.changed
        )
        total = hashlib.sha256()
        for session, visit in visits.items():
            kinds = {"image": visit.images, "mask": visit.masks, "truth": visit.truth}
            volumes = {f"{kind}.{n}": v for kind, named in kinds.items() for n, v in named.items()}
            save_volumes(folder / f"{session}.safetensors", volumes)
            for volume in volumes.values():
                total.update(volume.data.contiguous().numpy().tobytes())
        write_json(folder / "facts.json", {**facts, "sha256": total.hexdigest()})

    return cache.get(study.name, key, make, lambda folder: folder)


def _scores(study: Study, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """EDSS by patient, from what would happen to their lesions, also where nobody looks again or nothing changes."""
    courses = {name: f["course"] for name, f in facts.items() if f["course"]}
    scores = draw_edss(
        numpy_generator(study.seed, "myelin", "edss"), [c["remyelination"] for c in courses.values()],
        [c["demyelination"] for c in courses.values()], parameters=myelin_parameters(),
    )
    return dict(zip(courses, map(float, scores), strict=True))


def _subject(person: Person, folder: Path, facts: Mapping[str, Any], edss: float | None, shelf: Shelf) -> Subject:
    waits = (0.0, person.months)[: 1 if person.months is None else 2]
    scans = tuple(
        Scan(
            person.id, session, round(person.age + wait / MONTHS, 3),
            _volumes(folder, session, "image", CONTRASTS, shelf), _volumes(folder, session, "mask", MASKS, shelf),
        )
        for session, wait in zip(SESSIONS, waits, strict=False)
    )
    covariates: dict[str, Any] = {"age": person.age}
    if person.diagnosis == "MS":
        covariates |= {"edss": edss, "t2_load_ml": facts["load_ml"]}
    return Subject(person.id, person.sex, person.diagnosis, scans, covariates)


def _volumes(folder: Path, session: str, kind: str, names: Sequence[str], shelf: Shelf) -> LazyVolumes:
    load = partial(_load, folder / f"{session}.safetensors", kind)
    return LazyVolumes(f"{folder} {session} {kind}", names, load, shelf=shelf)


def _load(path: Path, kind: str, name: str) -> Volume:
    return load_volume(path, f"{kind}.{name}")
