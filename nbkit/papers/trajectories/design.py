"""The head-to-head's design: who is predicted, from how many scans, and what is asked of every system alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pandas as pd

from nbkit.core.config import Settings
from nbkit.core.protocols import Cohort, Scan, Segmenter, Subject, TrajectoryModel
from nbkit.core.volume import Volume
from nbkit.data.splits import folds
from nbkit.papers.trajectories.calibration import kept_forecasts
from nbkit.papers.trajectories.controls import Hindsight, NoChange
from nbkit.papers.trajectories.entered import beside, entered, entered_scores
from nbkit.papers.trajectories.experiments import Scores, scored_trajectories, volumes_at_visits
from nbkit.papers.trajectories.pixel_regression import Config as PixelConfig
from nbkit.papers.trajectories.pixel_regression import PixelRegression
from nbkit.papers.trajectories.prediction_cost import peak_memory
from nbkit.training.fitted import fitted

UNCERTAIN = ("mrextrap_bayes", "brlp")
"""Systems that use a history, and draw futures."""
HEALTHY = ("CN", "SMC", "HC")
NOBODY_ILL = "nobody in this cohort is ill"
UNLABELLED = "the scans carry no labels of structures"
"""Why something was not run."""
_FROM_ONE = ("inbrainsyn", "no_pt", "countersynth", "daninet3d", "brlp", "mrextrap_bayes", "pixel_population")
_ANCHORED = ("mrextrap_bayes_anchored", "brlp_anchored")
ASKED: Mapping[str, Sequence[str]] = {
    "one": (*_FROM_ONE, *_ANCHORED, "brlp_one_sample", "no_change", "floor"),
    "slice": (*_FROM_ONE, "no_change", "floor"),
    "several": ("inbrainsyn", "countersynth", "brlp", "mrextrap_bayes", *_ANCHORED, "mrextrap_ols",
                "mrextrap_population", "pixel_ols", "pixel_population", "no_change", "floor"),
}
"""Systems, controls and the floor by setting; DaniNet of stacks once more would take longest."""


@dataclass(frozen=True)
class Design(Settings):
    """Sizes of the comparison.

    Attributes
    ----------
    folds : int
        The first of so many folds is predicted.
    seen : int
        Visits shown where several are.
    each, most : int or None
        Most people of a diagnosis, and in all.
    ahead : int or None
        Most visits predicted after those seen.
    draws, drawn : int, int or None
        Futures that MRExtrap draws of a person, and of how many people.
    healthy : int or None
        Most people of BrLP's row in InBrainSyn's table.
    """

    folds: int = 3
    seen: int = 3
    each: int | None = None
    most: int | None = None
    ahead: int | None = None
    draws: int = 64
    drawn: int | None = None
    healthy: int | None = None

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"folds": 2, "seen": 2, "each": 1, "most": 2, "ahead": 1, "draws": 2, "drawn": 1, "healthy": 1},
        "laptop": {"each": 2, "ahead": 2, "draws": 4, "healthy": 8},
        "overnight": {"each": None, "draws": 16, "healthy": 16},
    }

    @property
    def shown(self) -> dict[str, int]:
        """Visits shown, by setting."""
        return {"one": 1, "several": self.seen}

    def split(self, people: Cohort, *, seed: int) -> tuple[Cohort, Cohort]:
        """Training and test people of the first fold."""
        first = folds(people, self.folds, seed=seed)[0]
        return people.subset(first.train_ids), people.subset(first.test_ids)

    def chosen(
        self, test: Cohort, able: Callable[[Subject], bool], *, diagnoses: Sequence[str] = ("CN", "AD", "LMCI")
    ) -> Cohort:
        """The first people of each diagnosis whom all systems are `able` to predict, with the visits seen and ahead."""
        ids = pd.Series({s.id: s.diagnosis for s in test if len(s.scans) > self.seen and able(s)}, dtype=str)
        wanted = pd.concat([ids[ids == d][: self.each] for d in diagnoses])
        stop = None if self.ahead is None else self.seen + self.ahead
        return visits_of(test.subset(wanted.index[: self.most]), lambda scans: scans[:stop])


def visits_of(people: Cohort, pick: Callable[[Sequence[Scan]], Sequence[Scan]]) -> Cohort:
    """The same people with the visits that `pick` takes of theirs."""
    return replace(people, subjects=tuple(replace(s, scans=tuple(pick(s.scans))) for s in people))


def has_labels(*cohorts: Cohort) -> bool:
    """Whether every scan of these people carries labels of structures."""
    return all(scan.labels is not None for people in cohorts for person in people for scan in person.scans)


def anybody_ill(people: Cohort) -> bool:
    """Whether anybody's diagnosis, at any visit, is more than a complaint."""
    stages = {scan.diagnosis or person.diagnosis for person in people for scan in person.scans}
    return not stages <= set(HEALTHY)


