"""Cross-validation by subject: every subject tested once by a model that never saw it; finished folds are kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.config import Settings
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.tidy import by_subject, where
from nbkit.core.volume import Volume
from nbkit.training.crossval import cross_validate, scores_frame

FITTED = []


@dataclass(frozen=True)
class Config(Settings):
    """What the toy adds to the mean."""

    offset: float = 0.0


class MeanOfTraining:
    """Predicts the mean of the training subjects' images, plus an offset."""

    def __init__(self, config=None):
        self.config, self.mean, self.seen = config or Config(), None, ()
        self.history = {"loss": [1.0]}

    def fit(self, cohort, *, validation=None):
        self.seen = (*cohort.ids, *(validation.ids if validation else ()))
        FITTED.append(self.seen)
        self.mean = sum(float(s.baseline.image("FLAIR").data.mean()) for s in cohort) / len(cohort)
        return self

    def synthesize(self, contrasts, *, mask):
        return mask.with_data(torch.full_like(mask.data, self.mean + self.config.offset, dtype=torch.float32))

    def save(self, path):
        path.mkdir(parents=True)
        (path / "m.json").write_text(json.dumps([self.config.as_dict(), self.mean, self.seen]))

    @classmethod
    def load(cls, path):
        config, mean, seen = json.loads((path / "m.json").read_text())
        model = cls(Config.from_dict(config))
        model.mean, model.seen = mean, tuple(seen)
        return model


def score(subject, prediction):
    """The predicted value, the error, and a value only some subjects have."""
    value = float(prediction.data[0, 0, 0, 0])
    rare = 1.0 if subject.id == "s1" else float("nan")
    return {"value": value, "error": value - float(subject.baseline.image("FLAIR").data.mean()), "rare": rare}


def subject(i):
    mask = Volume(torch.ones(2, 2, 2, dtype=torch.bool))
    return Subject(f"s{i}", None, "MS", (Scan(f"s{i}", "1", None, {"FLAIR": Volume(torch.full((2, 2, 2), float(i)))},
                                              {"brain": mask}),))


COHORT = Cohort("toy", tuple(subject(i) for i in range(4)), "embedded", {"data_hash": "toy"})
FOLDS = [
    SimpleNamespace(name=f"fold{k + 1}", train_ids=[s for s in COHORT.ids if s not in test], test_ids=list(test))
    for k, test in enumerate((("s3", "s0"), ("s1", "s2")))
]


def run(cache, systems=None, **options):
    systems = systems or {"plain": MeanOfTraining(), "high": MeanOfTraining(Config(10.0))}
    FITTED.clear()
    return cross_validate(systems, COHORT, folds=FOLDS, score=score, cache=Cache(cache), progress=False, **options)


def test_each_subject_is_tested_once_by_a_model_that_never_saw_it(tmp_path):
    results = run(tmp_path)
    assert results["plain"].scores["value"] == {"s0": 1.5, "s1": 1.5, "s2": 1.5, "s3": 1.5}
    assert list(results["high"].scores["error"].values()) == [11.5, 10.5, 9.5, 8.5]
    assert all(s not in results["plain"].model_for(s).seen for s in COHORT.ids)
    assert results["plain"].by_fold("error") == {"fold1": {"s0": 1.5, "s3": -1.5}, "fold2": {"s1": 0.5, "s2": -0.5}}
    assert results["plain"].histories["fold2"] == {"loss": [1.0]}
    assert set(results["plain"].seconds) == set(COHORT.ids)


def test_undefined_scores_are_left_out_by_subject(tmp_path):
    assert run(tmp_path)["plain"].scores["rare"] == {"s1": 1.0}


def test_scores_become_a_tidy_frame_with_the_fold_that_tested_each_subject(tmp_path):
    frame = scores_frame(run(tmp_path))
    assert list(frame.columns) == ["id", "subject", "system", "metric", "value", "unit", "fold"]
    assert by_subject(frame, system="high", metric="error") == {"s0": 11.5, "s1": 10.5, "s2": 9.5, "s3": 8.5}
    assert dict(zip(frame["subject"], frame["fold"])) == {"s0": "fold1", "s1": "fold2", "s2": "fold2", "s3": "fold1"}
    assert list(where(frame, metric="rare")["subject"]) == ["s1", "s1"] and set(frame["id"]) == {""}


def test_finished_folds_are_not_fitted_again_and_new_systems_are(tmp_path):
    first = run(tmp_path)
    assert len(FITTED) == 4
    again = run(tmp_path, {"plain": MeanOfTraining(), "low": MeanOfTraining(Config(-1.0))})
    assert len(FITTED) == 2
    assert again["plain"].scores == first["plain"].scores


def test_the_number_of_jobs_changes_nothing(tmp_path):
    assert run(tmp_path / "a", n_jobs=1)["high"].scores == run(tmp_path / "b", n_jobs=2)["high"].scores


def test_the_papers_protocol_shows_the_test_fold_to_fit_and_is_kept_apart(tmp_path):
    run(tmp_path, {"plain": MeanOfTraining()})
    optimistic = run(tmp_path, {"plain": MeanOfTraining()}, stop_on_test=True)["plain"]
    assert all(set(COHORT.ids) == set(seen) for seen in FITTED) and len(FITTED) == 2
    assert "s0" in optimistic.model_for("s0").seen


def test_predictions_are_made_again_from_the_kept_models(tmp_path):
    result = run(tmp_path)["high"]
    made = result.predictions(COHORT, ["s2", "s0"])
    assert list(made) == ["s2", "s0"]
    assert float(made["s2"].data.max()) == result.scores["value"]["s2"]
    with pytest.raises(NbkitError, match="Did you mean 's3'"):
        result.model_for("s33")
    assert result.predictions(COHORT, ["s2"], visit=1) == {}
    twice = replace(COHORT.subject("s2"), scans=COHORT.subject("s2").scans * 2)
    again = Cohort("twice", (*(s for s in COHORT if s.id != "s2"), twice), "embedded")
    assert torch.equal(result.predictions(again, visit=1)["s2"].data, made["s2"].data)


def test_leaks_and_cohorts_without_a_hash_are_refused_by_name(tmp_path):
    leaky = SimpleNamespace(name="fold1", train_ids=["s0", "s1"], test_ids=["s1"])
    with pytest.raises(NbkitError, match="fold1.*both in training and in test, found s1"):
        cross_validate({"a": MeanOfTraining()}, COHORT, folds=[leaky], score=score, cache=Cache(tmp_path))
    bare = Cohort("bare", COHORT.subjects, "embedded")
    with pytest.raises(NbkitError, match="bare.*data_hash"):
        cross_validate({"a": MeanOfTraining()}, bare, folds=FOLDS, score=score, cache=Cache(tmp_path), progress=False)


def test_a_fold_that_fails_leaves_nothing_and_others_stay(tmp_path):
    class Fails(MeanOfTraining):
        def fit(self, cohort, *, validation=None):
            if "s1" in cohort.ids:
                return super().fit(cohort)
            raise RuntimeError("out of patience")

    with pytest.raises(RuntimeError, match="patience"):
        run(tmp_path, {"a": Fails()})
    (entry,) = (tmp_path / "crossval").iterdir()
    assert (entry / "record.json").exists() and not list((tmp_path / "crossval").glob(".*"))
