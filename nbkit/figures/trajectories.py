"""Curves of ageing: regional volumes of people, controls against population norms, rates by diagnosis.

Tables are tidy: one row per observation, with the columns each function names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nbkit.core.checks import closest, known, require
from nbkit.core.stats import bootstrap_mean
from nbkit.figures.charts import INK, LINES, SOFT
from nbkit.figures.marks import DIAGNOSES, Mark, marks, needs, region_title
from nbkit.figures.style import FULL_MM, HALF_MM, Picture, look, new_figure

PANEL_MM, KEY_MM = 44.0, 5.5
LETTER_MM, HANDLE_MM = 1.4, 9.0
"""Height of a panel, of a line of the legend; in the legend, width of a letter and of a sample with its gaps."""
MARK = {"markeredgecolor": "white", "markeredgewidth": 0.4}
OUTSIDE = "#D55E00"


def _small_multiples(names: Sequence[str], draw: Callable[[Axes, str], None], columns: int, width_mm: float) -> Picture:
    """One panel per name, in rows of at most `columns`, with one legend above them all."""
    used = min(columns, len(names))
    rows, width = -(-len(names) // used), max(width_mm * used / columns, min(width_mm, HALF_MM))
    figure = new_figure(width, rows * PANEL_MM)
    panels = figure.subplots(rows, used, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        draw(axes, name)
        axes.grid(axis="y")
    for axes in panels[len(names):]:
        axes.remove()
    labelled = [axes.get_legend_handles_labels() for axes in panels[:len(names)]]
    key = {label: handle for handles, labels in labelled for handle, label in zip(handles, labels, strict=True)}
    across = max(1, min(len(key), int(width / (max(map(len, key)) * LETTER_MM + HANDLE_MM))))
    figure.set_figheight((rows * PANEL_MM + KEY_MM * -(-len(key) // across)) / 25.4)
    figure.legend(key.values(), key.keys(), loc="outside upper center", ncols=across)
    return figure


def with_truth(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows for :func:`volume_trajectories` from a table of scores, with the truth as one more model.

    Everybody starts at the true volume at baseline.

    Parameters
    ----------
    scores : DataFrame
        Columns "subject", "structure", "age" and "years" (since baseline), "model", "mm3", "true_mm3" and
        "true_change_pct" (since baseline), as trajectories are scored: one row per later visit.

    Raises
    ------
    NbkitError
        For a table without rows or with a column missing.
    """
    keys = ["subject", "structure", "age", "model", "mm3"]
    needs(scores, (*keys, "years", "true_mm3", "true_change_pct"), "with_truth")
    start = scores["true_mm3"] / (1 + scores["true_change_pct"] / 100)
    first = scores.assign(age=scores["age"] - scores["years"], mm3=start)
    truth = scores.assign(model="truth", mm3=scores["true_mm3"])
    rows = pd.concat([first.assign(model="truth"), truth, first, scores])[keys]
    rows = rows.assign(age=rows["age"].round(6)).drop_duplicates(keys[:-1])
    order = {model: place for place, model in enumerate(rows["model"].unique())}
    return rows.sort_values("age", kind="stable").sort_values("model", key=lambda m: m.map(order), kind="stable",
                                                              ignore_index=True)


