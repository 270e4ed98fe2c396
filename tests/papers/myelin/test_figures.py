"""The plots of the myelin chapters draw the numbers they are given, in order, and name no patient."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.stats import bootstrap_mean
from nbkit.papers.myelin.figures import agreement_grid, iteration_curves, patient_bars, roi_boxes
from nbkit.figures.marks import MYELIN, SYNTHESIS, marks, title_of
from nbkit.metrics.stats import bland_altman

RNG = np.random.default_rng(6)
PATIENTS = {f"ms{i:02}": v for i, v in enumerate((0.30, 0.10, 0.20, 0.45))}


def test_systems_have_names_and_looks_of_their_own_beside_the_shared_ones():
    beside = [SYNTHESIS[n] for n in ("unet", "linear", "mean", "truth")]
    both = [*MYELIN.values(), *beside]
    assert len({m.colour for m in both}) == len({m.marker for m in both}) == len({m.title for m in both}) == len(both)
    assert title_of("refiner_cfsagan") == "Refiner CF-SAGAN" and title_of("DVR") == "[¹¹C]PIB DVR"
    made = marks(["refiner", "mine"])
    assert made["refiner"] is MYELIN["refiner"] and made["mine"].colour != MYELIN["refiner"].colour


def test_iterations_are_means_with_bootstrap_intervals_over_subjects():
    mse = {i: RNG.normal(0.01 - 0.001 * i, 0.001, 12) for i in range(4)}
    regions = {r: {i: RNG.normal(0.05, 0.01, 8) for i in range(4)} for r in ("nawm", "lesions")}
    left, right = iteration_curves({"MSE (DVR²)": {"whole image": mse}, "discrepancy (DVR)": regions}).axes
    line, _, bars = left.containers[0]
    assert line.get_xdata().tolist() == [0, 1, 2, 3]
    assert line.get_ydata() == pytest.approx([v.mean() for v in mse.values()])
    ends = np.array([segment[:, 1] for segment in bars[0].get_segments()])
    assert ends == pytest.approx(np.array([(m.low, m.high) for m in map(bootstrap_mean, mse.values())]))
    assert [t.get_text() for t in right.get_legend().get_texts()] == ["normal-appearing WM", "lesions"]
    with pytest.raises(NbkitError, match="iteration_curves: lesions: expected values of at least one iteration"):
        iteration_curves({"discrepancy (DVR)": {"lesions": {}}})


def test_boxes_reach_from_the_least_to_the_most_with_median_and_mean():
    x = {"truth": RNG.normal(1.2, 0.1, 9), "refiner": RNG.normal(1.1, 0.1, 9)}
    axes = roi_boxes({"wm_hc": x, "nawm": {k: v - 0.1 for k, v in x.items()}}).axes[0]
    flat = [line.get_ydata() for line in axes.lines]
    spans = {round(float(y[1]), 9) for y in flat if len(y) == 2 and y[0] != y[1]}
    assert {round(float(v), 9) for v in (x["truth"].min(), x["truth"].max())} <= spans
    levels = {round(float(y[0]), 9) for y in flat if len(y) == 2 and y[0] == y[1]}
    assert {round(float(v), 9) for v in (np.median(x["refiner"]), x["refiner"].mean())} <= levels
    assert [t.get_text() for t in axes.get_xticklabels()] == ["WM of controls\nn = 9", "normal-appearing WM\nn = 9"]
    with pytest.raises(NbkitError, match="roi_boxes: nawm: expected the systems truth, refiner, found truth"):
        roi_boxes({"wm_hc": x, "nawm": {"truth": x["truth"]}})


def test_agreement_has_a_row_for_each_system_and_one_scale_for_each_region():
    true = RNG.normal(1.0, 0.1, 10)
    pairs = {"WM / NAWM": {k: (true + b + RNG.normal(0, 0.02, 10), true) for k, b in (("dnn", -0.2), ("refiner", 0.0))}}
    pairs["lesions"] = {"refiner": pairs["WM / NAWM"]["refiner"]}
    figure = agreement_grid(pairs)
    grid = np.array(figure.axes).reshape(2, 2)
    for row, name in enumerate(("dnn", "refiner")):
        found = bland_altman(*pairs["WM / NAWM"][name])
        assert grid[row, 0].lines[1].get_ydata()[0] == pytest.approx(found.bias)
        band = grid[row, 0].patches[0].get_bbox()
        assert (band.y0, band.y1) == pytest.approx((found.lower, found.upper))
    assert grid[0, 0].get_ylim() == grid[1, 0].get_ylim() and not grid[0, 1].axison
    assert grid[0, 0].texts[0].get_text() == "2-layer DNN"
    assert figure.get_supylabel() == "predicted − true (DVR)"
    with pytest.raises(NbkitError, match="expected at least one region, found none"):
        agreement_grid({})


def test_bars_are_sorted_by_the_first_series_and_name_no_patient():
    other = {"ms01": 0.15, "ms02": 0.25, "ms00": 0.35}
    series = {"truth": PATIENTS, "refiner_cfsagan": other}
    figure = patient_bars({"global change": series}, levels={"global change": ("nothing changed", 0.05)})
    axes = figure.axes[0]
    heights = [[patch.get_height() for patch in bars] for bars in axes.containers]
    assert heights[0] == [0.10, 0.20, 0.30, 0.45]
    assert heights[1][:3] == [0.15, 0.25, 0.35] and np.isnan(heights[1][3])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["P1", "P2", "P3", "P4"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["nothing changed", "True PET", "Refiner CF-SAGAN"]
    with pytest.raises(NbkitError, match="patient_bars: % at t1: expected values of at least one patient"):
        patient_bars({"% at t1": {"truth": {}}})
