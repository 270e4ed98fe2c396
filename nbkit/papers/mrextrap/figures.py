"""Pictures of latent lines: what latents look like, what lies between two scans, and where a line leads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, product

import numpy as np
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes

from nbkit.core.checks import require
from nbkit.core.protocols import Scan, Subject
from nbkit.core.stats import bootstrap_mean
from nbkit.core.tidy import where
from nbkit.core.volume import Volume
from nbkit.figures.ageing import LEVELS_MM
from nbkit.figures.charts import (
    INK, SOFT, bounds, counted_means, coverage_plot, forest_plot, interval_text, looks, panels, titled,
)
from nbkit.figures.marks import marks, needs, region_title
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.pipeline import Box, pipeline_drawing
from nbkit.figures.slices import Scale, difference_scale, dimmed, grey_scale, thumbnails, view_at
from nbkit.figures.style import FULL_MM, Picture, look, new_figure
from nbkit.metrics.image import ssim

WAYS = {"latent": "through latents", "image": "plain averages"}
STRAIGHT, BENT, SEEN = "#0072B2", "#D55E00", "#EAEAEA"
PANEL_MM, KEY_MM = 42.0, 6.0


def method_drawing(people: Iterable[Subject] = ()) -> Picture:
    """The autoencoder learns from single scans; ages enter with the line through a person's latents.

    Of the first of `people` the first and the last scan stand in it, of two others the first.
    """
    some = list(islice(people, 3))
    mine = [scan for person in some[:1] for scan in person.scans[::max(len(person.scans) - 1, 1)]]
    boxes = [
        Box("scans", "scans of a person at ages a₁ … aₖ", 0, 0, "input", thumbnails(*mine)),
        Box("latents", "latents z₁ … zₖ (4 channels)", 1, 0), Box("line", "line z(a) of every element", 2, 0),
        Box("image", "predicted scan at age a", 3, 0, "output"),
        Box("train", "scans of training people", 0, 1, "input", thumbnails(*(person.baseline for person in some[1:]))),
        Box("net", "autoencoder, L1 + LPIPS + adversarial + KL", 1, 1, "learned"),
        Box("prior", "slopes of the training people", 2, 1, "learned"),
        Box("volumes", "regional volumes", 3, 1, "output"),
    ]
    arrows = [
        ("scans", "latents", "encode"), ("latents", "line", "regress"), ("line", "image", "decode"),
        ("train", "net", "train"), ("net", "latents", ""), ("net", "prior", ""), ("prior", "line", "posterior only"),
        ("image", "volumes", "segment"),
    ]
    return pipeline_drawing(boxes, arrows)


def latent_sheet(
    scan: Scan, latents: Volume, reconstruction: Volume, *, contrast: str = "T1w",
    levels_mm: Mapping[str, float] = LEVELS_MM, width_mm: float = FULL_MM,
) -> Picture:
    """A scan, what comes back from the autoencoder, and the latent channels between, slice by slice (Fig. 1b).

    Parameters
    ----------
    scan : Scan
        With the mask "brain".
    latents : Volume
        (C, x, y, z), cells a whole number of voxels wide, lying where the voxels lie.
    reconstruction : Volume
        Shown beside the scan on its grey scale.
    levels_mm : mapping of str to float
        World level by plane.
    """
    image, brain = scan.image(contrast), scan.mask("brain")
    factor = round(latents.spacing[0] / image.spacing[0])
    pad = [side for n in reversed(brain.shape) for side in (0, -n % factor)]
    cells = F.max_pool3d(F.pad(brain.data.float(), pad)[None], factor)[0] > 0
    reach = float(torch.quantile(latents.data[:, cells[0]].abs().flatten(), 0.99))
    grey, scale = grey_scale(image, brain), Scale(-reach, reach, "RdBu_r", "latent (SD over training scans)")
    alike = float(ssim(*(v.data[None].float() for v in (reconstruction, image)), data_range=grey.high - grey.low,
                       mask=brain.data[None].bool()))
    back = f"reconstruction, SSIM\N{NO-BREAK SPACE}{alike:.2f}"
    names = ["scan", back, *(f"latent {c + 1}" for c in range(len(latents.data)))]
    rows = []
    for plane, level in levels_mm.items():
        view, coarse = (view_at(mask, level, plane=plane) for mask in (brain, latents.with_data(cells)))
        titles = names if not rows else [""] * len(names)
        tiles = [Tile(shown, view, grey, title) for shown, title in zip((image, reconstruction), titles, strict=False)]
        tiles += [Tile(latents.with_data(channel[None]), coarse, scale, title, smooth=False)
                  for channel, title in zip(latents.data, titles[2:], strict=True)]
        rows.append(Row(tuple(tiles)))
    return panel(rows, width_mm=width_mm)


def between_sheet(
    ways: Mapping[str, Mapping[float, Volume]], *, brain: Volume, unit: str = "a.u.", plane: str = "axial",
    width_mm: float = FULL_MM,
) -> Picture:
    """Images between two scans by each of two ways, and below each their change since the first (Fig. 1c).

    Parameters
    ----------
    ways : mapping of str to mapping of float to Volume
        Two, each with an image for the same weights α of the last scan.
    brain : Volume
    unit : str
        Of the intensities.
    plane : {"axial", "coronal"}
    """
    require(
        len(ways) == 2 and len({tuple(images) for images in ways.values()}) == 1, "between_sheet: ways",
        expected="two ways with images for the same alphas", found={n: list(images) for n, images in ways.items()},
        remedy="Make an image for every alpha.",
    )
    view, (start, *later) = view_at(brain, LEVELS_MM[plane], plane=plane), next(iter(ways.values()))
    grey = grey_scale(next(iter(ways.values()))[start], brain)
    changes = {way: [images[a].with_data(images[a].data - images[start].data) for a in later]
               for way, images in ways.items()}
    scale, rows = difference_scale(sum(changes.values(), []), brain, label=f"change ({unit})", signed=True), []
    for way, images in ways.items():
        heads = [f"α = {a:g}" for a in images] if not rows else [""] * len(images)
        rows.append(Row(tuple(Tile(v, view, grey, h) for v, h in zip(images.values(), heads, strict=True)), WAYS[way]))
        below = images[start], dimmed(grey)
        rows.append(Row((None, *(Tile(gap, view, scale, under=below) for gap in changes[way])), f"− α = {start:g}"))
    return panel(rows, width_mm=width_mm)


@look()
def between_person(table: pd.DataFrame, *, width_mm: float = FULL_MM) -> Picture:
    """One person's volumes along α by either way, and the straight line between the two real scans (Fig. 1c, caption).

    Parameters
    ----------
    table : DataFrame
        "way", "structure", "alpha", "mm3" and "chord_mm3" of one person.
    """
    needs(table, ("way", "structure", "alpha", "mm3", "chord_mm3"), "between_person")
    structures = list(table["structure"].unique())
    shown = table.assign(mL=table["mm3"] / 1000, way=table["way"].map(WAYS))

    def draw(axes: Axes, name: str) -> None:
        part = where(shown, structure=name)
        chord = part.drop_duplicates("alpha")
        axes.plot(chord["alpha"], chord["chord_mm3"] / 1000, color=SOFT, linewidth=0.9, linestyle="--",
                  label="between the two scans")
        sns.lineplot(part, x="alpha", y="mL", hue="way", style="way", hue_order=WAYS.values(), markers=["o", "s"],
                     style_order=WAYS.values(), palette=[STRAIGHT, BENT], dashes=False, markersize=4, ax=axes)
        axes.set(xlabel="α, weight of the last scan", ylabel="volume (mL)")

    titles = {name: region_title(name) for name in structures}
    return panels(structures, draw, columns=4, titles=titles, height_mm=PANEL_MM, width_mm=width_mm)


@look()
def between_curves(
    table: pd.DataFrame, straight: pd.DataFrame, *, limit: float, width_mm: float = FULL_MM,
) -> Picture:
    """Change of volumes along interpolations, a line a person, bent ones in another colour (Fig. 1d).

    Parameters
    ----------
    table : DataFrame
        "subject", "way", "structure", "alpha" and "mm3".
    straight : DataFrame
        "subject", "way", "structure" and "r2": how straight each line is.
    limit : float
        Lines with a smaller r2, or none, count as bent.
    """
    needs(table, ("subject", "way", "structure", "alpha", "mm3"), "between_curves")
    line = ["subject", "way", "structure"]
    data, said = table.merge(straight[[*line, "r2"]], on=line), [f"r² ≥ {limit:g}", f"r² < {limit:g}"]
    data = data.assign(
        change=100 * (data["mm3"] / data.groupby(line)["mm3"].transform("first") - 1),
        shape=np.where(data["r2"] >= limit, *said),
    )
    structures, ways = data["structure"].unique(), data["way"].unique()
    figure = new_figure(width_mm, len(ways) * PANEL_MM + KEY_MM)
    grid = figure.subplots(len(ways), len(structures), squeeze=False, sharex=True, sharey="col")
    for (row, way), (column, structure) in product(enumerate(ways), enumerate(structures)):
        axes, part = grid[row, column], where(data, way=way, structure=structure)
        sns.lineplot(
            part, x="alpha", y="change", hue="shape", style="shape", hue_order=said, style_order=said, units="subject",
            estimator=None, palette=[STRAIGHT, BENT], linewidth=0.9, alpha=0.8, legend=row == column == 0, ax=axes,
        )
        bent = part.loc[part["shape"] == said[1], "subject"].nunique()
        bends = f"{bent} of {part['subject'].nunique()} bent"
        axes.set_title(bends if row else f"{region_title(structure)}\n{bends}", loc="left")
        _labelled(axes, grid, "α, weight of the last scan", f"{WAYS[way]}\nchange (%)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    grid[0, 0].get_legend().remove()
    return figure


def _labelled(axes: Axes, grid: np.ndarray, xlabel: str, ylabel: str) -> None:
    """Labels below the last row and left of the first column; every column has a scale of its own."""
    axes.set(xlabel=xlabel if axes in grid[-1] else "", ylabel=ylabel if axes in grid[:, 0] else "")
    axes.grid(axis="y")


@look()
def forecast_curves(
    table: pd.DataFrame, *, seen: tuple[float, float], columns: int = 2, width_mm: float = FULL_MM,
) -> Picture:
    """One person's volumes over age: the truth as points, filled where it was seen, and forecasts as lines (Fig. 2b).

    Parameters
    ----------
    table : DataFrame
        "structure", "age", "model" ("truth" or any) and "mm3"; optional "low" and "high".
    seen : (float, float)
        First and last age seen, shaded.
    columns : int
        Panels per row.
    """
    needs(table, ("structure", "age", "model", "mm3"), "forecast_curves")
    table = table.assign(**{c: table[c] if c in table else np.nan for c in ("low", "high")})
    mL = table.assign(**{c: table[c] / 1000 for c in ("mm3", "low", "high")})
    structures = list(mL["structure"].unique())
    return panels(
        structures, lambda axes, name: _forecast(axes, where(mL, structure=name), seen), columns=columns,
        titles={name: region_title(name) for name in structures}, height_mm=PANEL_MM, width_mm=width_mm,
    )


def _forecast(axes: Axes, table: pd.DataFrame, seen: tuple[float, float]) -> None:
    axes.axvspan(*seen, color=SEEN, linewidth=0, label="ages seen", zorder=0)
    truth, told = table[table["model"] == "truth"], table[table["model"] != "truth"]
    drawn = looks(told["model"])
    sns.lineplot(
        titled(told, "model"), x="age", y="mm3", hue="model", style="model", **drawn, errorbar=None, markersize=4.5,
        ax=axes,
    )
    for model, mark in marks(told["model"]).items():
        rows = where(told, model=model).dropna(subset="low").sort_values("age")
        axes.fill_between(rows["age"], rows["low"], rows["high"], color=mark.colour, alpha=0.15, linewidth=0)
    late = truth["age"] > seen[1] + 1e-6
    axes.plot(truth["age"][~late], truth["mm3"][~late], "o", color=INK, label="truth, seen", zorder=6)
    axes.plot(truth["age"][late], truth["mm3"][late], "o", color=INK, markerfacecolor="white", zorder=6,
              label="truth, to come")
    axes.set(xlabel="age (years)", ylabel="volume (mL)")


@look()
def change_scatter(
    table: pd.DataFrame, *, width_mm: float = FULL_MM,
    models: Sequence[str] = ("mrextrap_ols", "mrextrap_bayes", "pixel_ols", "hindsight"),
) -> Picture:
    """Predicted against true change, a point a person, with their line and that of a right forecast (slope 1).

    Parameters
    ----------
    table : DataFrame
        "structure", "model", "change_pct" and "true_change_pct".
    models : sequence of str
        Rows of panels, structures being columns. A line is fitted from three people on.
    """
    needs(table, ("structure", "model", "change_pct", "true_change_pct"), "change_scatter")
    figure, structures = new_figure(width_mm, len(models) * PANEL_MM), table["structure"].unique()
    grid = figure.subplots(len(models), len(structures), squeeze=False, sharex="col", sharey="col")
    for (row, (model, mark)), (column, structure) in product(enumerate(marks(models).items()), enumerate(structures)):
        axes, part = grid[row, column], where(table, structure=structure, model=model)
        axes.axline((0, 0), slope=1, color=SOFT, linewidth=0.8)
        sns.regplot(
            part, x="true_change_pct", y="change_pct", ci=None, fit_reg=len(part) > 2, color=mark.colour, ax=axes,
            marker=mark.marker, scatter_kws={"s": 14, "alpha": 0.9}, line_kws={"linewidth": 1.0},
        )
        axes.set_title("" if row else region_title(structure), loc="left")
        _labelled(axes, grid, "true change (%)", f"{mark.title}\npredicted (%)")
    return figure


@look()
def error_by_scans(
    table: pd.DataFrame, *, limits: Mapping[str, Mapping[str, float]] | None = None, seed: int = 0,
) -> Picture:
    """Absolute error against the number of scans seen, a panel a structure, mean over people with interval (Fig. 2c).

    Parameters
    ----------
    table : DataFrame
        "structure", "model", "scans", "subject" and "miss" (%), of one design.
    limits : mapping of structure to mapping of str to float, optional
        What could be reached at all, in %, by name ("floor", "reach"): thin lines.
    seed : int
        Of the bootstrap over subjects.
    """
    needs(table, ("structure", "model", "scans", "subject", "miss"), "error_by_scans")
    rows, structures = table.rename(columns={"miss": "value"}), list(table["structure"].unique())

    def draw(axes: Axes, name: str) -> None:
        part = where(rows, structure=name)
        counted_means(axes, part, x="scans", by="model", seed=seed)
        axes.set(xlabel="scans seen", ylabel="absolute error (%)")
        bounds(axes, (limits or {}).get(name, {}), keyed=True)

    titles = {name: region_title(name) for name in structures}
    return panels(structures, draw, columns=2, titles=titles, height_mm=1.2 * PANEL_MM)


def difference_plots(gaps: pd.DataFrame, *, seed: int = 0) -> dict[str, Picture]:
    """Each person's error minus that of least squares, one picture a structure."""
    label, sides = "error − error of least squares (% of the volume)", ("the model", "least squares")
    return {
        name: forest_plot(rows, label, seed=seed, better=sides)
        for name, rows in gaps.groupby("structure", sort=False)
    }


def open_points(gaps: pd.DataFrame, choices: pd.DataFrame) -> pd.DataFrame:
    """Choices with the mean and 95 % interval of each paired difference `gaps` of the other way, in words."""
    moved = gaps.groupby(["system", "structure"], sort=False)["value"]
    table = moved.agg(lambda x: interval_text(bootstrap_mean(x))).unstack(sort=False)
    return choices.join(table.add_prefix("other − ours, "))


def coverage(covered: pd.DataFrame, *, margin: float = 0.05, seed: int = 0) -> Picture:
    """How often intervals hold the truth against how often they should, by structure.

    Parameters
    ----------
    covered : DataFrame
        "structure", "level" (nominal) and "value": the share of each subject's truths inside.
    """
    rows = covered.assign(structure=covered["structure"].str.replace("_", " "))
    return coverage_plot(rows, by="structure", margin=margin, seed=seed)
