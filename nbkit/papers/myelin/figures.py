"""Charts of the myelin chapters, drawn from tidy frames, and their open points (Wei thesis, ch. 3 and 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from nbkit.core.checks import require
from nbkit.core.stats import MIN_SUBJECTS, bootstrap_mean
from nbkit.core.tidy import paired
from nbkit.figures.charts import (
    INK, LINES, SOFT, bounds, forest_plot, interval, interval_text, looks, number, panels, titled,
)
from nbkit.figures.marks import Mark, marks, needs, title_of
from nbkit.figures.published import printed
from nbkit.figures.style import FULL_MM, Picture, look, new_figure
from nbkit.metrics.stats import bland_altman
from nbkit.papers.myelin.experiments import ENDS

TRUTH = Mark("True PET", "#C4C4C4", "*")
"""Lighter than every system: bars side by side are told apart without colour."""
KEY_MM = 6.0
PRINTED = {("mse", "refiner"): "wei2019m.table3_1.mse", ("mse", "refiner_cfsagan"): "wei2020.table4_1.mse",
           ("discrepancy_lesions", "refiner"): "wei2019m.table3_2.lesions"}
"""Where the means behind :func:`gain_plot` are printed, by measure and system compared with."""
ERRORS = {"mse": "MSE (DVR²)", "discrepancy_lesions": "lesion discrepancy (DVR)"}
NETWORKS = {"unet": "3D U-Net", "cgan": "cGAN", "cfsagan": "CF-SAGAN"}
INDICES = {"global_change": "global change", "dynamic_demyelination": "demyelinating share",
           "dynamic_remyelination": "remyelinating share"}
"""Panels of Figure 4.5."""
VISITS = {"percent_t0": "at t0 (%)", "percent_t1": "at t1 (%)"}
"""Panels of Figure 4.4 A."""
GROUPS = {"wm_nawm": "WM of controls, NAWM of patients"}
CHOICES = {
    "no_noise": ("Noise z of the Sketcher, its shape not given", "one channel of white noise", "none"),
    "unmasked": ("Loss of the Refiner, when no masks of lesions are at hand", "weighted by region", "plain L1"),
    "incomplete": ("Subjects with a contrast missing, whom the paper leaves out", "complete ones only",
                   "contrasts left out at random in training"),
    "unpooled": ("Pooling p of the attention, not given", "2, the least that pools", "1: every place by itself"),
    "zscores": ("z-scores by all voxels of the images (published), or by the brain's",
                "published at paper size, the brain's in small profiles", "the other"),
    "head": ("Last layer of the U-Net: leaky ReLU (published), or none",
             "published at paper size, none in small profiles", "the other"),
    "patch_loss": ("Discriminator's loss: the sum over patches (published), or their mean",
                   "published at paper size, the mean in small profiles", "the other"),
    "no_poses": ("Rotations and scalings", "about the axis from foot to head", "none"),
}
"""Open points that are tried: what is left open, our choice, the other way."""


@look()
def iteration_curves(
    frame: pd.DataFrame, ends: pd.DataFrame | None = None, *, seed: int = 0, width_mm: float = FULL_MM
) -> Picture:
    """MSE and discrepancies against the number of refinements: mean and bootstrap 95 % interval (Fig. 3.5).

    Parameters
    ----------
    frame : DataFrame
        Of :func:`~nbkit.papers.myelin.experiments.refinements`.
    ends : DataFrame, optional
        Scores of floor and reach (:mod:`nbkit.papers.synthesis.room`), drawn as lines: of the MSE and, among the
        regions, of lesions.
    seed : int
        Of the bootstrap.
    """
    needs(frame, ("iteration", "structure", "metric", "value"), "iteration_curves")
    whole, shown, styles = frame["structure"] == "whole image", frame["metric"] != "gain", looks(frame["structure"])
    parts = {"MSE (DVR²)": (whole & shown, "mse"), "discrepancy (DVR)": (~whole & shown, "discrepancy_lesions")}

    def draw(axes: Axes, label: str) -> None:
        rows, of = parts[label]
        part = titled(frame[rows], "structure")
        names = part["structure"].unique()
        sns.pointplot(
            part, x="iteration", y="value", hue="structure", dodge=0.2 if len(names) > 1 else False,
            errorbar=lambda x: interval(x, seed=seed), palette=styles["palette"], linestyles=list(LINES[: len(names)]),
            markers=[styles["markers"][name] for name in names], linewidth=1.2, markersize=4, capsize=0.06,
            err_kws={"linewidth": 0.9}, ax=axes,
        )
        axes.set(xlabel="refinement iterations (0: Sketcher)", ylabel=label)
        if ends is not None:
            bounds(axes, levels(ends, of))

    titles = {label: f"({letter})" for label, letter in zip(parts, "AB", strict=True)}
    return panels(list(parts), draw, columns=2, width_mm=width_mm, height_mm=62, titles=titles)


RANKED = ("mse", "mse_own", "discrepancy_lesions", "mae_lesions", "dice_demyelinated")
"""What systems are ranked by, the first above all."""


def levels(ends: pd.DataFrame, metric: str) -> dict[str, float]:
    """Mean over people of an error of floor and of the better reach, as far as there are any, for lines in a chart."""
    found = ends[(ends["metric"] == metric) & ends["system"].isin(ENDS)].groupby("system")["value"].mean()
    reach = found.filter(like="reach")
    return found.filter(items=["floor"]).to_dict() | ({"reach": float(reach.min())} if len(reach) else {})


def gain_plot(
    scores: pd.DataFrame, metric: str, against: str, *, published: Mapping[str, Any] | None = None, seed: int = 0
) -> Picture:
    """Errors minus those of one system, paired by person, with floor and reach as lines.

    Parameters
    ----------
    scores : DataFrame
        Tidy; the mean, whose error would squeeze the others, is left out.
    metric, against : str
        What is compared, "mse" or "discrepancy_lesions", and with which system.
    published : mapping, optional
        Numbers of the ledger by id: differences of printed means are drawn.
    """
    title = title_of(against)
    label, better = f"{ERRORS[metric]}, of the method − of {title}", ("the method", title)
    gaps = paired(scores[(scores["metric"] == metric) & ~scores["system"].isin(("mean", "person"))], against)
    said = printed(published or {}, PRINTED[metric, against], against=against)
    figure = forest_plot(gaps[~gaps["system"].isin(ENDS)], label, better=better, published=said, seed=seed)
    bounds(figure.axes[0], levels(gaps, metric), along="x")
    return figure


@look()
def convergence_grid(
    seen: pd.DataFrame, titles: Mapping[str, str] = NETWORKS, *, width_mm: float = FULL_MM
) -> Picture:
    """Validation error against epoch under each loss, a panel a network, a line a fold (Section 4.3.3).

    Parameters
    ----------
    seen : DataFrame
        Of :func:`~nbkit.papers.myelin.learning.curves`.
    titles : mapping of network to str
    """
    needs(seen, ("network", "setting", "fold", "epoch", "value"), "convergence_grid")
    figure = new_figure(width_mm, 52)
    grid, names = figure.subplots(1, len(titles), squeeze=False)[0], list(seen["setting"].unique())
    styles = looks(pd.Series([name.upper() for name in names]))
    for axes, (network, title) in zip(grid, titles.items(), strict=True):
        rows = seen[seen["network"] == network].assign(setting=seen["setting"].str.upper())
        sns.lineplot(rows, x="epoch", y="value", hue="setting", units="fold", estimator=None, lw=0.9,
                     palette=styles["palette"], ax=axes)
        axes.set(xlabel="epoch", ylabel="mean |error| of validation (z)" if axes is grid[0] else "", title=title)
        axes.grid(axis="y")
    _legend_above(figure)
    return figure


def _dressed(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """`frame` with systems and regions as readers see them, and each system's colour; "truth" is the true PET."""
    drawn = marks(frame["system"], {"truth": TRUTH})
    names = frame["system"].map({n: mark.title for n, mark in drawn.items()})
    return frame.assign(system=names), {mark.title: mark.colour for mark in drawn.values()}


