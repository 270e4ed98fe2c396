"""Loss and held-out error over each training, side by side."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from nbkit.figures.charts import panels
from nbkit.figures.style import Picture, look

COLOURS = ("#7F7F7F", "#D55E00", "#0072B2")
"""Of the kinds of curve in the order in which they come, the training loss first."""


@look()
def learning_curves(curves: pd.DataFrame) -> Picture:
    """A panel for each system of ``nbkit.training.curves.courses``: values over the share of the training done.

    Logarithmic where all values are positive, because losses fall by factors.
    """
    kinds = list(dict.fromkeys(curves["kind"]))

    def draw(axes: Axes, system: str) -> None:
        mine = curves[curves["system"] == system]
        for kind, part in mine.groupby("kind", sort=False):
            colour = COLOURS[min(kinds.index(kind), len(COLOURS) - 1)]
            axes.plot(100 * part["done"], part["value"], color=colour, linewidth=1.2, label=kind)
        axes.set(xlabel="training done (%)", xlim=(0, 100))
        if (mine["value"] > 0).all():
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())

    return panels(list(dict.fromkeys(curves["system"])), draw, height_mm=42.0)
