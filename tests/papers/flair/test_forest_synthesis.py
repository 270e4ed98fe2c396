"""The random forest: trees walked by us against scikit-learn's own prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.ensemble import RandomForestRegressor

from nbkit.core.checks import NbkitError
from nbkit.papers.flair.forest_synthesis import Config, ForestSynthesizer, flattened, rebuilt
from tests.papers.conftest import explained
from tests.papers.synthesizers import check_output, check_refusals, check_round_trip, predict

SMALL = Config(inputs=("T1w", "T2w"), trees=8, train_voxels=1_500)


@pytest.fixture(scope="module")
def fitted(toy_cohort):
    return ForestSynthesizer(SMALL).fit(toy_cohort.subset(toy_cohort.ids[:3]))


@pytest.mark.parametrize(("leaf", "samples"), [(1, 300), (5, 800), (400, 300)])
def test_trees_predict_as_scikit_learn(leaf, samples):
    """Deep trees, pruned trees, and trees of one leaf; rows on both sides of and exactly on thresholds."""
    g = np.random.default_rng(leaf)
    rows = g.normal(size=(samples, 6)).round(1).astype(np.float32)
    forest = RandomForestRegressor(7, min_samples_leaf=leaf, random_state=0).fit(rows, np.sin(rows).sum(1))
    new = g.normal(size=(500, 6)).round(2).astype(np.float32)
    walkers = rebuilt(flattened(forest), 6)
    ours = sum(tree.predict(new)[:, 0] for tree in walkers) / len(walkers)
    np.testing.assert_allclose(ours, forest.predict(new), rtol=1e-14)


def test_it_learns_the_relation(fitted, toy_cohort):
    assert 0.7 < explained(fitted, toy_cohort.subjects[3]) < 1


def test_predictions_stay_within_what_was_seen(fitted, toy_cohort):
    seen = torch.cat([s.baseline.image("FLAIR").data[s.baseline.mask("brain").data] for s in toy_cohort.subjects[:3]])
    subject = toy_cohort.subjects[3]
    values = predict(fitted, subject)[subject.baseline.mask("brain").data]
    assert seen.min() <= values.min() < values.max() <= seen.max()


def test_jobs_change_nothing_and_the_seed_does(fitted, toy_cohort):
    training, subject = toy_cohort.subset(toy_cohort.ids[:3]), toy_cohort.subjects[3]
    jobs = ForestSynthesizer(SMALL.changed(n_jobs=2)).fit(training)
    assert torch.equal(predict(jobs, subject), predict(fitted, subject))
    other = ForestSynthesizer(SMALL.changed(seed=8)).fit(training)
    assert not torch.equal(predict(other, subject), predict(fitted, subject))


def test_published_settings():
    config = Config()
    assert (config.trees, config.radius) == (60, 1)
    assert {Config.for_profile(p).trees for p in ("smoke", "laptop", "paper")} == {60}


def test_contract(fitted, toy_cohort, tmp_path):
    subject = toy_cohort.subjects[3]
    check_output(fitted, subject)
    check_round_trip(fitted, subject, tmp_path)
    check_refusals(fitted, subject, tmp_path, tensor="threshold")


@pytest.mark.parametrize(
    ("name", "value"),
    [("left", 0), ("left", 10**9), ("left", -5), ("right", 1), ("right", -1), ("feature", 54), ("feature", -1),
     ("counts", 1)],
)
def test_damaged_trees_are_refused_before_they_are_walked(fitted, tmp_path, name, value):
    fitted.save(tmp_path / "model")
    file = tmp_path / "model" / "weights.safetensors"
    tensors = load_file(file)
    branch = (tensors["left"] >= 0).nonzero()[5] if name != "counts" else 0
    tensors[name][branch] = value
    save_file(tensors, file)
    with pytest.raises(NbkitError, match=f"weights {name}: .*The file is damaged"):
        ForestSynthesizer.load(tmp_path / "model")
