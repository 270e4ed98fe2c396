"""Curves and intervals show the numbers they were given."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.stats import bootstrap_mean
from nbkit.figures.curves import cumulative_plot, dot_plot, forest_plot, interval_text, learning_curves, number


@pytest.mark.parametrize("value, text", [
    (918.07, "918"), (-0.03642, "−0.0364"), (0.0, "0.00"), (1234567.0, "1234567"), (1.2e-7, "1.20e−07"),
    (2085.53, "2086"), (1e9, "1.00e+09"), (float("nan"), "–"), (0.5, "0.500"),
])
def test_numbers_keep_three_significant_digits_every_whole_digit_and_a_true_minus(value, text):
    assert number(value) == text


def test_decimals_on_request():
    assert number(-2.046, decimals=1) == "−2.0" == number(-2.046, 2)


def test_intervals_are_rounded_to_their_width():
    mean = bootstrap_mean([-0.00697, -0.0148, 0.00065])
    assert interval_text(mean) == f"{mean.value:+.3f} [{mean.low:+.3f}, {mean.high:+.3f}]".replace("-", "−")
    assert interval_text(bootstrap_mean([100.0, 300.0, 290.0])).split(" ")[0] == "+230"


def test_the_mean_curve_ends_with_the_shortest_fold_and_the_folds_go_on():
    folds = [[3.0, 2.0, 1.0], [5.0, 4.0, 3.0, 2.0, 1.0]]
    axes = learning_curves({"3 layers": folds}, "MSE (z²)", step=5).axes[0]
    mean = next(line for line in axes.lines if line.get_label() == "3 layers")
    assert mean.get_xdata().tolist() == [0, 5, 10] and mean.get_ydata().tolist() == [4, 3, 2]
    band = axes.collections[0].get_paths()[0].vertices
    assert np.isclose(band[:, 1].max(), 5.0) and np.isclose(band[:, 1].min(), 1.0)
    assert max(line.get_xdata()[-1] for line in axes.lines) == 20
    assert axes.get_ylabel() == "MSE (z²)"


def test_a_setting_without_values_is_refused():
    with pytest.raises(NbkitError, match="learning_curves: 2 layers: expected at least one fold"):
        learning_curves({"2 layers": []}, "MSE")


def test_forest_plot_draws_the_bootstrap_interval_and_the_published_difference():
    values = {"rf": [-0.1, -0.2, -0.15, -0.05], "unet": [0.01, -0.02, 0.0, 0.03]}
    axes = forest_plot(values, "difference (z²)", published={"rf": -0.3}, better=("FCN", "other")).axes[0]
    mean = bootstrap_mean(values["rf"])
    spans = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] == 0]
    assert any(np.allclose(s, [mean.low, mean.high]) for s in spans)
    assert any(np.allclose(line.get_xdata(), -0.3) for line in axes.lines if len(line.get_xdata()))
    assert [t.get_text() for t in axes.get_yticklabels()] == ["Random forest", "3D U-Net"]
    assert "← favours FCN" in axes.get_xlabel()
    assert axes.yaxis_inverted(), "the first comparison stands on top"


def test_dot_plot_leaves_out_subjects_without_a_value():
    axes = dot_plot({"fcn": [0.3, float("nan"), 0.5], "rf": [0.6]}, "MSE (z²)", published={"fcn": 0.45}).axes[0]
    assert len(axes.lines[0].get_xdata()) == 2
    assert np.allclose(axes.lines[1].get_ydata(), 0.4)
    assert np.allclose(axes.lines[2].get_ydata(), 0.45)


def test_cumulative_plot_reaches_one_and_marks_quantiles():
    axes = cumulative_plot([3.0, 1.0, 2.0, 4.0], "mL", quantiles={0.5: 2.5}, log=True).axes[0]
    steps = axes.lines[0].get_xydata()
    assert steps[-1].tolist() == [4.0, 1.0] and [2.0, 0.5] in steps.tolist()
    assert [2.5, 0.5] in axes.lines[2].get_xydata().tolist()
    assert axes.get_xscale() == "log"
