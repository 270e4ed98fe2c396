"""Intervals hold what they promise, the score is proper, and people count alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nbkit.core.checks import NbkitError
from nbkit.metrics.calibration import (
    LEVELS, calibration, central_interval, conformal_factor, coverage, cross_conformal, interval_score,
)


def drawn(people: int, count: int, *, widen: float = 1.0, seed: int = 0) -> dict[str, np.ndarray]:
    """Forecasts, one a person, whose draws come from the law of the truth, or from one `widen` times as wide."""
    rng = np.random.default_rng(seed)
    centre, scale = rng.normal(0, 50, people), rng.uniform(1, 5, people)
    draws = centre[:, None] + widen * scale[:, None] * rng.standard_normal((people, count))
    return {
        "subject": np.arange(people), "true": centre + scale * rng.standard_normal(people),
        "mean": draws.mean(1), "sd": draws.std(1, ddof=1), "count": np.full(people, count),
    }


def lone() -> pd.DataFrame:
    """Two people's forecasts of one structure."""
    return pd.DataFrame(drawn(2, 9)).assign(structure="left").astype({"subject": str})


@pytest.mark.parametrize("count", [3, 16])
@pytest.mark.parametrize("level", LEVELS)
def test_coverage_is_nominal_however_few_the_draws(count, level):
    found = np.mean([*coverage(drawn(2000, count), level=level).values()])
    assert found == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 2000))


def test_intervals_that_are_too_narrow_or_too_wide_are_seen_and_mended():
    narrow, wide = (calibration(drawn(1000, 20, widen=w), levels=[0.8])[0] for w in (0.5, 2.0))
    assert narrow["high"] < 0.65 and wide["low"] > 0.95 and wide["width"] > 3 * narrow["width"]
    for widen in (0.5, 2.0):
        factor = conformal_factor(drawn(1000, 20, widen=widen, seed=1), level=0.8)
        assert factor == pytest.approx(1 / widen, rel=0.1)


def test_each_part_is_mended_by_the_other_parts_structure_by_structure():
    """Two structures of other spreads: what a part's own forecasts say counts only for the others."""
    own, other = (pd.DataFrame(drawn(40, 20, widen=w, seed=k)).assign(structure=n) for k, (n, w) in enumerate(
        {"left": 0.5, "right": 2.0}.items()))
    table = pd.concat([own, other], ignore_index=True).astype({"subject": str})
    parts = [[str(k) for k in range(start, 40, 3)] for start in range(3)]
    factor = cross_conformal(table, parts, level=0.8)
    for part in parts:
        for name in ("left", "right"):
            inside, here = table["subject"].isin(part), table["structure"] == name
            np.testing.assert_allclose(factor[inside & here], conformal_factor(table[here & ~inside], level=0.8))
    assert factor[table["structure"] == "left"].min() > 1.5 > 0.7 > factor[table["structure"] == "right"].max()


@pytest.mark.parametrize("level", LEVELS)
def test_conformal_intervals_keep_their_level_whatever_the_law(level):
    """Errors of a Laplace law that draws of half their spread know nothing of; one factor misses the middle."""
    def told(seed):
        truth = np.random.default_rng(seed).laplace(0, 1, 3000)
        return drawn(3000, 20, widen=0.5, seed=seed) | {"true": truth, "mean": np.zeros(3000)}

    rehearsed, fresh = told(1), told(2)
    mended = fresh | {"sd": conformal_factor(rehearsed, level=level) * fresh["sd"]}
    found = np.mean([*coverage(mended, level=level).values()])
    assert found == pytest.approx(level, abs=4 * np.sqrt(2 * level * (1 - level) / 3000))


def test_the_conformal_factor_by_hand():
    """Four scores 1, 2, 3, 4: the 5 · 0.5th is half-way between two, and the largest counts where four are too few."""
    half = stats.t.ppf(0.75, 8) * np.sqrt(1 + 1 / 9)
    true = half * np.array([3.0, -1, 4, -2])
    four = {"subject": [*"abcd"], "true": true, "mean": [0.0] * 4, "sd": [1.0] * 4, "count": [9] * 4}
    assert conformal_factor(four, level=0.5) == pytest.approx(2.5)
    ratio = stats.t.ppf(0.975, 8) / stats.t.ppf(0.75, 8)
    assert conformal_factor(four, level=0.95) == pytest.approx(4 / ratio)


