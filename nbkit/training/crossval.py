"""Cross-validation by subject: every system on the same folds, each fold's model and scores kept on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from nbkit.core.checks import check_disjoint, known, require
from nbkit.core.config import digest
from nbkit.core.device import one_thread
from nbkit.core.files import Cache, write_json
from nbkit.core.protocols import Cohort, ModalitySynthesizer, Subject
from nbkit.core.source import module_digest
from nbkit.core.tidy import COLUMNS
from nbkit.core.volume import Volume
from nbkit.training.offered import check_unseen, known_by, offered
from nbkit.training.resume import resumable


class FoldLike(Protocol):
    """A named split of subject ids."""

    name: str
    train_ids: Sequence[str]
    test_ids: Sequence[str]


Score = Callable[[Subject, Volume], Mapping[str, float]]


@dataclass(frozen=True)
class Result:
    """One system over all folds.

    Attributes
    ----------
    scores : dict
        metric -> subject id -> value, subjects in the cohort's order.
    fold_of : dict
        subject id -> name of the fold that tested it.
    folders : dict
        fold name -> folder with the fitted model.
    histories : dict
        fold name -> training history (empty for systems that do not iterate).
    seconds : dict
        subject id -> wall time of one prediction, in s.
    """

    system: type
    scores: dict[str, dict[str, float]]
    fold_of: dict[str, str]
    folders: dict[str, Path]
    histories: dict[str, dict[str, Any]]
    seconds: dict[str, float]

    def model_for(self, subject_id: str) -> Any:
        """The fitted model that has never seen this subject."""
        known(subject_id, self.fold_of, "Result.model_for: subject")
        return self.system.load(self.folders[self.fold_of[subject_id]] / "model")

    def predictions(
        self, cohort: Cohort, ids: Sequence[str] | None = None, *, visit: int = 0
    ) -> dict[str, Volume]:
        """Each subject's prediction by the model that has never seen it, made again from the kept weights.

        `visit` counts a subject's scans from 0; subjects without such a visit are left out.
        """
        wanted = [s for s in ids or self.fold_of if len(cohort.subject(s).scans) > visit]
        out: dict[str, Volume] = {}
        for fold, folder in self.folders.items():
            model = None
            for subject in (s for s in wanted if self.fold_of.get(s) == fold):
                model = model or self.system.load(folder / "model")
                scan = cohort.subject(subject).scans[visit]
                out[subject] = model.synthesize(scan.images, mask=scan.mask("brain"))
        return {s: out[s] for s in wanted}

    def by_fold(self, metric: str) -> dict[str, dict[str, float]]:
        """fold name -> subject id -> value of one metric."""
        out: dict[str, dict[str, float]] = {name: {} for name in self.folders}
        for subject, value in self.scores[metric].items():
            out[self.fold_of[subject]][subject] = value
        return out


def scores_frame(results: Mapping[str, Result]) -> pd.DataFrame:
    """Every score of every system as a tidy frame (:mod:`nbkit.core.tidy`), ids and units left empty.

    Parameters
    ----------
    results : mapping of str to Result
        What :func:`cross_validate` returned.

    Returns
    -------
    pandas.DataFrame
        The columns of a tidy frame and "fold"; systems, then metrics, then subjects in the order of `results`; scores
        that are undefined for a subject are left out.
    """
    rows = [
        ("", subject, system, metric, value, "", result.fold_of[subject])
        for system, result in results.items() for metric, values in result.scores.items()
        for subject, value in values.items()
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS, "fold"])


def cross_validate(
    systems: Mapping[str, ModalitySynthesizer], cohort: Cohort, *, folds: Sequence[FoldLike], score: Score,
    cache: Cache | None = None, n_jobs: int = 1, stop_on_test: bool = False, progress: bool = True,
) -> dict[str, Result]:
    """Fit and test every system on every fold.

    Parameters
    ----------
    systems : mapping of str to system
        Unfitted systems by name; a fresh copy ``type(system)(system.config)`` is fitted in each fold.
    cohort : Cohort
    folds : sequence of folds
        Each with ``name``, ``train_ids``, ``test_ids``.
    score : callable
        ``score(subject, prediction) -> {metric: value}``.
    cache : Cache or None
        Finished folds are read from here, so a killed run goes on where it stopped.
    n_jobs : int
        Folds computed side by side, as threads of one torch thread each: the digits do not depend on it.
    stop_on_test : bool
        The paper's own protocol: early stopping watches the test fold. Optimistic; off by default.

    Raises
    ------
    NbkitError
        If a subject is on both sides of a fold.
    """
    for fold in folds:
        check_disjoint(fold.train_ids, fold.test_ids, where=f"cross_validate: {fold.name}")
    cache = cache or Cache()
    jobs = [(name, fold) for name in systems for fold in folds]
    work = (delayed(_one_fold)(systems[n], cohort, f, score, cache, stop_on_test) for n, f in jobs)
    done = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(work)
    bar = tqdm(done, total=len(jobs), desc="cross-validation", disable=not progress)
    entries = {(name, fold.name): folder for (name, fold), folder in zip(jobs, bar)}
    return {
        name: _collect(type(systems[name]), cohort, {f.name: entries[name, f.name] for f in folds}) for name in systems
    }


def _one_fold(
    system: ModalitySynthesizer, cohort: Cohort, fold: FoldLike, score: Score, cache: Cache, stop_on_test: bool,
) -> Path:
    key = {
        "system": type(system).__name__, "config": system.config.as_dict(), "data": cohort.provenance.get("data_hash"),
        "train": list(fold.train_ids), "test": list(fold.test_ids), "score": score.__qualname__,
        "stop_on_test": stop_on_test, "source": module_digest(type(system).__module__, score.__module__, __name__),
    }
    require(
        key["data"] is not None, f"cohort {cohort.name}: provenance", expected="a data_hash", found="none",
        remedy="Cohort readers must set provenance['data_hash'] so that finished work can be kept.",
    )
    train, test = cohort.subset(fold.train_ids), cohort.subset(fold.test_ids)
    offer = None if stop_on_test else offered(system, train)
    key |= {"weights": offer.sha256} if offer else {}

    def make(folder: Path) -> None:
        with one_thread(), resumable(cache.root / "training" / digest(key)):
            model = offer.read(type(system).load) if offer else None
            if model is None:
                model = type(system)(system.config)
                model = model.fit(train, validation=test) if stop_on_test else model.fit(train)
            check_unseen([known_by(model, train)], test)
            record = {"history": dict(getattr(model, "history", {})), **_test(model, test, score)}
            model.save(folder / "model")
            write_json(folder / "record.json", record)

    return cache.get("crossval", key, make, lambda folder: folder)


def _test(model: ModalitySynthesizer, test: Cohort, score: Score) -> dict[str, Any]:
    scores, seconds = {}, {}
    for subject in test:
        scan, start = subject.baseline, time.perf_counter()
        prediction = model.synthesize(scan.images, mask=scan.mask("brain"))
        seconds[subject.id] = time.perf_counter() - start
        scores[subject.id] = {k: None if np.isnan(v) else float(v) for k, v in score(subject, prediction).items()}
    return {"scores": scores, "seconds": seconds}


def _collect(system: type, cohort: Cohort, folders: dict[str, Path]) -> Result:
    records = {name: json.loads((folder / "record.json").read_text()) for name, folder in folders.items()}
    fold_of = {s: name for name, record in records.items() for s in record["scores"]}
    rows = {s: record["scores"][s] for record in records.values() for s in record["scores"]}
    metrics = list(next(iter(rows.values())))
    order = [s for s in cohort.ids if s in rows]
    scores = {m: {s: rows[s][m] for s in order if rows[s][m] is not None} for m in metrics}
    seconds = {s: t for record in records.values() for s, t in record["seconds"].items()}
    return Result(system, scores, fold_of, folders, {n: r["history"] for n, r in records.items()}, seconds)
