"""How wrong forecasts are, by how far ahead they look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from nbkit.core.checks import require
from nbkit.core.stats import Interval, bootstrap_mean
from nbkit.figures.charts import LINES
from nbkit.figures.marks import marks, needs
from nbkit.figures.style import HALF_MM, Picture, look, new_figure
from nbkit.figures.trajectories import MARK


def horizon_intervals(
    scores: pd.DataFrame, column: str, *, edges: Sequence[float], seed: int = 0,
) -> dict[str, dict[float, Interval]]:
    """Mean of a column by model and years ahead, with its bootstrap 95 % interval over subjects.

    Parameters
    ----------
    scores : DataFrame
        Columns "subject", "model", "years" (ahead) and `column`, NaN where there is no score.
    column : str
    edges : sequence of float
        Years at which one horizon ends and the next begins; rows beyond them are left out. A horizon stands at the
        mean of the years in it, and each subject counts once in it.
    seed : int
        Of the bootstrap.
    """
    needs(scores, ("subject", "model", "years", column), "horizon_intervals")
    horizon = pd.cut(scores["years"], list(edges), labels=False)
    scores = scores.assign(horizon=horizon).dropna(subset=["horizon", column])
    places = scores.groupby("horizon")["years"].mean()
    found: dict[str, dict[float, Interval]] = {model: {} for model in scores["model"].unique()}
    for (model, horizon), rows in scores.groupby(["model", "horizon"], sort=False):
        means = rows.groupby("subject")[column].mean()
        found[model][float(places[horizon])] = bootstrap_mean(means.to_numpy(), seed=seed)
    return found


@look()
def error_by_horizon(
    errors: Mapping[str, Mapping[float, Interval]], ylabel: str, *, xlabel: str = "years ahead",
    width_mm: float = HALF_MM * 1.35,
) -> Picture:
    """Error of each model against how far ahead it predicts, with the intervals given.

    Parameters
    ----------
    errors : mapping of str to mapping of float to Interval
        By model and years ahead, e.g. from :func:`horizon_intervals`.
    ylabel, xlabel : str
        Measure with unit.

    Raises
    ------
    NbkitError
        For a model without values.
    """
    figure = new_figure(width_mm, 0.66 * width_mm)
    axes = figure.add_subplot()
    spread = 0.012 * np.ptp([h for row in errors.values() for h in row] or [0.0])
    for place, (model, mark) in enumerate(marks(errors).items()):
        row = dict(sorted(errors[model].items()))
        require(
            len(row) > 0, f"error_by_horizon: {model}", expected="an interval for at least one horizon", found="none",
            remedy="Leave the model out, or compute its errors first.",
        )
        years = np.array(list(row)) + spread * (place - (len(errors) - 1) / 2)
        value, low, high = (np.array([getattr(i, k) for i in row.values()]) for k in ("value", "low", "high"))
        axes.errorbar(years, value, yerr=np.stack([value - low, high - value]), marker=mark.marker, color=mark.colour,
                      linestyle=LINES[place % len(LINES)], elinewidth=0.9, capsize=2.0, markersize=5.0, **MARK,
                      label=mark.title)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(axis="y")
    axes.legend(loc="best")
    return figure
