"""Charts show the numbers they were given, with the ledger's intervals and one mark a system."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from nbkit.core.stats import bootstrap_mean
from nbkit.core.tidy import stacked, tidy
from nbkit.figures.charts import (
    bounds, cumulative_plot, dot_plot, forest_plot, interval, interval_text, number, panels,
)
from nbkit.figures.marks import MARKS
from nbkit.figures.style import new_figure


@pytest.mark.parametrize("value, text", [
    (918.07, "918"), (-0.03642, "−0.0364"), (0.0, "0.00"), (1234567.0, "1234567"), (1.2e-7, "1.20e−07"),
    (2085.53, "2086"), (1e9, "1.00e+09"), (float("nan"), "–"), (0.5, "0.500"),
])
def test_numbers_keep_three_significant_digits_every_whole_digit_and_a_true_minus(value, text):
    assert number(value) == text


def test_decimals_on_request():
    assert number(-2.046, decimals=1) == "−2.0" == number(-2.046, 2)


def test_intervals_are_rounded_to_their_width():
    mean = bootstrap_mean([-0.00697, -0.0148, 0.00065] * 2)
    assert interval_text(mean) == f"{mean.value:+.3f} [{mean.low:+.3f}, {mean.high:+.3f}]".replace("-", "−")
    assert interval_text(bootstrap_mean([100.0, 300.0, 290.0] * 2)).split(" ")[0] == "+230"


def test_fewer_than_six_people_have_no_interval_in_words_either():
    assert interval_text(bootstrap_mean([-1.0, -3.0])) == "−2.0 (n = 2)"
    assert "[" not in interval_text(bootstrap_mean([1.0, 2.0, 3.0, 4.0, 5.0]))


def test_an_interval_is_that_of_the_ledger_and_fewer_than_six_people_have_none():
    values = [0.1, 0.4, 0.2, 0.9, 0.3, 0.35]
    mean = bootstrap_mean(values, seed=3)
    assert interval([*values, np.nan], seed=3) == (mean.low, mean.high)
    assert np.isnan(interval(values[:5])).all()


def differences(n: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return stacked(*(tidy(dict(zip("abcdefgh"[:n], rng.normal(m, 0.1, n), strict=True)), system=s)
                     for s, m in (("rf", -0.2), ("unet", 0.0))))


def test_forest_plot_draws_the_bootstrap_interval_and_the_published_difference():
    frame = differences()
    axes = forest_plot(frame, "difference (z²)", published={"rf": -0.3}, better=("FCN", "other"), seed=2).axes[0]
    mean = bootstrap_mean(frame.loc[frame["system"] == "rf", "value"], seed=2)
    spans = [np.sort(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert any(np.allclose(s, [mean.low, mean.high]) for s in spans)
    assert any(np.allclose(line.get_xdata(), -0.3) for line in axes.lines if len(line.get_xdata()) == 1)
    assert [t.get_text() for t in axes.get_yticklabels()] == ["Random forest", "3D U-Net"]
    assert "← favours FCN" in axes.get_xlabel()
    assert axes.yaxis_inverted(), "the first comparison stands on top"


def test_dots_have_the_systems_colour_and_titles_are_as_good_as_names():
    for name in ("rf", MARKS["rf"].title):
        frame = differences(3).replace({"system": {"rf": name}})
        axes = dot_plot(frame, "MSE (z²)", published={name: 0.45}).axes[0]
        assert to_hex(axes.collections[0].get_facecolor()[0]).upper() == MARKS["rf"].colour
        assert len(axes.collections[0].get_offsets()) == 3
        assert any(np.allclose(line.get_ydata(), 0.45) for line in axes.lines if len(line.get_ydata()) == 1)


def test_dot_plot_leaves_out_subjects_without_a_value():
    frame = stacked(tidy({"a": 0.3, "b": float("nan"), "c": 0.5}, system="fcn"), tidy({"a": 0.6}, system="rf"))
    assert [len(c.get_offsets()) for c in dot_plot(frame, "MSE").axes[0].collections[:2]] == [2, 1]


def test_pictures_are_the_same_every_time_and_the_users_draws_go_on():
    np.random.seed(5)
    first = [c.get_offsets().tolist() for c in dot_plot(differences(), "x").axes[0].collections]
    drawn = np.random.rand()
    assert first == [c.get_offsets().tolist() for c in dot_plot(differences(), "x").axes[0].collections]
    np.random.seed(5)
    assert np.random.rand() == drawn


def test_cumulative_plot_reaches_one_and_marks_quantiles():
    axes = cumulative_plot([3.0, 1.0, 2.0, 4.0], "mL", quantiles={0.5: 2.5}, log=True).axes[0]
    steps = axes.lines[0].get_xydata()
    assert steps[-1].tolist() == [4.0, 1.0] and [2.0, 0.5] in steps.tolist()
    assert [2.5, 0.5] in axes.lines[1].get_xydata().tolist()
    assert axes.get_xscale() == "log"


def test_panels_share_one_legend():
    figure = panels(["a", "b"], lambda axes, name: axes.plot([0, 1], label="one person"), titles={"a": "Left"})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Left", "b"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["one person"]


@pytest.mark.parametrize("along", ["x", "y"])
def test_bounds_are_lines_at_their_values_with_their_names(along):
    axes = new_figure(80, 60).add_subplot()
    bounds(axes, {"floor": 0.1, "reach": 0.5, "reach_tenfold": float("nan")}, along=along)
    get = {"x": "get_xdata", "y": "get_ydata"}[along]
    assert [getattr(line, get)()[0] for line in axes.lines] == [0.1, 0.5]
    assert [text.get_text() for text in axes.texts] == ["floor", "reach"]


def test_bounds_of_panels_are_named_once_in_their_legend():
    picture = panels("ab", lambda axes, name: bounds(axes, {"floor": 0.1, "reach_tenfold": 0.5}, keyed=True))
    assert [text.get_text() for text in picture.legends[0].get_texts()] == ["floor", "reach (10×)"]
    assert not any(axes.texts for axes in picture.axes)


@pytest.mark.parametrize("along", ["x", "y"])
def test_names_of_bounds_that_would_overlap_share_a_place(along):
    axes = new_figure(80, 60).add_subplot()
    bounds(axes, {"slope": 0.505, "floor": 0.0, "reach": 0.5, "far": 0.7}, along=along)
    assert len(axes.lines) == 4 and [t.get_text() for t in axes.texts] == ["floor", "reach, slope", "far"]


def test_a_row_off_the_scale_is_said_and_leaves_the_axis_to_the_others():
    far = {"no_pt": -0.5, "mp": 0.9}
    frame = stacked(differences().assign(value=lambda t: t["value"] / 100),
                    tidy(dict.fromkeys("abcdef", 0.001), system="mlp"),
                    *(tidy(dict.fromkeys("abcdef", v), system=s) for s, v in far.items()))
    axes = forest_plot(frame, "difference", published={"mp": 0.8}).axes[0]
    low, high = axes.get_xlim()
    assert -0.02 < low < -0.002 and high < 0.02
    said = {t.get_text(): t.get_position()[1] for t in axes.texts}
    assert said == {"← off the scale": 3, "off the scale; published 0.80 →": 4}
    assert not forest_plot(frame[frame["system"].isin(("mlp", "rf", *far))], "x").axes[0].texts, "half are not a few"
    assert not forest_plot(differences(), "difference").axes[0].texts
