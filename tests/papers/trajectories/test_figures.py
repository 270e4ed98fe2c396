"""The head-to-head drawn: order, intervals, ties and print of a ranking; errors ahead; coverage; one visit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.stats import bootstrap_mean
from nbkit.core.volume import Volume
from nbkit.figures.charts import interval
from nbkit.papers.trajectories.figures import (
    TIED, coverage, error_by_horizon, gains_table, history_plot, horizon_grid, horizon_intervals, lineup,
    method_drawing, ranked, ranking_plot, standings_table,
)
from nbkit.papers.trajectories.ranking import standings
from tests.papers.trajectories.test_head_to_head import scores as head_scores
from tests.papers.trajectories.test_ranking import HARD, PEOPLE, scores

LEVELS = {"axial": 3.0, "coronal": 0.0}


def test_every_column_has_its_picture_and_its_miss(scan):
    image = scan.image("T1w")
    later = image.with_data(image.data * 1.1)
    target = type(scan)("sub-01", "ses-2", 40.0, {"T1w": later}, scan.masks)
    made = {"inbrainsyn": image, "brlp": later.with_data(later.data + 7.0), "no_change": image}
    axes = lineup(scan, target, made, levels_mm=LEVELS).axes
    pictures = [a for a in axes if a.images and not a.get_ylabel()]
    columns = 2 + len(made)
    assert len(pictures) == 2 * (columns + columns - 1), "the truth misses nothing, so nothing is drawn there"
    titles = [" ".join(a.get_title().split()) for a in pictures[:columns]]
    assert titles == ["seen, 35.0 y", "true, 40.0 y", "InBrainSyn", "BrLP", "no change"]
    assert not any(a.get_title() for a in pictures[columns:])
    greys = {p.images[0].get_clim() for p in pictures[:columns]}
    misses = pictures[columns : 2 * columns - 1]
    assert len(greys) == 1 and len({p.images[-1].get_clim() for p in misses}) == 1
    low, high = misses[0].images[-1].get_clim()
    assert low == -high
    same, off = (np.asarray(misses[k].images[-1].get_array()) for k in (0, 2))
    assert np.nanmedian(off) == pytest.approx(7, abs=0.01)
    assert np.allclose(same, np.asarray(misses[1].images[-1].get_array()), equal_nan=True), "InBrainSyn gave the scan"


def test_bad_pictures_are_refused(scan):
    with pytest.raises(NbkitError, match="lineup: predictions"):
        lineup(scan, scan, {})
    image = scan.image("T1w")
    with pytest.raises(NbkitError, match="lineup: brlp and target"):
        lineup(scan, scan, {"brlp": Volume(image.data[:, 1:], image.affine)})


def test_errors_ahead_stand_on_one_grid_by_setting_and_structure():
    found = head_scores()
    figure = horizon_grid({"one": found, "several": found})
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"{m}, from {s}" for s in ("one scan", "several scans") for m in ("Ventricle", "Hippocampus")]
    assert figure.axes[0].get_ylim() == figure.axes[2].get_ylim() and figure.axes[0].get_ylim()[0] == 0
    bare = found._replace(regions=found.regions[:0])
    assert len(horizon_grid({"one": found, "several": bare}).axes) == 2
    with pytest.raises(NbkitError, match="horizon_grid: scores"):
        horizon_grid({"one": bare})


def test_no_mean_stands_where_one_person_is():
    found = head_scores()
    last = found.regions["subject"].iloc[0]
    late = found.regions[found.regions["subject"] == last].assign(years=9.0)
    axes = horizon_grid({"one": found._replace(regions=pd.concat([found.regions, late], ignore_index=True))}).axes[0]
    assert max(float(t.get_text().split("\n")[0]) for t in axes.get_xticklabels()) < 9


def points(axes) -> list:
    """The markers that pointplot drew, in order."""
    return [line for line in axes.lines if line.get_marker() not in ("None", "", None) and len(line.get_xdata())]


def test_floor_and_reach_are_lines_and_rows_beneath_the_systems():
    ends = scores({"hindsight": np.full(12, 9.0), "floor": np.full(12, 0.5), "reach": np.full(12, 2.0)})
    frame = pd.concat([scores(), ends[ends["system"].isin(("hindsight", "floor", "reach"))]])
    table = standings(frame, control="no_change")
    assert not {"hindsight", "floor", "reach"} & set(table["system"])
    figure = ranking_plot(frame, table, "one")
    axes, key = figure.axes[0], [text.get_text() for text in figure.legends[0].get_texts()]
    lines = {line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2
             and line.get_xdata()[0] == line.get_xdata()[1]}
    assert {0.5, 2.0} <= lines and 9.0 not in lines, "hindsight only where there is no floor"
    assert [name.split(":")[0] for name in key[-2:]] == ["floor", "reach"]
    words = standings_table(table, "one", scores=frame)
    assert len(words) == len(standings_table(table, "one")) + 2
    picture, same = ranked(frame, "one")
    assert same.equals(words) and len(picture.axes) >= 1
    last = words.index.get_level_values(1)[-2:]
    assert [name.split(":")[0] for name in last] == ["floor", "reach"]
    assert words["mean [95 %]"].iloc[-1].startswith("2") and words["gain over the control"].iloc[-1] == "–"


def test_the_ranking_shows_order_intervals_controls_ties_and_print():
    hindsight = scores({"hindsight": np.full(12, 2.5)})
    frame = pd.concat([scores(), hindsight])
    table = standings(frame, control="no_change")
    printed = {"head_to_head.internal_one.ssim.brlp": SimpleNamespace(value=0.248)}
    axes = ranking_plot(frame, table, "one", published=printed).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[0] == "InBrainSyn" and names[-1] == "No-PT" and "no change (control)" in names
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the best stands on top"
    spans = [line.get_xdata() for line in axes.lines
             if len(line.get_xdata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1]]
    assert np.allclose(spans, table[["low", "high"]])
    bands = [p for p in axes.patches if p.get_facecolor()[:3] == pytest.approx([int(TIED[1:3], 16) / 255] * 3)]
    assert len(bands) == 1
    faces = [line.get_markerfacecolor() for line in points(axes)]
    assert [face == "white" for face in faces] == [name.endswith("(control)") for name in names]
    assert np.allclose([line.get_xdata()[0] for line in points(axes)], table["mean"])
    assert any(list(line.get_xdata()) == [2.5, 2.5] for line in axes.lines)
    assert "← better" in axes.get_xlabel() and "n = 12" in axes.get_xlabel() and not axes.child_axes


def test_published_ssim_stands_beside_its_system():
    frame = scores({s: v / 30 for s, v in {"no_change": HARD, "brlp": 0.5 * HARD}.items()}, metric="ssim")
    printed = {"head_to_head.internal_one.ssim.brlp": 0.248, "head_to_head.copy.ssim.no_change": 0.9}
    printed = {id: SimpleNamespace(value=value) for id, value in printed.items()}
    table = standings(frame, control="no_change")
    axes = ranking_plot(frame, table, "one", published=printed).axes[0]
    beside = [label.get_text() for child in axes.child_axes for label in child.get_yticklabels()]
    assert beside == ["published\n0.900", "published\n0.248"] and "better →" in axes.get_xlabel()
    assert not ranking_plot(frame, table, "one").axes[0].child_axes


def test_no_interval_for_fewer_than_six_people():
    frame = scores()
    frame = frame[frame["subject"].isin(PEOPLE[:5])]
    axes = ranking_plot(frame, standings(frame, control="no_change"), "one").axes[0]
    assert not [line for line in axes.lines if np.ptp(np.asarray(line.get_xdata(), float)) > 0]


def test_standings_in_words():
    frame = pd.concat([scores(), scores(metric="hippocampus")])
    words = standings_table(standings(frame, control="no_change"), "one")
    gain = "gain over the control"
    assert list(words.columns) == ["mean [95 %]", gain] and len(words) == 8
    assert words.index[0] == ("lateral ventricle, error (%)", "InBrainSyn")
    worst = words.loc[("lateral ventricle, error (%)", "No-PT")]
    still = words.loc[("hippocampus, error (%)", "no change")]
    assert worst[gain].startswith("−") and worst[gain].endswith("worse")
    assert still[gain] == "–" and not still["mean [95 %]"].startswith("+")


def test_horizons_count_each_subject_once_and_leave_out_what_lies_beyond():
    rows = [("a", "m", 0.9, 1.0), ("a", "m", 1.1, 3.0), ("b", "m", 1.0, 4.0), ("b", "m", 3.0, 5.0),
            ("a", "m", 9.0, 99.0), ("b", "m", 2.9, np.nan)]
    table = pd.DataFrame(rows, columns=["subject", "model", "years", "error"])
    found = horizon_intervals(table, "error", edges=(0, 2, 4), seed=5)
    assert found[["system", "subject", "value"]].values.tolist() == [["m", "a", 2.0], ["m", "b", 4.0], ["m", "b", 5.0]]
    assert np.allclose(found["years"], [1.0, 1.0, 3.0]) and found.attrs["seed"] == 5
    with pytest.raises(NbkitError, match="no errors. Did you mean 'error'"):
        horizon_intervals(table, "errors", edges=(0, 2))


def test_errors_ahead_are_means_with_intervals_and_counts_beneath():
    people = np.repeat([f"p{k}" for k in range(8)], 2)
    table = pd.DataFrame({"subject": people, "years": [1.0, 4.0] * 8, "model": "no_change", "error": np.arange(16.0)})
    table = pd.concat([table, table[table["subject"] < "p3"].assign(model="brlp", error=2.0)])
    axes = error_by_horizon(horizon_intervals(table, "error", edges=(0, 2, 5), seed=3), "error (%)").axes[0]
    marks = points(axes)
    assert np.allclose(marks[0].get_ydata(), [7, 8]) and np.allclose(marks[1].get_ydata(), [2, 2])
    assert np.allclose(marks[0].get_xdata(), [1, 4], atol=0.2)
    assert marks[0].get_xdata()[0] != marks[1].get_xdata()[0], "beside each other, not on top"
    expected = interval(np.arange(0.0, 16, 2), seed=3)
    spans = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 2 and np.ptp(line.get_xdata()) == 0]
    assert any(np.allclose(span, expected) for span in spans)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1.0\nn = 8", "4.0\nn = 8"]
    assert axes.get_xlabel() == "years ahead"
    with pytest.raises(NbkitError, match="error_along: table: expected rows"):
        error_by_horizon(pd.DataFrame(columns=["system", "years", "subject", "value"]), "error (%)")


def test_coverage_stands_against_the_nominal_level():
    rows = [(f"s{k}", name, "one", level, float(k < 6)) for k in range(8) for name in ("mrextrap_bayes", "brlp")
            for level in (0.5, 0.8)]
    frame = pd.DataFrame(rows, columns=["subject", "system", "setting", "level", "value"])
    nominal = pd.DataFrame({"subject": ["s0"], "system": ["nominal"], "level": [0.5], "value": [0.5]})
    figure = coverage(pd.concat([frame, nominal]))
    drawn = points(figure.axes[0])
    assert np.allclose([line.get_ydata() for line in drawn], 0.75) and len(drawn) == 2
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == ["within 5 points", "MRExtrap, posterior, one scan", "BrLP, one scan"]


def test_what_a_history_buys_is_drawn_by_person():
    both = [scores({"brlp": HARD}), scores({"brlp": HARD - 2}, setting="several")]
    history = pd.concat(both).groupby(["setting", "metric", "system", "subject"], as_index=False)["value"].mean()
    axes = history_plot(history).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ventricle, BrLP"]
    assert np.allclose(points(axes)[0].get_xdata(), -2)


def test_differences_in_words():
    gaps = pd.DataFrame({"setting": "one", "system": "brlp", "metric": "ventricle", "value": HARD - HARD.mean() + 3})
    mean = bootstrap_mean(gaps["value"])
    (text,) = gains_table(gaps)["ventricle"]
    assert text.startswith("+3") and f"{mean.high:+.1f}" in text


def test_the_method_is_drawn():
    texts = {text.get_text().replace("\n", " ") for text in method_drawing().axes[0].texts}
    assert {"one segmenter", "growth, read alike"} <= texts
