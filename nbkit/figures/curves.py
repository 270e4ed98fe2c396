"""Learning curves, paired differences with intervals, and distributions beside published quantiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from nbkit.core.checks import require
from nbkit.core.stats import bootstrap_mean
from nbkit.figures.charts import INK, LINES, SOFT, interval_text
from nbkit.figures.marks import Mark, marks
from nbkit.figures.style import FULL_MM, HALF_MM, Picture, look, new_figure

@look()
def learning_curves(
    curves: Mapping[str, Sequence[Sequence[float]]], ylabel: str, *, xlabel: str = "epoch", step: int = 1,
    width_mm: float = HALF_MM * 1.35,
) -> Picture:
    """Error against epoch: mean and ±1 SD over folds, one thin line per fold (Wei 2019, Fig. 2.3).

    Early stopping ends folds at different epochs, so the mean is drawn only as far as every fold runs;
    beyond it the single folds go on, each ending in a dot.

    Parameters
    ----------
    curves : mapping of str to sequence of sequences
        By setting (e.g. ``"3 layers"``): one series of errors per fold, of any length, the first before training.
    ylabel, xlabel : str
        With units.
    step : int
        Epochs from one value to the next.

    Raises
    ------
    NbkitError
        For a setting without values.
    """
    figure = new_figure(width_mm, 0.66 * width_mm)
    axes = figure.add_subplot()
    for line, (name, mark) in zip(_cycle(LINES, len(curves)), marks(curves).items(), strict=True):
        _curve(axes, [np.asarray(fold, float) for fold in curves[name]], mark, line, step)
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, None))
    axes.grid(axis="y")
    axes.legend(loc="upper right")
    return figure


def _cycle(items: Sequence, n: int) -> list:
    return [items[i % len(items)] for i in range(n)]


def _curve(axes: Axes, folds: Sequence[np.ndarray], mark: Mark, line: object, step: int) -> None:
    require(
        len(folds) > 0 and all(f.size for f in folds), f"learning_curves: {mark.title}",
        expected="at least one fold, each with values", found=f"{len(folds)} folds",
        remedy="Pass one series of errors per fold.",
    )
    common = np.stack([f[: min(map(len, folds))] for f in folds])
    epochs, mean, sd = step * np.arange(common.shape[1]), common.mean(0), common.std(0)
    for fold in folds if len(folds) > 1 else ():
        axes.plot(step * np.arange(fold.size), fold, color=mark.colour, linewidth=0.5, alpha=0.45)
        axes.plot(step * (fold.size - 1), fold[-1], "o", color=mark.colour, markersize=1.8, alpha=0.6)
    axes.fill_between(epochs, mean - sd, mean + sd, color=mark.colour, alpha=0.15, linewidth=0)
    axes.plot(epochs, mean, color=mark.colour, linestyle=line, label=mark.title)


@look()
def forest_plot(
    differences: Mapping[str, Sequence[float]], xlabel: str, *, published: Mapping[str, float] | None = None,
    better: tuple[str, str] | None = None, seed: int = 0, width_mm: float = FULL_MM,
) -> Picture:
    """Paired differences per subject, their mean and bootstrap 95 % interval, and the published difference.

    Parameters
    ----------
    differences : mapping of str to sequence of float
        By comparison: one difference per subject, in the unit `xlabel` names.
    published : mapping of str to float, optional
        The difference of the published means, in the same unit.
    better : (str, str), optional
        Who is favoured left and right of zero.
    seed : int
        Of the bootstrap.
    """
    rows = list(marks(differences).items())
    figure = new_figure(width_mm, 20 + 9.5 * len(rows))
    axes = figure.add_subplot()
    axes.axvline(0, color=SOFT, linewidth=0.8)
    texts = []
    for level, (name, mark) in enumerate(rows):
        mean = bootstrap_mean(differences[name], seed=seed)
        _forest_row(axes, level, np.asarray(differences[name], float), (mean.low, mean.value, mean.high), mark)
        if published and name in published:
            axes.plot(published[name], level - 0.34, "v", color="white", markeredgecolor=INK, markersize=5, zorder=5)
        texts.append(f"{interval_text(mean)}  n = {mean.n}")
    axes.set(yticks=range(len(rows)), yticklabels=[m.title for _, m in rows], ylim=(len(rows) - 0.5, -0.6))
    axes.set_xlabel(xlabel + (f"\n← favours {better[0]}   |   favours {better[1]} →" if better else ""))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    _side_texts(axes, texts)
    _forest_key(axes, bool(published))
    return figure


def _forest_row(axes: Axes, level: int, values: np.ndarray, mean: tuple[float, float, float], mark: Mark) -> None:
    offsets = 0.16 * ((np.argsort(np.argsort(values)) % 3) - 1)
    axes.plot(values, level + offsets, mark.marker, color=mark.colour, markersize=3, alpha=0.5, markeredgewidth=0)
    axes.plot([mean[0], mean[2]], [level, level], color=INK, linewidth=1.6, solid_capstyle="butt", zorder=4)
    axes.plot(mean[1], level, "D", color=mark.colour, markeredgecolor=INK, markersize=5.5, zorder=5)


def _side_texts(axes: Axes, texts: Sequence[str]) -> None:
    side = axes.secondary_yaxis("right")
    side.set_yticks(range(len(texts)), texts)
    side.tick_params(length=0)
    side.spines["right"].set_visible(False)


def _forest_key(axes: Axes, published: bool) -> None:
    axes.plot([], [], "o", color=SOFT, markersize=3, label="one subject")
    axes.plot([], [], "D-", color=INK, markersize=5, linewidth=1.6, label="mean, 95 % interval")
    if published:
        axes.plot([], [], "v", color="white", markeredgecolor=INK, markersize=5, label="published means")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, columnspacing=1.4)


@look()
def dot_plot(
    values: Mapping[str, Sequence[float]], ylabel: str, *, published: Mapping[str, float] | None = None,
    published_label: str = "published mean", width_mm: float = FULL_MM * 0.7,
) -> Picture:
    """One dot per subject and system, the mean as a bar, the published mean (same unit) as a triangle.

    Parameters
    ----------
    values : mapping of str to sequence of float
        By system: one value per subject, NaN where a subject has none.
    ylabel : str
        Measure with unit.
    published : mapping of str to float, optional
        In the same unit; leave it out where the units differ.
    """
    figure = new_figure(width_mm, 68)
    axes = figure.add_subplot()
    rows = marks(values)
    for place, (name, mark) in enumerate(rows.items()):
        x = np.asarray(values[name], float)
        x = x[np.isfinite(x)]
        offsets = 0.08 * ((np.argsort(np.argsort(x)) % 5) - 2)
        axes.plot(place + offsets, x, mark.marker, color=mark.colour, markersize=3.2, alpha=0.55, markeredgewidth=0)
        axes.plot([place - 0.3, place + 0.3], [x.mean()] * 2, color=INK, linewidth=1.6)
        if published and name in published:
            axes.plot(place + 0.36, published[name], "<", color="white", markeredgecolor=INK, markersize=5)
    axes.plot([], [], color=INK, linewidth=1.6, label="mean of our subjects")
    if published:
        axes.plot([], [], "<", color="white", markeredgecolor=INK, markersize=5, label=published_label)
    axes.set(xticks=range(len(rows)), ylabel=ylabel, xlim=(-0.6, len(rows) - 0.4))
    axes.set_xticklabels([m.title.replace(" ", "\n", 1) for m in rows.values()])
    axes.grid(axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    return figure


@look()
def cumulative_plot(
    values: Sequence[float], xlabel: str, *, quantiles: Mapping[float, float] | None = None,
    name: str = "this cohort", quantile_name: str = "published quantiles", log: bool = False,
    width_mm: float = HALF_MM * 1.2,
) -> Picture:
    """Share of subjects at or below each value, with published quantiles (share -> value) as triangles."""
    figure = new_figure(width_mm, 0.62 * width_mm)
    axes, x = figure.add_subplot(), np.sort(np.asarray(values, float))
    axes.ecdf(x, color="#0072B2", label=f"{name} (n = {x.size})")
    axes.plot(x, np.arange(1, x.size + 1) / x.size, "o", color="#0072B2", markersize=2.6)
    if quantiles:
        shares, at = zip(*sorted(quantiles.items()), strict=True)
        axes.plot(at, shares, "v", color="white", markeredgecolor=INK, markersize=5, label=quantile_name)
    axes.set(xlabel=xlabel, ylabel="share of subjects", ylim=(-0.02, 1.04), xscale="log" if log else "linear")
    if log:
        axes.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axes.grid()
    axes.legend(loc="lower right" if log else "center right")
    return figure
