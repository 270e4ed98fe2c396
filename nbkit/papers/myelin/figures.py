"""Curves, boxes and bars of the myelin chapters: iterations, regions, agreement, patients (Wei thesis, ch. 3 and 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from nbkit.core.checks import require
from nbkit.core.stats import bootstrap_mean
from nbkit.figures.charts import INK, LINES, SOFT, number
from nbkit.figures.marks import Mark, marks, title_of
from nbkit.figures.style import FULL_MM, Picture, look, new_figure
from nbkit.metrics.stats import bland_altman

TRUTH = Mark("True PET", "#4D4D4D", "*")
KEY_MM = 6.0
Values = Sequence[float]


def _marks(names: Sequence[str]) -> dict[str, Mark]:
    """Mark of each system; ``"truth"`` is the true PET."""
    found = marks(names)
    return {n: TRUTH if n == "truth" else mark for n, mark in found.items()}


def _some(values: Mapping, where: str, expected: str) -> None:
    require(len(values) > 0, where, expected=expected, found="none", remedy="Pass what is to be drawn.")


@look()
def iteration_curves(
    panels: Mapping[str, Mapping[str, Mapping[int, Values]]], *, width_mm: float = FULL_MM, seed: int = 0,
) -> Picture:
    """A measure against the number of refinements, one panel each: mean and bootstrap 95 % interval (Fig. 3.5).

    Parameters
    ----------
    panels : mapping of str to mapping
        By label of the vertical axis (with unit), then by curve (region or system), then by iteration: one value per
        subject. Iteration 0 is the Sketcher.
    seed : int
        Of the bootstrap.

    Raises
    ------
    NbkitError
        Without panels, or for a curve without iterations.
    """
    _some(panels, "iteration_curves: panels", "at least one measure")
    figure = new_figure(width_mm, 62)
    for place, (label, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        for k, (name, mark) in enumerate(marks(curves, {}).items()):
            _some(curves[name], f"iteration_curves: {name}", "values of at least one iteration")
            steps = sorted(curves[name])
            means = [bootstrap_mean(curves[name][i], seed=seed) for i in steps]
            spread = [[m.value - m.low for m in means], [m.high - m.value for m in means]]
            axes.errorbar(np.array(steps) + 0.06 * (k - (len(curves) - 1) / 2), [m.value for m in means], yerr=spread,
                          fmt=mark.marker, color=mark.colour, linestyle=LINES[k % len(LINES)], linewidth=1.2,
                          markersize=4, elinewidth=0.9, capsize=2, label=mark.title)
        axes.set(xlabel="refinement iterations (0: Sketcher)", ylabel=label, xticks=steps)
        axes.set_title(f"({'ABCDEF'[place]})", loc="left")
        axes.grid(axis="y")
        axes.legend(loc="best")
    return figure


@look()
def roi_boxes(
    values: Mapping[str, Mapping[str, Values]], *, unit: str = "DVR", width_mm: float = FULL_MM,
) -> Picture:
    """Mean DVR of people by region and system: median (line), mean (dotted), quartiles, least and most (Fig. 3.6).

    Parameters
    ----------
    values : mapping of str to mapping of str to sequence of float
        By region, then by system ("truth" first): one value per subject.
    unit : str

    Raises
    ------
    NbkitError
        Without regions, or for regions whose systems differ.
    """
    _some(values, "roi_boxes: values", "at least one region")
    systems = list(next(iter(values.values())))
    for region, found in values.items():
        require(
            list(found) == systems, f"roi_boxes: {region}", expected=f"the systems {', '.join(systems)}",
            found=", ".join(found), remedy="Pass the same systems for every region, in one order.",
        )
    figure = new_figure(width_mm, 70)
    axes, wide = figure.add_subplot(), 0.8 / len(systems)
    for k, (name, mark) in enumerate(_marks(systems).items()):
        places = np.arange(len(values)) + wide * (k - (len(systems) - 1) / 2)
        rows = [np.asarray(values[r][name], float) for r in values]
        axes.boxplot(
            rows, positions=places, widths=0.8 * wide, whis=(0, 100), showmeans=True, meanline=True, patch_artist=True,
            boxprops={"facecolor": mark.colour, "alpha": 0.45, "edgecolor": INK, "linewidth": 0.7},
            medianprops={"color": INK, "linewidth": 1.3}, whiskerprops={"linewidth": 0.7},
            meanprops={"color": INK, "linewidth": 1.0, "linestyle": (0, (1, 1))}, capprops={"linewidth": 0.7},
        )
    counts = [len(next(iter(found.values()))) for found in values.values()]
    axes.set(ylabel=f"mean of the region ({unit})", xticks=range(len(values)), xlim=(-0.5, len(values) - 0.5))
    axes.set_xticklabels([f"{title_of(r)}\nn = {n}" for r, n in zip(values, counts, strict=True)])
    axes.grid(axis="y")
    key = [Patch(facecolor=m.colour, alpha=0.45, edgecolor=INK, label=m.title) for m in _marks(systems).values()]
    lines = [Line2D([], [], color=INK, linewidth=1.3, label="median"),
             Line2D([], [], color=INK, linewidth=1.0, linestyle=(0, (1, 1)), label="mean")]
    figure.legend(handles=[*key, *lines], loc="outside upper center", ncols=4)
    return figure


@look()
def agreement_grid(
    pairs: Mapping[str, Mapping[str, tuple[Values, Values]]], *, unit: str = "DVR", width_mm: float = FULL_MM,
) -> Picture:
    """Bland-Altman plots of every system (rows) in every region (columns), one scale per region (Fig. 3.7).

    Parameters
    ----------
    pairs : mapping of str to mapping of str to (predicted, true)
        By region, then by system: one value per subject in both, in one order.
    unit : str

    Raises
    ------
    NbkitError
        Without regions or systems, or for values that are not paired.
    """
    _some(pairs, "agreement_grid: pairs", "at least one region")
    systems = list(dict.fromkeys(name for found in pairs.values() for name in found))
    _some(systems, "agreement_grid: pairs", "at least one system")
    figure = new_figure(width_mm, 31 * len(systems) + 8)
    grid = figure.subplots(len(systems), len(pairs), squeeze=False, sharex="col", sharey="col")
    for column, (region, found) in enumerate(pairs.items()):
        for row, (name, mark) in enumerate(_marks(systems).items()):
            if name in found:
                _bland_altman(grid[row, column], *found[name], mark)
            else:
                grid[row, column].set_axis_off()
        grid[0, column].set_title(title_of(region))
        grid[-1, column].set_xlabel(f"mean of predicted and true ({unit})")
    figure.supylabel(f"predicted − true ({unit})", fontsize=8.0)
    return figure


def _bland_altman(axes: Axes, predicted: Values, true: Values, mark: Mark) -> None:
    found = bland_altman(predicted, true)
    a, b = np.asarray(predicted, float), np.asarray(true, float)
    axes.axhline(0, color=SOFT, linewidth=0.6)
    axes.axhspan(found.lower, found.upper, color=mark.colour, alpha=0.10, linewidth=0)
    axes.axhline(found.bias, color=mark.colour, linewidth=1.2)
    axes.plot((a + b) / 2, a - b, mark.marker, color=mark.colour, markersize=3.4, alpha=0.8, markeredgewidth=0)
    bias, low, high = (number(v, decimals=3) for v in (found.bias, found.lower, found.upper))
    axes.text(0.01, 0.97, mark.title, transform=axes.transAxes, ha="left", va="top", fontsize=7.5, weight="bold")
    axes.text(0.99, 0.97, f"bias {bias} [{low}, {high}], n = {found.n}", transform=axes.transAxes,
              ha="right", va="top", fontsize=6.8)
    axes.margins(y=0.26)


@look()
def patient_bars(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]], *,
    levels: Mapping[str, tuple[str, float]] | None = None, width_mm: float = FULL_MM,
) -> Picture:
    """Paired bars for each patient, sorted by the first series of each panel (Figs. 3.8 A, 4.4 A, 4.5).

    Patients are numbered by their rank in their panel, so that no subject is named.

    Parameters
    ----------
    panels : mapping of str to mapping
        By label of the vertical axis (with unit), then by series ("truth" first, then systems), then by subject id.
        Subjects of the first series are drawn; one that another series lacks has no bar there.
    levels : mapping of str to (str, float), optional
        By the same label: name and value of a level to compare with, e.g. the mean of the null experiment.

    Raises
    ------
    NbkitError
        Without panels, or for one without patients.
    """
    _some(panels, "patient_bars: panels", "at least one measure")
    figure = new_figure(width_mm, 40 * len(panels) + KEY_MM)
    for row, (label, series) in enumerate(panels.items()):
        axes = figure.add_subplot(len(panels), 1, row + 1)
        first = next(iter(series.values()), {})
        _some(first, f"patient_bars: {label}", "values of at least one patient")
        order, wide = sorted(first, key=first.get), 0.8 / len(series)
        for k, (name, mark) in enumerate(_marks(list(series)).items()):
            places = np.arange(len(order)) + wide * (k - (len(series) - 1) / 2)
            heights = [series[name].get(subject, np.nan) for subject in order]
            axes.bar(places, heights, wide, color=mark.colour, edgecolor=INK, linewidth=0.4, label=mark.title)
        if levels and label in levels:
            name, level = levels[label]
            axes.axhline(level, color=INK, linewidth=1.0, linestyle=(0, (3, 2)), label=name)
        axes.axhline(0, color=INK, linewidth=0.6)
        axes.set(ylabel=label, xticks=range(len(order)), xlim=(-0.7, len(order) - 0.3))
        axes.set_xticklabels([f"P{i + 1}" for i in range(len(order))])
        axes.grid(axis="y")
    handles = {h[1]: h[0] for axes in figure.axes for h in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4)
    return figure
