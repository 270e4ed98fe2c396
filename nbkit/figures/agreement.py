"""Agreement: Bland-Altman plots, and published against observed values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from nbkit.core.checks import require
from nbkit.figures.curves import INK, SOFT, number
from nbkit.figures.style import HALF_MM, Picture, look, marks, new_figure
from nbkit.metrics.stats import bland_altman as agreement

Spread = Mapping[str, float]


@look()
def bland_altman(
    measured: Sequence[float], reference: Sequence[float], *, unit: str,
    names: tuple[str, str] = ("measured", "reference"), width_mm: float = HALF_MM * 1.25,
) -> Picture:
    """Difference against mean of two measurements, with bias and 95 % limits of agreement (Bland & Altman 1986).

    Limits are bias ± 1.96 SD of the differences (n − 1); the band is the 95 % t-interval of the bias.

    Parameters
    ----------
    measured, reference : sequence of float
        One value per subject, in one order; at least three.
    unit : str
        Unit of both, e.g. ``"mL"``.
    names : (str, str)
        What the two are called on the axes.

    Raises
    ------
    NbkitError
        For unequal lengths, fewer than three subjects or values that are not finite.
    """
    a, b = _pairs(measured, reference, "bland_altman")
    gap, mean = a - b, (a + b) / 2
    found = agreement(a, b)
    band = stats.ttest_rel(a, b).confidence_interval(0.95)
    figure = new_figure(width_mm, 0.66 * width_mm)
    axes = figure.add_subplot()
    axes.axhline(0, color=SOFT, linewidth=0.6)
    axes.axhspan(band.low, band.high, color="#0072B2", alpha=0.15, linewidth=0)
    levels = {"bias": found.bias, "+1.96 SD": found.upper, "−1.96 SD": found.lower}
    for name, level in levels.items():
        axes.axhline(level, color="#0072B2", linewidth=1.0, linestyle="-" if name == "bias" else (0, (4, 2)))
    axes.plot(mean, gap, "o", color=INK, markersize=3.2, alpha=0.75, markeredgewidth=0)
    side = axes.secondary_yaxis("right")
    side.set_yticks(list(levels.values()), [f"{k}\n{number(v)}" for k, v in levels.items()])
    side.tick_params(length=0, colors="#004E7C")
    side.spines["right"].set_visible(False)
    axes.set(xlabel=f"mean of {names[0]} and {names[1]} ({unit})", ylabel=f"{names[0]} − {names[1]} ({unit})")
    axes.margins(y=0.15)
    return figure


def _pairs(a: Sequence[float], b: Sequence[float], where: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(a, float), np.asarray(b, float)
    good = x.shape == y.shape and x.ndim == 1 and x.size >= 3 and np.isfinite(x).all() and np.isfinite(y).all()
    require(
        bool(good), f"{where}: values", expected="two equally long lists of at least three finite values",
        found=f"shapes {x.shape} and {y.shape}, {int((~np.isfinite(x)).sum() + (~np.isfinite(y)).sum())} not finite",
        remedy="Pass one value per subject for both, without the subjects that lack one.",
    )
    return x, y


@look()
def rank_agreement(
    published: Mapping[str, float], ours: Mapping[str, float], *, measure: str, units: tuple[str, str],
    spreads: tuple[Spread, Spread] = ({}, {}), width_mm: float = HALF_MM * 1.1,
) -> Picture:
    """Published against observed value of each system, with Spearman's ρ: does the order hold?

    Parameters
    ----------
    published, ours : mapping of str to float
        By system; those in both are drawn, at least three.
    measure : str
        E.g. ``"MSE"``.
    units : (str, str)
        Unit of the published and of our values; they may differ, since only the order is compared.
    spreads : (mapping, mapping)
        Standard deviations, drawn as bars where given.
    """
    names = [n for n in published if n in ours]
    x, y = _pairs([published[n] for n in names], [ours[n] for n in names], "rank_agreement")
    rho = float(stats.spearmanr(x, y).statistic)
    figure = new_figure(width_mm, width_mm)
    axes = figure.add_subplot()
    for name, mark in marks(names).items():
        bars = [[s[name]] if name in s else None for s in spreads]
        axes.errorbar(published[name], ours[name], xerr=bars[0], yerr=bars[1], fmt=mark.marker, color=mark.colour,
                      markersize=5.5, elinewidth=0.8, markeredgecolor=INK, markeredgewidth=0.4, label=mark.title)
    axes.set(xlabel=f"{measure}, published ({units[0]})", ylabel=f"{measure}, ours ({units[1]})")
    axes.set_title(f"Spearman's ρ = {rho:.2f} over {len(names)} systems".replace("-", "−"), loc="left")
    if units[0] == units[1]:
        axes.axline((x[0], x[0]), slope=1, color=SOFT, linewidth=0.7, linestyle=(0, (3, 2)), label="equal", zorder=0)
    axes.margins(0.12)
    axes.grid()
    axes.legend(loc="best")
    return figure
