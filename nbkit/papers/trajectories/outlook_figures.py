"""One picture of a prediction: the brain, its change since baseline, the truth where known, and a volume over age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from nbkit.core.checks import require
from nbkit.core.volume import Volume
from nbkit.figures.mosaics import bare_axes
from nbkit.figures.marks import TRAJECTORIES, marks
from nbkit.figures.slices import canonical
from nbkit.figures.style import FULL_MM, Picture, look, new_figure, wrapped

TILE_MM, TOP_MM, CURVE_MM = 34.0, 5.0, 55.0
INK, SHADE = "#111111", "#F0F0F0"


@dataclass(frozen=True)
class Curve:
    """A volume over age.

    Parameters
    ----------
    name : str
    ages, values : sequence of float
        Years and mL, rising ages.
    spread : sequence of float
        Standard deviation in mL at each age; empty when it is not known.
    """

    name: str
    ages: Sequence[float]
    values: Sequence[float]
    spread: Sequence[float] = ()


@dataclass(frozen=True, eq=False)
class Column:
    """One image, and its change since baseline below it (None: nothing)."""

    title: str
    image: Volume
    change: Volume | None = None


@dataclass(frozen=True)
class Chart:
    """The curves beside the images.

    Parameters
    ----------
    label : str
        Of the vertical axis, with its unit.
    curves : sequence of Curve
    points : mapping of str to (ages, values)
        Drawn as markers: what was seen, what came later.
    age : float
        Marked by a line.
    trained : (float, float)
        Ages a system has learned from; outside them the chart is shaded.
    reach : (float, float), optional
        Ages that the chart shows at least.
    """

    label: str
    curves: Sequence[Curve]
    age: float
    trained: tuple[float, float]
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    reach: tuple[float, float] | None = None


@dataclass(frozen=True)
class Window:
    """What of a cut is shown: the head with two voxels round it.

    Parameters
    ----------
    plane : {"axial", "coronal"}
    level_mm : float
        World coordinate of the cut.
    across, up : slice
        Voxels from left to right, and from posterior or inferior upwards.
    mm : (float, float)
        Width and height shown.
    """

    plane: str
    level_mm: float
    across: slice
    up: slice
    mm: tuple[float, float]

    @classmethod
    def of(cls, image: Volume, plane: str, level_mm: float) -> Window:
        """Round what is brighter than a fiftieth of the brightest voxel; all of an empty cut."""
        values, size = _cut(image, plane, level_mm)
        inside = values > 0.02 * float(image.data.max())
        slices = [slice(max(found[0] - 2, 0), found[-1] + 3) if len(found := np.flatnonzero(inside.any(1 - axis)))
                  else slice(None) for axis in (0, 1)]
        shown = values[slices[0], slices[1]].shape
        return cls(plane, level_mm, *slices, tuple(s * n / v for s, n, v in zip(size, shown, values.shape)))


def grey_tile(image: Volume, window: Window, *, full: float) -> np.ndarray:
    """A cut as grey levels (rows from the top, columns from the left; uint8); `full` and above are 255."""
    values = _cut(image, window.plane, window.level_mm)[0][window.across, window.up]
    return (255 * np.clip(values / full, 0, 1)).round().astype(np.uint8).T[::-1]


@look()
def explorer_picture(
    columns: Sequence[Column], chart: Chart, *, level_mm: float, plane: str = "axial", top: float, swing: float,
    width_mm: float = FULL_MM,
) -> Picture:
    """Images in columns, their changes below, and the chart at the right.

    Parameters
    ----------
    columns : sequence of Column
        At least one; images of one grid.
    chart : Chart
    level_mm : float
        World coordinate of the cut.
    plane : {"axial", "coronal"}
    top : float
        Intensity shown white; 0 is black.
    swing : float
        Change shown in the darkest colour, either way.
    """
    require(
        len(columns) > 0 and plane in ("axial", "coronal"), "explorer_picture: columns, plane",
        expected="at least one column, and axial or coronal", found=f"{len(columns)} columns, {plane!r}",
        remedy="Pass the baseline as the first column.",
    )
    tile = min(TILE_MM, (width_mm - CURVE_MM - 19.0) / len(columns))
    above = TOP_MM + 3.0 * max(wrapped(column.title, tile, size_pt=7.0).count("\n") for column in columns)
    height = 2 * (tile * 1.2 + above) + 4.0
    figure = new_figure(width_mm, height, layout=None)
    # one axes in mm for all images: an axes each would take most of the time that a slider has
    sheet = bare_axes(figure, (0.0, 0.0, width_mm, height))
    sheet.set(xlim=(0.0, width_mm), ylim=(0.0, height))
    for i, column in enumerate(columns):
        left = 1.0 + i * (tile + 1.0)
        for row, (title, image, look_of) in enumerate(_rows(column, top, swing)):
            if image is not None:
                bottom = height - (row + 1) * (tile * 1.2 + above)
                at = _tile(sheet, (left, bottom, tile, tile * 1.2), _cut(image, plane, level_mm), title, **look_of)
                _letters(sheet, at, dark=row == 0)
    if any(column.change is not None for column in columns):
        _bar(sheet, (1.0 + len(columns) * (tile + 1.0), height - 2 * (tile * 1.2 + above), 1.8, tile * 1.2), swing)
    sheet.set(aspect="auto")
    _chart(figure, chart, (width_mm - CURVE_MM + 8.0, 11.0, CURVE_MM - 10.0, height - 24.0))
    return figure


def _rows(column: Column, top: float, swing: float) -> tuple[tuple[str, Volume | None, dict], ...]:
    """Title, image and colours of both rows of a column."""
    return (
        (column.title, column.image, {"cmap": "gray", "vmin": 0.0, "vmax": top}),
        (f"change (±{swing:.2g})", column.change, {"cmap": "RdBu_r", "vmin": -swing, "vmax": swing}),
    )


def _tile(
    sheet: Axes, place: tuple[float, float, float, float], cut: tuple[np.ndarray, tuple[float, float]], title: str,
    **colours: object,
) -> tuple[float, float, float, float]:
    """One image, as large as its place (mm) allows, under its title; gives the place that it fills."""
    (x, y, w, h), (values, size) = place, cut
    scale = min(w / size[0], h / size[1])
    x0, y0 = x + (w - scale * size[0]) / 2, y + (h - scale * size[1]) / 2
    extent = (x0, x0 + scale * size[0], y0, y0 + scale * size[1])
    sheet.imshow(values.T, origin="lower", extent=extent, interpolation="bicubic", **colours)
    sheet.text(x + w / 2, y + h + 0.8, wrapped(title, w, size_pt=7.0), ha="center", va="bottom", fontsize=7.0)
    return x0, y0, scale * size[0], scale * size[1]


def _cut(image: Volume, plane: str, level_mm: float) -> tuple[np.ndarray, tuple[float, float]]:
    """A slice (right, anterior or superior) through the voxel nearest a world coordinate, and its size in mm."""
    upright = canonical(image)
    axis = {"coronal": 1, "axial": 2}[plane]
    at = round((level_mm - upright.affine[axis, 3]) / upright.affine[axis, axis])
    at = min(max(at, 0), upright.shape[axis] - 1)
    values = upright.data[0].float().select(axis, at).numpy()
    rest = [upright.spacing[a] for a in range(3) if a != axis]
    return values, (values.shape[0] * rest[0], values.shape[1] * rest[1])


def _bar(sheet: Axes, place: tuple[float, float, float, float], swing: float) -> None:
    """The colours of changes, drawn into the sheet: a colour bar's own axes would cost a slider its time."""
    x, y, w, h = place
    steps = np.linspace(-1, 1, 64)
    sheet.pcolormesh([x, x + w], np.linspace(y, y + h, 65), steps[:, None], cmap="RdBu_r", vmin=-1, vmax=1)
    for share, value in ((0.0, -swing), (0.5, 0.0), (1.0, swing)):
        sheet.text(x + w + 0.6, y + share * h, f"{value:+.2g}".replace("-", "−") if value else "0", va="center",
                   ha="left", fontsize=6.0)


