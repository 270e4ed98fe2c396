"""The charts of the myelin chapters draw the rows they are given, in order, and name no patient."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.stats import bootstrap_mean
from nbkit.core.tidy import stacked, tidy
from nbkit.figures.charts import interval_text
from nbkit.figures.marks import MYELIN, SYNTHESIS, marks, title_of
from nbkit.metrics.stats import bland_altman
from nbkit.papers.myelin import figures, method_figures

RNG = np.random.default_rng(6)


def rows(values, **labels) -> pd.DataFrame:
    """A tidy frame of one value a subject."""
    return tidy({f"s{i:02}": v for i, v in enumerate(values)}, **labels)


def test_systems_have_names_and_looks_of_their_own_beside_the_shared_ones():
    beside = [SYNTHESIS[n] for n in ("unet", "linear", "mean", "truth")]
    both = [*MYELIN.values(), *beside]
    assert len({m.colour for m in both}) == len({m.marker for m in both}) == len({m.title for m in both}) == len(both)
    assert title_of("refiner_cfsagan") == "Refiner CF-SAGAN" and title_of("DVR") == "[¹¹C]PIB DVR"
    made = marks(["refiner", "mine"])
    assert made["refiner"] is MYELIN["refiner"] and made["mine"].colour != MYELIN["refiner"].colour


def test_iterations_are_means_with_bootstrap_intervals_over_subjects():
    mse = [RNG.normal(0.01 - 0.001 * i, 0.001, 12) for i in range(4)]
    frame = stacked(
        *(rows(v, metric="mse", structure="whole image", iteration=i) for i, v in enumerate(mse)),
        *(rows(RNG.normal(0.05, 0.01, 8), metric="discrepancy", structure=r, iteration=i)
          for r in ("nawm", "lesions") for i in range(4)),
        rows([9.0], metric="gain", structure="whole image", iteration=1),
    )
    figure = figures.iteration_curves(frame)
    left, _ = figure.axes
    line, *bars = left.lines
    assert line.get_xdata().tolist() == [0, 1, 2, 3]
    assert line.get_ydata() == pytest.approx([v.mean() for v in mse]), "gains are no errors"
    ends = {tuple(np.round([np.nanmin(y), np.nanmax(y)], 9)) for y in (b.get_ydata() for b in bars) if len(y)}
    assert {tuple(np.round((m.low, m.high), 9)) for m in map(bootstrap_mean, mse)} <= ends
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["whole image", "normal-appearing WM", "lesions"]
    with pytest.raises(NbkitError, match="iteration_curves: table: expected rows"):
        figures.iteration_curves(frame.iloc[:0])


def test_boxes_reach_from_the_least_to_the_most_with_median_and_mean():
    x = {"truth": RNG.normal(1.2, 0.1, 9), "refiner": RNG.normal(1.1, 0.1, 9)}
    frame = stacked(*(rows(v - 0.1 * k, system=name, structure=region)
                      for k, region in enumerate(("wm_hc", "nawm")) for name, v in x.items()))
    figure = figures.roi_boxes(frame)
    axes = figure.axes[0]
    flat = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    spans = {round(float(y[1]), 9) for y in flat if len(y) == 2 and y[0] != y[1]}
    assert {round(float(v), 9) for v in (x["truth"].min(), x["truth"].max())} <= spans
    levels = {round(float(y[0]), 9) for y in flat if len(y) == 2 and y[0] == y[1]}
    assert {round(float(v), 9) for v in (np.median(x["refiner"]), x["refiner"].mean())} <= levels
    assert sum(len(dots.get_offsets()) for dots in axes.collections) == 4 * 9
    assert [t.get_text() for t in axes.get_xticklabels()] == ["WM of controls\nn = 9", "normal-appearing WM\nn = 9"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["True PET", "Sketcher-Refiner", "median", "mean"]


def test_agreement_has_a_row_for_each_system_and_one_scale_for_each_region():
    true = RNG.normal(1.0, 0.1, 10)
    made = {name: true + bias + RNG.normal(0, 0.02, 10) for name, bias in (("dnn", -0.2), ("refiner", 0.0))}
    frame = stacked(*(rows(v - true, system=name, structure="wm_nawm", metric="bias").assign(true=true)
                      for name, v in made.items()))
    other = frame[frame["system"] == "refiner"].assign(structure="lesions")
    figure = figures.agreement_grid(stacked(frame, other, frame.assign(metric="abs", value=9.0)))
    grid = np.array(figure.axes).reshape(2, 2)
    for row, name in enumerate(("dnn", "refiner")):
        found = bland_altman(made[name], true)
        assert grid[row, 0].lines[1].get_ydata()[0] == pytest.approx(found.bias)
        band = grid[row, 0].patches[0].get_bbox()
        assert (band.y0, band.y1) == pytest.approx((found.lower, found.upper))
        assert np.asarray(grid[row, 0].collections[-1].get_offsets()) == pytest.approx(
            np.column_stack([(made[name] + true) / 2, made[name] - true]))
    assert grid[0, 0].get_ylim() == grid[1, 0].get_ylim() and not grid[0, 1].axison
    assert grid[0, 0].texts[0].get_text() == "2-layer DNN"
    assert figure.get_supylabel() == "predicted − true (DVR)"


def test_bars_are_sorted_by_the_first_series_and_name_no_patient():
    frame = stacked(
        rows([0.30, 0.10, 0.20, 0.45], system="truth", metric="change"),
        rows([0.35, 0.15, 0.25], system="refiner_cfsagan", metric="change"),
        tidy(0.05, system="nothing changed", metric="change"),
        rows([3.0, 1.0, 2.0], system="truth", metric="later"),
    )
    figure = figures.patient_bars(frame, {"change": "global change", "later": "% at t1"})
    axes, below = figure.axes
    heights = [[patch.get_height() for patch in bars] for bars in axes.containers]
    assert heights == [pytest.approx([0.10, 0.20, 0.30, 0.45]), pytest.approx([0.15, 0.25, 0.35])]
    assert [patch.get_height() for patch in below.containers[0]] == [1, 2, 3], "the same order in all panels"
    assert [t.get_text() for t in below.get_xticklabels()] == ["P1", "P2", "P3", "P4"]
    again = figures.patient_bars(frame, {"later": "% at t1"}, order=["s03", "s02"], systems=["truth"]).axes[0]
    assert [patch.get_height() for patch in again.containers[0]] == [2, 1, 3], "a patient keeps the number given"
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    assert set(texts) == {"nothing changed", "True PET", "Refiner CF-SAGAN"}
    with pytest.raises(NbkitError, match="patient_bars: sooner: expected values of at least one patient"):
        figures.patient_bars(frame, {"sooner": "% at t1"})


def test_methods_are_ranked_by_their_mean_error():
    frame = stacked(*(rows(v, system=s, metric=m) for s, m, v in (
        ("unet", "mse", [3.0, 5.0]), ("refiner", "mse", [1.0, 2.0]), ("unet", "dice", [0.5, 0.7]))))
    table = figures.ranking(frame, ["mse", "dice"])
    assert table.index.tolist() == ["Sketcher-Refiner", "3D U-Net"] and table["mse"].tolist() == [1.5, 4.0]
    assert table.loc["3D U-Net", "dice"] == pytest.approx(0.6)


def test_open_points_say_what_they_move():
    gaps = RNG.normal(0.2, 0.1, 9)
    moved = stacked(rows(gaps, system="no_noise", metric="mse"), rows(-gaps, system="no_noise",
                                                                      metric="discrepancy_lesions"))
    table = figures.choices_table(moved)
    assert table["left open"].tolist() == ["Noise z of the Sketcher, its shape not given"]
    assert table.iloc[0, 3:].tolist() == [interval_text(bootstrap_mean(v)) for v in (gaps, -gaps)]


def test_methods_are_drawn():
    for draw, words in (
        (method_figures.sketcher_refiner_drawing, "Refiner: 3D U-Net"), (method_figures.cf_sagan_drawing, "NWL1"),
        (method_figures.unet_drawing, "summed over patches"), (method_figures.attention_drawing, "max pooling by p"),
        (method_figures.sagan_drawing, "smoothed labels"),
    ):
        assert any(words in t.get_text().replace("\n", " ") for t in draw().axes[0].texts), words


def test_floor_and_reach_are_lines_at_their_mean_distance_from_the_system_compared_with():
    made = {name: RNG.normal(level, 0.01, 8) for name, level in
            (("refiner", 0.5), ("unet", 0.6), ("floor", 0.2), ("reach", 0.4), ("mean", 3.0), ("person", 0.3))}
    frame = stacked(*(rows(v, system=name, metric="mse") for name, v in made.items()))
    axes = figures.gain_plot(frame, "mse", "refiner").axes[0]
    lines = {t.get_text(): t.xy[0] for t in axes.texts if t.get_text() in ("floor", "reach")}
    assert lines == {k: pytest.approx((made[k] - made["refiner"]).mean()) for k in ("floor", "reach")}
    assert [t.get_text() for t in axes.get_yticklabels()] == ["3D U-Net"]
    curves = stacked(*(rows(v, metric="mse", structure=r, iteration=i) for i, v in enumerate(made.values())
                       for r in ("whole image", "lesions")))
    ends = stacked(frame, frame.assign(metric="discrepancy_lesions"))
    for axes in figures.iteration_curves(curves, ends).axes:
        at = next(t.xy[1] for t in axes.texts if t.get_text().startswith("floor"))
        assert at == pytest.approx(made["floor"].mean())


def test_learning_curves_have_a_line_for_each_loss_and_fold():
    seen = pd.DataFrame([(n, s, f, e, 1 / (e + k + 1)) for k, n in enumerate(("unet", "cgan"))
                         for s in ("l1", "nwl1") for f in ("fold1", "fold2") for e in (0, 1, 2)],
                        columns=["network", "setting", "fold", "epoch", "value"])
    figure = figures.convergence_grid(seen, {"unet": "3D U-Net", "cgan": "cGAN"})
    left, right = figure.axes
    assert [sum(len(line.get_xdata()) == 3 for line in axes.lines) for axes in (left, right)] == [4, 4]
    assert left.lines[0].get_ydata().tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert {t.get_text() for t in figure.legends[0].get_texts()} == {"L1", "NWL1"}