@pytest.mark.parametrize("people", [13, 39])
@pytest.mark.parametrize("level", [0.5, 0.8])
def test_conformal_intervals_keep_their_level_on_average_however_few_are_learned_from(people, level):
    """Scores uniform up to 1, so that a factor f holds a share f of new truths; the ⌈(n + 1) · level⌉-th holds more."""
    rng, half = np.random.default_rng(0), stats.t.ppf((1 + level) / 2, 8) * np.sqrt(1 + 1 / 9)
    told = {"subject": np.arange(people), "mean": np.zeros(people), "sd": np.ones(people), "count": np.full(people, 9)}
    held = [conformal_factor(told | {"true": half * rng.random(people)}, level=level) for _ in range(3000)]
    assert np.mean(held) == pytest.approx(level, abs=4 * np.std(held) / np.sqrt(3000))


def test_the_score_is_least_for_the_right_width():
    scores = {w: calibration(drawn(2000, 200, widen=w), levels=[0.8])[0]["score"] for w in (0.5, 1.0, 2.0)}
    assert scores[1.0] < min(scores[0.5], scores[2.0])


def test_many_draws_give_normal_centiles():
    low, high = central_interval(10.0, 2.0, count=10**7, level=0.8)
    assert (low, high) == pytest.approx(tuple(stats.norm(10, 2).ppf([0.1, 0.9])), rel=1e-5)


@given(
    st.floats(-100, 100), st.floats(0.01, 10), st.integers(2, 40), st.floats(0.05, 0.9), st.floats(-50, 50),
    st.floats(0.1, 20),
)
def test_intervals_are_nested_and_move_with_the_unit(mean, sd, count, level, shift, factor):
    low, high = central_interval(mean, sd, count=count, level=level)
    outer = central_interval(mean, sd, count=count, level=level + 0.05)
    moved = central_interval(factor * mean + shift, factor * sd, count=count, level=level)
    assert outer[0] < low <= mean <= high < outer[1]
    assert moved == pytest.approx((factor * low + shift, factor * high + shift), rel=1e-6, abs=1e-6)


def test_the_score_by_hand():
    assert interval_score(1.0, 3.0, 2.0, level=0.8) == 2.0
    assert interval_score(1.0, 3.0, 3.5, level=0.8) == pytest.approx(2 + 10 * 0.5)
    assert interval_score([1.0, 1.0], [3.0, 3.0], [0.0, 3.0], level=0.5).tolist() == [6.0, 2.0]


def test_people_count_alike():
    table = {"subject": ["a", "a", "a", "b"], "true": [0.0, 0.0, 0.0, 99.0], "mean": [0.0] * 4, "sd": [1.0] * 4,
             "count": [16] * 4}
    assert coverage(table, level=0.5) == {"a": 1.0, "b": 0.0}
    rows = calibration(table)
    assert [r["level"] for r in rows] == list(LEVELS)
    for row in rows:
        assert (row["coverage"], row["low"], row["high"], row["people"], row["forecasts"]) == (0.5, 0.0, 1.0, 2, 4)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: central_interval(0.0, 1.0, count=1, level=0.5), "two draws or more, found 1"),
        (lambda: coverage(drawn(2, 9), level=95), "between 0 and 1, found 95"),
        (lambda: coverage({"truth": [1.0], "subject": ["a"]}, level=0.5), "no true. Did you mean 'truth'"),
        (lambda: cross_conformal(lone(), [["0", "1"]], level=0.8), "nobody to learn from for 0, 1"),
        (lambda: cross_conformal(lone(), [["0"]], level=0.8), "nobody to learn from for 1"),
        (lambda: conformal_factor(drawn(3, 9) | {"sd": np.zeros(3)}, level=0.8), "a spread of zero"),
    ],
)
def test_bad_input(act, message):
    with pytest.raises(NbkitError, match=message):
        act()
