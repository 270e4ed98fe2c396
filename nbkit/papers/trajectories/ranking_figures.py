"""Who stands where: systems ranked on the same people, with what the ranking cannot tell apart."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from nbkit.core.checks import known, require
from nbkit.core.stats import ALPHA, MIN_SUBJECTS, Interval, bootstrap_mean, bootstrap_p, holm, paired_difference
from nbkit.figures.charts import INK, LINES, SOFT, interval_text, number
from nbkit.figures.marks import Mark, marks, needs
from nbkit.figures.style import FULL_MM, Picture, look, new_figure

TIED = "#EFEFEF"
ROW_MM, HEAD_MM = 6.0, 27.0
"""Height of one system, and of what stands above and below them."""


def standings(
    scores: pd.DataFrame, column: str, *, better: Literal["less", "greater"], control: str, seed: int = 0,
) -> pd.DataFrame:
    """Systems by their mean over people, best first, and what paired differences say of it.

    A difference counts as told apart when its bootstrap 95 % interval over people excludes zero and its p after Holm's
    correction over the systems is below 0.05, with six people or more: the rule of the verdicts.

    Parameters
    ----------
    scores : DataFrame
        Columns "subject", "model" and `column`; a person counts once, by the mean over his rows with a value, and only
        if every model has one.
    column : str
    better : {"less", "greater"}
    control : str
        The model that the others owe a difference from.
    seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        One row per model: "model", "mean", "low", "high", "people"; "gain", "gain low", "gain high" and "p": how much
        better than the control (negative: worse); "against control" ("better", "worse" or "not told apart"; the control
        itself "–"); "tied": not told apart from the first.

    Raises
    ------
    NbkitError
        For a table without rows or with a column missing, an unknown control, or no person whom all models have.
    """
    needs(scores, ("subject", "model", column), "standings")
    known(better, ("less", "greater"), "standings: better")
    means = scores.dropna(subset=[column]).groupby(["subject", "model"], sort=False)[column].mean().unstack()
    known(control, means.columns, "standings: control")
    complete = means.dropna()
    require(
        len(complete) > 0, "standings: scores", expected="a person whom every model has", found="none",
        remedy=f"Leave out the model with the fewest values: {means.notna().sum().idxmin()}.",
    )
    order = complete.mean().sort_values(ascending=better == "less").index
    sign = -1.0 if better == "less" else 1.0
    rows = []
    for model in order:
        mean = bootstrap_mean(complete[model].to_numpy(), seed=seed)
        rows.append({"model": model, "mean": mean.value, "low": mean.low, "high": mean.high, "people": mean.n})
    table = pd.DataFrame(rows)
    gains, ps, apart = _told_apart(sign * complete, order, control, seed)
    table["gain"], table["gain low"], table["gain high"] = zip(*((g.value, g.low, g.high) for g in gains), strict=True)
    table["p"] = ps
    words = np.where(apart, np.where(table["gain"] > 0, "better", "worse"), "not told apart")
    table["against control"] = np.where(table["model"] == control, "–", words)
    table["tied"] = ~_told_apart(sign * complete, order, order[0], seed)[2]
    return table


def _told_apart(
    values: pd.DataFrame, order: Sequence[str], reference: str, seed: int
) -> tuple[list[Interval], np.ndarray, np.ndarray]:
    """Difference of each model from the reference, p after Holm, and whether it counts; for the reference none does."""
    against = values[reference].to_numpy()
    gains = [paired_difference(values[model].to_numpy(), against, seed=seed) for model in order]
    others = np.array([model != reference for model in order])
    ps = np.ones(len(order))
    ps[others] = holm([bootstrap_p(values[m].to_numpy(), against, seed=seed) for m in order if m != reference])
    outside = np.array([g.low > 0 or g.high < 0 for g in gains])
    return gains, ps, others & outside & (ps < ALPHA) & (len(values) >= MIN_SUBJECTS)


def standings_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Standings of several measures in words: systems as rows, in the order of the first measure.

    Per measure "mean [95 %]" and "gain over the control [95 %]", with the word for it.
    """
    columns = {}
    for measure, table in tables.items():
        rows = table.set_index("model")
        means = [Interval(r["mean"], r["low"], r["high"], r["people"]) for _, r in rows.iterrows()]
        gains = [Interval(r["gain"], r["gain low"], r["gain high"], r["people"]) for _, r in rows.iterrows()]
        columns[measure] = pd.Series([interval_text(m).replace("+", "") for m in means], rows.index)
        said = [f"{interval_text(g)} {w}" for g, w in zip(gains, rows["against control"], strict=True)]
        columns[f"{measure}: gain"] = pd.Series(said, rows.index).where(rows["against control"] != "–", "–")
    order = next(iter(tables.values()))["model"]
    made = pd.DataFrame(columns).reindex(order)
    made.index = [mark.title for mark in marks(order).values()]
    return made


