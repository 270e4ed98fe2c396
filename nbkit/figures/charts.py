"""Charts of tidy frames by seaborn, in the project's look: marks from one table, intervals as the ledger has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from nbkit.core.checks import known
from nbkit.core.stats import MIN_SUBJECTS, Interval, bootstrap_mean
from nbkit.figures.marks import marks, needs
from nbkit.figures.style import FULL_MM, HALF_MM, Picture, look, new_figure

LINES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
INK, SOFT = "#111111", "#666666"
HOLLOW = {"color": "white", "markeredgecolor": INK, "linestyle": "none"}
"""How published values are drawn."""
PANEL_MM = 46.0
FAR = 4.0
"""A row of :func:`forest_plot` is off the scale when its mean is so many times the largest value of all others."""


def number(value: float, digits: int = 3, *, decimals: int | None = None) -> str:
    """`value` with a true minus sign and at least `digits` significant digits; whole digits are never rounded away.

    `decimals` fixes the number of decimals instead; very large and very small values get an exponent.
    """
    if not np.isfinite(value):
        return "–"
    size = int(np.floor(np.log10(abs(value)))) if value else 0
    if decimals is None and not -4 <= size < 9:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    places = max(digits - 1 - size, 0) if decimals is None else decimals
    return f"{value:.{places}f}".replace("-", "−")


def interval_text(mean: Interval) -> str:
    """``"−0.037 [−0.046, −0.027]"``: decimals follow from the width of the interval.

    Of fewer than six people no interval is told, but how many they are: ``"−0.037 (n = 2)"``.
    """
    width = mean.high - mean.low or abs(mean.value) or 1.0
    decimals = int(np.clip(1 - np.floor(np.log10(width)), 0, 9))
    value, low, high = (f"{v:+.{decimals}f}" for v in (mean.value, mean.low, mean.high))
    told = f"[{low}, {high}]" if mean.n >= MIN_SUBJECTS else f"(n = {mean.n})"
    return f"{value} {told}".replace("-", "−")


def interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """The bootstrap 95 % interval of a mean over subjects, for seaborn's ``errorbar=``; none for fewer than six."""
    x = np.asarray(values, float)
    x = x[np.isfinite(x)]
    if x.size < MIN_SUBJECTS:
        return np.nan, np.nan
    mean = bootstrap_mean(x, seed=seed)
    return mean.low, mean.high


def titled(frame: pd.DataFrame, column: str = "system") -> pd.DataFrame:
    """`frame` with the names of `column` as readers see them, in the order they come in."""
    names = {name: mark.title for name, mark in marks(frame[column]).items()}
    return frame.assign(**{column: pd.Categorical(frame[column].map(names), list(dict.fromkeys(names.values())))})


