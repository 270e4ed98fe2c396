"""Forecasts whose draws are known give the rows that calibration wants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.protocols import Forecast
from nbkit.metrics.calibration import calibration
from nbkit.papers.trajectories.calibration import drawn_volumes, kept_forecasts
from tests.papers.trajectories.ageing_balls import cohort, person

AGES = (62.0, 66.0, 72.0)
BALL = person("p", "AD", ages=AGES, size=1.0, centre=(0, 0, 0))
TRUTH = {"p": [{"white_matter_left": v, "white_matter_right": v} for v in (1000.0, 900.0, 800.0)]}
DRAWS = np.array([[2.0, 4.0, 5.0], [1.0, 3.0, 4.0]])
"""Volumes drawn at the last scan seen and at the visit."""
BRIGHT = torch.rand(BALL.baseline.image("T1w").data.shape, generator=torch.Generator().manual_seed(0))


class Drawer:
    """Draws the same volumes for everybody, and remembers what it was asked."""

    config, trained_on = None, "x"

    def __init__(self):
        self.asked = []

    def predict_with_uncertainty(self, history, ages, diagnosis, *, measure, draws=3):
        image = history[-1].image("T1w")
        self.asked.append(([s.age for s in history], list(ages), diagnosis, draws))
        spread = image.with_data(BRIGHT)
        rows = [{name: row[:draws] for name in measure(image)} for row in DRAWS]
        return [Forecast(a, image, spread, row) for a, row in zip(ages, rows, strict=True)]


class Reader:
    """Reads two sides of one structure."""

    config, trained_on = None, "x"

    def volumes(self, image, *, mask):
        return {"white_matter_left": 5.0, "white_matter_right": float(mask.data.any())}


def test_a_row_is_the_true_volume_times_the_growth_drawn():
    model, balls = Drawer(), cohort([BALL])
    table = drawn_volumes({"m": model}, balls, segmenter=Reader(), true_volumes=TRUTH, seen=2, progress=False)
    assert model.asked == [([62.0, 66.0], [66.0, 72.0], "AD", 3)]
    (row,) = table.to_dict("records")
    drawn = 1800 * DRAWS[1] / DRAWS[0]
    assert (row["subject"], row["session"], row["model"], row["structure"]) == ("p", "72", "m", "white_matter")
    assert (row["years"], row["true"], row["count"]) == (6.0, 1600.0, 3)
    assert row["mean"] == pytest.approx(drawn.mean()) and row["sd"] == pytest.approx(drawn.std(ddof=1))
    assert len(calibration(table)) == 3


def test_spread_and_error_are_compared_over_the_voxels_of_the_brain():
    table = drawn_volumes({"m": Drawer()}, cohort([BALL]), segmenter=Reader(), true_volumes=TRUTH, progress=False)
    first, last = BALL.scans[0], BALL.scans[2]
    inside = first.mask("brain").data | last.mask("brain").data
    error = (first.image("T1w").data - last.image("T1w").data).abs()
    expected = stats.spearmanr(BRIGHT[inside], error[inside]).statistic
    assert table["spread_vs_error"][0] == pytest.approx(expected, abs=1e-9)


def test_forecasts_are_made_once(tmp_path):
    model, options = Drawer(), {"m": {"draws": 2}}
    first, again = (
        kept_forecasts(
            {"m": model}, cohort([BALL]), segmenter=Reader(), true_volumes=TRUTH, seen=2, key=1, options=options,
            cache=Cache(tmp_path), progress=False,
        ) for _ in range(2)
    )
    pd.testing.assert_frame_equal(first, again)
    assert [asked[3] for asked in model.asked] == [2] and first["count"].tolist() == [2]


def test_people_who_cannot_be_scored_are_named():
    with pytest.raises(NbkitError, match="drawn_volumes: p: expected more visits than seen = 3"):
        drawn_volumes({}, cohort([BALL]), segmenter=Reader(), true_volumes=TRUTH, seen=3, progress=False)
    with pytest.raises(NbkitError, match="true_volumes: expected one of p, found 'q'"):
        drawn_volumes({}, cohort([replace(BALL, id="q")]), segmenter=Reader(), true_volumes=TRUTH, progress=False)
