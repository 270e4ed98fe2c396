"""Pictures of latent lines: what latents look like, what lies between two scans, and where a line leads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes

from nbkit.core.checks import require
from nbkit.core.stats import Interval
from nbkit.core.volume import Volume
from nbkit.figures.ageing import LEVELS_MM
from nbkit.figures.charts import INK, LINES, SOFT
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.marks import CYCLE, marks, needs, region_title
from nbkit.figures.slices import Scale, difference_scale, grey_scale, view_at
from nbkit.figures.style import FULL_MM, HALF_MM, Picture, look, new_figure
from nbkit.figures.trajectories import MARK

STRAIGHT, BENT, SEEN = "#0072B2", "#D55E00", "#EAEAEA"
PANEL_MM, KEY_MM = 42.0, 6.0


def latent_sheet(
    image: Volume, latents: Volume, *, brain: Volume, titles: Sequence[str] = ("scan",),
    levels_mm: Mapping[str, float] = LEVELS_MM, others: Sequence[Volume] = (), width_mm: float = FULL_MM,
) -> Picture:
    """A scan, what comes back from the autoencoder, and the latent channels between, slice by slice (Fig. 1b).

    Parameters
    ----------
    image : Volume
    latents : Volume
        (C, x, y, z), cells a whole number of voxels wide, lying where the voxels lie.
    brain : Volume
        Mask on the grid of the image.
    titles : sequence of str
        Of the image and of `others`.
    levels_mm : mapping of str to float
        World level by plane.
    others : sequence of Volume
        Shown beside the image on its grey scale, e.g. its reconstruction.
    """
    factor = round(latents.spacing[0] / image.spacing[0])
    pad = [side for n in reversed(brain.shape) for side in (0, -n % factor)]
    cells = F.max_pool3d(F.pad(brain.data.float(), pad)[None], factor)[0] > 0
    grey, rows = grey_scale(image, brain), []
    reach = float(torch.quantile(latents.data[:, cells[0]].abs().flatten(), 0.99))
    scale = Scale(-reach, reach, "RdBu_r", "latent (SD over training scans)")
    for row, (plane, level) in enumerate(levels_mm.items()):
        view, coarse = (view_at(mask, level, plane=plane) for mask in (brain, latents.with_data(cells)))
        names = [*titles, *(f"latent {c + 1}" for c in range(latents.data.shape[0]))] if row == 0 else [""] * 99
        tiles = [Tile(shown, view, grey) for shown in (image, *others)]
        tiles += [Tile(latents.with_data(channel[None]), coarse, scale) for channel in latents.data]
        rows.append(Row(tuple(Tile(t.image, t.view, t.scale, name) for t, name in zip(tiles, names, strict=False))))
    return panel(rows, width_mm=width_mm)


def between_sheet(
    ways: Mapping[str, Sequence[Volume]], alphas: Sequence[float], *, brain: Volume, unit: str = "a.u.",
    plane: str = "axial", width_mm: float = FULL_MM,
) -> Picture:
    """Images between two scans by each of two ways, and the first way minus the second (Fig. 1c).

    Parameters
    ----------
    ways : mapping of str to sequence of Volume
        Two titles, each with one image per alpha.
    alphas : sequence of float
    brain : Volume
    unit : str
        Of the intensities.
    plane : {"axial", "coronal"}
    """
    require(
        len(ways) == 2 and all(len(row) == len(alphas) for row in ways.values()), "between_sheet: ways",
        expected=f"two ways with {len(alphas)} images each", found={n: len(row) for n, row in ways.items()},
        remedy="Make an image for every alpha.",
    )
    view, (first, second) = view_at(brain, LEVELS_MM[plane], plane=plane), ways.values()
    grey = grey_scale(first[0], brain)
    gaps = [a.with_data(a.data - b.data) for a, b in zip(first, second, strict=True)]
    scale = difference_scale(gaps, brain, label=f"difference ({unit})", signed=True)
    rows = []
    for title, images in ways.items():
        said = [f"α = {a:g}" for a in alphas] if not rows else [""] * len(alphas)
        rows.append(Row(tuple(Tile(i, view, grey, s) for i, s in zip(images, said, strict=True)), title))
    rows.append(Row(tuple(Tile(gap, view, scale) for gap in gaps), " − ".join(ways)))
    return panel(rows, width_mm=width_mm)


@look()
def between_curves(
    table: pd.DataFrame, straight: pd.DataFrame, *, structures: Sequence[str], titles: Mapping[str, str],
    limit: float, width_mm: float = FULL_MM,
) -> Picture:
    """Change of volumes along interpolations, a line a person, bent ones in another colour (Fig. 1d).

    Parameters
    ----------
    table : DataFrame
        "subject", "way", "structure", "alpha" and "mm3".
    straight : DataFrame
        "subject", "way", "structure" and "r2": how straight each line is.
    structures : sequence of str
        Columns.
    titles : mapping of str to str
        Rows: title by way.
    limit : float
        Lines with a smaller r2 count as bent.
    """
    needs(table, ("subject", "way", "structure", "alpha", "mm3"), "between_curves")
    figure = new_figure(width_mm, len(titles) * PANEL_MM + KEY_MM)
    panels = figure.subplots(len(titles), len(structures), squeeze=False, sharex=True, sharey="col")
    known = straight.set_index(["way", "structure", "subject"])["r2"]
    for row, (way, title) in enumerate(titles.items()):
        for axes, structure in zip(panels[row], structures, strict=True):
            lines = table[(table["way"] == way) & (table["structure"] == structure)].groupby("subject", sort=False)
            bent = {s: not known.loc[way, structure, s] >= limit for s, _ in lines}
            for subject, line in lines:
                volume, colour = line["mm3"].to_numpy(), BENT if bent[subject] else STRAIGHT
                axes.plot(line["alpha"], 100 * (volume / volume[0] - 1), linestyle=LINES[bent[subject]], color=colour,
                          linewidth=0.9, alpha=0.8, zorder=3 + bent[subject])
            axes.grid(axis="y")
            bends = f"{sum(bent.values())} of {len(bent)} bent"
            axes.set_title(f"{region_title(structure)}\n{bends}" if row == 0 else bends, loc="left")
        panels[row, 0].set_ylabel(f"{title}\nchange (%)")
    for axes in panels[-1]:
        axes.set_xlabel("α, weight of the last scan")
    key = [axes.plot([], [], linestyle=dash, color=c)[0] for dash, c in zip(LINES, (STRAIGHT, BENT), strict=False)]
    figure.legend(key, [f"r² ≥ {limit:g}", f"r² < {limit:g}"], loc="outside upper center", ncols=2)
    return figure


@look()
def forecast_curves(
    table: pd.DataFrame, *, structures: Sequence[str], seen: tuple[float, float], columns: int = 2,
    width_mm: float = FULL_MM,
) -> Picture:
    """One person's volumes over age: the truth as points, filled where it was seen, and forecasts as lines (Fig. 2b).

    Parameters
    ----------
    table : DataFrame
        "structure", "age", "model" ("truth" or any) and "mm3"; optional "low" and "high".
    structures : sequence of str
    seen : (float, float)
        First and last age seen, shaded.
    columns : int
        Panels per row.
    """
    needs(table, ("structure", "age", "model", "mm3"), "forecast_curves")
    table = table.assign(**{c: table[c] if c in table else np.nan for c in ("low", "high")})
    rows = -(-len(structures) // columns)
    figure = new_figure(width_mm, rows * PANEL_MM + KEY_MM)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, structure in zip(panels, structures, strict=False):
        _forecast(axes, table[table["structure"] == structure], seen)
        axes.set_title(region_title(structure), loc="left")
        axes.set(xlabel="age (years)", ylabel="volume (mL)")
    for axes in panels[len(structures):]:
        axes.remove()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def _forecast(axes: Axes, table: pd.DataFrame, seen: tuple[float, float]) -> None:
    axes.axvspan(*seen, color=SEEN, linewidth=0, label="ages seen", zorder=0)
    marks = marks(table["model"].unique())
    for place, (model, mark) in enumerate(marks.items()):
        rows = table[table["model"] == model].sort_values("age")
        age, volume = rows["age"].to_numpy(), rows["mm3"].to_numpy() / 1000
        if model == "truth":
            late = age > seen[1] + 1e-6
            axes.plot(age[~late], volume[~late], "o", color=INK, label="truth, seen", zorder=6)
            open_ = {"markerfacecolor": "white", "label": "truth, to come"}
            axes.plot(age[late], volume[late], "o", color=INK, zorder=6, **open_)
            continue
        if rows["low"].notna().any():
            axes.fill_between(age, rows["low"] / 1000, rows["high"] / 1000, color=mark.colour, alpha=0.15, linewidth=0)
        axes.plot(age, volume, linestyle=LINES[place % len(LINES)], marker=mark.marker, color=mark.colour,
                  markersize=3.6, label=mark.title, **MARK)
    axes.grid(axis="y")


@look()
def change_scatter(
    table: pd.DataFrame, *, structures: Sequence[str], models: Sequence[str], columns: int = 4,
    width_mm: float = FULL_MM,
) -> Picture:
    """Predicted against true change, a point a person and forecast, one row of panels per model.

    Parameters
    ----------
    table : DataFrame
        "structure", "model", "change_pct" and "true_change_pct".
    structures, models : sequence of str
        Columns and rows of panels.
    """
    needs(table, ("structure", "model", "change_pct", "true_change_pct"), "change_scatter")
    figure = new_figure(width_mm, len(models) * PANEL_MM)
    panels = figure.subplots(len(models), len(structures), squeeze=False, sharex="col", sharey="col")
    for row, (model, mark) in enumerate(marks(models).items()):
        for axes, structure in zip(panels[row], structures, strict=True):
            part = table[(table["structure"] == structure) & (table["model"] == model)]
            axes.axline((0, 0), slope=1, color=SOFT, linewidth=0.8)
            axes.plot(part["true_change_pct"], part["change_pct"], mark.marker, color=mark.colour, markersize=4, **MARK)
            axes.grid()
            if row == 0:
                axes.set_title(region_title(structure), loc="left")
        panels[row, 0].set_ylabel(f"{mark.title}\npredicted (%)")
    for axes in panels[-1]:
        axes.set_xlabel("true change (%)")
    return figure


@look()
def coverage_plot(
    coverage: Mapping[str, Mapping[float, Interval]], *, margin: float, width_mm: float = HALF_MM * 1.25,
) -> Picture:
    """How often intervals hold the truth against how often they should.

    Parameters
    ----------
    coverage : mapping of str to mapping of float to Interval
        By whatever is told apart, and nominal coverage: the share observed, with its interval.
    margin : float
        Half width of the band about the diagonal that counts as right.
    """
    figure = new_figure(width_mm, 0.9 * width_mm)
    axes = figure.add_subplot()
    ends = np.array([0.0, 1.0])
    band = f"within {100 * margin:g} points"
    axes.fill_between(ends, ends - margin, ends + margin, color=SEEN, linewidth=0, label=band)
    axes.plot(ends, ends, color=SOFT, linewidth=0.8)
    for place, ((name, row), (colour, marker)) in enumerate(zip(coverage.items(), CYCLE, strict=False)):
        x = np.array(list(row)) + 0.012 * (place - (len(coverage) - 1) / 2)
        value, low, high = (np.array([getattr(i, k) for i in row.values()]) for k in ("value", "low", "high"))
        axes.errorbar(x, value, yerr=np.stack([value - low, high - value]), fmt=marker, color=colour, elinewidth=0.9,
                      capsize=2.0, markersize=4.5, label=name, **MARK)
    axes.set(xlabel="nominal coverage", ylabel="share whose truth lies inside", xlim=(0.35, 1.02), ylim=(0, 1.03))
    figure.legend(loc="outside upper center", ncols=2)
    axes.grid()
    return figure
