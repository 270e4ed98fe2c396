"""Mosaics: rows of slices at one mm scale, with letters, levels, outlines, rectangles and colour bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import matplotlib as mpl
import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from nbkit.core.checks import require
from nbkit.core.volume import Volume
from nbkit.figures.slices import Box, Scale, View
from nbkit.figures.style import FULL_MM, LESION, Picture, look, new_figure, wrapped

GAP_MM, BAR_MM, LINE_MM, NOTE_MM = 1.0, 17.0, 3.9, 3.0
TITLE_PT, BAR_PT, BAR_SHARE, BAR_LINE_MM = 8.5, 7.0, 0.88, 3.0
"""Letters of titles and of a colour bar's label, share of the row's height that the bar has, room for each further
line."""


@dataclass(frozen=True)
class Tile:
    """One image of a mosaic, with masks as a contour or a fill and rectangles in mm of its view.

    With `under` (an image and its greys) values near 0 are see-through, and fully so at it; `over` draws on top, in mm
    of the view. Images are drawn smoothly, greys by cubic and maps by linear splines; masks,
    labels and details of a slice are drawn voxel by voxel, as is what is not `smooth`.
    """

    image: Volume
    view: View
    scale: Scale
    title: str = ""
    contour: Volume | None = None
    fill: Volume | None = None
    boxes: tuple[Box, ...] = ()
    under: tuple[Volume, Scale] | None = None
    over: Callable[[Axes], None] | None = None
    smooth: bool = True

    @property
    def interpolated(self) -> bool:
        """Whether it is drawn smoothly."""
        return self.smooth and not self.view.detail and self.image.data.is_floating_point()

    def drawn(self, image: Volume, scale: Scale) -> np.ndarray:
        """The slice of an image as it is drawn, with rows from below."""
        if not self.interpolated:
            return self.view.cut(image).T
        return self.view.smooth(image, order=3 if scale.cmap == "gray" else 1).T


@dataclass(frozen=True)
class Row:
    """Tiles drawn side by side at one mm scale; None leaves a place empty."""

    tiles: tuple[Tile | None, ...]
    label: str = ""
    drawn: tuple[Tile, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "drawn", tuple(t for t in self.tiles if t is not None))
        require(
            len(self.drawn) > 0, "panel: rows", expected="at least one image in each row", found="an empty row",
            remedy="Leave the row out.",
        )

    @property
    def bar(self) -> Scale | None:
        """The scale to draw as a colour bar: the first one with a label."""
        return next((t.scale for t in self.drawn if t.scale.label), None)

    @property
    def size_mm(self) -> tuple[float, float]:
        """Largest width and height of its views in mm of brain."""
        return tuple(max(t.view.size_mm[i] for t in self.drawn) for i in (0, 1))


@dataclass(frozen=True)
class _Layout:
    """Where tiles stand, in mm from the left and the bottom of the figure."""

    left: float
    cell: float
    columns: int
    width: float

    def x(self, column: int) -> float:
        return self.left + column * (self.cell + GAP_MM)


def _layout(rows: Sequence[Row], width_mm: float) -> _Layout:
    columns = max(len(r.tiles) for r in rows)
    barred = [r.bar is not None and len(r.tiles) == columns and r.tiles[-1] is not None for r in rows]
    right, cell, left, more = BAR_MM if any(barred) else 0.5, width_mm / columns, 0.5, 0
    for _ in range(4):  # labels stand upright: how they wrap depends on the height of the rows, and that on their room
        tall = [cell * r.size_mm[1] / r.size_mm[0] for r in rows]
        for row, high, bar in zip(rows, tall, barred, strict=True):
            left = max(left, LINE_MM * (_row_label(row, high).count("\n") + 1) + 1.5 if row.label else 0.5)
            more = max(more, _bar_label(row, high).count("\n") if bar else 0)
        cell = (width_mm - left - right - more * BAR_LINE_MM - GAP_MM * (columns - 1)) / columns
    return _Layout(left, cell, columns, width_mm)


def _row_label(row: Row, tall_mm: float) -> str:
    return "\n".join(wrapped(line, tall_mm) for line in row.label.split("\n"))


def _bar_label(row: Row, tall_mm: float) -> str:
    return wrapped(row.bar.label, BAR_SHARE * tall_mm, size_pt=BAR_PT)


@look()
def panel(rows: Sequence[Row], *, width_mm: float = FULL_MM, levels: bool = True) -> Picture:
    """Draw rows of tiles; the first tile of each plane in a row carries the letters L and R and a new slice's level.

    Parameters
    ----------
    rows : sequence of Row
    width_mm : float
        Width of the figure; the height follows from the shapes of the brains.
    levels : bool
        Whether levels are said: those of means over several slices are none.
    """
    grid = _layout(rows, width_mm)
    size = _title_size(rows, grid.cell)
    titles = [[wrapped(t.title, grid.cell, size_pt=size) if t else "" for t in r.tiles] for r in rows]
    heads = [max(LINE_MM * (t.count("\n") + 1) if t else 0.0 for t in row) for row in titles]
    heights = [grid.cell * r.size_mm[1] / r.size_mm[0] for r in rows]
    total = sum(heights) + sum(heads) + GAP_MM * len(rows) + 0.5 + NOTE_MM
    figure, top, seen = new_figure(width_mm, total, layout=None), total - 0.5, {}
    for row, names, head, height in zip(rows, titles, heads, heights, strict=True):
        top, plane = top - head - height, None
        for i, tile in enumerate(row.tiles):
            if tile is not None:
                axes = bare_axes(figure, (grid.x(i), top, grid.cell, height))
                draw_tile(axes, tile, row.size_mm)
                axes.set_title(names[i], pad=2.5, fontsize=size)
                if tile.view.plane != plane:
                    plane = tile.view.plane
                    _letters(axes, tile.view.level, new=levels and seen.get(plane) != tile.view.level)
                    seen[plane] = tile.view.level
        _margins(figure, row, grid, (top, height))
        top -= GAP_MM
    note = {"ha": "left", "va": "bottom", "fontsize": 5.5, "color": "#666666", "transform": figure.transFigure}
    figure.add_artist(Text(grid.left / width_mm, 0.5 / total, _voxels(rows), **note))
    return figure


def _title_size(rows: Sequence[Row], cell_mm: float) -> float:
    """Points of the titles: less than usual where a word would reach into the next tile."""
    longest = max((len(word) for row in rows for tile in row.drawn for word in tile.title.split()), default=1)
    return min(TITLE_PT, 72 / 25.4 * cell_mm / (0.6 * longest))


def _voxels(rows: Sequence[Row]) -> str:
    """Sizes of the voxels that are drawn, and whether they are drawn smoothly."""
    tiles = [tile for row in rows for tile in row.drawn]
    sizes = dict.fromkeys(_voxel(tile.view.brain) for tile in tiles)
    said = "; interpolated for display" if any(tile.interpolated for tile in tiles) else ""
    return f"{' and '.join(sizes)}{said}"


def _voxel(brain: Volume) -> str:
    """Size of a voxel in words; of a single slice that of a pixel, because its thickness may stand for anything."""
    flat = 1 in brain.shape
    sizes = [f"{round(mm, 1):g}" for mm, n in zip(brain.spacing, brain.shape, strict=True) if n > 1]
    return f"{'pixels' if flat else 'voxels'} of {' × '.join(sizes)} mm"


def bare_axes(figure: Picture, place_mm: Box) -> Axes:
    """Axes without ticks or frame at (left, bottom, width, height) in mm."""
    width, height = figure.get_size_inches() * 25.4
    x, y, w, h = place_mm
    axes = figure.add_axes((x / width, y / height, w / width, h / height))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes


def draw_tile(axes: Axes, tile: Tile, room_mm: tuple[float, float]) -> None:
    """Draw a tile into axes that stand for `room_mm` (width, height of brain); all else is the caller's."""
    (w, h), (room_w, room_h) = tile.view.size_mm, room_mm
    values, extent = tile.drawn(tile.image, tile.scale), (0, w, 0, h)
    ground = "white" if tile.scale.low == -tile.scale.high and tile.under is None else "black"
    axes.set_facecolor(ground)
    colours = mpl.colormaps[tile.scale.cmap].with_extremes(bad=ground)
    shown = {"extent": extent, "origin": "lower", "interpolation": "nearest"}
    if tile.under is not None:
        image, grey = tile.under
        below = mpl.colormaps[grey.cmap].with_extremes(bad=ground)
        axes.imshow(tile.drawn(image, grey), cmap=below, vmin=grey.low, vmax=grey.high, **shown)
        shown["alpha"] = _strength(values, tile.scale)
    axes.imshow(values, cmap=colours, vmin=tile.scale.low, vmax=tile.scale.high, **shown)
    if tile.fill is not None:
        inside = np.nan_to_num(tile.view.cut(tile.fill)).T > 0
        paint = np.zeros((*inside.shape, 4))
        paint[inside] = to_rgba(LESION, 0.9)
        axes.imshow(paint, extent=extent, origin="lower", interpolation="nearest")
    if tile.contour is not None:
        _outline(axes, np.nan_to_num(tile.view.cut(tile.contour)).T > 0, extent)
    for x, y, bw, bh in tile.boxes:
        axes.add_patch(Rectangle((x, y), bw, bh, fill=False, edgecolor=LESION, linewidth=1.0))
    if tile.over is not None:
        tile.over(axes)
    axes.set(xlim=((w - room_w) / 2, (w + room_w) / 2), ylim=((h - room_h) / 2, (h + room_h) / 2), aspect="auto")


