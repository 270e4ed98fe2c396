"""Outlooks: what a system says of a person at any age, predicted beforehand at a few ages and looked up ever after.

A deformation moves the last scan seen and its labels; a system that paints images has its volumes measured by a
segmenter. Between the ages predicted, two years apart or so, images and volumes are mixed linearly, which takes a few
milliseconds where a prediction takes seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from nbkit.core.checks import NbkitError, known, require
from nbkit.core.files import Cache
from nbkit.papers.trajectories.outlook import Outlook, between
from nbkit.core.protocols import Cohort, Forecast, Scan, Segmenter, Subject, TrajectoryModel
from nbkit.core.recent import Recent, fingerprint
from nbkit.core.source import module_digest
from nbkit.core.tidy import COLUMNS, stacked, tidy
from nbkit.core.volume import Volume
from nbkit.data.slices import put_back, sliced_scan
from nbkit.metrics.regions import by_structure, regional_volumes
from nbkit.training.checkpoint import load_checkpoint, save_checkpoint

_KEPT = 48
"""People and courses whose outlooks stay in memory, per system."""


class Seen(NamedTuple):
    """What a system may see of a person; anything with these two will do.

    Attributes
    ----------
    scans : sequence of Scan
        Ordered by age.
    volumes : mapping of str to float
        mm³ by structure at the last of them; what is predicted is growth from there.
    """

    scans: Sequence[Scan]
    volumes: Mapping[str, float]


class Asked(Protocol):
    """Whom a view asks about."""

    id: str
    age: float


def labelled(scan: Scan, segmenter: Segmenter, *, contrast: str = "T1w") -> Scan:
    """The scan with the segmenter's labels, unless it has labels of its own."""
    if scan.labels is not None:
        return scan
    labels = segmenter.segment(scan.image(contrast), mask=scan.mask("brain"))
    return replace(scan, labels=labels, label_names=dict(segmenter.names))


def kept_back(scans: Sequence[Scan]) -> int:
    """How many of a person's last visits no system may see: two, where one is left to be seen."""
    return min(2, len(scans) - 1)


def first_of_each(people: Cohort, *, own: Scan | None = None, most: int | None = None) -> list[Subject]:
    """The first person of every diagnosis with three visits or more, and an own scan in front if there is one."""
    able = [subject for subject in people if len(subject.scans) > 2]
    first = {subject.diagnosis: subject for subject in reversed(able)}
    mine = [Subject(own.subject, None, "own scan", (own,))] if own else []
    return mine + [subject for subject in able if first[subject.diagnosis] is subject][:most]


def people_table(people: Sequence[Subject]) -> pd.DataFrame:
    """Diagnosis, scans that may be seen and are kept back, and ages in years; no ids."""
    rows = []
    for subject in people:
        back = kept_back(subject.scans)
        seen = subject.scans[: len(subject.scans) - back]
        rows.append((subject.diagnosis, len(seen), seen[-1].age, back, subject.scans[-1].age))
    names = ["diagnosis at baseline", "scans seen", "age at the last of them", "scans kept back", "oldest"]
    return pd.DataFrame(rows, columns=names).round(1)


def measured(
    subject: Subject, segmenter: Segmenter, truth: Mapping[str, Any], *, closer: Sequence[Scan] = ()
) -> tuple[list[Scan], list[dict[str, float]]]:
    """A person's scans with labels, and mm³ at each visit: what a simulation knows, or else the labels counted.

    Of a scan without labels the segmenter reads them, from the scan of the same person and session among `closer`, on a
    finer grid, where there is one.
    """
    scans = [labelled(scan, segmenter) for scan in subject.scans]
    if subject.id in truth:
        return scans, [by_structure(volumes) for volumes in truth[subject.id].volumes]
    finer = {(scan.subject, scan.session): scan for scan in closer}
    volumes = []
    for bare, scan in zip(subject.scans, scans, strict=True):
        near = finer.get((scan.subject, scan.session), scan)
        read = bare.labels is None
        volumes.append(by_structure(segmenter.volumes(near.image("T1w"), mask=near.mask("brain"))) if read
                       else counted(scan))
    return scans, volumes


