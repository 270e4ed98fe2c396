"""Rankings say what paired differences say, and no more."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.stats import bootstrap_mean, bootstrap_p, holm, paired_difference
from nbkit.papers.trajectories.ranking_figures import TIED, ranking_plot, standings, standings_table

RNG = np.random.default_rng(3)
PEOPLE = [f"p{k}" for k in range(12)]
HARD = RNG.uniform(5, 30, 12)
ERRORS = {"no_change": HARD, "brlp": HARD + RNG.normal(0, 1, 12), "inbrainsyn": 0.6 * HARD, "no_pt": 2 * HARD}
"""People differ more than systems do: only pairs tell these apart."""


def scores(errors=ERRORS) -> pd.DataFrame:
    """Two rows a person, around the mean."""
    rows = [(p, m, x + shift) for m, values in errors.items() for p, x in zip(PEOPLE, values) for shift in (-1.0, 1.0)]
    return pd.DataFrame(rows, columns=["subject", "model", "miss"])


def test_best_first_with_paired_gains_over_the_control():
    table = standings(scores(), "miss", better="less", control="no_change", seed=4)
    assert set(table["model"][:1]) == {"inbrainsyn"} and table["model"].iloc[-1] == "no_pt"
    assert table["mean"].is_monotonic_increasing and (table["people"] == 12).all()
    rows = table.set_index("model")
    mean, gain = bootstrap_mean(0.6 * HARD, seed=4), paired_difference(HARD, 0.6 * HARD, seed=4)
    assert tuple(rows.loc["inbrainsyn", ["mean", "low", "high"]]) == pytest.approx((mean.value, mean.low, mean.high))
    found = tuple(rows.loc["inbrainsyn", ["gain", "gain low", "gain high"]])
    assert found == pytest.approx((gain.value, gain.low, gain.high))
    ps = holm([bootstrap_p(ERRORS[m], HARD, seed=4) for m in ("inbrainsyn", "brlp", "no_pt")])
    assert rows.loc[["inbrainsyn", "brlp", "no_pt"], "p"].tolist() == pytest.approx(list(ps))
    words = {"inbrainsyn": "better", "brlp": "not told apart", "no_pt": "worse", "no_change": "–"}
    assert rows["against control"].to_dict() == words
    assert rows["tied"].to_dict() == {"inbrainsyn": True, "brlp": False, "no_pt": False, "no_change": False}


def test_more_is_better_turns_the_order_and_the_gains():
    less = standings(scores(), "miss", better="less", control="no_change")
    more = standings(scores({m: -v for m, v in ERRORS.items()}), "miss", better="greater", control="no_change")
    for column in ("model", "against control", "tied"):
        assert less[column].tolist() == more[column].tolist()
    assert less["gain"].tolist() == pytest.approx(more["gain"].tolist())
    assert less["mean"].tolist() == pytest.approx((-more["mean"]).tolist())


def test_few_people_tell_nothing_apart():
    few = scores()
    few = few[few["subject"].isin(PEOPLE[:5])]
    table = standings(few, "miss", better="less", control="no_change")
    assert table["tied"].all() and set(table["against control"]) == {"not told apart", "–"}


def test_only_people_whom_all_models_have_count():
    table = scores()
    table.loc[(table["model"] == "brlp") & (table["subject"] == "p0"), "miss"] = np.nan
    assert (standings(table, "miss", better="less", control="no_change")["people"] == 11).all()
    others = scores()
    apart = others[(others["model"] == "brlp") == (others["subject"] == "p0")]
    with pytest.raises(NbkitError, match="fewest values: brlp"):
        standings(apart, "miss", better="less", control="no_change")


def test_bad_questions_are_refused():
    with pytest.raises(NbkitError, match="no mis. Did you mean 'miss'"):
        standings(scores(), "mis", better="less", control="no_change")
    with pytest.raises(NbkitError, match="control.*Did you mean 'no_change'"):
        standings(scores(), "miss", better="less", control="nochange")
    with pytest.raises(NbkitError, match="better"):
        standings(scores(), "miss", better="fewer", control="no_change")
    with pytest.raises(NbkitError, match="ranking_plot: tables"):
        ranking_plot({}, better={})


def test_the_figure_shows_order_intervals_controls_ties_and_print():
    table = standings(scores(), "miss", better="less", control="no_change")
    figure = ranking_plot(
        {"error (%)": table}, better={"error (%)": "less"}, controls=["no_change"],
        published={"error (%)": {"brlp": 0.248}}, floors={"error (%)": 2.5},
    )
    axes = figure.axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[0] == "InBrainSyn" and names[-1] == "No-PT" and "no change (control)" in names
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the best stands on top"
    drawn = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1]]
    spans = np.array([line.get_xdata() for line in drawn])
    assert np.allclose(spans, table[["low", "high"]])
    bands = [p for p in axes.patches if p.get_facecolor()[:3] == pytest.approx([int(TIED[1:3], 16) / 255] * 3)]
    assert len(bands) == 1
    faces = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() not in ("None", "")]
    assert [face == "white" for face in faces] == [name.endswith("(control)") for name in names]
    printed = [label.get_text() for child in axes.child_axes for label in child.get_yticklabels()]
    assert printed[names.index("BrLP")] == "published\n0.248" and sum(map(bool, printed)) == 1
    assert any(list(line.get_xdata()) == [2.5, 2.5] for line in axes.lines)
    assert "← better" in axes.get_xlabel() and "12 people" in axes.get_xlabel()


def test_standings_in_words():
    tables = {m: standings(scores(), "miss", better="less", control="no_change") for m in ("a", "b")}
    words = standings_table(tables)
    assert list(words.columns) == ["a", "a: gain", "b", "b: gain"]
    assert words.index[0] == "InBrainSyn"
    assert words.loc["No-PT", "a: gain"].startswith("−") and words.loc["No-PT", "a: gain"].endswith("worse")
    assert words.loc["no change", "b: gain"] == "–" and not words.loc["no change", "b"].startswith("+")
