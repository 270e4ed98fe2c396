"""What is offered is taken in place of a training; nobody is scored by a system that learned from them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.training import offered
from nbkit.training.crossval import cross_validate
from nbkit.training.fitted import fitted, is_fitted
from nbkit.training.kept import kept_tables
from tests.training import test_crossval, test_fitted
from tests.training.test_fitted import Config, Mean, _cohort


@pytest.fixture
def offering():
    """Offers one system for good, and forgets it after the test."""
    def offer(read, *, asked=lambda model, people, key: True):
        twin = offered.Offer("toy", "0" * 64, read)
        offered.offering(lambda model, people, key: twin if asked(model, people, key) else None)

    yield offer
    offered.offering(None)


def ready(value):
    model = Mean(Config())
    model.value = value
    return model


def test_what_is_offered_is_not_trained(offering, tmp_path):
    cohort, Mean.fits = _cohort(), 0
    offering(lambda load: ready(42.0), asked=lambda model, people, key: (people.ids, key) == (cohort.ids, "AD"))
    assert fitted(Mean(Config()), cohort, key="AD", cache=Cache(tmp_path)).value == 42.0 and Mean.fits == 0
    assert is_fitted(Mean(Config()), cohort, key="AD", cache=Cache(tmp_path))
    assert not is_fitted(Mean(Config()), cohort, cache=Cache(tmp_path))
    assert fitted(Mean(Config()), cohort, cache=Cache(tmp_path)).value == 6.0 and Mean.fits == 1


def test_an_offer_that_turns_out_wrong_is_trained_after_all(offering, tmp_path):
    offering(lambda load: None)
    assert fitted(Mean(Config()), _cohort(), cache=Cache(tmp_path)).value == 6.0


def test_folds_take_what_is_offered_for_their_training_people_alone(offering, tmp_path):
    cohort = test_fitted.Cohort("c", tuple(map(test_crossval.subject, range(1, 5))), "embedded", {"data_hash": "d"})
    folds = [SimpleNamespace(name=f"f{k}", train_ids=cohort.ids[k::2], test_ids=cohort.ids[1 - k::2]) for k in (0, 1)]
    system = test_crossval.MeanOfTraining()

    def read(load):
        twin = test_crossval.MeanOfTraining()
        twin.mean = 42.0
        return twin

    def scores():
        found = cross_validate({"m": system}, cohort, folds=folds, score=test_crossval.score, cache=Cache(tmp_path),
                               progress=False)
        return found["m"].scores["value"]

    trained = scores()
    assert trained == {"s1": 3.0, "s2": 2.0, "s3": 3.0, "s4": 2.0}
    offering(read, asked=lambda model, people, key: people.ids == folds[0].train_ids)
    assert scores() == trained | {"s2": 42.0, "s4": 42.0}
    offered.offering(None)
    assert scores() == trained


def test_nobody_is_scored_by_what_learned_from_them(tmp_path):
    cohort = _cohort()
    model = fitted(Mean(Config()), cohort.subset(["s1", "s2"]), cache=Cache(tmp_path))

    def score(people):
        return kept_tables("t", lambda: {"x": pd.DataFrame({"x": [1]})}, models={"m": model}, cohort=people, key=1,
                           cache=Cache(tmp_path))

    assert len(score(cohort.subset(["s3"]))["x"]) == 1
    with pytest.raises(NbkitError, match=r"Mean: people scored: expected people whom it has never seen, found 1 of 2"):
        score(cohort.subset(["s2", "s3"]))
    namesake = replace(cohort.subset(["s2"]), name="others")
    assert len(score(namesake)["x"]) == 1
