"""Pictures of latent lines show the numbers they are given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.figures.charts import interval
from nbkit.papers.mrextrap.figures import (
    BENT, STRAIGHT, between_curves, between_person, between_sheet, change_scatter, coverage, error_by_scans,
    forecast_curves, latent_sheet, method_drawing,
)
from tests.figures.conftest import pixels

LEVELS = {"axial": 3.0, "coronal": 0.0}


def test_latents_stand_beside_the_scan(scan):
    image, brain = (Volume(torch.cat([v.data, v.data.flip(-1)], -1), v.affine)  # SSIM needs 11 slices
                    for v in (scan.image("T1w"), scan.mask("brain")))
    scan = replace(scan, images={"T1w": image}, masks={"brain": brain})
    affine = image.affine @ np.diag([4, 4, 4, 1])
    affine[:3, 3] = image.affine[:3, 3] + image.affine[:3, :3] @ np.full(3, 1.5)
    latents = Volume(torch.randn(2, 8, 9, 5, generator=torch.Generator().manual_seed(0)), affine)
    figure = latent_sheet(scan, latents, image, levels_mm=LEVELS)
    drawn = [a for a in figure.axes if a.images]
    assert [" ".join(a.get_title().split()) for a in drawn[:4]] == [
        "scan", "reconstruction, SSIM 1.00", "latent 1", "latent 2"]
    assert len(drawn) == 8 and drawn[2].images[0].get_array().shape < drawn[0].images[0].get_array().shape
    assert pixels(figure).std() > 0.1


def test_two_ways_and_their_change_since_the_first_scan(scan):
    image = scan.image("T1w")
    other = image.with_data(image.data + 5)
    given = {"brain": scan.mask("brain"), "plane": "coronal"}
    figure = between_sheet({"latent": {0.0: image, 1.0: image}, "image": {0.0: image, 1.0: other}}, **given)
    still, moved = (a.images[1].get_array() for a in figure.axes if len(a.images) == 2)
    assert np.nanmax(np.abs(still)) == 0 and np.allclose(moved.compressed(), 5)
    labels = [t.get_text().replace("\n", " ") for t in figure.texts]
    assert labels == ["through latents", "− α = 0", "plain averages", "− α = 0"]
    with pytest.raises(NbkitError, match="two ways with images for the same alphas"):
        between_sheet({"latent": {0.0: image}, "image": {1.0: image}}, **given)


def test_one_persons_volumes_run_beside_the_line_between_the_scans():
    rows = [("latent", "hippocampus", a, v, 7e3 - 1e3 * a) for a, v in ((0.0, 7e3), (0.5, 6.2e3), (1.0, 6e3))]
    table = pd.DataFrame(rows, columns=["way", "structure", "alpha", "mm3", "chord_mm3"])
    axes = between_person(table).axes[0]
    drawn = [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines if len(line.get_ydata()) == 3]
    assert any(np.allclose(line, [7, 6.5, 6]) for line in drawn), "the two scans"
    assert any(np.allclose(line, [7, 6.2, 6]) for line in drawn), "the way"
    assert "through latents" in [text.get_text() for text in axes.figure.legends[0].texts]


def test_bent_lines_are_counted_and_coloured():
    alphas, rows = (0.0, 0.5, 1.0), []
    for subject, middle in (("a", 105.0), ("b", 120.0)):
        rows += [(subject, "latent", "hippocampus", a, v) for a, v in zip(alphas, (100.0, middle, 110.0), strict=True)]
    table = pd.DataFrame(rows, columns=["subject", "way", "structure", "alpha", "mm3"])
    straight = pd.DataFrame({"subject": ["a", "b"], "way": "latent", "structure": "hippocampus", "r2": [1.0, np.nan]})
    axes = between_curves(table, straight, limit=0.95).axes[0]
    first, second = (line for line in axes.lines if len(line.get_ydata()))
    assert np.allclose(first.get_ydata(), [0, 5, 10]) and first.get_color() == STRAIGHT
    assert np.allclose(second.get_ydata(), [0, 20, 10]) and second.get_color() == BENT
    assert axes.get_title(loc="left") == "Hippocampus\n1 of 2 bent"
    assert axes.get_ylabel() == "through latents\nchange (%)"


def test_what_was_seen_is_filled_and_the_rest_is_open():
    ages, volumes = [70.0, 72.0, 74.0], [7e3, 6.8e3, 6.6e3]
    truth = pd.DataFrame({"structure": "hippocampus", "age": ages, "model": "truth", "mm3": volumes})
    line = truth.assign(model="mrextrap_ols", low=truth["mm3"] - 100, high=truth["mm3"] + 100)
    figure = forecast_curves(pd.concat([truth, line]), seen=(70.0, 72.0), columns=1)
    named = {entry.get_label(): entry for entry in figure.axes[0].lines}
    assert np.allclose(named["truth, seen"].get_xdata(), ages[:2])
    assert np.allclose(named["truth, to come"].get_xdata(), ages[2:])
    assert named["truth, to come"].get_markerfacecolor() == "white"
    assert any(np.array_equal(entry.get_ydata(), [7.0, 6.8, 6.6]) for entry in figure.axes[0].lines)
    assert "MRExtrap, least squares" in [text.get_text() for text in figure.legends[0].texts]
    assert len(figure.axes[0].collections) == 1, "the interval"


def test_changes_stand_against_the_truth():
    table = pd.DataFrame({
        "structure": "hippocampus", "model": ["mrextrap_ols", "no_change"], "change_pct": [-3.0, 0.0],
        "true_change_pct": [-2.0, -2.0],
    })
    figure = change_scatter(table, models=["mrextrap_ols", "no_change"])
    points = [axes.collections[0].get_offsets().tolist() for axes in figure.axes]
    assert points == [[[-2.0, -3.0]], [[-2.0, 0.0]]]
    many = pd.concat([table.assign(change_pct=2 * x, true_change_pct=x) for x in (1.0, 2.0, 3.0)])
    fitted = change_scatter(many, models=["mrextrap_ols"]).axes[0].lines[-1]
    assert np.allclose(np.polyfit(*fitted.get_data(), 1), [2, 0], atol=1e-6)


def points_of(axes) -> np.ndarray:
    """Where seaborn has drawn means, in order."""
    return np.concatenate([line.get_ydata() for line in axes.lines if line.get_marker() not in ("", "None", None)])


def test_coverage_keeps_its_intervals():
    inside = [1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0]
    covered = pd.DataFrame({"structure": "white_matter", "level": 0.5, "value": inside})
    covered = pd.concat([covered, covered.assign(level=0.95, value=1.0)])
    axes = coverage(covered, margin=0.05).axes[0]
    assert np.isclose(points_of(axes)[:, None], [4 / 7, 1.0]).any(0).all()
    low, high = interval(inside)
    drawn = np.concatenate([line.get_ydata() for line in axes.lines])
    assert low < 4 / 7 < high and np.isclose(drawn[:, None], [low, high]).any(0).all()
    assert "within 5 points" in [t.get_text() for t in axes.figure.legends[0].texts]


def test_errors_stand_over_the_scans_seen_with_the_people_counted():
    table = pd.DataFrame({
        "structure": "hippocampus", "model": "mrextrap_ols", "scans": [2, 2, 3], "subject": ["a", "b", "a"],
        "miss": [1.0, 3.0, 5.0],
    })
    both = pd.concat([table, table.assign(structure="grey_matter")])
    figure = error_by_scans(both, limits={"hippocampus": {"floor": 0.5}})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Hippocampus", "Grey matter"]
    axes, other = figure.axes
    assert "floor" in [t.get_text() for t in figure.legends[0].texts]
    assert [line.get_ydata()[0] for line in axes.lines if line.get_label() == "floor"] == [0.5]
    assert "floor" not in [line.get_label() for line in other.lines]
    assert {2.0, 5.0} <= set(points_of(axes))
    assert [t.get_text() for t in axes.get_xticklabels()] == ["2\nn = 2", "3\nn = 1"]


def test_the_method_is_drawn():
    assert pixels(method_drawing()).std() > 0.05