def ages(train: Cohort, test: Cohort) -> pd.DataFrame:
    """Ages at the first scan (years) of training and test people: count, mean, spread and quartiles."""
    groups = {"training": train, "test": test}
    return pd.DataFrame({n: pd.Series([s.baseline.age for s in g]).describe() for n, g in groups.items()}).round(2)


def controls(train: Cohort) -> dict[str, TrajectoryModel]:
    """Lines through voxels, fitted, and the scan repeated."""
    lines = {e: PixelRegression(PixelConfig(estimator=e)) for e in ("ols", "population")}
    return {f"pixel_{e}": fitted(line, train) for e, line in lines.items()} | {"no_change": NoChange()}


def compare(
    models: Mapping[str, TrajectoryModel], people: Cohort, names: Sequence[str], *, segmenter: Segmenter | None,
    key: Any, seen: int = 1,
) -> Scores:
    """Systems on the same people, volumes read both ways, hindsight beside them.

    Parameters
    ----------
    names : sequence of str
        Of the systems; those that are not among `models` are passed over. Users' models are scored by themselves.
    models, people, segmenter, seen, key
        As for :func:`~nbkit.papers.trajectories.experiments.scored_trajectories`; the visits are part of the key.
    """
    hindsight = {"hindsight": Hindsight(people)} if segmenter else {}
    asked = {name: models[name] for name in names if name in models}
    strangers = entered(asked)
    options = {
        "seen": seen, "key": [key, _sessions(people)], "segmenter": segmenter,
        "true_volumes": volumes_at_visits(people) or None, "readings": ("own", "alike") if segmenter else ("own",),
    }
    ours = {name: model for name, model in asked.items() if name not in strangers} | hindsight
    found = scored_trajectories(ours, people, **options)
    return beside(found, entered_scores(strangers, people, **options)) if strangers else found


def floor(people: Cohort, noise_free: Mapping[tuple[str, str], Volume]) -> dict[str, Hindsight]:
    """The true follow-up without its noise as the system "floor", where it is known (``run.noise_free("T1w")``)."""
    return {"floor": Hindsight(people, noise_free)} if noise_free else {}


def _sessions(people: Cohort) -> list[list[str]]:
    return [[scan.session for scan in person.scans] for person in people]


def last_visit(
    models: Mapping[str, TrajectoryModel], person: Subject, *, design: Design, setting: str,
    without: Sequence[str] = ("brlp_one_sample", "no_change", "mrextrap_population", "floor"),
) -> tuple[Scan, Scan, dict[str, Volume]]:
    """The last scan seen, the last visit, and what every system that is asked in a setting makes of it."""
    history, target = person.scans[: design.shown[setting]], person.scans[-1]
    asked = [name for name in (*ASKED[setting], *entered(models)) if name in models and name not in without]
    made = {name: models[name].predict(history, [target.age], person.diagnosis)[0] for name in asked}
    return history[-1], target, made


def forecasts(
    models: Mapping[str, Any], people: Cohort, design: Design, *, segmenter: Segmenter, key: Any
) -> dict[str, pd.DataFrame]:
    """By setting, the futures that systems draw of the last visit, as volumes read alike."""
    sure, some = {name: models[name] for name in UNCERTAIN}, people.subset(people.ids[: design.drawn])
    return {
        setting: kept_forecasts(
            sure, some, segmenter=segmenter, true_volumes=volumes_at_visits(some), seen=seen,
            options={"mrextrap_bayes": {"draws": design.draws}}, key=[key, _sessions(some)],
        ) for setting, seen in design.shown.items()
    }


def stranger_memory(
    models: Mapping[str, TrajectoryModel], train: Cohort, able: Callable[[Subject], bool], *, seen: int
) -> dict[str, float]:
    """MiB of tensors held during one prediction, of the first person who was not predicted before."""
    stranger = next(s for s in train if len(s.scans) > seen and able(s))
    systems = {name: model for name, model in models.items() if name != "floor"}
    return peak_memory(systems, stranger.scans[:seen], stranger.scans[seen].age, stranger.diagnosis)