def _letters(sheet: Axes, place: tuple[float, float, float, float], *, dark: bool) -> None:
    """L and R with a halo: in coronal cuts the ground below them is white in one row and black in the other."""
    (x, y, w, h), colour = place, "white" if dark else INK
    halo = [withStroke(linewidth=1.2, foreground="black" if dark else "white")]
    for share, letter in ((0.03, "L"), (0.97, "R")):
        sheet.text(x + share * w, y + 0.97 * h, letter, ha="left" if share < 0.5 else "right", va="top",
                   fontsize=6.5, color=colour, path_effects=halo)


def _chart(figure: Picture, chart: Chart, place_mm: tuple[float, float, float, float]) -> None:
    width, height = figure.get_size_inches() * 25.4
    x, y, w, h = place_mm
    axes = figure.add_axes((x / width, y / height, w / width, h / height))
    ages = [a for curve in chart.curves for a in curve.ages] + [a for at, _ in chart.points.values() for a in at]
    ages += [chart.age, *(chart.reach or ())]
    low, high = min(ages) - 1, max(ages) + 1
    for start, stop in ((low, chart.trained[0]), (chart.trained[1], high)):
        if stop > start:
            axes.axvspan(start, stop, color=SHADE, zorder=0)
    looks = marks([curve.name for curve in chart.curves], {mark.title: mark for mark in TRAJECTORIES.values()})
    for curve, colour in ((curve, looks[curve.name].colour) for curve in chart.curves):
        values, spread = np.asarray(curve.values, float), np.asarray(curve.spread, float)
        axes.plot(curve.ages, values, color=colour, label=curve.name, zorder=3)
        if spread.size:
            half = 1.96 * spread
            axes.fill_between(curve.ages, values - half, values + half, color=colour, alpha=0.15, lw=0)
    for (name, (at, values)), marker in zip(chart.points.items(), "o^sD", strict=False):
        face = INK if marker == "o" else "white"
        axes.plot(at, values, marker, color=INK, markerfacecolor=face, label=name, zorder=4)
    axes.axvline(chart.age, color=INK, lw=0.8, ls="--", zorder=2)
    axes.set(xlim=(low, high), xlabel="age (years)", ylabel=chart.label)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, fontsize=6.5, handlelength=1.2, borderpad=0.1)