def read_at(scan: Scan, closer: Sequence[Scan] = ()) -> float:
    """Voxel size (mm) of the image that :func:`measured` reads a scan's volumes from."""
    finer = {(near.subject, near.session): near for near in closer}
    return finer.get((scan.subject, scan.session), scan).image("T1w").spacing[0]


def counted(scan: Scan) -> dict[str, float]:
    """mm³ of every structure of a labelled scan."""
    require(
        scan.labels is not None, f"{scan.subject}/{scan.session}: labels", expected="a label map", found="none",
        remedy="Use labelled(scan, segmenter) first.",
    )
    return by_structure(regional_volumes(scan.labels, scan.label_names))


class _Foresight:
    """How a system is asked: a dataclass of the system and of what reads it.

    ``turns`` says whether it can be told of a course that turns from health to disease; others know diagnoses.
    """

    turns: bool = False

    def key(self) -> dict[str, Any]:
        """What it depends on, JSON-able."""
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: _told_of(part) if hasattr(part, "config") else part for name, part in parts.items()}

    def modules(self) -> list[str]:
        """Where its systems are written."""
        parts = [getattr(self, part.name) for part in fields(self)]
        return sorted({type(part).__module__ for part in parts if hasattr(part, "config")})


@dataclass(frozen=True, eq=False)
class Carried(_Foresight):
    """A system that deforms the last scan seen: ``model.futures(scan, ages, course)``.

    Parameters
    ----------
    model : a system with ``futures``
    turns : bool
        Whether it knows courses that turn (InBrainSyn) or diagnoses alone (CounterSynth).
    """

    model: Any
    turns: bool = True

    def __call__(self, seen: Seen, ages: Sequence[float], told: Any) -> list[Outlook]:
        """One outlook per age; volumes grow as the labels of the scan do."""
        scan = seen.scans[-1]
        futures, start = self.model.futures(scan, ages, told), counted(scan)
        growths = [_ratio(by_structure(volumes), start) for volumes in futures.volumes()]
        return [Outlook(i, _grown(seen, g)) for i, g in zip(futures.images(), growths, strict=True)]


PAINTED = {"MRExtrap, anchored": "mrextrap_bayes_anchored", "MRExtrap": "mrextrap_bayes",
           "BrLP, anchored": "brlp_anchored", "BrLP": "brlp"}
"""Names in the explorer of what paints, with the detail of the scan first."""


@dataclass(frozen=True, eq=False)
class Painted(_Foresight):
    """A system that paints images; the segmenter measures them.

    Growth is the measured volume over that of the system's own image at the age of the last scan, so that neither the
    blur of an autoencoder nor the segmenter's bias counts as change.

    Parameters
    ----------
    model : TrajectoryModel
    segmenter : Segmenter
    draws : int
        Of futures, for the spread of volumes, where the model has ``predict_with_uncertainty``; 0 for none. Each future
        drawn is set against itself at the age of the last scan.
    """

    model: TrajectoryModel
    segmenter: Segmenter
    draws: int = 0

    def __call__(self, seen: Seen, ages: Sequence[float], told: Any) -> list[Outlook]:
        """One outlook per age."""
        mask, now = seen.scans[-1].mask("brain"), float(seen.scans[-1].age)

        def measure(image: Volume) -> dict[str, float]:
            return by_structure(self.segmenter.volumes(image, mask=mask))

        asked = list(dict.fromkeys([now, *ages]))
        if self.draws:
            found = self.model.predict_with_uncertainty(seen.scans, asked, told, draws=self.draws, measure=measure)
            images, spreads = [f.image for f in found], [_spread(seen, found[0], f) for f in found]
        else:
            images = self.model.predict(seen.scans, asked, told)
            spreads = [{} for _ in images]
        sizes = [measure(image) for image in images]
        growths = [_grown(seen, _ratio(size, sizes[0])) for size in sizes]
        made = map(Outlook, images, growths, spreads)
        by_age = dict(zip(asked, made, strict=True))
        return [by_age[age] for age in ages]


