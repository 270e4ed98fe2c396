"""Curves of trainings, and whether they ended on a plateau."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from nbkit.training.curves import APART, COLUMNS, CRITIC, LEARNED, courses, endings


def told(history):
    return SimpleNamespace(history=history)


def test_phases_and_people_kept_back_each_have_a_curve():
    loss = [4.0, 2.0, 1.0, 1.0]
    models = {
        "line": told({"loss": loss, "epochs": [0, 2, 4], "validation": [3.0, 1.5, 1.0]}),
        "painter": told({"diffusion": {"loss": loss}, "control": {"loss": loss[:2]}, "note": 1}), "control": object(),
    }
    curves = courses(models)
    assert list(curves) == COLUMNS
    assert list(curves["system"].unique()) == ["line", "painter, diffusion", "painter, control"]
    line = curves[curves["system"] == "line"].set_index("kind")
    assert line.loc[LEARNED, "value"].tolist() == loss and line.loc[LEARNED, "done"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert line.loc[APART, "value"].tolist() == [3.0, 1.5, 1.0] and line.loc[APART, "done"].tolist() == [0.0, 0.5, 1.0]


def test_two_that_compete_have_a_curve_each():
    curves = courses({"gan": told({"total": [4.0, 2.0], "adversarial": [1.0, 1.0], "critic_total": [1.0, 3.0]})})
    assert curves.groupby("kind")["value"].agg(list).to_dict() == {LEARNED: [4.0, 2.0], CRITIC: [1.0, 3.0]}


@pytest.mark.parametrize("rate, enough", [(0.5, "no: still falling"), (30.0, "yes")])
def test_a_line_still_falls_and_a_plateau_does_not(rate, enough):
    done = np.linspace(0, 1, 1001)[1:]
    table = endings(courses({"m": told({"loss": list(np.exp(-rate * done))})}))
    assert table.loc[("m", LEARNED), "long enough"] == enough
    straight = endings(courses({"m": told({"loss": list(1 - done)})})).loc[("m", LEARNED)]
    assert straight["last tenth (%)"] == pytest.approx(10, abs=1)


def test_a_loss_that_rises_in_the_end_tells_nothing():
    table = endings(courses({"m": told({"loss": [4.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0]})}))
    risen = endings(courses({"m": told({"loss": [1.0, 2.0, 3.0]})}))
    for found in (table, risen):
        assert found.loc[("m", LEARNED), "long enough"] == "cannot tell: it rose"


def test_without_any_training_there_is_nothing_to_say():
    assert courses({"control": object()}).empty and endings(courses({})).empty
