"""Everything on one picture: published beside ours over all papers, claims by cohort, errors by region and system."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from nbkit.figures.charts import SOFT, number, titled
from nbkit.figures.marks import CYCLE, needs, region_title
from nbkit.figures.scorecard import CLAIM_VERDICTS
from nbkit.figures.style import FULL_MM, HALF_MM, Picture, look, new_figure, wrapped
from nbkit.figures.tables import VERDICTS

TILES = {"reproduced": "#2E8B57", "contradicted": "#C8372D", "inconclusive": "#E8C547", "no room": "#8FA9C9",
         "not run": "#E6E6E6"}
"""Colours of verdicts as tiles: the grounds of tables are too pale for squares of two millimetres."""
TILE_MM, NAME_MM, COHORT_MM, COUNT_MM = 1.9, 32.0, 14.0, 32.0
"""Sides of a tile, and room for a paper's name, a cohort's and the counts."""
FACTOR = 2.0
"""The shaded band of :func:`published_scatter`: ours within half and twice the published value."""


@look()
def published_scatter(numbers: pd.DataFrame, *, width_mm: float = FULL_MM * 0.7) -> Picture:
    """Every published number against ours, both axes logarithmic, one colour and marker a paper.

    Sizes are drawn; where the signs differ the mark is hollow. Numbers of which one side is 0 have no place on such
    axes and are counted below.

    Parameters
    ----------
    numbers : DataFrame
        One row a number: "paper" (its title), "published" and "ours", in one unit; rows without either are left out.

    Raises
    ------
    NbkitError
        For a table without rows or with a column missing.
    """
    needs(numbers, ("paper", "published", "ours"), "published_scatter")
    found = numbers.dropna(subset=["published", "ours"])
    shown = found[(found["published"] != 0) & (found["ours"] != 0)]
    alike = np.sign(shown["published"]) == np.sign(shown["ours"])
    sizes = shown.assign(published=shown["published"].abs(), ours=shown["ours"].abs())
    figure = new_figure(width_mm, width_mm + 4.0 * (sizes["paper"].nunique() // 2 + 1))
    axes = figure.add_subplot(aspect="equal")
    ends = np.array([0.5, 2.0]) * [sizes[["published", "ours"]].min().min(), sizes[["published", "ours"]].max().max()]
    axes.fill_between(ends, ends / FACTOR, ends * FACTOR, color="#EFEFEF", linewidth=0, label="within half and twice")
    axes.plot(ends, ends, color=SOFT, linewidth=0.8)
    for (paper, part), (colour, marker) in zip(sizes.groupby("paper", sort=False), cycle(CYCLE)):
        for same, face in ((True, colour), (False, "none")):
            rows = part[alike[part.index] == same]
            axes.plot(rows["published"], rows["ours"], marker, color=colour, markerfacecolor=face, alpha=0.75,
                      markersize=4, linestyle="none", label=_counted(paper, len(part), width_mm) if same else None)
    if not alike.all():
        axes.plot([], [], "o", color=SOFT, markerfacecolor="none", label="signs differ", linestyle="none")
    left_out = f"{len(found) - len(shown)} of {len(found)} numbers are 0 on one side and not drawn"
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, ylabel="ours, in the unit of the paper",
             xlabel="published" + f"\n{left_out}" * (len(found) > len(shown)))
    axes.grid()
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _counted(paper: str, count: int, width_mm: float) -> str:
    return wrapped(f"{paper} (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{count})", width_mm / 2 - 12, size_pt=7.5)


@look()
def claim_tiles(claims: pd.DataFrame, *, width_mm: float = FULL_MM) -> Picture:
    """A tile for each claim and cohort, coloured by its verdict; claims of a paper are columns, cohorts rows.

    The columns of a paper stand in the order of the verdicts of its first cohort, and each row ends with its counts in
    signs, so that colour is never needed. A claim that a cohort lacks leaves a gap.

    Parameters
    ----------
    claims : DataFrame
        One row a claim and cohort: "paper" (its title), "claim" (its id or words), "cohort" and "verdict", which begins
        with one of :data:`~nbkit.figures.scorecard.CLAIM_VERDICTS`.

    Raises
    ------
    NbkitError
        For a table without rows or with a column missing.
    """
    needs(claims, ("paper", "claim", "cohort", "verdict"), "claim_tiles")
    plain = claims.assign(verdict=[str(v).split(":")[0] for v in claims["verdict"]])
    cohorts, left = list(dict.fromkeys(plain["cohort"])), NAME_MM + COHORT_MM
    across, right = int((width_mm - left - COUNT_MM) / TILE_MM), width_mm - COUNT_MM + 1
    blocks = [(paper, _ordered(part, cohorts)) for paper, part in plain.groupby("paper", sort=False)]
    strips = [(wrapped(paper, NAME_MM, size_pt=7) if not start else "", table, start) for paper, table in blocks
              for start in range(0, table.shape[1], across)]
    tall = [max(len(cohorts) * TILE_MM, 2.9 * (name.count("\n") + 1)) + 2.5 for name, _, _ in strips]
    height = sum(tall) + 8.0
    figure = new_figure(width_mm, height, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width_mm), ylim=(0, height))
    axes.axis("off")
    tops = height - 8.0 - np.cumsum([0.0, *tall])
    for (name, table, start), top in zip(strips, tops):
        axes.text(1.0, top, name, ha="left", va="top", fontsize=7, linespacing=1.0)
        for row, cohort in enumerate(cohorts):
            y = top - (row + 1) * TILE_MM
            axes.text(left - 1, y + TILE_MM / 2, cohort, ha="right", va="center", fontsize=5.5, color=SOFT)
            _strip(axes, table.loc[cohort].iloc[start:start + across], (left, y))
            if not start:
                axes.text(right, y + TILE_MM / 2, _counts(table.loc[cohort]), ha="left", va="center", fontsize=5.5)
    patches = [Patch(facecolor=TILES[v], label=f"{VERDICTS[v][0]} {v}") for v in CLAIM_VERDICTS]
    figure.legend(handles=patches, loc="upper center", ncols=len(patches), borderaxespad=0.2)
    return figure


def _ordered(part: pd.DataFrame, cohorts: Sequence[str]) -> pd.DataFrame:
    """Verdicts by cohort (rows) and claim (columns), claims in the order of the verdicts of the first cohorts."""
    table = part.pivot_table("verdict", "cohort", "claim", aggfunc="first", sort=False).reindex(cohorts)
    order = table.map(lambda verdict: [*TILES, verdict].index(verdict) if isinstance(verdict, str) else len(TILES))
    return table[sorted(table, key=lambda claim: tuple(order[claim]))]


def _strip(axes: Axes, verdicts: pd.Series, corner: tuple[float, float]) -> None:
    for column, verdict in enumerate(verdicts):
        if isinstance(verdict, str):
            place = (corner[0] + column * TILE_MM, corner[1])
            axes.add_patch(Rectangle(place, 0.9 * TILE_MM, 0.9 * TILE_MM, facecolor=TILES[verdict], linewidth=0))


def _counts(verdicts: pd.Series) -> str:
    found = verdicts.value_counts()
    return "  ".join(f"{VERDICTS[v][0]} {found[v]}" for v in CLAIM_VERDICTS if found.get(v))


@look()
def region_heatmap(errors: pd.DataFrame, label: str, *, signed: bool = False, width_mm: float = FULL_MM) -> Picture:
    """Mean over people of an error by region (rows) and system (columns), with its number in every cell.

    Parameters
    ----------
    errors : DataFrame
        Columns "structure", "system", "subject" and "value", in % or another unit that regions share.
    label : str
        Of the colour bar, with the unit.
    signed : bool
        A diverging scale centred on 0, for gains or biases.

    Raises
    ------
    NbkitError
        For a table without rows or with a column missing.
    """
    needs(errors, ("structure", "system", "subject", "value"), "region_heatmap")
    table = titled(errors).pivot_table("value", "structure", "system", sort=False, observed=True)
    label = wrapped(label, 14 + 5.5 * len(table), size_pt=8)
    reach = float(np.nanpercentile(table.abs(), 95)) or 1.0
    figure = new_figure(min(width_mm, max(HALF_MM, 46 + 13 * table.shape[1])), 46 + 5.5 * len(table))
    axes = figure.add_subplot()
    texts = table.map(lambda value: number(value, 2))
    sns.heatmap(
        table, annot=texts, fmt="", cmap="RdBu_r" if signed else "YlOrBr", vmax=reach, linewidths=0.5,
        vmin=-reach if signed else 0.0, cbar_kws={"label": label, "extend": "both" if signed else "max"},
        annot_kws={"fontsize": 6.5}, ax=axes,
    )
    axes.set(xlabel="", ylabel="")
    axes.set_yticks(np.arange(len(table)) + 0.5, [region_title(name) for name in table.index], rotation=0)
    axes.set_xticks(np.arange(table.shape[1]) + 0.5, list(table), rotation=50, ha="right",
                    rotation_mode="anchor", fontsize=7)
    people = errors["subject"].nunique()
    axes.set_title(f"mean over {people} people", loc="left")
    return figure
