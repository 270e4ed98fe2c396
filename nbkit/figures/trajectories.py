"""Curves of ageing: regional volumes of people, controls against population norms, rates by diagnosis.

Tables are tidy: one row per observation, with the columns each function names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from nbkit.core.checks import check_keys, known
from nbkit.figures.charts import HOLLOW, INK, LINES, SOFT, means, panels, titled
from nbkit.figures.marks import DIAGNOSES, Mark, marks, needs, region_title
from nbkit.figures.style import Picture, look

MARK = {"markeredgecolor": "white", "markeredgewidth": 0.4}


def with_truth(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows for :func:`volume_trajectories` from a table of scores, with the truth as one more model.

    Everybody starts at the true volume at baseline.

    Parameters
    ----------
    scores : DataFrame
        Columns "subject", "structure", "age" and "years" (since baseline), "model", "mm3", "true_mm3" and
        "true_change_pct" (since baseline), as trajectories are scored: one row per later visit; "diagnosis" is kept.

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
    rows = pd.concat([first.assign(model="truth"), truth, first, scores])
    rows = rows[[*keys, *("diagnosis" for _ in range("diagnosis" in scores))]]
    rows = rows.assign(age=rows["age"].round(6)).drop_duplicates(keys[:-1])
    models = list(rows["model"].unique())
    return rows.sort_values(
        ["model", "age"], key=lambda column: column.map(models.index) if column.name == "model" else column,
        ignore_index=True,
    )


@look()
def volume_trajectories(
    table: pd.DataFrame, *, structures: Sequence[str] | None = None, relative: bool = False,
    transition: float | None = None,
) -> Picture:
    """Volumes over age, one panel per structure: the truth and models as lines with points, models with bands.

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

    Raises
    ------
    NbkitError
        For a table without rows or with a column missing, or a structure without rows.
    """
    needs(table, ("structure", "age", "model", "mm3"), "volume_trajectories")
    table = _scaled(table.reset_index(drop=True), relative)
    models = marks(table["model"].unique())

    def draw(axes: Axes, structure: str) -> None:
        _courses(axes, table[table["structure"] == structure].sort_values("age"), models)
        if transition is not None:
            said = f"transition, {transition:g} y"
            axes.axvline(transition, color=SOFT, linewidth=1.0, linestyle=LINES[3], label=said)
        axes.set(xlabel="age (years)", ylabel="% of baseline" if relative else "volume (mL)")

    there = list(table["structure"].unique())
    return _by_structure([known(n, there, "volume_trajectories: structures") for n in structures or there], draw)


@look()
def person_trajectories(table: pd.DataFrame, *, structures: Sequence[str]) -> Picture:
    """Volumes in % of each person's first over the years since: a row a person, a column a structure.

    Nobody is named; a structure has one scale for all people.

    Parameters
    ----------
    table : DataFrame
        Columns "structure", "subject", "age" (years), "model" ("truth" or any) and "mm3"; optional "diagnosis", which
        stands beside the person's number, and "low" and "high" (mm³).
    structures : sequence of str
        Which, in order.

    Raises
    ------
    NbkitError
        For a table without rows or with a column missing, or a structure without rows.
    """
    needs(table, ("structure", "subject", "age", "model", "mm3"), "person_trajectories")
    check_keys(structures, table["structure"].unique(), "person_trajectories: structures")
    table, models = _scaled(table.reset_index(drop=True), True), marks(table["model"].unique())
    table = table.assign(age=table["age"] - table.groupby("subject")["age"].transform("min"))
    people = list(dict.fromkeys(table["subject"]))
    names = {f"{k} {name}": (k, person, name) for k, person in enumerate(people, 1) for name in structures}

    def draw(axes: Axes, name: str) -> None:
        k, person, structure = names[name]
        own = table[table["subject"] == person]
        _courses(axes, own[own["structure"] == structure].sort_values("age"), models)
        ill = f", {own['diagnosis'].iloc[0]}" if "diagnosis" in own else ""
        axes.set(xlabel="years since the first scan" if k == len(people) else "",
                 ylabel=f"person {k}{ill}\n% of the first" if structure == structures[0] else "")

    titles = {name: region_title(structure) if k == 1 else "" for name, (k, _, structure) in names.items()}
    figure = panels(list(names), draw, columns=len(structures), titles=titles, height_mm=38.0)
    for column in range(len(structures)):
        grid = figure.axes[column::len(structures)]
        low, high = zip(*(axes.get_ylim() for axes in grid), strict=True)
        for axes in grid:
            axes.set_ylim(min(low), max(high))
    return figure


def _courses(axes: Axes, rows: pd.DataFrame, models: Mapping[str, Mark]) -> None:
    """The courses of every model, the truth thin and on top, with a band where there is an interval."""
    for (model, mark), line in zip(models.items(), cycle(LINES)):
        own = rows[rows["model"] == model]
        for _, one in own[own["low"].notna()].groupby("subject", sort=False):
            axes.fill_between(one["age"], one["low"], one["high"], color=mark.colour, alpha=0.15, linewidth=0)
        thin = {"linewidth": 0.7, "zorder": 5} if model == "truth" else {"linestyle": line}
        _lines(axes, own, "mm3", color=mark.colour, marker=mark.marker, label=mark.title, **MARK, **thin)


def _scaled(table: pd.DataFrame, relative: bool) -> pd.DataFrame:
    """Volumes and intervals in mL, or in % of the subject's first volume of that structure."""
    more = {"subject": "", "low": np.nan, "high": np.nan}
    table, unit = table.assign(**{name: table.get(name, value) for name, value in more.items()}), 1000.0
    if relative:
        true_first = table.assign(guess=table["model"] != "truth").sort_values(["guess", "age"], kind="stable")
        unit = true_first.groupby(["subject", "structure"])["mm3"].transform("first").reindex(table.index) / 100
    return table.assign(**{c: table[c] / unit for c in ("mm3", "low", "high")})


