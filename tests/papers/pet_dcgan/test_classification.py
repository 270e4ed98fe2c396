"""Placements: their mean is scikit-learn's area under the curve, over all subjects and over either class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from nbkit.core.checks import NbkitError
from nbkit.papers.pet_dcgan.classification import auc, placements

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40)


@given(PAIRS.filter(lambda pairs: len({p for _, p in pairs}) == 2))
def test_the_mean_is_the_area_under_the_curve(pairs):
    scores, positive = np.array(pairs).T
    placed, area = placements(scores, positive), roc_auc_score(positive.astype(bool), scores)
    assert auc(scores, positive) == pytest.approx(area) == pytest.approx(placed[positive.astype(bool)].mean())
    assert placed[~positive.astype(bool)].mean() == pytest.approx(area)


def test_a_subject_alone_on_the_wrong_side_has_nothing():
    assert placements([0.9, 0.2, 0.1, 0.8], [True, True, False, False]).tolist() == [1.0, 0.5, 1.0, 0.5]
    assert placements([0.1, 0.5], [True, False]).tolist() == [0.0, 0.0]


def test_one_class_alone_has_no_area():
    assert np.isnan(placements([0.1, 0.2], [True, True])).all() and np.isnan(auc([0.1], [False]))


def test_scores_that_do_not_fit_are_refused():
    with pytest.raises(NbkitError, match="one finite score per subject"):
        placements([0.1, 0.2], [True])
    with pytest.raises(NbkitError, match="placements: scores"):
        placements([0.1, np.nan], [True, False])
