"""A method drawn as boxes and arrows from a plain list of its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from nbkit.core.checks import check_keys, require
from nbkit.figures.drawing import arrow, canvas
from nbkit.figures.style import FULL_MM, Picture, look, wrapped

Kind = Literal["input", "learned", "computed", "output"]
COLOURS: Mapping[str, str] = {"input": "#E69F00", "learned": "#CC79A7", "computed": "#0072B2", "output": "#009E73"}
ROW_MM, HIGH_MM, GAP_MM = 25.0, 14.0, 13.0
"""Distance of rows, height of a box, and the least room for an arrow between columns."""


@dataclass(frozen=True)
class Box:
    """One step of a method.

    Parameters
    ----------
    name : str
        By which arrows refer to it.
    text : str
        Inside the box.
    column, row : int
        Place on the grid; rows count downwards.
    kind : {"input", "learned", "computed", "output"}
        What it is: its colour, explained below the drawing.
    """

    name: str
    text: str
    column: int
    row: int
    kind: Kind = "computed"


@look()
def pipeline_drawing(
    boxes: Sequence[Box], arrows: Sequence[tuple[str, str, str]], *, width_mm: float = FULL_MM
) -> Picture:
    """Draw the steps of a method and what flows between them.

    Parameters
    ----------
    boxes : sequence of Box
    arrows : sequence of (from, to, label)
        Names of boxes, and what is written on the arrow; arrows in a row or column, or slanted, never through a box.
    width_mm : float

    Raises
    ------
    NbkitError
        For an arrow to a box that is not there, or two boxes on one place.
    """
    places = {(box.column, box.row) for box in boxes}
    require(
        len(places) == len(boxes) > 0, "pipeline_drawing: boxes", expected="each box on a place of its own",
        found=f"{len(boxes)} boxes on {len(places)} places", remedy="Change a column or a row.",
    )
    columns, rows = (1 + max(place[i] for place in places) for i in (0, 1))
    wide, height = (width_mm - 4.0 - GAP_MM * (columns - 1)) / columns, rows * ROW_MM + 4.0
    figure, axes = canvas(width_mm, height)
    centres = {b.name: (2.0 + wide / 2 + b.column * (wide + GAP_MM), height - (b.row + 0.5) * ROW_MM) for b in boxes}
    for box in boxes:
        (x, y), colour = centres[box.name], COLOURS[box.kind]
        axes.add_patch(FancyBboxPatch(
            (x - wide / 2, y - HIGH_MM / 2), wide, HIGH_MM, boxstyle="round,pad=0,rounding_size=1.5",
            facecolor=f"{colour}26", edgecolor=colour, linewidth=1.0,
        ))
        text = "\n".join(wrapped(line, wide - 2.0, size_pt=7.0) for line in box.text.split("\n"))
        axes.text(x, y, text, ha="center", va="center", fontsize=7.0, linespacing=1.2)
    for start, end, label in arrows:
        check_keys((start, end), centres, "pipeline_drawing: arrows")
        _draw_arrow(axes, centres[start], centres[end], label, wide)
    for i, kind in enumerate(k for k in COLOURS if any(b.kind == k for b in boxes)):
        axes.text(2.0 + 26.0 * i, 1.5, f"■ {kind}", ha="left", va="bottom", fontsize=7.0, color=COLOURS[kind])
    return figure


def _draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], label: str, wide: float) -> None:
    a, b = _edge(start, end, wide), _edge(end, start, wide)
    arrow(axes, a, b)
    x, y = (a[0] + b[0]) / 2, (a[1] + b[1]) / 2
    beside = a[0] == b[0]
    place = {"ha": "left", "va": "center"} if beside else {"ha": "center", "va": "bottom"}
    axes.text(x + 1.2 * beside, y + (not beside), label, **place, fontsize=6.5, color="#333333", linespacing=1.1)


def _edge(start: tuple[float, float], end: tuple[float, float], wide: float) -> tuple[float, float]:
    """Where an arrow leaves the box at `start` towards `end`: through its side, or its top or bottom in a column."""
    across, up = end[0] - start[0], end[1] - start[1]
    if across:
        return start[0] + math.copysign(wide / 2, across), start[1]
    return start[0], start[1] + math.copysign(HIGH_MM / 2, up)