@dataclass(frozen=True, eq=False)
class Sliced(_Foresight):
    """A system of slices: the plane it knows is put into the last scan seen; there are no volumes.

    Parameters
    ----------
    model : TrajectoryModel
    where : mapping
        ``level_mm``, ``size`` and ``spacing_mm`` of its slices (:func:`nbkit.data.slices.sliced`).
    """

    model: TrajectoryModel
    where: Mapping[str, Any]

    def __call__(self, seen: Seen, ages: Sequence[float], told: Any) -> list[Outlook]:
        """One outlook per age."""
        last = seen.scans[-1].image("T1w")
        images = self.model.predict([sliced_scan(scan, **self.where) for scan in seen.scans], ages, told)
        return [Outlook(put_back(image, last), {}) for image in images]


Foresee = Carried | Painted | Sliced


class Outlooks:
    """A system's outlooks on some people, each course of a person predicted when it is first asked for, and kept.

    Parameters
    ----------
    foresee : Carried, Painted or Sliced
    people : mapping of str to Seen
        By id.
    courses : mapping of str to object
        Diagnosis paths by name, and what the system is told of them; a callable is given the last scan seen.
    years : sequence of float
        After the last scan seen, rising from 0: where it predicts.
    key : JSON-able
        What the system depends on besides its settings and training people (the training data's hash).
    cache : Cache, optional
    """

    def __init__(
        self, foresee: Foresee, people: Mapping[str, Seen], *, courses: Mapping[str, Any],
        years: Sequence[float], key: Any = None, cache: Cache | None = None,
    ) -> None:
        require(
            len(years) > 1 and years[0] == 0 and all(a < b for a, b in zip(years, years[1:])), "Outlooks: years",
            expected="rising years that start at 0", found=list(years), remedy="Pass e.g. years=(0, 2, 4, 6, 8, 10).",
        )
        self.foresee, self.people, self.courses = foresee, dict(people), dict(courses)
        self.years, self._key, self._cache = tuple(map(float, years)), key, cache
        self._kept = Recent(_KEPT)

    def __call__(self, person: Asked, age: float, course: str) -> Outlook:
        """The outlook on a person (anything with an ``id``) at an age.

        Raises
        ------
        NbkitError
            For an age before the last scan seen or after the last year, a course that the system does not know, or
            whatever the system refuses, ages it was not trained for above all.
        """
        seen = self.people[known(person.id, self.people, "Outlooks: person")]
        known(course, self.courses, "Outlooks: course")
        year = round(age - float(seen.scans[-1].age), 6)
        rows = self._rows(person.id, course)
        require(
            0 <= year <= max(rows), f"Outlooks: {course}",
            expected=f"up to {max(rows):g} years after the last scan seen",
            found=f"{year:g}", remedy="The system was not trained for ages beyond; choose an earlier one.",
        )
        places = sorted(rows)
        k = min(bisect_right(places, year) - 1, len(places) - 2) if len(places) > 1 else 0
        low, high = places[k], places[min(k + 1, len(places) - 1)]
        return between(rows[low], rows[high], (year - low) / (high - low) if high > low else 0.0)

    def exactly(self, person_id: str, year: float, course: str) -> Outlook:
        """What the system itself says so many years on: what :meth:`__call__` mixes in between."""
        seen = self.people[known(person_id, self.people, "Outlooks: person")]
        return self.foresee(seen, [float(seen.scans[-1].age) + year], self._told(seen, course))[0]

    def gap(self, person: Asked, year: float, course: str) -> float:
        """How far the mixture is from the system itself so many years on: 99th centile over the voxels of the brain."""
        mixed, exact = self(person, person.age + year, course), self.exactly(person.id, year, course)
        inside = self.people[person.id].scans[-1].mask("brain").data.bool()
        return float((mixed.image.data - exact.image.data).abs()[inside].quantile(0.99))

    def _rows(self, person_id: str, course: str) -> dict[float, Outlook]:
        """Outlooks by year."""
        return self._kept.get((person_id, course), lambda: self._prepared(person_id, course))

    def _prepared(self, person_id: str, course: str) -> dict[float, Outlook]:
        seen, told = self.people[person_id], self._told(self.people[person_id], course)
        record = {
            "foresee": self.foresee.key(), "key": self._key, "told": str(told), "years": self.years,
            "scans": [[float(s.age), *(fingerprint(i) for i in s.images.values())] for s in seen.scans],
            "labels": fingerprint(seen.scans[-1].labels) if seen.scans[-1].labels is not None else "",
            "start": dict(seen.volumes), "source": module_digest(__name__, *self.foresee.modules()),
        }
        return (self._cache or Cache()).get(
            "outlooks", record, lambda folder: _write(folder, self._predicted(seen, told)), _read
        )

    def _predicted(self, seen: Seen, told: Any) -> dict[float, Outlook]:
        """All years at once; where the system refuses the last ones, those before."""
        now = float(seen.scans[-1].age)
        refusal: NbkitError | None = None
        for count in range(len(self.years), 0, -1):
            years = self.years[:count]
            try:
                found = self.foresee(seen, [now + year for year in years], told)
            except NbkitError as error:
                refusal = refusal or error
                continue
            return dict(zip(years, found, strict=True))
        raise refusal

    def _told(self, seen: Seen, course: str) -> Any:
        told = self.courses[known(course, self.courses, "Outlooks: course")]
        return told(seen.scans[-1]) if callable(told) else told


