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

TALL, SLANT, LETTER, GAP = 16.0, 5.0, 1.6, 16.0
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


def canvas(width_mm: float, height_mm: float, *, bottom: float = 0.0) -> tuple[Picture, Axes]:
    """An empty figure and bare axes that fill it, in mm; `bottom` is the lowest y."""
    figure = new_figure(width_mm, height_mm, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width_mm), ylim=(bottom, bottom + height_mm), aspect="equal")
    axes.axis("off")
    return figure, axes


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """An arrow between two points, which it does not quite touch."""
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, color="#333333"))


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
    depths, gaps = [_depth(layer) for layer in layers], len(layers) - 1
    x, room = _span(layers, depths, width_mm)
    # wide blocks make room for what is written between them
    shrink = min(1.0, max(room - gaps * GAP, 0.1 * room) / sum(depths))
    depths = [shrink * depth for depth in depths]
    x, room = _span(layers, depths, width_mm)
    gap, y = (room - sum(depths)) / gaps, (TALL + SLANT) / 2
    figure, axes = canvas(width_mm, 46.0, bottom=-13.0)
    for layer, depth in zip(layers, depths, strict=True):
        if layer is not layers[0]:
            arrow(axes, (x + 0.5, y), (x + gap - 0.5, y))
            axes.text(x + gap / 2, y + 1.6, layer.operation, ha="center", va="bottom", fontsize=7, linespacing=1.2)
            x += gap
        _block(axes, x, layer, depth, INPUT if layer is layers[0] else OUTPUT if layer is layers[-1] else HIDDEN)
        x += SLANT + depth
    return figure


def _span(layers: Sequence[Layer], depths: Sequence[float], width_mm: float) -> tuple[float, float]:
    """Where the first block begins, and the room from there for depths and gaps, in mm."""
    names = 3.0 + LETTER * max((len(title_of(n)) for n in layers[0].sheets if len(layers[0].sheets) > 1), default=0)
    x = max(names, _overhang(layers[0], depths[0]))
    return x, width_mm - x - _overhang(layers[-1], depths[-1]) - len(layers) * SLANT


def _overhang(layer: Layer, depth: float) -> float:
    """How far the text below or above a block reaches beyond it, and a margin, in mm."""
    lines = [*layer.note.split("\n"), layer.title, "64 channels"]
    return max(LETTER * max(map(len, lines)) / 2 - (SLANT + depth) / 2, 0.0) + 2.0


def _depth(layer: Layer) -> float:
    """Depth in mm: sheets are spaced evenly, blocks grow with the root of their channels."""
    return 2.6 * len(layer.sheets) if layer.sheets else max(1.1 * math.sqrt(layer.channels), 1.0)


def _block(axes: Axes, x: float, layer: Layer, depth: float, colour: str) -> None:
    for k, name in reversed(list(enumerate(layer.sheets))):
        _face(axes, x + 2.6 * k, colour, 0.55)
        if len(layer.sheets) > 1:
            axes.text(x - 1.2, TALL - 3.1 * k - 1.2, title_of(name), ha="right", va="center", fontsize=7)
    if not layer.sheets:
        light = tuple(1 - 0.45 * (1 - c) for c in to_rgb(colour))
        edge = {"edgecolor": "#333333", "linewidth": 0.5}
        lid = [(x, TALL), (x + SLANT, TALL + SLANT), (x + SLANT + depth, TALL + SLANT), (x + depth, TALL)]
        axes.add_patch(Polygon([(x, 0), (x + depth, 0), (x + depth, TALL), (x, TALL)], facecolor=colour, **edge))
        axes.add_patch(Polygon(lid, facecolor=light, **edge))
        _face(axes, x + depth, colour, 0.75)
    centre, many = x + (SLANT + depth) / 2, "s" if layer.channels > 1 else ""
    words = {"ha": "center", "va": "center", "fontsize": 7}
    axes.text(centre, TALL + SLANT + 6.2, layer.title, **(words | {"fontsize": 8, "fontweight": "bold"}))
    axes.text(centre, TALL + SLANT + 2.6, f"{layer.channels} channel{many}", **words)
    axes.text(centre, -3.0, layer.note, **(words | {"va": "top"}), color="#444444", linespacing=1.25)


def _face(axes: Axes, x: float, colour: str, alpha: float) -> None:
    corners = [(x, 0), (x + SLANT, SLANT), (x + SLANT, SLANT + TALL), (x, TALL)]
    axes.add_patch(Polygon(corners, facecolor=(*to_rgb(colour), alpha), edgecolor="#333333", linewidth=0.5))
