"""What could be won at all in forecasts of volumes: trivial controls, what volumes tell a strong learner, the floor.

Everything is worked out on true volumes, without images, on the visits on which systems are judged. A forecast is the
logarithm of growth from the last visit seen; its error is that of the volume, in % of the true one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nbkit.core.checks import check_disjoint, require
from nbkit.core.protocols import Cohort, Subject, age_of
from nbkit.core.tidy import stacked, tidy
from nbkit.metrics.regions import by_structure
from nbkit.papers.trajectories.experiments import volumes_at_visits

PLACES: Mapping[str, str] = {
    "lateral_ventricle": "ventricle", "hippocampus": "hippocampus", "grey_matter": "grey", "white_matter": "white",
}
"""How ids name structures."""
NO_CHANGE, MEAN, DIAGNOSIS, OWN = "no_change", "mean_slope", "diagnosis_slope", "own_slope"
REACH, TENFOLD = "reach", "reach_tenfold"
ROLES: Mapping[str, str] = {NO_CHANGE: "control", MEAN: "mean", DIAGNOSIS: "control", OWN: "reach"}
"""The own line through true volumes is no control: to read volumes off images that well is what systems are for."""
LEAST = 4
"""Fewest visits of people whose last one is predicted from several."""
UNIT = "% of the true volume, absolute"
Volumes = Mapping[str, float]
Asked = Sequence[tuple[Sequence[int], int]]
"""Visits seen and the one to predict, as places among a person's visits, for every question about the person."""


def after(seen: int, *, ahead: int | None = None) -> Callable[[int], Asked]:
    """Every later visit, or the next `ahead`, from the first `seen`: ``after(1)(visits)``."""
    return lambda visits: [
        (range(seen), target) for target in range(seen, visits if ahead is None else min(visits, seen + ahead))
    ]


def last_from(seen: int | None = None, *, least: int = LEAST) -> Callable[[int], Asked]:
    """The last visit from the `seen` before it, or from all; nothing of people with fewer visits than `least`."""
    def asked(visits: int) -> Asked:
        start = 0 if seen is None else visits - 1 - seen
        return [(range(start, visits - 1), visits - 1)] if visits >= least and 0 <= start < visits - 1 else []

    return asked


def forecast_room(
    train: Cohort, test: Cohort, *, asked: Callable[[int], Asked], id: str = "", strangers: Cohort | None = None,
    structures: Sequence[str] = ("lateral_ventricle", "hippocampus"),
    summed: Callable[[Volumes], Mapping[str, float]] = by_structure,
    truth: Mapping[str, Sequence[Volumes]] | None = None, floor: pd.DataFrame | None = None, seed: int = 0,
) -> pd.DataFrame:
    """Errors of what anyone could do, and of what the inputs tell, on true volumes of the test people.

    Systems: "no_change"; "mean_slope" and "diagnosis_slope", the yearly change of ln volume of the training people, of
    all or of the diagnosis; from two scans or more "own_slope" (a reach), the line through those seen carried on;
    "reach" and "reach_ridge", gradient boosting and ridge regression on diagnosis, age, sex, years ahead, all volumes
    at the last scan seen and, from two scans on, the own slopes, both of what the best slope leaves, within what it
    leaves of the people learned from; "reach_tenfold"
    and "reach_tenfold_ridge", the same learned from strangers. "person" is the best control after each person's own
    scale (and offset, from three visits predicted on), where everybody has two predicted visits or more.

    Parameters
    ----------
    train, test : Cohort
        Of the experiment's own split.
    asked : callable
        ``asked(visits)`` gives what is predicted of a person with so many visits: :func:`after`, :func:`last_from`.
    id : str
        With fields: ``"mrextrap.miss.{place}.{system}"``, of :data:`PLACES`, or ``{structure}``.
    strangers : Cohort, optional
        Other simulated people (``run.strangers()``); without them nothing is learned from them.
    structures : sequence of str
        Of what `summed` gives.
    summed : callable
        From mm³ of regions or structures to those judged and learned from
        (``nbkit.papers.mrextrap.volumes.four_volumes``).
    truth : mapping of str to sequence, optional
        By subject, mm³ at each visit, of training and test people; by default what a simulation knows, or the labels.
    floor : DataFrame, optional
        Tidy, with the column "structure": what reading the true visit by the segmenter misses, where the judged measure
        is read so. By default 0: the true volumes themselves.
    seed : int
        Of boosting.

    Returns
    -------
    DataFrame
        Tidy, with the columns "structure" and "role": the mean absolute error of each person, % of the true volume,
        metric "miss". One structure at a time is a room: ``run.room(where(frame, structure=name), of=...)``.

    Raises
    ------
    NbkitError
        For a person on both sides, or test people of whom nothing is asked.
    """
    check_disjoint(train.ids, test.ids, where="forecast_room: train and test")
    known = truth or {**volumes_at_visits(train), **volumes_at_visits(test)}
    taught, judged = _people(train, known, summed), _people(test, known, summed)
    questions = _questions(judged, asked)
    require(
        len(questions) > 0, "forecast_room: asked", expected="a visit to predict of somebody in the test set",
        found="none", remedy="Ask for fewer visits seen, or give people with more visits.",
    )
    slopes = _Slopes(taught)
    sources = {REACH: taught} | ({TENFOLD: _strangers(strangers, summed)} if strangers else {})
    frames = []
    for structure in structures:
        forecasts = _controls(questions, slopes, structure)
        for name, people in sources.items():
            forecasts |= _reached(name, people, questions, slopes, structure, seed)
        frames.append(_errors(questions, forecasts, structure, id, floor))
    return stacked(*frames)


