"""The task "ageing": who is learned from, what is shown of whom, what is asked, and the truth that stays behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from nbkit.benchmark.tasks import Rules, Task, asked_for
from nbkit.cohorts import cohort_for
from nbkit.core.checks import known, require
from nbkit.core.config import digest
from nbkit.core.protocols import Cohort, Scan, Segmenter, Subject, age_of
from nbkit.data.derivatives import labels_of
from nbkit.data.splits import folds
from nbkit.papers.trajectories.design import visits_of
from nbkit.papers.trajectories.experiments import volumes_at_visits
from nbkit.papers.trajectories.scan_labels import read_labels
from nbkit.systems import Bench

COHORTS = ("embedded", "open", "dlbs")
HISTORIES = ("one", "several")
FORECAST, START = "forecast", "start"
"""What is wanted of an age: of a later visit, or of the last scan shown (which may be left out)."""
Asked = tuple[str, float]
"""A person's BIDS label and an age in years, to hundredths."""


@dataclass(frozen=True, eq=False)
class Ageing(Task):
    """One task on one cohort, with its truth.

    Parameters
    ----------
    people : Cohort
        Everybody, every scan with labels.
    rules : Rules
    level : {"embedded", "open", "dlbs"}
    profile : str
    seed : int
    history : {"one", "several"}
    device : str
    """

    people: Cohort
    rules: Rules
    level: str
    profile: str
    seed: int
    history: str
    device: str = "auto"
    _kept: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def bench(self) -> Bench:
        """The papers' systems, trained on the training people when they are first asked for."""
        return Bench(self.people, self.profile, self.seed, self.device)

    @property
    def seen(self) -> int:
        """Scans shown of a test person."""
        return self.rules.at("history", self.history, self.profile)

    @cached_property
    def split(self) -> tuple[Cohort, Cohort]:
        """Training people, and test people who have a visit to forecast."""
        first = folds(self.people, self.rules.at("split", "folds", self.profile), seed=self.seed)[0]
        tested = [id for id in first.test_ids if len(self.people.subject(id).scans) > self.seen]
        require(
            bool(tested), f"{self.level}: test people", expected=f"somebody with more than {self.seen} scans",
            found="nobody", remedy="Use --history one, or a cohort with more visits.",
        )
        return self.people.subset(first.train_ids), self.people.subset(tested)

    @property
    def train(self) -> Cohort:
        """Whom everybody may learn from, with all their visits."""
        return self.split[0]

    @property
    def test(self) -> Cohort:
        """Who is forecast, with the visits that nobody is shown."""
        return self.split[1]

    @cached_property
    def given(self) -> Cohort:
        """What is given out: training people, and of test people the history alone."""
        shown = visits_of(self.test, lambda scans: scans[: self.seen])
        everybody = {s.id: s for s in (*self.train, *shown)}
        kept = [id for id in self.people.ids if id in everybody]
        cohort = self.people.subset(kept)
        return Cohort(cohort.name, tuple(everybody[id] for id in kept), cohort.access, cohort.provenance)

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """BIDS label of every person given out."""
        return labels_of(self.given.ids, "subject")

    @cached_property
    def by_label(self) -> Mapping[str, Subject]:
        """Test people, with all their visits, by BIDS label."""
        return {self.labels[s.id]: s for s in self.test}

    def last(self, person: Subject) -> Scan:
        """The last scan shown of a test person."""
        return person.scans[self.seen - 1]

    def session(self, person: Subject, scan: Scan) -> str:
        """BIDS label of a scan that is given out."""
        given = self.given.subject(person.id)
        return labels_of((s.session for s in given.scans), f"session of {person.id}")[scan.session]

    @cached_property
    def volumes(self) -> dict[str, list[dict[str, float]]]:
        """mm³ of every structure at every visit of everybody: the truth."""
        return volumes_at_visits(self.people)

    @cached_property
    def structures(self) -> tuple[str, ...]:
        """Regions whose volumes are known, both sides as one."""
        return tuple(next(iter(self.volumes.values()))[0])

    @cached_property
    def wanted(self) -> pd.DataFrame:
        """``wanted.tsv``: subject, session, age, years_ahead, what."""
        rows = []
        for label, person in self.by_label.items():
            last, place = self.last(person), (f"sub-{label}", f"ses-{self.session(person, self.last(person))}")
            start = round(age_of(last), 2)
            rows.append((*place, start, 0.0, START))
            ages = [round(age_of(scan), 2) for scan in person.scans[self.seen:]]
            rows += [(*place, age, round(age - start, 2), FORECAST) for age in ages]
        return pd.DataFrame(rows, columns=["subject", "session", "age", "years_ahead", "what"])

    def asked(self, what: str = FORECAST) -> list[Asked]:
        """Whom and which age, as (label, age)."""
        rows = self.wanted[self.wanted["what"] == what]
        return [(name.removeprefix("sub-"), float(age)) for name, age in zip(rows["subject"], rows["age"], strict=True)]

    @cached_property
    def reader(self) -> Segmenter:
        """Reads volumes from images: learned from the training people, or the one that comes with the project."""
        return self.bench.reader

    @property
    def identity(self) -> dict[str, Any]:
        """What a data set says of the task it holds; equal where the same is asked of the same people."""
        return self.told(History=self.history, WantedHash=self.wanted_hash)

    @property
    def wanted_hash(self) -> str:
        """Of what is asked, and from whom is learned: the same for everybody who was asked the same."""
        return digest([self.wanted.to_numpy().tolist(), list(self.train.ids)])


def open_task(
    level: str, *, task: str = "ageing", profile: str = "laptop", seed: int | None = None, history: str = "one",
    device: str = "auto", n_jobs: int = 1,
) -> Ageing:
    """The task on a cohort, which is simulated, prepared or read from the cache.

    Parameters
    ----------
    level : {"embedded", "open", "dlbs"}
    task : str
        A task, or a version of it.
    profile : str
        Size of the cohort and its grid, and of the systems.
    seed : int, optional
        Of the people, where they are simulated, and of the split; that of the rules by default.
    history : {"one", "several"}
        Scans shown of a test person.

    Raises
    ------
    NbkitError
        For an unknown word, or a cohort in which nobody can be forecast.
    """
    frozen, seed = asked_for(task, level, profile, seed, cohorts=COHORTS)
    known(history, HISTORIES, "--history")
    people = read_labels(cohort_for(level, task="ageing", profile=profile, seed=seed, n_jobs=n_jobs), device=device)
    return Ageing(people, frozen, level, profile, seed, history, device)
