"""Error against epoch, fold by fold."""

from __future__ import annotations

import pandas as pd
import seaborn as sns

from nbkit.figures.charts import looks, titled
from nbkit.figures.marks import needs
from nbkit.figures.style import HALF_MM, Picture, look, new_figure


@look()
def learning_curves(
    frame: pd.DataFrame, ylabel: str, *, x: str = "epoch", by: str = "setting", unit: str = "fold",
    xlabel: str | None = None, width_mm: float = HALF_MM * 1.35,
) -> Picture:
    """Error against epoch: mean and ±1 SD over folds, one thin line per fold (Wei 2019, Fig. 2.3).

    Early stopping ends folds at different epochs, so the mean is drawn only as far as every fold runs.

    Parameters
    ----------
    frame : DataFrame
        Columns `x`, `by`, `unit` and "value".
    ylabel : str
        With unit.

    Raises
    ------
    NbkitError
        For a frame without rows or with a column missing.
    """
    needs(frame, (x, by, unit, "value"), "learning_curves")
    figure = new_figure(width_mm, 0.66 * width_mm)
    axes, data = figure.add_subplot(), titled(frame, by)
    shared = data.groupby([by, unit], observed=True)[x].max().groupby(level=0, observed=True).min()
    common = data[data[x] <= data[by].map(shared).astype(float)]
    look_of = {"hue": by, "palette": looks(frame[by])["palette"], "ax": axes}
    sns.lineplot(data, x=x, y="value", units=unit, estimator=None, lw=0.5, alpha=0.45, legend=False, **look_of)
    sns.lineplot(common, x=x, y="value", style=by, errorbar="sd", **look_of)
    axes.set(xlabel=xlabel or x, ylabel=ylabel, xlim=(0, None))
    axes.grid(axis="y")
    axes.legend(loc="upper right", title=None)
    return figure