def looks(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """``palette`` and ``markers`` of names or titles, by title, as seaborn takes them."""
    drawn = marks(names).values()
    return {"palette": {m.title: m.colour for m in drawn}, "markers": {m.title: m.marker for m in drawn}}


def panels(
    names: Sequence[str], draw: Callable[[Axes, str], None], *, columns: int = 3, width_mm: float = FULL_MM,
    height_mm: float = PANEL_MM, titles: Mapping[str, str] | None = None,
) -> Picture:
    """One panel per name, in rows of at most `columns`, under one legend of all that the panels label.

    Parameters
    ----------
    names : sequence of str
    draw : callable
        ``draw(axes, name)`` fills a panel.
    titles : mapping of str to str, optional
        Of the panels; names by default.
    """
    used = min(columns, len(names))
    rows, width = -(-len(names) // used), max(width_mm * used / columns, min(width_mm, HALF_MM))
    figure = new_figure(width, rows * height_mm)
    key: dict[str, object] = {}
    for place, name in enumerate(names):
        axes = figure.add_subplot(rows, used, place + 1)
        draw(axes, name)
        axes.set_title((titles or {}).get(name, name), loc="left")
        axes.grid(axis="y")
        key |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        if axes.get_legend():
            axes.get_legend().remove()
    across = max(1, min(len(key), int(width / (9 + 1.4 * max(map(len, key), default=1)))))
    if key:
        figure.set_figheight((rows * height_mm + 5.5 * -(-len(key) // across)) / 25.4)
        figure.legend(key.values(), key.keys(), loc="outside upper center", ncols=across)
    return figure


@look()
def forest_plot(
    frame: pd.DataFrame, xlabel: str, *, by: str = "system", published: Mapping[str, float] | None = None,
    better: tuple[str, str] | None = None, seed: int = 0, width_mm: float = FULL_MM,
) -> Picture:
    """Paired differences per subject, their mean and bootstrap 95 % interval, and the published difference.

    Parameters
    ----------
    frame : DataFrame
        Columns `by` and "value": one difference per subject (:func:`nbkit.core.tidy.paired`).
    xlabel : str
        The difference, with its unit.
    published : mapping of str to float, optional
        By name in `by`: the difference of the published means, in the same unit.
    better : (str, str), optional
        Who is favoured left and right of zero.
    seed : int
        Of the bootstrap.
    """
    needs(frame, (by, "value"), "forest_plot")
    drawn = marks(frame[by])
    figure = new_figure(width_mm, 20 + 9.5 * len(drawn))
    axes, data = figure.add_subplot(), titled(frame, by)
    axes.axvline(0, color=SOFT, linewidth=0.8)
    means(axes, data, by=by, across=True, seed=seed)
    far = _off_the_scale(axes, frame, by, published or {})
    for level, name in enumerate(drawn):
        if published and name in published and name not in far:
            axes.plot(published[name], level - 0.34, "v", **HOLLOW, markersize=5, zorder=5, label="published means")
    texts = [_mean_text(frame.loc[frame[by] == name, "value"], seed) for name in drawn]
    axes.set(ylabel="", xlabel=xlabel + (f"\n← favours {better[0]}   |   favours {better[1]} →" if better else ""))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    side = axes.secondary_yaxis("right")
    side.set_yticks(range(len(texts)), texts)
    side.tick_params(length=0)
    side.spines["right"].set_visible(False)
    _key(axes, ncols=3)
    return figure


def _off_the_scale(axes: Axes, frame: pd.DataFrame, by: str, published: Mapping[str, float]) -> set[str]:
    """Say where a few rows lie, so far away that all others would become one line; the axis is of the others.

    Their published value is said too. Returns the rows.
    """
    rows = frame.groupby(by, sort=False)["value"]
    mean, most = rows.mean(), rows.agg(lambda values: values.abs().max())
    order = list(mean.abs().sort_values(ascending=False).index)
    splits = (k for k in range(1, (len(order) + 1) // 2) if abs(mean[order[k - 1]]) > FAR * most[order[k:]].max() > 0)
    far = set(order[: next(splits, 0)])
    if not far:
        return far
    near = frame.loc[~frame[by].isin(far), "value"]
    low, high = min(near.min(), 0.0), max(near.max(), 0.0)
    axes.set_xlim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    for level, name in enumerate(mean.index):
        if name in far:
            right = mean[name] > 0
            said = f"; published {number(published[name], 2)}" if name in published else ""
            axes.text(
                0.99 if right else 0.01, level, f"off the scale{said} →" if right else f"← off the scale{said}",
                va="center", ha="right" if right else "left", fontsize=7, color=SOFT,
                transform=axes.get_yaxis_transform(),
            )
    return far


def means(axes: Axes, data: pd.DataFrame, *, by: str, across: bool = False, seed: int = 0) -> None:
    """A dot per subject, and the mean with its interval, for each group.

    Parameters
    ----------
    data : DataFrame
        Columns `by` (titles, see :func:`titled`) and "value".
    across : bool
        Groups under one another and values along x, instead of groups side by side.
    seed : int
        Of the bootstrap.
    """
    places = {"x": "value", "y": by} if across else {"x": by, "y": "value"}
    shared = {**places, "hue": by, "palette": looks(data[by])["palette"], "legend": False, "ax": axes}
    with _same_jitter():
        sns.stripplot(data, size=3, alpha=0.5, jitter=0.14, **shared)
    sns.pointplot(
        data, errorbar=lambda x: interval(x, seed=seed), linestyle="none", markers="D", markersize=5,
        err_kws={"color": INK, "linewidth": 1.6}, zorder=4, **shared,
    )
    axes.plot([], [], "o", color=SOFT, markersize=3, label="one subject")
    axes.plot([], [], "D-", color=INK, markersize=5, linewidth=1.6, label=f"mean, 95 % interval (n ≥ {MIN_SUBJECTS})")


CLOSE = 0.08
"""Share of an axis within which two names of :func:`bounds` would overlap."""
BOUNDS = {"floor": (0, (1, 1.5)), "reach": (0, (5, 2)), "reach_tenfold": (0, (5, 2, 1, 2))}


def bounds(axes: Axes, values: Mapping[str, float], *, along: str = "y", keyed: bool = False) -> None:
    """Thin lines across an error axis, with their names beside them: what could be reached at all.

    Lines so near each other that their names would overlap share a place, named from the lowest on.

    Parameters
    ----------
    values : mapping of str to float
        "floor", "reach", "reach_tenfold" (the reach with ten times as many people); others get a full line.
    along : {"y", "x"}
        The axis that holds the error.
    keyed : bool
        Names go to the legend: of several panels side by side.
    """
    known(along, ("x", "y"), "bounds: along")
    lines = sorted(((n, v) for n, v in values.items() if np.isfinite(v)), key=lambda line: line[1])
    for name, value in lines:
        draw = axes.axhline if along == "y" else axes.axvline
        label = name.replace("_tenfold", " (10×)") if keyed else None
        draw(value, color=SOFT, linewidth=0.9, linestyle=BOUNDS.get(name, "-"), zorder=1, label=label)
    if keyed:
        return
    near = CLOSE * float(np.ptp(axes.get_ylim() if along == "y" else axes.get_xlim()))
    named: list[tuple[list[str], float]] = []
    for name, value in lines:
        if named and value - named[-1][1] < near:
            named[-1][0].append(name)
        else:
            named.append(([name], value))
    style = {"color": SOFT, "fontsize": 6.5, "textcoords": "offset points", "annotation_clip": False}
    for names, value in named:
        text = ", ".join(name.replace("_tenfold", " (10×)") for name in names)
        if along == "y":
            axes.annotate(text, (1, value), xycoords=axes.get_yaxis_transform(), xytext=(2, 0), va="center", **style)
        else:
            axes.annotate(text, (value, 0), xycoords=axes.get_xaxis_transform(), xytext=(-1, 3), rotation=90,
                          va="bottom", ha="right", **style)


@contextmanager
def _same_jitter() -> Iterator[None]:
    """seaborn shifts dots by numpy's global generator: the same picture every time, and the user's draws untouched."""
    state = np.random.get_state()
    np.random.seed(0)
    yield
    np.random.set_state(state)


def _mean_text(values: pd.Series, seed: int) -> str:
    mean = bootstrap_mean(values, seed=seed)
    return f"{interval_text(mean)}  n = {mean.n}" if mean.n >= MIN_SUBJECTS else interval_text(mean)


def _key(axes: Axes, *, ncols: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes.legend(once.values(), once.keys(), loc="lower left", bbox_to_anchor=(0, 1), ncols=ncols, borderaxespad=0.2)


def means_along(
    axes: Axes, data: pd.DataFrame, *, x: str, by: str, seed: int = 0, dodge: float = 0.1, **more: Any,
) -> None:
    """Means over subjects with the ledger's intervals at their place along `x`, the groups of `by` side by side.

    Parameters
    ----------
    data : DataFrame
        Columns `x` (numbers), `by` and "value".
    dodge : float
        How far groups stand apart, in units of `x`.
    **more
        Handed to :func:`seaborn.pointplot`.
    """
    drawn = marks(data[by])
    sns.pointplot(
        titled(data, by), x=x, y="value", hue=by, palette=looks(drawn)["palette"], native_scale=True, ax=axes,
        markers=[mark.marker for mark in drawn.values()], errorbar=lambda values: interval(values, seed=seed),
        err_kws={"linewidth": 0.9}, markersize=4.5, dodge=dodge * (len(drawn) > 1), **more,
    )


def _key_above(figure: Picture, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    axes.get_legend().remove()


@look()
def error_along(
    frame: pd.DataFrame, ylabel: str, *, x: str, xlabel: str, by: str = "system", tick: str = "g", seed: int = 0,
) -> Picture:
    """Error of each system along a number (years ahead, scans seen): means, intervals, and how many people there are.

    Parameters
    ----------
    frame : DataFrame
        Columns `x`, `by`, "subject" and "value".
    ylabel, xlabel : str
        With units.
    tick : str
        Format of the places along `x`.
    """
    needs(frame, (x, by, "subject", "value"), "error_along")
    figure = new_figure(HALF_MM * 1.35, 74.0 + 2.5 * frame[by].nunique())
    axes = figure.add_subplot()
    counted_means(axes, frame, x=x, by=by, tick=tick, seed=seed)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(axis="y")
    _key_above(figure, axes)
    return figure


def counted_means(axes: Axes, frame: pd.DataFrame, *, x: str, by: str, tick: str = "g", seed: int = 0) -> None:
    """:func:`means_along` joined by lines, with the number of people under each place along `x`."""
    lines = [LINES[k % len(LINES)] for k in range(frame[by].nunique())]
    means_along(axes, frame, x=x, by=by, seed=seed, linewidth=1.2, linestyles=lines)
    people = frame.groupby(x)["subject"].nunique()
    axes.set_xticks(people.index, [f"{place:{tick}}\nn = {n}" for place, n in people.items()])


@look()
def coverage_plot(frame: pd.DataFrame, *, by: str = "system", margin: float = 0.05, seed: int = 0) -> Picture:
    """How often intervals hold the truth against how often they should.

    Parameters
    ----------
    frame : DataFrame
        Columns `by`, "level" (nominal) and "value": the share of each subject's truths inside.
    margin : float
        Half width of the band about the diagonal that counts as right.
    seed : int
        Of the bootstrap over subjects.
    """
    needs(frame, (by, "level", "value"), "coverage_plot")
    figure, ends = new_figure(HALF_MM * 1.25, HALF_MM * 1.12), np.array([0.0, 1.0])
    axes = figure.add_subplot()
    axes.fill_between(
        ends, ends - margin, ends + margin, color="#EFEFEF", linewidth=0, label=f"within {100 * margin:g} points"
    )
    axes.plot(ends, ends, color=SOFT, linewidth=0.8)
    means_along(axes, frame, x="level", by=by, seed=seed, linestyle="none")
    axes.set(xlabel="nominal coverage", ylabel="share whose truth lies inside", xlim=(0.35, 1.02), ylim=(-0.03, 1.03))
    axes.grid()
    _key_above(figure, axes)
    return figure


@look()
def dot_plot(
    frame: pd.DataFrame, ylabel: str, *, by: str = "system", published: Mapping[str, float] | None = None,
    published_label: str = "published mean", seed: int = 0, width_mm: float = FULL_MM * 0.7,
) -> Picture:
    """One dot per subject and system, the mean with its interval, the published mean (same unit) as a triangle.

    Parameters
    ----------
    frame : DataFrame
        Columns `by` and "value".
    published : mapping of str to float, optional
        By name in `by`, in the same unit; leave it out where the units differ.
    """
    needs(frame, (by, "value"), "dot_plot")
    figure = new_figure(width_mm, 68)
    axes, drawn = figure.add_subplot(), marks(frame[by])
    means(axes, titled(frame.dropna(subset="value"), by), by=by, seed=seed)
    for place, name in enumerate(drawn):
        if published and name in published:
            axes.plot(place + 0.36, published[name], "<", **HOLLOW, markersize=5, label=published_label)
    axes.set(xlabel="", ylabel=ylabel)
    axes.set_xticks(range(len(drawn)), [m.title.replace(" ", "\n", 1) for m in drawn.values()])
    axes.grid(axis="y")
    _key(axes, ncols=3)
    return figure


@look()
def cumulative_plot(
    values: Sequence[float], xlabel: str, *, quantiles: Mapping[float, float] | None = None,
    name: str = "this cohort", quantile_name: str = "published quantiles", log: bool = False,
    width_mm: float = HALF_MM * 1.2,
) -> Picture:
    """Share of subjects at or below each value, with published quantiles (share -> value) as triangles."""
    figure = new_figure(width_mm, 0.62 * width_mm)
    axes = figure.add_subplot()
    sns.ecdfplot(x=values, color="#0072B2", marker="o", markersize=2.6, label=f"{name} (n = {len(values)})", ax=axes)
    if quantiles:
        shares, at = zip(*sorted(quantiles.items()), strict=True)
        axes.plot(at, shares, "v", **HOLLOW, markersize=5, label=quantile_name)
    axes.set(xlabel=xlabel, ylabel="share of subjects", ylim=(-0.02, 1.04), xscale="log" if log else "linear")
    if log:
        axes.xaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axes.grid()
    axes.legend(loc="lower right" if log else "center right")
    return figure