def gaps(
    systems: Mapping[str, Outlooks], people: Sequence[Asked], year: float, course: str
) -> tuple[pd.DataFrame, list[str]]:
    """By system, :meth:`Outlooks.gap` of the first of `people` for whom it has an answer; and in words, why not.

    Tidy rows ``explore.mixing.SYSTEM``, none for a system that answers for nobody.
    """
    frames, said = [], []
    for name, system in systems.items():
        for place, person in enumerate(people, 1):
            try:
                gap = system.gap(person, year, course)
            except NbkitError as error:
                expected = f"it expects {error.expected}, not {error.found}"
                said.append(f"{name} has no answer here for person {place} of {len(people)}: {expected}.")
                continue
            frames.append(tidy(gap, id=f"explore.mixing.{name.lower()}", unit="1 = white matter"))
            break
    return stacked(*frames) if frames else pd.DataFrame(columns=list(COLUMNS)), said


def _grown(seen: Seen, growth: Mapping[str, float]) -> dict[str, float]:
    return {name: volume * growth[name] for name, volume in seen.volumes.items() if name in growth}


def _ratio(later: Mapping[str, float], first: Mapping[str, float]) -> dict[str, float]:
    """Growth by structure; 1 for a structure that is not there."""
    return {name: value / first[name] if first.get(name) else 1.0 for name, value in later.items()}


def _spread(seen: Seen, first: Forecast, forecast: Forecast) -> dict[str, float]:
    """Standard deviation, mm³, of each structure over the futures drawn, each set against itself at the start."""
    sd = {
        name: float(np.std(drawn / np.maximum(first.draws[name], 1e-9), ddof=1))
        for name, drawn in forecast.draws.items()
    }
    return _grown(seen, sd)


def _told_of(system: Any) -> list[Any]:
    return [type(system).__name__, system.config.as_dict(), getattr(system, "trained_on", "")]


def _write(folder: Path, rows: Mapping[float, Outlook]) -> None:
    images = {f"{year:g}": o.image for year, o in rows.items()}
    first = next(iter(images.values()))
    constants = {
        "affine": first.affine.tolist(), "history": {year: list(i.history) for year, i in images.items()},
        "volumes": {f"{y:g}": dict(o.volumes) for y, o in rows.items()},
        "spread": {f"{y:g}": dict(o.spread) for y, o in rows.items()},
    }
    tensors = {year: image.data.float().clone() for year, image in images.items()}
    save_checkpoint(
        folder / "outlooks", tensors, system="Outlooks", config={}, constants=constants, training_subjects="",
    )


def _read(folder: Path) -> dict[float, Outlook]:
    tensors, record = load_checkpoint(folder / "outlooks", system="Outlooks")
    c = record["constants"]
    affine = np.array(c["affine"])
    rows = {
        float(year): Outlook(Volume(data, affine, tuple(c["history"][year])), c["volumes"][year], c["spread"][year])
        for year, data in tensors.items()
    }
    return dict(sorted(rows.items()))
