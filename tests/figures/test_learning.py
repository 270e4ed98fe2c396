"""Learning curves show every fold, and a mean where all of them run."""

from __future__ import annotations

import pandas as pd
import pytest

from nbkit.core.checks import NbkitError
from nbkit.figures.learning import learning_curves


def curves() -> pd.DataFrame:
    folds = {"f1": [3.0, 2.0, 1.0], "f2": [5.0, 4.0, 3.0, 2.0, 1.0]}
    rows = [("3 layers", fold, 5 * k, value) for fold, values in folds.items() for k, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["setting", "fold", "epoch", "value"])


def test_the_mean_curve_ends_with_the_shortest_fold_and_the_folds_go_on():
    axes = learning_curves(curves(), "MSE (z²)").axes[0]
    drawn = {tuple(line.get_xdata()): tuple(line.get_ydata()) for line in axes.lines if len(line.get_xdata())}
    assert drawn[0, 5, 10] in ((4, 3, 2), (3, 2, 1)) and (0, 5, 10, 15, 20) in drawn
    assert any(tuple(line.get_ydata()) == (4, 3, 2) for line in axes.lines)
    assert axes.get_ylabel() == "MSE (z²)"
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["3 layers"]


def test_a_frame_without_a_column_is_refused_with_the_nearest_name():
    with pytest.raises(NbkitError, match="Did you mean 'epochs'"):
        learning_curves(curves().rename(columns={"epoch": "epochs"}), "MSE")
