"""Maps of the myelin chapters over T1-w images: demyelinated voxels, change, attention (Wei thesis, ch. 3 and 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch

from nbkit.core.checks import require
from nbkit.core.volume import Volume
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.slices import Scale, View, grey_scale, lesion_boxes, view_of
from nbkit.figures.marks import title_of
from nbkit.figures.style import FULL_MM, Picture, look

AGREEMENT = {
    "neither: normal": "#FFFFFF", "both: demyelinated": "#F0E442", "true PET only": "#C1121F",
    "predicted PET only": "#E69F00",
}
"""Colours of Fig. 3.8 B; their lightness tells them apart too."""
CHANGE = {"lesion, no change": "#FFFFFF", "demyelinating": "#D7263D", "remyelinating": "#2A7FFF"}
"""Colours of Fig. 4.6."""
KEY_MM = 7.0
Layer = tuple[Volume, str]


@dataclass(frozen=True, eq=False)
class MapExample:
    """One patient of :func:`agreement_maps`.

    Parameters
    ----------
    label : str
        E.g. ``"patient A"``.
    anatomy, brain, lesions : Volume
        T1-w image and masks on one grid.
    true, predicted : Volume
        Boolean maps of demyelinated voxels.
    dice : float
    """

    label: str
    anatomy: Volume
    brain: Volume
    lesions: Volume
    true: Volume
    predicted: Volume
    dice: float


@dataclass(frozen=True, eq=False)
class ChangeExample:
    """One patient of :func:`change_maps`: boolean maps of the voxels that lose and that regain myelin.

    Parameters
    ----------
    label : str
    anatomy, brain, lesions : Volume
        T1-w image and masks on one grid.
    true, predicted : (Volume, Volume)
        Demyelinating and remyelinating voxels.
    """

    label: str
    anatomy: Volume
    brain: Volume
    lesions: Volume
    true: tuple[Volume, Volume]
    predicted: tuple[Volume, Volume]


@dataclass(frozen=True, eq=False)
class AttentionExample:
    """One patient of :func:`attention_sheet`: masks on one grid, and saliency maps by name of the loss."""

    label: str
    brain: Volume
    lesions: Volume
    maps: Mapping[str, Volume]


def agreement_maps(examples: Sequence[MapExample], *, width_mm: float = FULL_MM) -> Picture:
    """T1-w image, and where true and predicted PET call lesion voxels demyelinated, two patients a line (Fig. 3.8 B).

    The slice is the one with most lesion; below it stands a detail round its largest lesion. The T1-w image is drawn
    dark under the colours, so that white lesions stand out from white matter.

    Raises
    ------
    NbkitError
        Without patients, or for maps on another grid.
    """
    _some(examples, "agreement_maps")
    rows = []
    for k in range(0, len(examples), 2):
        pairs = [_agreement_tiles(example) for example in examples[k:k + 2]]
        empty = [None] * 2 * (len(pairs) < min(2, len(examples)))
        rows += [Row((*(tile for tiles in part for tile in tiles), *empty), label)
                 for part, label in zip(zip(*pairs, strict=True), ("", "detail"), strict=True)]
    return _with_key(panel(rows, width_mm=width_mm), AGREEMENT)


def _agreement_tiles(example: MapExample) -> tuple[tuple[Tile, Tile], tuple[Tile, Tile]]:
    """T1-w image and painted classes of one patient: the slice, and a detail of it."""
    view, layers = view_of(example.brain, example.lesions), _agreement(example)
    grey = grey_scale(example.anatomy, example.brain)
    detail = view.zoomed(lesion_boxes(example.lesions, view, most=1)[0])
    plain = Tile(example.anatomy, view, grey, f"{example.label}, {view.level}", boxes=(view.outline_of(detail),))
    paint = Tile(example.anatomy, view, _dark(grey), f"PET, Dice {example.dice:.2f}", over=_painted(view, layers))
    below = replace(plain, view=detail, title="", boxes=())
    return (plain, paint), (below, replace(paint, view=detail, title="", over=_painted(detail, layers)))


def change_maps(examples: Sequence[ChangeExample], *, width_mm: float = FULL_MM) -> Picture:
    """T1-w image, predicted and true change of lesion voxels between two scans, a row per patient (Fig. 4.6).

    The slice is the one with most voxels that truly change, or with most lesion where none does.

    Raises
    ------
    NbkitError
        Without patients, or for maps on another grid.
    """
    _some(examples, "change_maps")
    rows = []
    for i, example in enumerate(examples):
        moved = example.lesions.with_data(example.true[0].data.bool() | example.true[1].data.bool())
        view = view_of(example.brain, moved if moved.data.any() else example.lesions)
        grey = grey_scale(example.anatomy, example.brain)
        heads = ("T1-w", "predicted PET", "true PET") if i == 0 else ("",) * 3
        painted = [Tile(example.anatomy, view, _dark(grey), head, over=_painted(view, _change(example.lesions, pair)))
                   for head, pair in zip(heads[1:], (example.predicted, example.true), strict=True)]
        rows.append(Row((Tile(example.anatomy, view, grey, heads[0]), *painted), example.label))
    return _with_key(panel(rows, width_mm=width_mm), CHANGE)


def attention_sheet(examples: Sequence[AttentionExample], *, width_mm: float = FULL_MM) -> Picture:
    """Lesion masks above the attention saliency of each loss, a column per patient (Eq. 3.7, Fig. 3.9).

    Sizes of gradients of different losses do not compare, so each map is divided by its 99th percentile in the brain;
    its title gives the share of the saliency inside lesions.

    Parameters
    ----------
    examples : sequence of AttentionExample
        All with maps of the same names, in one order.

    Raises
    ------
    NbkitError
        Without patients, or for patients whose maps have other names.
    """
    _some(examples, "attention_sheet")
    names = list(examples[0].maps)
    for example in examples:
        require(
            list(example.maps) == names, f"attention_sheet: {example.label}", expected=f"maps of {', '.join(names)}",
            found=", ".join(example.maps), remedy="Pass the maps of the same losses for every patient.",
        )
    views = [view_of(e.brain, e.lesions) for e in examples]
    white, seen = Scale(0, 1), list(zip(examples, views, strict=True))
    masks = [Tile(e.lesions, view, white, f"{e.label}, {view.level}") for e, view in seen]
    heat = Scale(0.0, 1.0, "magma", "saliency / its 99th percentile in the brain")
    rows = [Row(tuple(masks), "lesions")]
    for i, name in enumerate(names):
        scale = heat if i == 0 else replace(heat, label="")
        tiles = [_saliency(e, name, view, scale) for e, view in seen]
        rows.append(Row(tuple(tiles), title_of(name)))
    return panel(rows, width_mm=width_mm)


def _some(examples: Sequence, where: str) -> None:
    require(
        len(examples) > 0, f"{where}: examples", expected="at least one patient", found="none",
        remedy="Pass the patients to show.",
    )


def _agreement(example: MapExample) -> tuple[Layer, ...]:
    """Masks of the four classes with their colours."""
    inside, true, predicted = (v.data.bool() for v in (example.lesions, example.true, example.predicted))
    classes = (~true & ~predicted, true & predicted, true & ~predicted, ~true & predicted)
    return tuple((example.lesions.with_data(c & inside), k) for c, k in zip(classes, AGREEMENT.values(), strict=True))


def _change(lesions: Volume, pair: tuple[Volume, Volume]) -> tuple[Layer, ...]:
    return tuple(zip((lesions, *pair), CHANGE.values(), strict=True))


def _dark(grey: Scale) -> Scale:
    """The greys at half their brightness."""
    return replace(grey, high=2 * grey.high - grey.low)


def _painted(view: View, layers: Sequence[Layer]) -> Callable[[Axes], None]:
    """What paints masks in their colours over a tile, later ones on top."""

    def draw(axes: Axes) -> None:
        width, height = view.size_mm
        for mask, colour in layers:
            inside = np.nan_to_num(view.cut(mask)).T > 0
            paint = np.zeros((*inside.shape, 4))
            paint[inside] = to_rgba(colour)
            axes.imshow(paint, extent=(0, width, 0, height), origin="lower", interpolation="nearest")

    return draw


def _saliency(example: AttentionExample, name: str, view: View, scale: Scale) -> Tile:
    saliency, brain = example.maps[name], example.brain.data.bool()
    values = saliency.data.double()[brain]
    peak, total = float(values.quantile(0.99)), float(values.sum())
    share = float(saliency.data.double()[example.lesions.data.bool() & brain].sum()) / total if total else np.nan
    return Tile(saliency.with_data(saliency.data / max(peak, 1e-12)), view, scale, f"{100 * share:.1f} % in lesions")


@look()
def _with_key(figure: Picture, colours: Mapping[str, str]) -> Picture:
    """The figure, taller by a line, with what the colours mean above it."""
    width, height = figure.get_size_inches()
    more = KEY_MM / 25.4
    for axes in figure.axes:
        box = axes.get_position(original=True)
        low, tall = (v * height / (height + more) for v in (box.y0, box.height))
        axes.set_position((box.x0, low, box.width, tall))
    for text in figure.texts:
        text.set_y(text.get_position()[1] * height / (height + more))
    figure.set_size_inches(width, height + more)
    handles = [Patch(facecolor=c, edgecolor="#444444", linewidth=0.6, label=n) for n, c in colours.items()]
    figure.legend(handles=handles, loc="upper center", ncols=len(handles), borderaxespad=0.2)
    return figure