@look()
def roi_boxes(means: pd.DataFrame, *, width_mm: float = FULL_MM) -> Picture:
    """Mean DVR by region and system: a dot a person; median, quartiles, least and most; mean dotted (Fig. 3.6).

    Parameters
    ----------
    means : DataFrame
        Of :func:`~nbkit.papers.myelin.experiments.region_means`; "truth" first.
    """
    needs(means, ("structure", "system", "value", "subject"), "roi_boxes")
    figure, (data, palette) = new_figure(width_mm, 70), _dressed(means)
    axes, thin = figure.add_subplot(), {"color": INK, "linewidth": 0.7}
    shared = {"x": "structure", "y": "value", "hue": "system", "palette": palette, "ax": axes}
    sns.boxplot(
        data, **shared, whis=(0, 100), width=0.8, gap=0.15, showmeans=True, meanline=True, boxprops={"alpha": 0.45},
        medianprops={"color": INK, "linewidth": 1.3}, whiskerprops=thin, capprops=thin,
        meanprops={"color": INK, "linewidth": 1.0, "linestyle": (0, (1, 1))},
    )
    sns.stripplot(data, **shared, dodge=True, jitter=False, size=2.2, alpha=0.7, legend=False)
    axes.plot([], [], color=INK, linewidth=1.3, label="median")
    axes.plot([], [], color=INK, linewidth=1.0, linestyle=(0, (1, 1)), label="mean")
    counts = data.groupby("structure", sort=False)["subject"].nunique()
    axes.set(xlabel="", ylabel="mean of the region (DVR)")
    axes.set_xticks(range(len(counts)), [f"{title_of(region)}\nn = {n}" for region, n in counts.items()])
    axes.grid(axis="y")
    _legend_above(figure)
    return figure


