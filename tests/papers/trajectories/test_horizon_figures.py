"""Errors ahead are means over subjects, with the intervals they were given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.stats import Interval, bootstrap_mean
from nbkit.papers.trajectories.horizon_figures import error_by_horizon, horizon_intervals


def test_horizons_count_each_subject_once_and_leave_out_what_lies_beyond():
    rows = [("a", "m", 0.9, 1.0), ("a", "m", 1.1, 3.0), ("b", "m", 1.0, 4.0), ("b", "m", 3.0, 5.0),
            ("a", "m", 9.0, 99.0), ("b", "m", 2.9, np.nan)]
    scores = pd.DataFrame(rows, columns=["subject", "model", "years", "error"])
    found = horizon_intervals(scores, "error", edges=(0, 2, 4), seed=5)
    assert list(found) == ["m"] and np.allclose(list(found["m"]), [1.0, 3.0])
    near, far = found["m"].values()
    assert near == bootstrap_mean([2.0, 4.0], seed=5) and (far.value, far.n) == (5.0, 1)
    with pytest.raises(NbkitError, match="no errors. Did you mean 'error'"):
        horizon_intervals(scores, "errors", edges=(0, 2))


def test_errors_ahead_show_the_intervals_given():
    given = {"no_change": {4.0: Interval(3.0, 2.5, 4.0, 9), 1.0: Interval(1.0, 0.5, 1.25, 9)},
             "mine": {1.0: Interval(0.5, 0.25, 1.0, 9)}}
    axes = error_by_horizon(given, "error (%)").axes[0]
    first, second = axes.containers
    assert np.allclose(first.lines[0].get_ydata(), [1, 3]) and np.allclose(first.lines[0].get_xdata(), [1, 4], atol=0.1)
    spans = [ends[:, 1] for ends in first.lines[2][0].get_segments()]
    assert np.allclose(spans, [[0.5, 1.25], [2.5, 4.0]])
    assert first.lines[0].get_xdata()[0] != second.lines[0].get_xdata()[0], "beside each other, not on top"
    assert axes.get_xlabel() == "years ahead"
    with pytest.raises(NbkitError, match="error_by_horizon: mine"):
        error_by_horizon({"mine": {}}, "error (%)")