def _strength(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Opacity: none at 0 (or what is nearest to it on the scale), full from half way to the ends.

    It grows with the square, or the pale colours of weak values would veil the image below.
    """
    still = min(max(0.0, scale.low), scale.high)
    half = max(scale.high - still, still - scale.low) / 2
    return np.clip(np.abs(np.nan_to_num(values, nan=still) - still) / half, 0, 1) ** 2


def _outline(axes: Axes, mask: np.ndarray, extent: Box) -> None:
    if not mask.any():
        return
    padded = np.pad(mask.astype(float), 1)
    steps = [(extent[1] / mask.shape[1]), (extent[3] / mask.shape[0])]
    x, y = ((np.arange(n) - 0.5) * s for n, s in zip(padded.shape[::-1], steps, strict=True))
    axes.contour(x, y, padded, levels=[0.5], colors=[LESION], linewidths=0.8)


def _letters(axes: Axes, level: str, *, new: bool) -> None:
    dark = axes.get_facecolor()[0] < 0.5
    halo = [effects.withStroke(linewidth=1.2, foreground="black" if dark else "white")]
    style = {"transform": axes.transAxes, "color": "white" if dark else "black", "path_effects": halo, "fontsize": 7.5}
    axes.text(0.03, 0.97, "L", ha="left", va="top", **style)
    axes.text(0.97, 0.97, "R", ha="right", va="top", **style)
    if new:
        wide = axes.get_position().width * axes.figure.get_figwidth()
        fitting = min(6.5, 72 * wide / (0.65 * len(level)))
        axes.text(0.03, 0.02, level, ha="left", va="bottom", **{**style, "fontsize": fitting})


def _margins(figure: Picture, row: Row, grid: _Layout, span_mm: tuple[float, float]) -> None:
    width, height = figure.get_size_inches() * 25.4
    bottom, tall = span_mm
    if row.label:
        at = ((grid.left - 1.0) / width, (bottom + tall / 2) / height)
        figure.text(*at, _row_label(row, tall), rotation=90, ha="right", va="center", ma="center", linespacing=1.15)
    if row.bar:
        after = grid.x(max(i for i, t in enumerate(row.tiles) if t is not None) + 1)
        place = (after + 1.0, bottom + (1 - BAR_SHARE) / 2 * tall, 2.4, BAR_SHARE * tall)
        _colour_bar(figure, row.bar, place, _bar_label(row, tall))


def _colour_bar(figure: Picture, scale: Scale, place_mm: Box, label: str) -> None:
    axes = bare_axes(figure, place_mm)
    norm = Normalize(scale.low, scale.high)
    extend = "both" if scale.low < 0 else "max"
    bar = figure.colorbar(ScalarMappable(norm, scale.cmap), cax=axes, extend=extend, extendfrac=0.04)
    bar.set_label(label, labelpad=2, fontsize=BAR_PT)
    bar.outline.set_visible(False)
    bar.ax.locator_params(nbins=4)
    bar.ax.tick_params(labelsize=6.5, length=2, pad=1.5)