def _legend_above(figure: Picture) -> None:
    handles = {}
    for axes in figure.axes:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        if axes.get_legend():
            axes.get_legend().remove()
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4)


@look()
def agreement_grid(frame: pd.DataFrame, *, width_mm: float = FULL_MM) -> Picture:
    """Bland-Altman plots of every system (rows) in every region (columns), one scale per region (Fig. 3.7).

    Parameters
    ----------
    frame : DataFrame
        Of :func:`~nbkit.papers.myelin.experiments.agreement`.
    """
    needs(frame, ("structure", "system", "value", "true"), "agreement_grid")
    bias = frame[frame["metric"] == "bias"]
    drawn, regions = marks(bias["system"]), list(bias["structure"].unique())
    figure = new_figure(width_mm, 31 * len(drawn) + 8)
    grid = figure.subplots(len(drawn), len(regions), squeeze=False, sharex="col", sharey="col")
    for column, region in enumerate(regions):
        for row, (name, mark) in enumerate(drawn.items()):
            _bland_altman(grid[row, column], bias[(bias["structure"] == region) & (bias["system"] == name)], mark)
        grid[0, column].set_title(GROUPS.get(region) or title_of(region))
        grid[-1, column].set_xlabel("mean of predicted and true (DVR)")
    figure.supylabel("predicted − true (DVR)", fontsize=8.0)
    return figure


def _bland_altman(axes: Axes, rows: pd.DataFrame, mark: Mark) -> None:
    if len(rows) < 2:
        axes.set_axis_off()
        return
    found = bland_altman(rows["true"] + rows["value"], rows["true"])
    axes.axhline(0, color=SOFT, linewidth=0.6)
    enough = found.n >= MIN_SUBJECTS
    if enough:
        axes.axhspan(found.lower, found.upper, color=mark.colour, alpha=0.10, linewidth=0)
    axes.axhline(found.bias, color=mark.colour, linewidth=1.2)
    middle = rows["true"] + rows["value"] / 2
    sns.scatterplot(x=middle, y=rows["value"], color=mark.colour, marker=mark.marker, s=14, alpha=0.8, lw=0, ax=axes)
    bias, low, high = (number(v, decimals=3) for v in (found.bias, found.lower, found.upper))
    axes.text(0.01, 0.97, mark.title, transform=axes.transAxes, ha="left", va="top", fontsize=7.5, weight="bold")
    limits = f" [{low}, {high}]" if enough else ""
    axes.text(0.99, 0.97, f"bias {bias}{limits}, n = {found.n}", transform=axes.transAxes,
              ha="right", va="top", fontsize=6.8)
    axes.set(xlabel="", ylabel="")
    axes.margins(y=0.26)


