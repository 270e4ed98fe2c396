"""Age bins part the years."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.papers.daninet.regional_rates import AgeBins

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


def test_bad_bins_are_refused():
    for low, high in ((80, 60), (60, 60), (60, float("nan"))):
        with pytest.raises(NbkitError, match="AgeBins: low, high: expected two ages"):
            AgeBins(low, high)
    with pytest.raises(NbkitError, match="AgeBins: count: expected at least 2, found 1"):
        AgeBins(60, 80, 1)
    with pytest.raises(NbkitError, match="AgeBins.mixture: age"):
        AgeBins(61.3, 88.9, 7).mixture(float("nan"))
