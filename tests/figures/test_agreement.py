"""Bland-Altman and rank agreement against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nbkit.core.checks import NbkitError
from nbkit.figures.agreement import bland_altman, rank_agreement


def test_bland_altman_draws_bias_and_limits():
    rng = np.random.default_rng(3)
    b = rng.lognormal(2, 1, 20)
    a = b + rng.normal(0.5, 1, 20)
    axes = bland_altman(a, b, unit="mL").axes[0]
    drawn = sorted(line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 2)
    sd = np.std(a - b, ddof=1)
    assert np.allclose(drawn, sorted([0, np.mean(a - b) - 1.96 * sd, np.mean(a - b), np.mean(a - b) + 1.96 * sd]))
    half = stats.t.ppf(0.975, 19) * sd / np.sqrt(20)
    band = axes.patches[0].get_bbox()
    assert np.allclose([band.y0, band.y1], [np.mean(a - b) - half, np.mean(a - b) + half])
    assert axes.get_xlabel() == "mean of measured and reference (mL)"


@pytest.mark.parametrize("a, b, found", [
    ([1, 2, 3], [1, 2], "shapes"), ([1, 2], [1, 2], "shapes"), ([1, 2, np.nan], [1, 2, 3], "1 not finite"),
])
def test_bland_altman_refuses_what_is_not_paired(a, b, found):
    with pytest.raises(NbkitError, match=found):
        bland_altman(a, b, unit="mL")


def test_rank_agreement_reports_spearman_over_the_systems_in_both():
    published = {"rf": 983.0, "mp": 2085.0, "mlp": 1273.0, "unet": 919.0, "fcn": 918.0, "ghost": 1.0}
    ours = {"rf": 0.4, "mp": 0.7, "mlp": 0.5, "unet": 0.32, "fcn": 0.33, "mean": 1.0}
    axes = rank_agreement(published, ours, measure="MSE", units=("raw", "z²")).axes[0]
    assert axes.get_title(loc="left") == "Spearman's ρ = 0.90 over 5 systems"
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    assert "equal" not in labels and len(labels) == 5
    same = rank_agreement(published, ours, measure="MSE", units=("z²", "z²")).axes[0]
    assert "equal" in [t.get_text() for t in same.get_legend().get_texts()]
