"""Augmentation curves: a subject counts once, and what is drawn is what the table says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.stats import bootstrap_mean
from nbkit.papers.pet_dcgan.augmentation_figures import ARMS, arm_intervals, augmentation_curves


def table() -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for view in ("axial", "all views"):
        for arm in ("real", "real + synthetic", "chance"):
            for share, count in ((0.5, 10), (1.0, 20)):
                rows += [
                    {"subject": f"s{i}", "view": view, "arm": arm, "share": share, "real_subjects": count, "repeat": r,
                     "correct": int(rng.random() < 0.7)} for i in range(12) for r in range(2)
                ]
    return pd.DataFrame(rows)


def test_intervals_are_over_subjects_not_over_repeats():
    found = arm_intervals(table()).set_index(["view", "arm", "share"])
    mine = table().query("view == 'axial' and arm == 'real' and share == 1.0")
    expected = bootstrap_mean(mine.groupby("subject")["correct"].mean().to_numpy())
    row = found.loc["axial", "real", 1.0]
    assert (row["value"], row["low"], row["high"], row["n"]) == (expected.value, expected.low, expected.high, 12)
    assert row["real_subjects"] == 20


def test_every_view_has_its_panel_with_a_line_for_each_arm():
    figure = augmentation_curves(table(), published={"real": 0.6145})
    assert [axes.get_title() for axes in figure.axes] == ["axial", "all views"]
    found = arm_intervals(table())
    for axes in figure.axes:
        lines = {line.get_label(): line for line in axes.lines}
        mine = found[(found["view"] == axes.get_title()) & (found["arm"] == "real + synthetic")]
        drawn = lines["real + synthetic"]
        assert np.allclose(drawn.get_ydata(), mine["value"]) and drawn.get_color() == ARMS["real + synthetic"].colour
        assert np.allclose(np.log(drawn.get_xdata()) - np.log(mine["real_subjects"]), 0, atol=0.1)
        assert "chance" in lines and axes.get_ylabel() == ("accuracy" if axes is figure.axes[0] else "")
    published = [line for line in figure.axes[-1].lines if line.get_label() == "published, real"]
    assert len(published) == 1 and list(published[0].get_ydata()) == [0.6145]


def test_one_number_of_subjects_is_drawn_too():
    figure = augmentation_curves(table().query("share == 1.0"))
    x = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_label() in ARMS]
    assert len(set(x)) == 2 and max(x) / min(x) < 1.1


@pytest.mark.parametrize(("act", "said"), [
    (lambda: arm_intervals(table(), "corect"), "Did you mean 'correct'"),
    (lambda: arm_intervals(table().drop(columns="share")), "no share"),
    (lambda: augmentation_curves(table().query("arm == 'chance'")), "augmentation_curves: subjects"),
    (lambda: augmentation_curves(table(), published={"reall": 0.5}), "Did you mean 'real'"),
])
def test_what_cannot_be_drawn_is_refused(act, said):
    with pytest.raises(NbkitError, match=said):
        act()
