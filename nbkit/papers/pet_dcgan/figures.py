"""Real and synthetic PET slices beside each other, their training, and what a classifier gains from them.

Slices are those of :class:`nbkit.data.pet_slices.Slices`, first axis to the right, second upwards, drawn as uptake
ratios; all of a figure share one colour scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patheffects import withStroke
from scipy.ndimage import binary_fill_holes

from nbkit.core.checks import check_keys, known, require
from nbkit.core.volume import Volume
from nbkit.data.pet_slices import FIELD_MM, Slices
from nbkit.figures.charts import HOLLOW, bounds, interval
from nbkit.figures.marks import Mark, needs
from nbkit.figures.mosaics import Row, Tile, bare_axes, panel
from nbkit.figures.slices import Scale, difference_scale, view_of
from nbkit.figures.style import FULL_MM, Picture, look, new_figure
from nbkit.papers.pet_dcgan.generator_experiments import TITLES

CMAP, SUVR_LABEL = "inferno", "uptake ratio (SUVR)"
SIDES = {"axial": "LR", "coronal": "LR", "sagittal": "PA"}
_GAP, _HEAD, _BAR, _EDGE = 0.7, 4.6, 15.0, 0.8
"""Millimetres between images, above a block of them, for the colour bar, and at the figure's edge."""
DARK, MARGIN = -0.8, 0.02
"""What is no head in images from −1 to 1, and how far a crop stays from heads, as a share of an image."""
STEPS, SEEDS = 5, 6
"""Most rows and columns of :func:`generator_progress`."""
LIKENESS = {
    "floor": ("floor: other people held out", ":"), "reach": ("reach: training people", "--"),
    "mean_image": ("mean image", "-."), "other_stage": ("real of other stages", "-"),
}
"""Titles and lines of what needs no generator."""
ARMS = {
    "real": Mark("real", "#000000", "o"),
    "real + synthetic": Mark("real + synthetic", "#D55E00", "s"),
    "synthetic only": Mark("synthetic only", "#E69F00", "^"),
    "real + plain augmentation": Mark("real + plain augmentation", "#0072B2", "D"),
    "class mean": Mark("nearest class mean", "#8C8C8C", "X"),
    "chance": Mark("majority of training", "#BBBBBB", "P"),
}


@look()
def example_slices(table: Slices, *, columns: int = 6, width_mm: float = FULL_MM) -> Picture:
    """A row of slices for each view, with the letters of their sides (Islam and Zhang, Fig. 1)."""
    shown = {view: table.select(view=view).images[:columns] for view in dict.fromkeys(table.view)}
    rows = [(view, [_uptake(images, table.suvr_max)]) for view, images in shown.items()]
    figure, axes = _sheet(rows, heads=[""], high=table.suvr_max, width_mm=width_mm, box=_head(table))
    for row, view in zip(axes, shown, strict=True):
        for x, letter, side in zip((0.04, 0.96), SIDES[view], ("left", "right"), strict=True):
            _note(row[0][0], x, 0.96, letter, ha=side, va="top")
    return figure


@look()
def generator_progress(
    snapshots: Mapping[int, torch.Tensor], *, real: Slices, network: int = 0, width_mm: float = FULL_MM * 0.75
) -> Picture:
    """What a generator makes of some of the same noise after more and more steps (Fig. 4), real slices below.

    Parameters
    ----------
    snapshots : mapping of int to torch.Tensor
        By number of steps (K, n, 1, S, S), of every network, column by column of the same noise.
    real : Slices
    network : int
        Which network is shown.
    width_mm : float
    """
    steps, high = sorted(snapshots), real.suvr_max
    kept = [steps[k] for k in np.unique(np.linspace(0, len(steps) - 1, min(STEPS, len(steps))).round().astype(int))]
    rows = [(f"{step:,}".replace(",", " "), [_uptake(snapshots[step][network][:SEEDS], high)]) for step in kept]
    rows.append(("real", [_uptake(real.images[:len(rows[0][1][0])], high)]))
    heads = ["steps of training, from above"]
    return _sheet(rows, heads=heads, high=high, width_mm=width_mm, box=_head(real))[0]