@look()
def ranking_plot(
    tables: Mapping[str, pd.DataFrame], *, better: Mapping[str, str], controls: Collection[str] = (),
    published: Mapping[str, Mapping[str, float]] | None = None, floors: Mapping[str, float] | None = None,
    width_mm: float = FULL_MM,
) -> Picture:
    """One panel per measure, systems from best to worst: mean and 95 % interval over people.

    Controls are hollow. The grey band holds those that paired differences do not tell apart from the first, however far
    apart the means look. Published values are written beside their system, off the scale: they are of other people.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        By measure, with its unit: what :func:`standings` gives.
    better : mapping of str to str
        By measure: "less" or "greater".
    controls : collection of str
        Models that are nobody's claim.
    published : mapping of str to mapping of str to float, optional
        By measure and model, in the unit of the measure.
    floors : mapping of str to float, optional
        By measure: what measuring alone costs, as a dashed line.

    Raises
    ------
    NbkitError
        For no tables.
    """
    require(
        len(tables) > 0, "ranking_plot: tables", expected="standings of one measure or more", found="none",
        remedy="Make them with standings(scores, column, ...).",
    )
    most = max(map(len, tables.values()))
    figure = new_figure(width_mm, HEAD_MM + ROW_MM * most)
    marks = marks(dict.fromkeys(m for table in tables.values() for m in table["model"]))
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (measure, table) in zip(panels, tables.items(), strict=True):
        _panel(axes, table, marks, controls, (published or {}).get(measure, {}))
        side = "← better" if better[measure] == "less" else "better →"
        if measure in (floors or {}):
            axes.axvline(floors[measure], color=INK, linewidth=0.9, linestyle=LINES[1], zorder=2)
        axes.set_xlabel(f"{measure}\n{side}   {table['people'].iloc[0]} people")
    figure.legend(handles=_key(bool(floors)), loc="outside upper center", ncols=4)
    return figure


def _panel(
    axes: Axes, table: pd.DataFrame, marks: Mapping[str, Mark], controls: Collection[str],
    published: Mapping[str, float],
) -> None:
    said = []
    for level, row in enumerate(table.to_dict("records")):
        model, mark = row["model"], marks[row["model"]]
        if row["tied"]:
            axes.axhspan(level - 0.5, level + 0.5, color=TIED, linewidth=0)
        axes.plot([row["low"], row["high"]], [level, level], color=INK, linewidth=1.2, zorder=3)
        face, edge, width = ("white", mark.colour, 1.3) if model in controls else (mark.colour, INK, 0.6)
        axes.plot(row["mean"], level, mark.marker, color=face, markeredgecolor=edge, markeredgewidth=width,
                  markersize=6, zorder=4)
        said.append(f"published\n{number(published[model])}" if model in published else "")
    titles = [marks[m].title.replace(", ", ",\n") + (" (control)" if m in controls else "") for m in table["model"]]
    axes.set(yticks=range(len(table)), ylim=(len(table) - 0.5, -0.5))
    axes.set_yticklabels(titles, fontsize=6.5, linespacing=0.95)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    if published:
        beside = axes.secondary_yaxis("right")
        beside.set_yticks(range(len(said)), said, fontsize=6, linespacing=0.95)
        beside.tick_params(length=0)
        beside.spines["right"].set_visible(False)


def _key(floor: bool) -> list[Line2D | Patch]:
    system = Line2D([], [], color=INK, marker="o", markerfacecolor=SOFT, markersize=5, linewidth=1.2)
    system.set_label("mean, 95 % interval over people")
    control = Line2D([], [], color="none", marker="o", markerfacecolor="white", markeredgecolor=SOFT, markersize=5)
    control.set_label("control")
    band = Patch(facecolor=TIED, edgecolor="#CCCCCC", label="not told apart from the first")
    line = Line2D([], [], color=INK, linewidth=0.9, linestyle=LINES[1], label="error of reading the true scan")
    return [system, control, band, *([line] if floor else [])]