class _Person(NamedTuple):
    """Who, ages (V,) in years, and ln mm³ (V,) of each structure."""

    subject: Subject
    ages: np.ndarray
    logs: Mapping[str, np.ndarray]


class _Question(NamedTuple):
    """Visits seen of a person and the one to predict, as places."""

    person: _Person
    seen: tuple[int, ...]
    target: int

    @property
    def years(self) -> float:
        """From the last visit seen."""
        return float(self.person.ages[self.target] - self.person.ages[self.seen[-1]])

    def growth(self, structure: str) -> float:
        """True change of ln volume since the last visit seen."""
        logs = self.person.logs[structure]
        return float(logs[self.target] - logs[self.seen[-1]])

    def own_slope(self, structure: str) -> float | None:
        """The least-squares line through the visits seen, per year; None from one."""
        seen = list(self.seen)
        ages, logs = self.person.ages[seen], self.person.logs[structure][seen]
        return float(np.polyfit(ages - ages[-1], logs, 1)[0]) if len(seen) > 1 else None


def _people(cohort: Cohort, known: Mapping[str, Sequence[Volumes]], summed: Callable) -> list[_Person]:
    """Everybody whose volumes are known."""
    people = []
    for subject in cohort:
        if subject.id in known:
            sums = [summed(volumes) for volumes in known[subject.id]]
            logs = {name: np.log([max(v[name], 1.0) for v in sums]) for name in sums[0]}
            people.append(_Person(subject, np.array([age_of(scan) for scan in subject.scans]), logs))
    return people


def _strangers(strangers: Cohort, summed: Callable) -> list[_Person]:
    return _people(strangers, volumes_at_visits(strangers), summed)


def _questions(people: Sequence[_Person], asked: Callable[[int], Asked]) -> list[_Question]:
    return [_Question(p, tuple(seen), target) for p in people for seen, target in asked(len(p.ages))]


def _lessons(people: Sequence[_Person], counts: set[int]) -> list[_Question]:
    """Every run of consecutive visits as long as those asked about, with every later visit."""
    return [
        _Question(p, tuple(range(stop - count, stop)), target)
        for p in people for count in sorted(counts) for stop in range(count, len(p.ages))
        for target in range(stop, len(p.ages))
    ]


class _Slopes:
    """Mean change of ln volume per year between people's first and last visits, of all and by diagnosis."""

    def __init__(self, people: Sequence[_Person]) -> None:
        rows = [
            {"diagnosis": p.subject.diagnosis}
            | {name: (logs[-1] - logs[0]) / (p.ages[-1] - p.ages[0]) for name, logs in p.logs.items()}
            for p in people if len(p.ages) > 1
        ]
        table = pd.DataFrame(rows)
        self.mean = table.drop(columns="diagnosis").mean()
        self.by_diagnosis = table.groupby("diagnosis").mean()

    def of(self, structure: str, diagnosis: str) -> float:
        """Of the diagnosis; of all where nobody in training has it."""
        found = self.by_diagnosis[structure].get(diagnosis)
        return float(self.mean[structure] if found is None else found)

    def best(self, question: _Question, structure: str) -> float:
        """The person's own slope, or from one scan that of the diagnosis."""
        own = question.own_slope(structure)
        return self.of(structure, question.person.subject.diagnosis) if own is None else own


def _controls(questions: Sequence[_Question], slopes: _Slopes, structure: str) -> dict[str, np.ndarray]:
    """ln growth (Q,) by control."""
    years = np.array([q.years for q in questions])
    yearly = {
        NO_CHANGE: np.zeros(len(questions)), MEAN: np.full(len(questions), slopes.mean[structure]),
        DIAGNOSIS: np.array([slopes.of(structure, q.person.subject.diagnosis) for q in questions]),
    }
    if all(len(q.seen) > 1 for q in questions):
        yearly[OWN] = np.array([q.own_slope(structure) for q in questions])
    return {name: slope * years for name, slope in yearly.items()}