@look()
def real_and_synthetic(
    tables: Mapping[str, Slices], *, by: str = "stage", stages: str | None = None, view: str | None = None,
    count: int = 4, width_mm: float = FULL_MM,
) -> Picture:
    """Real slices in the first block and synthetic ones in the others, a row a stage or view (Figs. 6, 7 and 8).

    Nothing is selected: the first slices of each are shown, cropped to where real heads are.

    Parameters
    ----------
    tables : mapping of str to Slices
        By the title of the block, real ones first.
    by : {"stage", "view"}
        What rows are.
    stages, view : str, optional
        Which slices are shown at all.
    count : int
        Slices in a row of a block.

    Raises
    ------
    NbkitError
        For a stage or view of real slices that some table lacks.
    """
    known(by, ("stage", "view"), "real_and_synthetic: by")
    tables = {name: table.select(stages=stages, view=view) for name, table in tables.items()}
    real, rows = next(iter(tables.values())), []
    for value in dict.fromkeys(getattr(real, by)):
        for name, table in tables.items():
            known(value, getattr(table, by), f"real_and_synthetic: {name}")
        chosen = {"stages" if by == "stage" else "view": value}
        rows.append((value, [_uptake(t.select(**chosen).images[:count], real.suvr_max) for t in tables.values()]))
    return _sheet(rows, heads=list(tables), high=real.suvr_max, width_mm=width_mm, box=_head(real))[0]


def mean_images(tables: Mapping[str, Slices], *, view: str = "axial", width_mm: float = FULL_MM * 0.66) -> Picture:
    """Mean slices of each stage, a row a table, and what the last stage has more or less than the first (AD − CN).

    Means are over all levels of the view; all share one scale, and so do the differences.

    Parameters
    ----------
    tables : mapping of str to Slices
        By title, real ones first; the head is where their mean has a tenth of the scale's uptake, holes included.
    """
    tables = {name: table.select(view=view) for name, table in tables.items()}
    real = next(iter(tables.values()))
    stages, spacing = list(dict.fromkeys(real.stage)), FIELD_MM / real.images.shape[-1]
    affine = np.diag([spacing, spacing, 1.0, 1.0])

    def volume(table: Slices, stage: str) -> Volume:
        mean = table.suvr(table.select(stages=stage).images).mean(0)
        return Volume(mean[..., None], affine)

    means = {name: {stage: volume(table, stage) for stage in stages} for name, table in tables.items()}
    head = binary_fill_holes(real.suvr(real.images).mean(0)[0].numpy() > 0.1 * real.suvr_max)
    whole = Volume(torch.from_numpy(head)[..., None], affine)
    cut, scale = view_of(whole, index=0), Scale(0.0, real.suvr_max, CMAP, SUVR_LABEL)
    rows = [Row(tuple(Tile(mean, cut, scale, "" if k else f"{stage}, mean") for stage, mean in by_stage.items()), name)
            for k, (name, by_stage) in enumerate(means.items())]
    gaps = {name: m[stages[-1]].with_data(m[stages[-1]].data - m[stages[0]].data) for name, m in means.items()}
    change = difference_scale(gaps.values(), whole, label="difference (SUVR)", signed=True)
    rows.append(Row(tuple(Tile(gap, cut, change, name) for name, gap in gaps.items()), f"{stages[-1]} − {stages[0]}"))
    return panel(rows, width_mm=width_mm, levels=False)


@look()
def neighbour_sheet(
    found: Mapping[str, tuple[torch.Tensor, Sequence[float]]], *, suvr_max: float, width_mm: float = FULL_MM * 0.75
) -> Picture:
    """Synthetic slices above the nearest training slice and the nearest one of people never seen, with distances.

    A generator that memorises has its training slices in the second row, and distances to them that are much smaller.

    Parameters
    ----------
    found : mapping
        Of :func:`nbkit.papers.pet_dcgan.experiments.neighbours`.
    suvr_max, width_mm : float
    """
    rows = [(name.replace(" ", "\n"), [_uptake(images, suvr_max)]) for name, (images, _) in found.items()]
    real = torch.cat([images for images, _ in list(found.values())[1:]])
    figure, axes = _sheet(rows, heads=[""], high=suvr_max, width_mm=width_mm, box=_box(real))
    for row, (_, distances) in zip(axes, found.values(), strict=True):
        for place, distance in zip(row[0], distances, strict=False):
            _note(place, 0.04, 0.03, f"{distance:.3g}", ha="left", va="bottom")
    return figure


