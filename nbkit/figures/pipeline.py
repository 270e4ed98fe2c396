"""A method drawn as boxes and arrows from a plain list of its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from nbkit.core.checks import check_keys, require
from nbkit.figures.drawing import arrow, canvas
from nbkit.figures.style import FULL_MM, Picture, look, wrapped

Kind = Literal["input", "learned", "computed", "output"]
COLOURS: Mapping[str, str] = {"input": "#E69F00", "learned": "#CC79A7", "computed": "#0072B2", "output": "#009E73"}
ROW_MM, HIGH_MM, GAP_MM = 25.0, 14.0, 13.0
"""Distance of rows, height of a box, and the least room for an arrow between columns."""
PICTURE_MM = 18.0
"""How much higher a box with pictures is, and a row that has one."""


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
    pictures : sequence of ndarray
        Above the text, side by side: greys from 0 to 1 (rows, columns) in square pixels, NaN where nothing is.
    """

    name: str
    text: str
    column: int
    row: int
    kind: Kind = "computed"
    pictures: Sequence[np.ndarray] = ()

    @property
    def high(self) -> float:
        """Height in mm."""
        return HIGH_MM + PICTURE_MM * bool(self.pictures)


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
    wide, tops = (width_mm - 4.0 - GAP_MM * (columns - 1)) / columns, [0.0]
    for row in range(rows):
        tops.append(tops[-1] + ROW_MM + PICTURE_MM * any(box.pictures for box in boxes if box.row == row))
    height = tops[-1] + 4.0
    figure, axes = canvas(width_mm, height)
    frames = {b.name: _Frame(2.0 + wide / 2 + b.column * (wide + GAP_MM), height - sum(tops[b.row:b.row + 2]) / 2,
                             wide, b.high) for b in boxes}
    for box in boxes:
        _draw_box(axes, box, frames[box.name])
    for start, end, label in arrows:
        check_keys((start, end), frames, "pipeline_drawing: arrows")
        _draw_arrow(axes, frames[start], frames[end], label)
    for i, kind in enumerate(k for k in COLOURS if any(b.kind == k for b in boxes)):
        axes.text(2.0 + 26.0 * i, 1.5, f"■ {kind}", ha="left", va="bottom", fontsize=7.0, color=COLOURS[kind])
    return figure


@dataclass(frozen=True)
class _Frame:
    """Where a box lies: its centre and its size, in mm."""

    x: float
    y: float
    wide: float
    high: float

    def edge(self, other: _Frame) -> tuple[float, float]:
        """Where an arrow to `other` leaves: through a side, or the top or bottom where both are in one column."""
        across, up = other.x - self.x, other.y - self.y
        if across:
            return self.x + math.copysign(self.wide / 2, across), self.y
        return self.x, self.y + math.copysign(self.high / 2, up)


def _draw_box(axes: Axes, box: Box, frame: _Frame) -> None:
    colour, (left, bottom) = COLOURS[box.kind], (frame.x - frame.wide / 2, frame.y - frame.high / 2)
    axes.add_patch(FancyBboxPatch(
        (left, bottom), frame.wide, frame.high, boxstyle="round,pad=0,rounding_size=1.5", facecolor=f"{colour}26",
        edgecolor=colour, linewidth=1.0,
    ))
    text = "\n".join(wrapped(line, frame.wide - 2.0, size_pt=7.0) for line in box.text.split("\n"))
    axes.text(frame.x, bottom + HIGH_MM / 2, text, ha="center", va="center", fontsize=7.0, linespacing=1.2)
    room = (frame.wide - 2.0) / max(len(box.pictures), 1)
    for i, picture in enumerate(box.pictures):
        rows, columns = picture.shape
        scale = min((room - 1.0) / columns, PICTURE_MM / rows)
        x, y = frame.x + (i - (len(box.pictures) - 1) / 2) * room, bottom + HIGH_MM + PICTURE_MM / 2 - 1.0
        extent = (x - columns * scale / 2, x + columns * scale / 2, y - rows * scale / 2, y + rows * scale / 2)
        axes.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, extent=extent, zorder=3, interpolation="antialiased")


def _draw_arrow(axes: Axes, start: _Frame, end: _Frame, label: str) -> None:
    a, b = start.edge(end), end.edge(start)
    arrow(axes, a, b)
    x, y = (a[0] + b[0]) / 2, (a[1] + b[1]) / 2
    beside = a[0] == b[0]
    place = {"ha": "left", "va": "center"} if beside else {"ha": "center", "va": "bottom"}
    axes.text(x + 1.2 * beside, y + (not beside), label, **place, fontsize=6.5, color="#333333", linespacing=1.1)