def _by_structure(names: Sequence[str], draw: Callable[[Axes, str], None]) -> Picture:
    return panels(names, draw, titles={name: region_title(name) for name in names})


def _lines(axes: Axes, rows: pd.DataFrame, y: str, **style: object) -> None:
    """One line per subject."""
    sns.lineplot(rows, x="age", y=y, units="subject", estimator=None, legend=False, ax=axes, **style)


@look()
def population_bands(table: pd.DataFrame) -> Picture:
    """Trajectories of people over the 5th to 95th centile and the median of a population, one panel per structure.

    Points outside the band are marked, and each panel says how many are inside.

    Parameters
    ----------
    table : DataFrame
        Columns "structure", "subject", "age" (years), "mm3", and "low", "median" and "high" of the population at
        that age (mm³).

    Raises
    ------
    NbkitError
        For a table without rows or with a column missing.
    """
    volumes = ("mm3", "low", "median", "high")
    needs(table, ("structure", "subject", "age", *volumes), "population_bands")
    table = table.assign(**{c: table[c] / 1000 for c in volumes})
    table = table.assign(inside=table["mm3"].between(table["low"], table["high"]))

    def draw(axes: Axes, structure: str) -> None:
        rows = table[table["structure"] == structure].sort_values("age")
        band = {"color": "#56B4E9", "alpha": 0.3, "linewidth": 0, "label": "population, 5th to 95th centile"}
        axes.fill_between(rows["age"], rows["low"], rows["high"], **band)
        _lines(axes, rows.assign(subject=""), "median", color="#0072B2", linestyle=LINES[1], label="population median")
        _lines(axes, rows, "mm3", color=INK, linewidth=0.5, marker=".", alpha=0.6, label="one person", **MARK)
        out, ring = rows[~rows["inside"]], HOLLOW | {"markeredgecolor": "#D55E00", "markersize": 3.2}
        if len(out):
            axes.plot(out["age"], out["mm3"], "o", label="outside", **ring)
        axes.set(xlabel="age (years)", ylabel="volume (mL)")

    titles = {
        name: f"{region_title(name)}\n{inside.sum()} of {len(inside)} inside"
        for name, inside in table.groupby("structure", sort=False)["inside"]
    }
    return panels(list(titles), draw, titles=titles)


@look()
def rate_strip(
    table: pd.DataFrame, *, prescribed: Mapping[str, Mapping[str, float]] | None = None, seed: int = 0
) -> Picture:
    """Yearly rates by diagnosis, one panel per structure: a point per person, mean and bootstrap 95 % interval.

    Parameters
    ----------
    table : DataFrame
        Columns "structure", "diagnosis" and "rate" (% per year), one row per person.
    prescribed : mapping of str to mapping of str to float, optional
        By structure and diagnosis: the mean rate that was asked for, as a triangle.
    seed : int
        Of the bootstrap.

    Raises
    ------
    NbkitError
        For a table without rows or with a column missing.
    """
    needs(table, ("structure", "diagnosis", "rate"), "rate_strip")
    order = [*DIAGNOSES, *table["diagnosis"].unique()]
    table = table.sort_values("diagnosis", key=lambda names: names.map(order.index), kind="stable")
    groups, data = list(table["diagnosis"].unique()), titled(table, "diagnosis").rename(columns={"rate": "value"})

    def draw(axes: Axes, structure: str) -> None:
        axes.axhline(0, color=SOFT, linewidth=0.6)
        means(axes, data[data["structure"] == structure], by="diagnosis", seed=seed)
        asked = pd.Series((prescribed or {}).get(structure, {}), dtype=float).reindex(groups).dropna()
        if len(asked):
            places = [groups.index(diagnosis) + 0.36 for diagnosis in asked.index]
            axes.plot(places, asked, "<", **HOLLOW, markersize=4.5, zorder=6, label="prescribed mean")
        axes.set(xlabel="", ylabel="change (% per year)")

    return _by_structure(list(data["structure"].unique()), draw)
