"""Age bins part the years, and pixels that brighten are counted."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.papers.daninet.regional_rates import AgeBins, monotone_violations

# age bins

RANGES = st.tuples(st.floats(40, 70), st.floats(1, 50), st.integers(2, 20))


@given(RANGES)
def test_a_centre_has_all_the_weight_of_its_bin(drawn):
    low, width, count = drawn
    bins = AgeBins(low, low + width, count)
    for i, centre in enumerate(bins.centres):
        assert bins.mixture(centre) == (i, 1.0)
        assert bins.index(centre) == i


@given(RANGES, st.floats(0, 1))
def test_the_weighted_centres_are_the_age(drawn, share):
    low, width, count = drawn
    bins = AgeBins(low, low + width, count)
    first, last = bins.centres[[0, -1]]
    age = first + share * (last - first)
    lower, alpha = bins.mixture(age)
    upper = min(lower + 1, count - 1)
    assert 0 < alpha <= 1
    assert alpha * bins.centres[lower] + (1 - alpha) * bins.centres[upper] == pytest.approx(age, abs=1e-9)


def test_ages_beyond_the_bins_belong_to_the_last():
    bins = AgeBins(63, 87)  # as published: ten bins of 2.4 years
    assert bins.centres.tolist() == pytest.approx([64.2 + 2.4 * i for i in range(10)])
    assert [bins.index(a) for a in (20, 63, 65.39, 65.41, 86.9, 87, 120)] == [0, 0, 0, 1, 9, 9, 9]
    assert bins.mixture(50) == bins.mixture(64.2) == (0, 1.0)
    assert bins.mixture(85.9) == bins.mixture(99) == (9, 1.0)
    assert bins.mixture(65.4) == (0, pytest.approx(0.5))


def test_bins_go_through_json_and_bad_ones_are_refused():
    bins = AgeBins(61.3, 88.9, 7)
    assert AgeBins.from_constants(json.loads(json.dumps(bins.constants()))) == bins
    with pytest.raises(NbkitError, match="here: age bins.*'count'"):
        AgeBins.from_constants({"low": 60, "high": 80}, where="here")
    for low, high in ((80, 60), (60, 60), (60, float("nan"))):
        with pytest.raises(NbkitError, match="AgeBins: low, high: expected two ages"):
            AgeBins(low, high)
    with pytest.raises(NbkitError, match="AgeBins: count: expected at least 2, found 1"):
        AgeBins(60, 80, 1)
    with pytest.raises(NbkitError, match="AgeBins.mixture: age"):
        bins.mixture(float("nan"))


# what true pairs do

BRAIN = np.zeros((20, 20), dtype=bool)
BRAIN[2:18, 2:18] = True


def changed(*shares: tuple[float, float], seed: int = 0) -> np.ndarray:
    """A slice, and slices in which shares of the brain's pixels got brighter and darker by 0.2, the others by 0.01."""
    rng = np.random.default_rng(seed)
    images = [0.5 * BRAIN]
    for brighter, darker in shares:
        order = rng.permutation(256) / 256
        step = np.where(order < brighter, 0.2, np.where(order >= 1 - darker, -0.2, 0.01))
        later = np.full(BRAIN.shape, 0.9)  # outside the brain all get brighter, and none of it counts
        later[BRAIN] = 0.5 + step
        images.append(later)
    return np.stack(images)


def test_pixels_that_brighten_and_darken_are_counted():
    once = ([70.0], changed(), 0)
    twice = ([70.0, 72.0], changed((0.25, 0.125)), 1)
    backwards = ([72.0, 70.0], changed((0.25, 0.125)), 1)
    found = monotone_violations([once, twice, backwards], brain=BRAIN)
    assert found["people"].tolist() == [1, 2]
    assert found["brighter"].tolist() == [0.25, 0.125] and found["darker"].tolist() == [0.125, 0.25]
    strict = monotone_violations([twice], brain=BRAIN, tolerance=0.0)
    assert strict["brighter"].tolist() == [0.875]


def test_the_share_is_a_mean_over_all_pairs():
    images = changed((0.5, 0.0))[[0, 1, 1]]
    found = monotone_violations([([70.0, 71.0, 72.0], images, 0)], brain=BRAIN)
    assert found["brighter"].tolist() == pytest.approx([(0.5 + 0.5 + 0) / 3])


def test_nobody_followed_is_an_empty_answer_and_an_empty_brain_is_refused():
    found = monotone_violations([([70.0], changed(), 0)], brain=BRAIN)
    assert all(len(values) == 0 for values in found.values()) and set(found) == {"people", "brighter", "darker"}
    with pytest.raises(NbkitError, match="monotone_violations: brain: expected at least one pixel"):
        monotone_violations([([70.0], changed(), 0)], brain=BRAIN & False)
