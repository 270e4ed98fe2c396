"""One look for every figure: sizes in mm, bare figures.

Figures are made without pyplot, so nothing is registered globally and nothing has to be closed; a notebook
shows one because :class:`Picture` knows how to draw itself.
"""

from __future__ import annotations

import io
import textwrap
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

FULL_MM, HALF_MM = 180.0, 88.0
DPI = 150

RC: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # ships with matplotlib: the same picture on every machine
    "font.size": 8.0, "axes.titlesize": 8.5, "axes.labelsize": 8.0, "legend.fontsize": 7.5,
    "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "figure.titlesize": 9.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "axes.edgecolor": "#444444",
    "axes.axisbelow": True, "axes.grid": False, "grid.color": "#DDDDDD", "grid.linewidth": 0.5,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5, "ytick.major.size": 2.5,
    "xtick.color": "#333333", "ytick.color": "#333333", "text.color": "#111111", "axes.labelcolor": "#111111",
    "lines.linewidth": 1.4, "lines.markersize": 4.0, "legend.frameon": False, "legend.handlelength": 1.6,
    "figure.facecolor": "white", "savefig.facecolor": "white", "image.origin": "lower", "axes.unicode_minus": True,
}


LESION = "#F0142F"


def look():
    """Context manager (and decorator) that applies the project's matplotlib settings and restores the user's."""
    return mpl.rc_context(RC)


class Picture(Figure):
    """A matplotlib Figure that shows itself in a notebook and is saved with the project's settings."""

    def savefig(self, *args: Any, **options: Any) -> None:
        """Save as :meth:`matplotlib.figure.Figure.savefig` does, under the project's settings."""
        with look():
            super().savefig(*args, **options)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def new_figure(width_mm: float = FULL_MM, height_mm: float = 80.0, *, layout: str | None = "constrained") -> Picture:
    """An empty figure of the given size in mm, at 150 dots per inch."""
    return Picture(figsize=(width_mm / 25.4, height_mm / 25.4), dpi=DPI, layout=layout)


def wrapped(text: str, width_mm: float, *, size_pt: float = 8.5) -> str:
    """Break `text` into lines that fit `width_mm` (mean letter width of DejaVu Sans: 0.58 of the size)."""
    letters = int(width_mm / (0.58 * size_pt * 25.4 / 72))
    return "\n".join(textwrap.wrap(text, max(letters, 6), break_long_words=False)) or text