@look()
def volume_trajectories(
    table: pd.DataFrame, *, structures: Sequence[str] | None = None, relative: bool = False,
    transition: float | None = None, columns: int = 3, width_mm: float = FULL_MM,
) -> Picture:
    """Volumes over age, one panel per structure: the truth as points, models as lines with bands.

    Parameters
    ----------
    table : DataFrame
        Columns "structure", "age" (years), "model" ("truth" or any) and "mm3"; optional "subject", one
        line each, and "low" and "high" (mm³), NaN where there is no interval.
    structures : sequence of str, optional
        Which, in order; default all, as they come.
    relative : bool
        In % of each subject's first volume (the first true one where there is a truth), instead of mL.
    transition : float, optional
        Age of a change of diagnosis, marked by a vertical line.
    columns : int
        Panels per row.

    Raises
    ------
    NbkitError
        For a table without rows or with a column missing, or a structure without rows.
    """
    needs(table, ("structure", "age", "model", "mm3"), "volume_trajectories")
    table = table if "subject" in table else table.assign(subject="")
    table = table.assign(**{c: table[c] if c in table else np.nan for c in ("low", "high")})
    table = _scaled(table, relative)
    names = list(structures or table["structure"].unique())
    models = marks(table["model"].unique())

    def draw(axes: Axes, structure: str) -> None:
        rows = _of_structure(table, structure, "volume_trajectories")
        for line, (model, mark) in enumerate(models.items()):
            for _, one in rows[rows["model"] == model].sort_values("age").groupby("subject", sort=False):
                _person(axes, one, mark, LINES[line % len(LINES)], truth=model == "truth")
        if transition is not None:
            said = f"transition, {transition:g} y"
            axes.axvline(transition, color=SOFT, linewidth=1.0, linestyle=LINES[3], label=said)
        axes.set_title(region_title(structure), loc="left")
        axes.set(xlabel="age (years)", ylabel="% of baseline" if relative else "volume (mL)")

    return _small_multiples(names, draw, columns, width_mm)


def _scaled(table: pd.DataFrame, relative: bool) -> pd.DataFrame:
    """Volumes and intervals in mL, or in % of the subject's first volume of that structure."""
    unit: pd.Series | float = 1000.0
    if relative:
        true_first = table.assign(guess=table["model"] != "truth").sort_values(["guess", "age"], kind="stable")
        first = true_first.groupby(["subject", "structure"], sort=False)["mm3"].first()
        keys = pd.MultiIndex.from_frame(table[["subject", "structure"]])
        unit = pd.Series(first.reindex(keys).to_numpy() / 100, index=table.index)
    return table.assign(**{c: table[c] / unit for c in ("mm3", "low", "high")})


def _of_structure(table: pd.DataFrame, structure: str, where: str) -> pd.DataFrame:
    known(structure, table["structure"].unique(), f"{where}: structures")
    return table[table["structure"] == structure]


def _person(axes: Axes, rows: pd.DataFrame, mark: Mark, line: object, *, truth: bool) -> None:
    ages, volume = rows["age"].to_numpy(float), rows["mm3"].to_numpy(float)
    low, high = rows["low"].to_numpy(float), rows["high"].to_numpy(float)
    if np.isfinite(low).any():
        axes.fill_between(ages, low, high, color=mark.colour, alpha=0.15, linewidth=0)
    style = {"linewidth": 0.7, "zorder": 5} if truth else {"linestyle": line, "markersize": 4.4}
    axes.plot(ages, volume, marker=mark.marker, color=mark.colour, label=mark.title, **MARK, **style)


@look()
def population_bands(
    table: pd.DataFrame, *, structures: Sequence[str] | None = None, columns: int = 3, width_mm: float = FULL_MM,
) -> Picture:
    """Trajectories of people over the 5th to 95th centile and the median of a population, one panel per structure.

    Points outside the band are marked, and each panel says how many are inside.

    Parameters
    ----------
    table : DataFrame
        Columns "structure", "subject", "age" (years), "mm3", and "low", "median" and "high" of the population at
        that age (mm³).
    structures, columns
        As for :func:`volume_trajectories`.

    Raises
    ------
    NbkitError
        For a table without rows or with a column missing, or a structure without rows.
    """
    needed = ("structure", "subject", "age", "mm3", "low", "median", "high")
    needs(table, needed, "population_bands")
    names = list(structures or table["structure"].unique())

    def draw(axes: Axes, structure: str) -> None:
        rows = _of_structure(table, structure, "population_bands").sort_values("age")
        rows = rows.assign(**{c: rows[c] / 1000 for c in ("mm3", "low", "median", "high")})
        axes.fill_between(rows["age"], rows["low"], rows["high"], color="#56B4E9", alpha=0.3, linewidth=0,
                          label="population, 5th to 95th centile")
        axes.plot(rows["age"], rows["median"], color="#0072B2", linestyle=LINES[1], label="population median")
        for _, one in rows.groupby("subject", sort=False):
            axes.plot(one["age"], one["mm3"], ".-", color=INK, linewidth=0.5, markersize=1.8, alpha=0.6,
                      label="one person")
        inside = rows["mm3"].between(rows["low"], rows["high"])
        out = rows[~inside]
        if len(out):
            axes.plot(out["age"], out["mm3"], "o", color="white", markeredgecolor=OUTSIDE, markersize=3.2,
                      markeredgewidth=0.9, label="outside")
        axes.set_title(f"{region_title(structure)}\n{inside.sum()} of {len(rows)} inside", loc="left")
        axes.set(xlabel="age (years)", ylabel="volume (mL)")

    return _small_multiples(names, draw, columns, width_mm)