def _inputs(questions: Sequence[_Question], slopes: _Slopes, structures: Sequence[str]) -> np.ndarray:
    """(Q, features): diagnosis, sex, age, years ahead, ln volumes, slopes and how well they are known."""
    diagnoses = list(slopes.by_diagnosis.index)
    rows = []
    for q in questions:
        subject, last = q.person.subject, q.seen[-1]
        row = [float(subject.diagnosis == d) for d in diagnoses] + [float(subject.sex == "M"), q.person.ages[last]]
        row += [q.years, *(q.person.logs[name][last] for name in structures)]
        if len(q.seen) > 1:
            row += [len(q.seen), q.person.ages[last] - q.person.ages[q.seen[0]]]
            row += [q.own_slope(name) for name in structures]
        rows.append(row)
    width = max(map(len, rows))
    return np.array([row + [0.0] * (width - len(row)) for row in rows])


def _reached(
    name: str, people: Sequence[_Person], questions: Sequence[_Question], slopes: _Slopes, structure: str, seed: int
) -> dict[str, np.ndarray]:
    """ln growth (Q,) that boosting and ridge say, learned from people: yearly, beyond the best slope."""
    visits = {len(q.seen) for q in questions}
    lessons, structures = _lessons(people, visits), list(questions[0].person.logs)
    require(
        len(lessons) > 0, f"forecast_room: {name}", expected=f"training people with more than {min(visits)} visits",
        found="none", remedy="Ask for fewer visits seen, or learn from people who were scanned as often.",
    )
    inputs, asked = (_inputs(q, slopes, structures) for q in (lessons, questions))
    years, ahead = (np.array([q.years for q in each]) for each in (lessons, questions))
    left = np.array([q.growth(structure) / q.years - slopes.best(q, structure) for q in lessons])
    counts = pd.Series([q.person.subject.id for q in lessons])
    weights = years / counts.map(counts.value_counts()).to_numpy()
    base = np.array([slopes.best(q, structure) for q in questions])
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 5, 13)))
    fitted = {
        name: _boosting(seed).fit(inputs, left, sample_weight=weights),
        f"{name}_ridge": ridge.fit(inputs, left, ridgecv__sample_weight=weights),
    }
    # no further than anybody learned from went: a line through few people has no bounds of its own
    beyond = {name: np.clip(learner.predict(asked), left.min(), left.max()) for name, learner in fitted.items()}
    return {name: (base + more) * ahead for name, more in beyond.items()}


def _boosting(seed: int) -> HistGradientBoostingRegressor:
    """Careful: trees of eight leaves on twenty lessons each, for the absolute error that is judged."""
    return HistGradientBoostingRegressor(
        loss="absolute_error", learning_rate=0.05, max_iter=200, max_leaf_nodes=8, min_samples_leaf=20,
        l2_regularization=1.0, random_state=seed,
    )


def _errors(
    questions: Sequence[_Question], forecasts: Mapping[str, np.ndarray], structure: str, id: str,
    floor: pd.DataFrame | None,
) -> pd.DataFrame:
    true, people = np.array([q.growth(structure) for q in questions]), [q.person.subject.id for q in questions]

    def row(system: str, role: str, growth: np.ndarray) -> pd.DataFrame:
        miss = pd.Series(100 * np.abs(np.expm1(growth - true))).groupby(np.array(people), sort=False).mean()
        name = id.format(structure=structure, place=PLACES.get(structure, structure), system=system)
        return tidy(miss.to_dict(), id=name, unit=UNIT, system=system, metric="miss", structure=structure, role=role)

    rows = {name: row(name, ROLES.get(name, "reach"), growth) for name, growth in forecasts.items()}
    controls = {name: forecasts[name] for name, role in ROLES.items() if name in forecasts and role != "reach"}
    best = min(controls, key=lambda name: rows[name]["value"].mean())
    own = _own_scale(controls[best], true, people)
    frames = [*rows.values(), *([] if own is None else [row("person", "person", own)])]
    if floor is None:
        return stacked(*frames, row("floor", "floor", true))
    read = floor[floor["structure"] == structure].assign(role="floor", metric="miss")
    return stacked(*frames, read)


def _own_scale(growth: np.ndarray, true: np.ndarray, people: Sequence[str]) -> np.ndarray | None:
    """`growth` after each person's least-squares scale, and offset from three visits on; None where one has one."""
    names, fitted = np.array(people), np.empty_like(growth)
    for name in dict.fromkeys(people):
        own = names == name
        if own.sum() < 2:
            return None
        columns = [growth[own], np.ones(own.sum())][: 2 if own.sum() > 2 else 1]
        basis = np.stack(columns, axis=1)
        fitted[own] = basis @ np.linalg.lstsq(basis, true[own], rcond=None)[0]
    return fitted
