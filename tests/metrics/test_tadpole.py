"""TADPOLE's three numbers in closed form, and against their formulas written out."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.core.checks import NbkitError
from nbkit.metrics.tadpole import coverage_probability_accuracy, mean_absolute_error, weighted_error_score


def test_by_hand():
    value, truth = [10.0, 20.0, 30.0, 40.0], [11.0, 17.0, 30.0, 44.0]
    lower, upper = [9.0, 18.0, 26.0, 39.5], [11.0, 22.0, 34.0, 40.5]
    assert mean_absolute_error(value, truth) == 2.0
    # weights 1/2, 1/4, 1/8, 1
    assert weighted_error_score(value, lower, upper, truth) == pytest.approx((0.5 + 0.75 + 0 + 4) / 1.875)
    assert coverage_probability_accuracy(lower, upper, truth) == 0.0, "the first, at its end, and the third"
    assert coverage_probability_accuracy(lower, upper, truth, level=0.8) == pytest.approx(0.3)


def test_intervals_of_one_width_weigh_nothing():
    rng = np.random.default_rng(3)
    value, truth = rng.normal(size=(2, 40))
    assert weighted_error_score(value, value - 2, value + 3, truth) == pytest.approx(mean_absolute_error(value, truth))


def test_to_be_sure_and_wrong_costs_most():
    value, truth = np.array([1.0, 1.0]), np.array([1.0, 5.0])
    wide, narrow = np.array([4.0, 4.0]), np.array([4.0, 0.1])
    calm, bold = (weighted_error_score(value, value - w, value + w, truth) for w in (wide, narrow))
    assert bold > calm == 2.0


@pytest.mark.parametrize("bad", [
    {"upper": [1.0, 2.0]}, {"truth": [1.0]}, {"value": [np.nan, 1.0]},
    {"value": [], "lower": [], "upper": [], "truth": []},
])
def test_what_is_no_forecast_is_refused(bad):
    good = {"value": [1.0, 2.0], "lower": [1.0, 1.0], "upper": [2.0, 3.0], "truth": [1.0, 2.0]}
    with pytest.raises(NbkitError):
        weighted_error_score(**(good | bad))