@look()
def rate_strip(
    table: pd.DataFrame, *, structures: Sequence[str] | None = None,
    prescribed: Mapping[str, Mapping[str, float]] | None = None, ylabel: str = "change (% per year)", seed: int = 0,
    columns: int = 3, width_mm: float = FULL_MM,
) -> Picture:
    """Yearly rates by diagnosis, one panel per structure: a point per person, mean and bootstrap 95 % interval.

    Parameters
    ----------
    table : DataFrame
        Columns "structure", "diagnosis" and "rate" (in the unit of `ylabel`), one row per person.
    structures, columns
        As for :func:`volume_trajectories`.
    prescribed : mapping of str to mapping of str to float, optional
        By structure and diagnosis: the mean rate that was asked for, as a triangle.
    seed : int
        Of the bootstrap.

    Raises
    ------
    NbkitError
        For a table without rows or with a column missing, or a structure without rows.
    """
    needs(table, ("structure", "diagnosis", "rate"), "rate_strip")
    names = list(structures or table["structure"].unique())
    found = list(table["diagnosis"].unique())
    groups = marks(sorted(found, key=lambda d: [*DIAGNOSES, *found].index(d)))

    def draw(axes: Axes, structure: str) -> None:
        rows = _of_structure(table, structure, "rate_strip")
        axes.axhline(0, color=SOFT, linewidth=0.6)
        for place, (diagnosis, mark) in enumerate(groups.items()):
            asked = (prescribed or {}).get(structure, {}).get(diagnosis)
            _strip(axes, place, rows.loc[rows["diagnosis"] == diagnosis, "rate"].to_numpy(float), mark, asked, seed)
        axes.plot([], [], "o", color=SOFT, markersize=2.4, label="one person")
        axes.set_title(region_title(structure), loc="left")
        axes.set(xticks=range(len(groups)), xticklabels=[m.title for m in groups.values()], ylabel=ylabel)
        axes.set_xlim(-0.6, len(groups) - 0.4)

    return _small_multiples(names, draw, columns, width_mm)


def _strip(axes: Axes, place: int, rates: np.ndarray, mark: Mark, asked: float | None, seed: int) -> None:
    if rates.size:
        offsets = 0.09 * ((np.argsort(np.argsort(rates)) % 5) - 2)
        mean = bootstrap_mean(rates, seed=seed)
        axes.plot(place + offsets, rates, mark.marker, color=mark.colour, markersize=2.4, alpha=0.55, markeredgewidth=0)
        axes.errorbar(place, mean.value, yerr=[[mean.value - mean.low], [mean.high - mean.value]], fmt="_", color=INK,
                      markersize=11, markeredgewidth=1.6, elinewidth=1.2, capsize=2.5, zorder=5,
                      label="mean of these people, 95 % interval")
    if asked is not None:
        axes.plot(place + 0.36, asked, "<", color="white", markeredgecolor=INK, markersize=4.5, zorder=6,
                  label="prescribed mean")