@look()
def joint_histograms(
    tables: Mapping[str, Slices], *, stage: str, view: str = "axial", bins: int = 64, width_mm: float = FULL_MM * 0.8
) -> Picture:
    """Share of pixels by their intensity and that of the neighbour on their right, logarithmic (Fig. 9).

    The paper shows the "2D-histogram of a sample real and synthetic image" and does not say of what; this is one with
    both axes intensities, which sees contrast, and sharpness by its width about the diagonal. Above, the first image of
    a stage and view of each table; below, all slices.

    Parameters
    ----------
    tables : mapping of str to Slices
        By name, e.g. "a  real" and "b  synthetic".
    stage, view : str
        Of the single images.
    bins : int
    width_mm : float
    """
    rows = {"one image": {name: table.select(stages=stage, view=view).at([0]) for name, table in tables.items()},
            "all slices": tables}
    figure = new_figure(width_mm, 0.93 * width_mm / len(tables) * len(rows))
    places = figure.subplots(len(rows), len(tables), sharex=True, sharey=True, squeeze=False)
    edges = (0, next(iter(tables.values())).suvr_max)
    for line, (row, shown) in zip(places, rows.items(), strict=True):
        uptake = {name: table.suvr(table.images).numpy() for name, table in shown.items()}
        norm = LogNorm(1 / max(x[:, :, 1:].size for x in uptake.values()), 1)
        for axes, (name, x) in zip(line, uptake.items(), strict=True):
            sns.histplot(x=x[:, :, :-1].ravel(), y=x[:, :, 1:].ravel(), bins=bins, binrange=(edges, edges),
                         stat="probability", norm=norm, cmap="viridis", vmin=None, vmax=None, ax=axes)
            axes.locator_params(nbins=5)
            axes.set(title=f"{name}, {row}", xlim=edges, ylim=edges, aspect="equal", ylabel="")
        line[0].set_ylabel("of the pixel on its right")
        figure.colorbar(ScalarMappable(norm, "viridis"), ax=list(line), label="share of pixels", shrink=0.8)
    for axes in places[-1]:
        axes.set_xlabel(SUVR_LABEL)
    return figure