@look()
def patient_bars(
    frame: pd.DataFrame, labels: Mapping[str, str], *, systems: Sequence[str] = (), order: Sequence[str] = (),
    width_mm: float = FULL_MM,
) -> Picture:
    """Bars for each patient, a panel a metric (Figs. 3.8 A, 4.4 A, 4.5).

    Patients are numbered, the same in all panels, by `order` or else by their rank in the system and the panel that
    come first; no subject is named.

    Parameters
    ----------
    frame : DataFrame
        Tidy, of several systems ("truth" first); a row that belongs to nobody is drawn as a line.
    labels : mapping of str to str
        Metric to label of the vertical axis, with its unit.
    systems : sequence of str
        Whom to draw, lines included; all of them if not given.
    order : sequence of str
        Subjects in the order of another figure; who is not among them comes after.
    """
    needs(frame, ("subject", "system", "metric", "value"), "patient_bars")
    frame = frame[frame["system"].isin(systems)] if systems else frame
    figure, order = new_figure(width_mm, 40 * len(labels) + KEY_MM), list(order)
    for row, (metric, label) in enumerate(labels.items()):
        axes, rows = figure.add_subplot(len(labels), 1, row + 1), frame[frame["metric"] == metric]
        data, palette = _dressed(rows[rows["subject"] != ""])
        require(
            len(data) > 0, f"patient_bars: {metric}", expected="values of at least one patient", found="none",
            remedy="Leave this panel out.",
        )
        first = data[data["system"] == data["system"].iloc[0]].sort_values("value")["subject"]
        order += [subject for subject in first if subject not in order]
        sns.barplot(
            data, x="subject", y="value", hue="system", order=order, palette=palette, errorbar=None, saturation=1,
            edgecolor=INK, linewidth=0.4, ax=axes,
        )
        for level in rows[rows["subject"] == ""].itertuples():
            axes.axhline(level.value, color=INK, linewidth=1.0, linestyle=(0, (3, 2)), label=level.system)
        axes.axhline(0, color=INK, linewidth=0.6)
        axes.set(xlabel="", ylabel=label, xlim=(-0.7, len(order) - 0.3))
        axes.set_xticks(range(len(order)), [f"P{i + 1}" for i in range(len(order))])
        axes.grid(axis="y")
    _legend_above(figure)
    return figure


def ranking(scores: pd.DataFrame, metrics: Sequence[str] = RANKED) -> pd.DataFrame:
    """Means over people of some metrics, a row a system as readers see it, the least of the first metric on top."""
    rows = titled(scores[scores["metric"].isin(metrics)])
    table = rows.pivot_table("value", "system", "metric", observed=True)
    return table.reindex(columns=list(metrics)).sort_values(metrics[0])


def choices_table(moved: pd.DataFrame) -> pd.DataFrame:
    """Open points (:data:`CHOICES`) and what they move, a row each, with 95 % intervals over people.

    `moved` is that of :func:`~nbkit.papers.myelin.experiments.alternatives`.
    """
    names = {"mse": "other − ours, MSE (DVR²) [95 %]",
             "discrepancy_lesions": "other − ours, lesion discrepancy (DVR) [95 %]"}
    texts = moved.groupby(["system", "metric"])["value"].agg(lambda x: interval_text(bootstrap_mean(x)))
    texts = texts.unstack("metric").rename(columns=names)
    words = pd.DataFrame.from_dict(CHOICES, orient="index", columns=["left open", "our choice", "the other way"])
    return words.join(texts[list(names.values())], how="inner").reset_index(drop=True)
