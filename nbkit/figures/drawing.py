"""A network drawn from a plain list of its layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyArrowPatch, Polygon

from nbkit.core.checks import require
from nbkit.figures.marks import title_of
from nbkit.figures.style import FULL_MM, Picture, look, new_figure

TALL, SLANT, LETTER = 16.0, 5.0, 1.6
INPUT, HIDDEN, OUTPUT = "#E69F00", "#0072B2", "#009E73"


@dataclass(frozen=True)
class Layer:
    """A stage of a network and the operation that leads to it.

    Parameters
    ----------
    title : str
        E.g. ``"features 1"``.
    channels : int
        Drawn as the depth of the block.
    operation : str
        Written on the arrow into the block, e.g. ``"conv 3×3×3\\nReLU"``; empty for the input.
    note : str
        Below the block, e.g. ``"8 704 parameters"``.
    sheets : tuple of str
        Names of the channels (contrasts), for blocks drawn as single sheets (input and output).
    """

    title: str
    channels: int
    operation: str = ""
    note: str = ""
    sheets: tuple[str, ...] = ()


@look()
def architecture_drawing(layers: Sequence[Layer], *, width_mm: float = FULL_MM) -> Picture:
    """Draw the layers from left to right: input, hidden blocks as deep as their channels, output (Fig. 2.2).

    Raises
    ------
    NbkitError
        For fewer than two layers.
    """
    require(
        len(layers) >= 2, "architecture_drawing: layers", expected="an input and at least one layer",
        found=f"{len(layers)}", remedy="List the stages from the input to the output.",
    )
    depths = [_depth(layer) for layer in layers]
    names = 3.0 + LETTER * max((len(title_of(n)) for n in layers[0].sheets), default=0)
    start = max(names, _overhang(layers[0], depths[0]))
    room = width_mm - start - _overhang(layers[-1], depths[-1]) - sum(SLANT + d for d in depths)
    gap = room / (len(layers) - 1)
    figure = new_figure(width_mm, 46.0, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width_mm), ylim=(-13, 33), aspect="equal")
    axes.axis("off")
    x = start
    for i, (layer, depth) in enumerate(zip(layers, depths, strict=True)):
        if i:
            _arrow(axes, (x, x + gap), layer.operation)
            x += gap
        colour = INPUT if i == 0 else OUTPUT if i == len(layers) - 1 else HIDDEN
        _block(axes, x, layer, depth, colour)
        x += SLANT + depth
    return figure


def _overhang(layer: Layer, depth: float) -> float:
    """How far the text below or above a block reaches beyond it, and a margin, in mm."""
    lines = [*layer.note.split("\n"), layer.title, "64 channels"]
    return max(LETTER * max(map(len, lines)) / 2 - (SLANT + depth) / 2, 0.0) + 2.0


def _depth(layer: Layer) -> float:
    """Depth in mm: sheets are spaced evenly, blocks grow with the root of their channels."""
    return 2.6 * len(layer.sheets) if layer.sheets else max(1.1 * math.sqrt(layer.channels), 1.0)


def _block(axes: Axes, x: float, layer: Layer, depth: float, colour: str) -> None:
    if layer.sheets:
        for k, name in reversed(list(enumerate(layer.sheets))):
            _face(axes, x + 2.6 * k, 0.5, colour, 0.55)
            if len(layer.sheets) > 1:
                axes.text(x - 1.2, TALL - 3.1 * k - 1.2, title_of(name), ha="right", va="center", fontsize=7)
    else:
        _prism(axes, x, depth, colour)
    centre = x + (SLANT + depth) / 2
    axes.text(centre, TALL + SLANT + 6.2, layer.title, ha="center", va="center", fontsize=8, fontweight="bold")
    count = f"{layer.channels} channel{'s' if layer.channels > 1 else ''}"
    axes.text(centre, TALL + SLANT + 2.6, count, ha="center", va="center", fontsize=7)
    axes.text(centre, -3.0, layer.note, ha="center", va="top", fontsize=7, color="#444444", linespacing=1.25)


def _face(axes: Axes, x: float, thick: float, colour: str, alpha: float) -> None:
    corners = [(x, 0), (x + SLANT, SLANT), (x + SLANT, SLANT + TALL), (x, TALL)]
    axes.add_patch(Polygon(corners, facecolor=(*to_rgb(colour), alpha), edgecolor="#333333", linewidth=thick))


def _prism(axes: Axes, x: float, depth: float, colour: str) -> None:
    light = tuple(1 - 0.45 * (1 - c) for c in to_rgb(colour))
    lid = [(x, TALL), (x + SLANT, TALL + SLANT), (x + SLANT + depth, TALL + SLANT), (x + depth, TALL)]
    front = [(x, 0), (x + depth, 0), (x + depth, TALL), (x, TALL)]
    axes.add_patch(Polygon(front, facecolor=colour, edgecolor="#333333", linewidth=0.5))
    axes.add_patch(Polygon(lid, facecolor=light, edgecolor="#333333", linewidth=0.5))
    _face(axes, x + depth, 0.5, colour, 0.75)


def _arrow(axes: Axes, span: tuple[float, float], operation: str) -> None:
    y = (TALL + SLANT) / 2
    arrow = FancyArrowPatch((span[0] + 1, y), (span[1] - 1, y), arrowstyle="-|>", mutation_scale=8, color="#333333")
    axes.add_patch(arrow)
    axes.text(sum(span) / 2, y + 1.6, operation, ha="center", va="bottom", fontsize=7, linespacing=1.2)