@look()
def likeness(
    compared: pd.DataFrame, ends: pd.DataFrame, *, published: Mapping[str, float] | None = None,
    width_mm: float = FULL_MM,
) -> Picture:
    """PSNR and SSIM of generated slices with those of other people, and where images that are not generated lie.

    Parameters
    ----------
    compared : DataFrame
        Of :func:`nbkit.papers.pet_dcgan.generator_experiments.generators`; volumes, of another resolution, are left
        out.
    ends : DataFrame
        Of :func:`nbkit.papers.pet_dcgan.experiments.likeness_ends`; means over stages are drawn as lines.
    published : mapping of str to float, optional
        Printed numbers by id: those of the text are triangles beside the generator of the paper.
    width_mm : float
    """
    needs(compared, ("metric", "system", "value"), "likeness")
    titles = {name: title for name, title in TITLES.items() if name in set(compared["system"]) - {"volume"}}
    figure = new_figure(width_mm, 26 + 8 * len(titles))
    places = figure.subplots(1, 2, sharey=True)
    lines = ends.groupby(["metric", "system", "stage"])["value"].mean().groupby(["metric", "system"]).mean()
    for axes, metric in zip(places, ("psnr", "ssim"), strict=True):
        by = compared[compared["metric"] == metric].set_index("system")["value"]
        axes.plot([by[name] for name in titles], range(len(titles)), "o", color="black", markersize=4.5)
        for name, (title, style) in LIKENESS.items():
            if name in lines[metric]:
                axes.axvline(lines[metric][name], color="#8C8C8C", linewidth=1, linestyle=style, label=title, zorder=1)
        if published and "separate" in titles:
            place = [*titles].index("separate") - 0.28
            axes.plot(published[f"islam2020.text.{metric}"], place, "v", **HOLLOW, markersize=5, label="published")
        axes.set_xlabel({"psnr": "PSNR, dB", "ssim": "SSIM"}[metric])
        axes.margins(x=0.06, y=0.12)
    places[0].set_yticks(range(len(titles)), [fill(title, 34) for title in titles.values()])
    places[0].invert_yaxis()
    figure.legend(*places[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


@look()
def augmentation_curves(
    frame: pd.DataFrame, *, published: Mapping[str, float] | None = None, ends: Sequence[pd.DataFrame] = (),
    seed: int = 0, width_mm: float = FULL_MM,
) -> Picture:
    """Accuracy against the number of real training subjects, a panel for each view, a line for each arm.

    Bars are bootstrap 95 % intervals by subject; arms of one number of subjects stand side by side.

    Parameters
    ----------
    frame : DataFrame
        Columns "view", "system" (the arm), "metric", "real_subjects" and "value", a row per subject
        (:func:`nbkit.papers.pet_dcgan.augmentation_experiments.classified`).
    published : mapping of str to float, optional
        By arm: hollow triangles at the right edge of the last panel, because the paper gives one number for all views.
    ends : sequence of DataFrame
        By view, with the column "role" (:func:`nbkit.papers.pet_dcgan.augmentation_experiments.rooms`): lines at the
        floor and at the best reach.
    seed : int
        Of the bootstrap.
    """
    needs(frame, ("view", "system", "metric", "real_subjects", "value"), "augmentation_curves")
    frame = frame[frame["metric"] == "accuracy"]
    check_keys([*frame["system"].unique(), *(published or {})], ARMS, "augmentation_curves: arms")
    shown = {arm: mark for arm, mark in ARMS.items() if arm in set(frame["system"])}
    counts, titles = np.sort(frame["real_subjects"].unique()), [mark.title for mark in shown.values()]
    # on a logarithmic axis arms stand apart by equal factors
    apart = 0.025 * (np.log(counts[-1] / counts[0]) if len(counts) > 1 else 1.0)
    aside = {arm: np.exp(apart * (k - (len(shown) - 1) / 2)) for k, arm in enumerate(shown)}
    data = frame.assign(place=frame["real_subjects"] * frame["system"].map(aside),
                        arm=frame["system"].map({arm: mark.title for arm, mark in shown.items()}))
    data = data.sort_values("place", kind="stable")  # people in the ledger's order, or its intervals are not met
    figure, views = new_figure(width_mm, 72), list(dict.fromkeys(frame["view"]))
    places = figure.subplots(1, len(views), sharey=True, squeeze=False)[0]
    for axes, view in zip(places, views, strict=True):
        sns.lineplot(
            data[data["view"] == view], x="place", y="value", hue="arm", style="arm", hue_order=titles,
            style_order=titles, palette=[m.colour for m in shown.values()], markers=[m.marker for m in shown.values()],
            errorbar=lambda x: interval(x, seed=seed), err_style="bars", err_kws={"linewidth": 0.9}, sort=False,
            mew=0, ax=axes,
        )
        axes.set(title=view, xlabel="real training subjects", xscale="log",
                 ylabel="accuracy, %" if axes is places[0] else "")
        axes.set_xticks(counts, [f"{count:.0f}" for count in counts])
        axes.minorticks_off()
        axes.grid(axis="y")
        axes.get_legend().remove()
        bounds(axes, next((_best(x) for x in ends if view in set(x["view"])), {}), keyed=True)
    for arm, value in (published or {}).items():
        places[-1].plot(
            1.03, value, "<", color="white", markeredgecolor=ARMS[arm].colour, markersize=5.5, clip_on=False,
            transform=places[-1].get_yaxis_transform(), label=f"published, {ARMS[arm].title}",
        )
    key = {label: h for axes in places for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(key.values(), key.keys(), loc="outside upper center", ncols=4)
    return figure


def _best(room: pd.DataFrame) -> dict[str, float]:
    """Floor, and the best of the learners' accuracies, of the same people and of strangers."""
    means = room[room["role"].isin(["floor", "reach"])].groupby("system")["value"].mean()
    ends = {name: [x for system, x in means.items() if system.replace("_ridge", "") == name]
            for name in ("floor", "reach", "reach_tenfold")}
    return {name: max(values) for name, values in ends.items() if values}


def _uptake(images: torch.Tensor, suvr_max: float) -> list[np.ndarray]:
    """Images (n, 1, S, S) in [−1, 1] as uptake ratios, each (S, S) with rows from below."""
    require(
        images.ndim == 4 and images.shape[1] == 1, "figures of slices: images", expected="shape (n, 1, S, S)",
        found=tuple(images.shape), remedy="Pass images of a table of slices; of volumes, cut planes first.",
    )
    return [x.T for x in ((images[:, 0].detach().cpu().float().numpy() + 1) / 2 * suvr_max)]


def _sheet(
    rows: Sequence[tuple[str, Sequence[Sequence[np.ndarray]]]], *, heads: Sequence[str], high: float, width_mm: float,
    box: tuple[float, float, float, float],
) -> tuple[Picture, list[list[list[Axes]]]]:
    """Rows of one or more blocks of images, cropped to the head, a title above each block, one colour bar; and the axes
    of each.

    Pixels are drawn as they are: those of a generator are what is looked at.
    """
    widths = [max(len(blocks[k]) for _, blocks in rows) for k in range(len(heads))]
    lines = max(label.count("\n") + 1 for label, _ in rows)
    left = 3.6 * lines + 1.6 if any(label for label, _ in rows) else _EDGE
    pitch = (width_mm - left - _BAR - 5 * _GAP * (len(heads) - 1)) / sum(widths)
    starts = [left + sum(widths[:k]) * pitch + 5 * _GAP * k for k in range(len(heads))]
    top = _HEAD if any(heads) else _EDGE
    height = top + len(rows) * pitch + _EDGE
    figure, drawn = new_figure(width_mm, height, layout=None), []
    for x, head in zip(starts, heads, strict=True):
        figure.text(x / width_mm, 1 - 1.0 / height, head, ha="left", va="top", fontsize=8.5)
    for i, (label, blocks) in enumerate(rows):
        bottom, side = height - top - (i + 1) * pitch, pitch - _GAP
        at = ((left - 1.2) / width_mm, (bottom + side / 2) / height)
        figure.text(*at, label, rotation=90, ha="right", va="center", ma="center")
        drawn.append([
            [bare_axes(figure, (x + k * pitch, bottom, side, side)) for k in range(len(block))]
            for x, block in zip(starts, blocks, strict=True)
        ])
        for axes, image in zip(sum(drawn[-1], []), (image for block in blocks for image in block), strict=True):
            axes.imshow(image, cmap=CMAP, vmin=0, vmax=high, interpolation="nearest", extent=(0, 1, 0, 1))
            axes.set(xlim=box[:2], ylim=box[2:])
    tall = min(60.0, height - top - 4.0)
    place = bare_axes(figure, (width_mm - _BAR + 1.5, (height - top - tall) / 2 + 0.4, 2.4, tall))
    bar = figure.colorbar(ScalarMappable(Normalize(0, high), CMAP), cax=place)
    bar.set_label(SUVR_LABEL if tall > 28 else "SUVR", labelpad=2, fontsize=7)
    bar.outline.set_visible(False)
    bar.ax.locator_params(nbins=5)
    bar.ax.tick_params(labelsize=6.5, length=2, pad=1.5)
    return figure, drawn


def _head(real: Slices) -> tuple[float, float, float, float]:
    return _box(real.images)


def _box(real: torch.Tensor) -> tuple[float, float, float, float]:
    """The square (left, right, bottom, top, as shares of an image) that holds all heads of real images (n, 1, S, S)."""
    inside = (real[:, 0].detach().cpu() > DARK).any(0)
    spans = []
    for axis in (1, 0):
        found = torch.nonzero(inside.any(axis)).flatten()
        first, last = (int(found[0]), int(found[-1]) + 1) if len(found) else (0, len(inside))
        spans.append((first / len(inside), last / len(inside)))
    half = min(max(b - a for a, b in spans) / 2 + MARGIN, 0.5)
    middles = [min(max((a + b) / 2, half), 1 - half) for a, b in spans]
    return middles[0] - half, middles[0] + half, middles[1] - half, middles[1] + half


def _note(axes: Axes, x: float, y: float, text: str, *, ha: str, va: str) -> None:
    halo = [withStroke(linewidth=1.2, foreground="black")]
    style = {"transform": axes.transAxes, "color": "white", "fontsize": 6.5, "path_effects": halo}
    axes.text(x, y, text, ha=ha, va=va, **style)
