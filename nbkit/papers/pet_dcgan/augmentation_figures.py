"""What a classifier gains from more images: accuracy against the number of real subjects, by arm and view."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nbkit.core.checks import known, require
from nbkit.core.stats import Interval, bootstrap_mean
from nbkit.figures.charts import INK, LINES, SOFT
from nbkit.figures.marks import Mark, needs
from nbkit.figures.style import FULL_MM, Picture, look, new_figure

ARMS: dict[str, Mark] = {
    "real": Mark("real", "#000000", "o"),
    "real + synthetic": Mark("real + synthetic", "#D55E00", "s"),
    "synthetic only": Mark("synthetic only", "#E69F00", "^"),
    "real + plain augmentation": Mark("real + plain augmentation", "#0072B2", "D"),
    "class mean": Mark("nearest class mean", "#8C8C8C", "X"),
}
CHANCE = "chance"
MEASURES = {"correct": "accuracy", "placement": "AUC"}


def arm_intervals(subjects: pd.DataFrame, column: str = "correct", *, seed: int = 0) -> pd.DataFrame:
    """Mean of every view, arm and share over test subjects, with its bootstrap 95 % interval by subject.

    A subject counts once, with the mean over repeats.

    Parameters
    ----------
    subjects : DataFrame
        Columns "subject", "view", "arm", "share", "real_subjects" and `column`: one row per subject and repeat.
    column : {"correct", "placement"}
        Accuracy, or the area under the ROC curve.
    seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        Columns "view", "arm", "share", "real_subjects" (mean over folds), "value", "low", "high", "n".

    Raises
    ------
    NbkitError
        For a table without rows or columns, or an unknown measure.
    """
    known(column, MEASURES, "arm_intervals: column")
    needs(subjects, ("subject", "view", "arm", "share", "real_subjects", column), "arm_intervals")
    rows = []
    for (view, arm, share), mine in subjects.groupby(["view", "arm", "share"], sort=False):
        found: Interval = bootstrap_mean(mine.groupby("subject", sort=False)[column].mean().to_numpy(), seed=seed)
        rows.append({"view": view, "arm": arm, "share": share, "real_subjects": mine["real_subjects"].mean(),
                     "value": found.value, "low": found.low, "high": found.high, "n": found.n})
    return pd.DataFrame(rows)


@look()
def augmentation_curves(
    subjects: pd.DataFrame, column: str = "correct", *, published: Mapping[str, float] | None = None, seed: int = 0,
    width_mm: float = FULL_MM,
) -> Picture:
    """Accuracy (or AUC) against the number of real training subjects, a panel for each view, a line for each arm.

    Bars are bootstrap 95 % intervals by subject; the dashed line is what the majority class of training scores. Arms of
    one number of subjects stand side by side.

    Parameters
    ----------
    subjects, column, seed
        As for :func:`arm_intervals`.
    published : mapping of str to float, optional
        By arm, in the same measure: hollow triangles at the right edge of the last panel, because the paper gives one
        number for all views.
    width_mm : float
    """
    table = arm_intervals(subjects, column, seed=seed)
    views = list(dict.fromkeys(table["view"]))
    shown = [arm for arm in ARMS if arm in set(table["arm"])]
    require(
        len(shown) > 0, "augmentation_curves: subjects", expected=f"arms of {', '.join(ARMS)}",
        found=", ".join(table["arm"].unique()), remedy="Pass the table that the study returned.",
    )
    figure = new_figure(width_mm, 72)
    places = figure.subplots(1, len(views), sharey=True, squeeze=False)[0]
    for axes, view in zip(places, views, strict=True):
        _panel(axes, table[table["view"] == view], shown)
        axes.set(title=view, xlabel="real training subjects")
    places[0].set_ylabel(MEASURES[column])
    _published(places[-1], published or {})
    handles, labels = places[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def _published(axes: Axes, values: Mapping[str, float]) -> None:
    for arm, value in values.items():
        mark = ARMS[known(arm, ARMS, "augmentation_curves: published")]
        axes.plot(1.03, value, "<", color="white", markeredgecolor=mark.colour, markersize=5.5, clip_on=False,
                  transform=axes.get_yaxis_transform(), label=f"published, {mark.title}")


def _panel(axes: Axes, table: pd.DataFrame, shown: list[str]) -> None:
    counts = np.sort(table["real_subjects"].unique())
    # on a logarithmic axis arms stand apart by equal factors
    gap = 0.05 * (np.log(counts[-1] / counts[0]) if len(counts) > 1 else 1.0)
    for k, arm in enumerate(shown):
        mine, mark = table[table["arm"] == arm].sort_values("real_subjects"), ARMS[arm]
        x = mine["real_subjects"] * np.exp(gap * (k - (len(shown) - 1) / 2) / 2)
        axes.vlines(x, mine["low"], mine["high"], color=mark.colour, linewidth=0.9)
        axes.plot(x, mine["value"], color=mark.colour, marker=mark.marker, linestyle=LINES[k % len(LINES)],
                  label=mark.title)
    chance = table[table["arm"] == CHANCE].sort_values("real_subjects")
    if len(chance):
        axes.plot(chance["real_subjects"], chance["value"], color=SOFT, linestyle="--", linewidth=0.9, label="chance")
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{c:.0f}" for c in counts], color=INK)
    axes.minorticks_off()
    axes.grid(axis="y")
