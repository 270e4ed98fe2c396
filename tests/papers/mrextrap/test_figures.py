"""Pictures of latent lines show the numbers they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.stats import Interval
from nbkit.core.volume import Volume
from nbkit.papers.mrextrap.figures import (
    BENT, STRAIGHT, between_curves, between_sheet, change_scatter, coverage_plot, forecast_curves, latent_sheet,
)
from tests.figures.conftest import pixels

LEVELS = {"axial": 3.0, "coronal": 0.0}


def test_latents_stand_beside_the_scan(scan):
    image, brain = scan.image("T1w"), scan.mask("brain")
    affine = image.affine @ np.diag([4, 4, 4, 1])
    affine[:3, 3] = image.affine[:3, 3] + image.affine[:3, :3] @ np.full(3, 1.5)
    latents = Volume(torch.randn(2, 8, 9, 3, generator=torch.Generator().manual_seed(0)), affine)
    figure = latent_sheet(image, latents, brain=brain, levels_mm=LEVELS, others=[image], titles=("scan", "back"))
    drawn = [a for a in figure.axes if a.images]
    assert [a.get_title() for a in drawn[:4]] == ["scan", "back", "latent 1", "latent 2"]
    assert len(drawn) == 8 and drawn[2].images[0].get_array().shape < drawn[0].images[0].get_array().shape
    assert pixels(figure).std() > 0.1


def test_two_ways_and_their_difference(scan):
    image = scan.image("T1w")
    other = image.with_data(image.data + 5)
    given = {"brain": scan.mask("brain"), "plane": "coronal"}
    figure = between_sheet({"latents": [image] * 2, "averages": [image, other]}, (0.0, 1.0), **given)
    gaps = [a.images[0].get_array() for a in figure.axes if a.images][4:6]
    assert np.nanmax(np.abs(gaps[0])) == 0 and np.allclose(gaps[1].compressed(), -5)
    with pytest.raises(NbkitError, match="two ways with 2 images each"):
        between_sheet({"latents": [image]}, (0.0, 1.0), **given)


def test_bent_lines_are_counted_and_coloured():
    alphas, rows = (0.0, 0.5, 1.0), []
    for subject, middle in (("a", 105.0), ("b", 120.0)):
        rows += [(subject, "latent", "hippocampus", a, v) for a, v in zip(alphas, (100.0, middle, 110.0), strict=True)]
    table = pd.DataFrame(rows, columns=["subject", "way", "structure", "alpha", "mm3"])
    straight = pd.DataFrame({"subject": ["a", "b"], "way": "latent", "structure": "hippocampus", "r2": [1.0, np.nan]})
    figure = between_curves(table, straight, structures=["hippocampus"], titles={"latent": "latents"}, limit=0.95)
    axes = figure.axes[0]
    first, second = axes.lines[:2]
    assert np.allclose(first.get_ydata(), [0, 5, 10]) and first.get_color() == STRAIGHT
    assert np.allclose(second.get_ydata(), [0, 20, 10]) and second.get_color() == BENT
    assert axes.get_title(loc="left") == "Hippocampus\n1 of 2 bent" and axes.get_ylabel() == "latents\nchange (%)"


def test_what_was_seen_is_filled_and_the_rest_is_open():
    ages, volumes = [70.0, 72.0, 74.0], [7e3, 6.8e3, 6.6e3]
    truth = pd.DataFrame({"structure": "hippocampus", "age": ages, "model": "truth", "mm3": volumes})
    line = truth.assign(model="mrextrap_ols", low=truth["mm3"] - 100, high=truth["mm3"] + 100)
    figure = forecast_curves(pd.concat([truth, line]), structures=["hippocampus"], seen=(70.0, 72.0), columns=1)
    named = {entry.get_label(): entry for entry in figure.axes[0].lines}
    assert np.allclose(named["truth, seen"].get_xdata(), ages[:2])
    assert np.allclose(named["truth, to come"].get_xdata(), ages[2:])
    assert named["truth, to come"].get_markerfacecolor() == "white"
    assert np.allclose(named["MRExtrap, least squares"].get_ydata(), [7.0, 6.8, 6.6])
    assert len(figure.axes[0].collections) == 1, "the interval"


def test_changes_stand_against_the_truth():
    table = pd.DataFrame({
        "structure": "hippocampus", "model": ["mrextrap_ols", "no_change"], "change_pct": [-3.0, 0.0],
        "true_change_pct": [-2.0, -2.0],
    })
    figure = change_scatter(table, structures=["hippocampus"], models=["mrextrap_ols", "no_change"])
    points = [axes.lines[1].get_xydata().tolist() for axes in figure.axes]
    assert points == [[[-2.0, -3.0]], [[-2.0, 0.0]]]


def test_coverage_keeps_its_intervals():
    given = {"hippocampus": {0.5: Interval(0.4, 0.3, 0.6, 9), 0.95: Interval(0.9, 0.8, 1.0, 9)}}
    axes = coverage_plot(given, margin=0.05).axes[0]
    bars = axes.containers[0]
    assert np.allclose(bars.lines[0].get_ydata(), [0.4, 0.9])
    assert np.allclose([ends[:, 1] for ends in bars.lines[2][0].get_segments()], [[0.3, 0.6], [0.8, 1.0]])
    assert "within 5 points" in axes.get_legend_handles_labels()[1]
