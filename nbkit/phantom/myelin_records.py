"""People of a myelin cohort, made and read back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import numpy_generator
from nbkit.data.lazy import Shelf
from nbkit.data.manifest import Manifest
from nbkit.phantom.ms import Grid
from nbkit.phantom.myelin import ACQUIRED, CONTRASTS, MASKS, SESSIONS, TRUTH, Head, simulate
from nbkit.phantom.myelin_people import MONTHS, Person, draw_edss
from nbkit.phantom.study import Study, facts_of, half, store, stored

GRIDS = {"smoke": Grid((4, 4, 4)), "laptop": Grid((2, 2, 2)), "overnight": Grid(), "paper": Grid()}
"""The published 1.22 mm, and blocks of 2 and 4 of its voxels."""
NULL = "_null"
"""Ending of the names of cohorts in which nothing happens between the time points."""


def simulated_cohort(
    study: Study, people: Sequence[Person], head: Callable[[Person], Head], *, changed: bool,
    depends: Callable[[Person], Any] = str, manifests: Sequence[Manifest] = (), n_jobs: int = 1, progress: bool = True,
    many: bool = False, **facts: Any,
) -> Cohort:
    """Simulate people, or find those simulated before, and give all patients their EDSS.

    Parameters
    ----------
    study : Study
    people : sequence of Person
    head : callable
        ``head(person) -> Head``; called only for people who are not in the cache.
    changed : bool
        False for the null experiment.
    depends : callable
        ``depends(person)``: what their head depends on, JSON-able.
    manifests, n_jobs, progress
        As in :class:`nbkit.phantom.study.Study`.
    many : bool
        Keep images as 16-bit floats, and none without noise.
    **facts
        For the provenance.

    Returns
    -------
    Cohort
        Images and masks load when they are looked at; truth by subject: "t0", "t1" with their true maps (``DVR`` there
        is the tissue's, before the camera), "noise_free" by session, as acquired but without noise, and "facts".
    """

    def make(person: Person, folder: Path) -> None:
        visits, facts = simulate(
            person, head(person), grid=GRIDS[study.profile], seed=study.seed, parameters=study.parameters,
            changed=changed,
        )
        volumes, total = {"mask": visits["t0"].masks}, hashlib.sha256()
        for session, visit in visits.items():
            images = {name: half(image) for name, image in visit.images.items()} if many else visit.images
            volumes |= {f"{session}.image": images, f"{session}.truth": visit.truth}
            volumes |= {} if many else {f"{session}.noise_free": visit.noise_free}
            for volume in (*images.values(), *visit.masks.values(), *visit.truth.values()):
                total.update(volume.data.contiguous().numpy().tobytes())
        store(folder, volumes, {**facts, "sha256": total.hexdigest()})

    folders = study.made(
        people, make, depends=lambda person: [changed, depends(person)], n_jobs=n_jobs, progress=progress
    )
    known_of, shelf = {p.id: facts_of(folder) for p, folder in zip(people, folders, strict=True)}, Shelf()
    scores = _scores(study, known_of)
    read = [
        _read(person, folder, {**known_of[person.id], "edss": scores.get(person.id)}, shelf, many=many)
        for person, folder in zip(people, folders, strict=True)
    ]
    hashes = [own["sha256"] for own in known_of.values()]
    return study.cohort(read, hashes, manifests, null=not changed, **facts)


def _scores(study: Study, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """EDSS by patient, from what would happen to their lesions, also where nobody looks again or nothing changes."""
    courses = {name: f["course"] for name, f in facts.items() if f["course"]}
    scores = draw_edss(
        numpy_generator(study.seed, "myelin", "edss"), [c["remyelination"] for c in courses.values()],
        [c["demyelination"] for c in courses.values()], parameters=study.parameters,
    )
    return dict(zip(courses, map(float, scores), strict=True))


def _read(
    person: Person, folder: Path, facts: Mapping[str, Any], shelf: Shelf, *, many: bool
) -> tuple[Subject, dict[str, Any]]:
    scans, truth, still = [], {}, {}
    for session, wait in zip(SESSIONS, (0.0,) if person.months is None else (0.0, person.months), strict=False):
        images, masks = stored(folder, f"{session}.image", CONTRASTS, shelf), stored(folder, "mask", MASKS, shelf)
        truth[session] = stored(folder, f"{session}.truth", TRUTH, shelf)
        still |= {} if many else {session: stored(folder, f"{session}.noise_free", ACQUIRED, shelf)}
        scans.append(Scan(person.id, session, round(person.age + wait / MONTHS, 3), images, masks))
    covariates: dict[str, Any] = {"age": person.age}
    if person.diagnosis == "MS":
        covariates |= {"edss": facts["edss"], "t2_load_ml": facts["load_ml"]}
    subject = Subject(person.id, person.sex, person.diagnosis, tuple(scans), covariates)
    return subject, {**truth, **({} if many else {"noise_free": still}), "facts": facts}
