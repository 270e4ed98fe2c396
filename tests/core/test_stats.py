"""Statistics against scipy, statsmodels and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from nbkit.core.checks import NbkitError
from nbkit.core.stats import bootstrap_mean, bootstrap_p, holm, paired_difference, paired_p

X = np.random.default_rng(1).normal(3.0, 2.0, 40)
Y = X + np.random.default_rng(2).normal(0.5, 1.0, 40)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_statsmodels(p):
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], atol=1e-12)


def test_bootstrap_interval_agrees_with_scipy():
    ours = bootstrap_mean(X, seed=3)
    rng = np.random.default_rng(9)
    theirs = stats.bootstrap((X,), np.mean, method="percentile", n_resamples=20_000, random_state=rng)
    assert ours.value == pytest.approx(X.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.05)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.05)
    assert ours.n == 40


def test_paired_difference_is_antisymmetric_and_shift_equivariant():
    a, b = paired_difference(X, Y), paired_difference(Y, X)
    assert (a.value, a.low, a.high) == pytest.approx((-b.value, -b.high, -b.low), abs=0.02)
    shifted = paired_difference(X + 5, Y)
    assert (shifted.low - a.low, shifted.high - a.high) == pytest.approx((5, 5))


def test_paired_p_is_the_paired_t_test():
    assert paired_p(X, Y) == pytest.approx(stats.ttest_rel(X, Y).pvalue)
    assert paired_p([1.0], [2.0]) == 1.0
    assert paired_p([1.0, 2.0], [1.0, 2.0]) == 1.0
    assert paired_p([1.0, 2.0], [2.0, 3.0]) == 0.0


def test_bootstrap_p_agrees_in_order_of_magnitude_with_t():
    d = X - X.mean() + 0.5
    assert bootstrap_p(d, np.zeros(40)) == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.03)
    assert bootstrap_p(X + 100, np.zeros(40)) == pytest.approx(1e-4)


def test_bad_values_are_refused():
    with pytest.raises(NbkitError, match="1 not finite"):
        bootstrap_mean([1.0, float("nan")])
    with pytest.raises(NbkitError, match="at least one"):
        bootstrap_mean([])
    with pytest.raises(NbkitError, match="one per subject"):
        paired_difference([1.0, 2.0], [1.0])
