"""Maps of the myelin chapters over T1-w images: demyelinated voxels, change, attention (Wei thesis, ch. 3 and 4).

An example is (first scan, true course, predicted course) of a patient, by label; see
:func:`nbkit.papers.myelin.experiments.examples`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch

from nbkit.core.checks import require
from nbkit.core.protocols import Scan, Subject
from nbkit.core.volume import Volume
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.slices import Scale, View, dimmed, grey_scale, lesion_boxes, view_of
from nbkit.figures.style import FULL_MM, Picture, look
from nbkit.papers.myelin.metrics import Course, overlap

AGREEMENT = {
    "neither: normal": "#FFFFFF", "both: demyelinated": "#F0E442", "true PET only": "#C1121F",
    "predicted PET only": "#E69F00",
}
"""Colours of Fig. 3.8 B; their lightness tells them apart too."""
AGREEMENT_CHAPTER_4 = {
    "neither: normal": "#FFFFFF", "both: demyelinated": "#F0E442", "true PET only": "#2A7FFF",
    "predicted PET only": "#D7263D",
}
"""Colours of Fig. 4.4 B, as its caption gives them."""
CHANGE = {"lesion, no change": "#FFFFFF", "demyelinating": "#D7263D", "remyelinating": "#2A7FFF"}
"""Colours of Fig. 4.6."""
LOSSES = {"l1": "L1 loss", "weighted": "weighted L1 loss"}
KEY_MM = 7.0
Examples = Mapping[str, tuple[Scan, Course, Course]]


def agreement_maps(
    examples: Examples, *, colours: Mapping[str, str] = AGREEMENT, width_mm: float = FULL_MM
) -> Picture:
    """T1-w image, and where true and predicted PET call lesion voxels demyelinated, two patients a line (Fig. 3.8 B).

    Chapter 4 has other `colours` (:data:`AGREEMENT_CHAPTER_4`, Fig. 4.4 B).

    The slice is the one with most lesion; below it stands a detail round its largest lesion. The T1-w image is drawn
    dark under the colours, so that white lesions stand out from white matter.
    """
    _some(examples, "agreement_maps")
    tiles, rows = [_agreement_tiles(label, *example, colours) for label, example in examples.items()], []
    for k in range(0, len(tiles), 2):
        pairs = tiles[k:k + 2]
        empty = [None] * 2 * (len(pairs) < min(2, len(tiles)))
        rows += [Row((*(tile for pair in part for tile in pair), *empty), label)
                 for part, label in zip(zip(*pairs, strict=True), ("", "detail"), strict=True)]
    return _with_key(panel(rows, width_mm=width_mm), colours)


def _agreement_tiles(
    label: str, scan: Scan, true: Course, ours: Course, colours: Mapping[str, str]
) -> tuple[tuple[Tile, Tile], tuple[Tile, Tile]]:
    """T1-w image and painted classes of one patient: the slice, and a detail of it."""
    lesions, dice = true.lesions, overlap(true.d0, ours.d0)
    a, b = (course.d0.data.bool() for course in (true, ours))
    masks = [lesions.with_data(c & lesions.data.bool()) for c in (~a & ~b, a & b, a & ~b, ~a & b)]
    view, (anatomy, grey) = view_of(scan.mask("brain"), lesions), _anatomy(scan)
    detail = view.zoomed(lesion_boxes(lesions, view, most=1)[0])
    plain = Tile(anatomy, view, grey, f"{label}, {view.level}", boxes=(view.outline_of(detail),))
    paint = Tile(anatomy, view, dimmed(grey, times=2.0), f"PET, Dice {dice:.2f}", over=_painted(view, masks, colours))
    below = replace(plain, view=detail, title="", boxes=())
    return (plain, paint), (below, replace(paint, view=detail, title="", over=_painted(detail, masks, colours)))


def change_maps(examples: Examples, *, width_mm: float = FULL_MM) -> Picture:
    """T1-w image, predicted and true change of lesion voxels between two scans, a row per patient (Fig. 4.6).

    The slice is the one with most voxels that truly change, or with most lesion where none does.
    """
    _some(examples, "change_maps")
    rows = []
    for label, (scan, true, ours) in examples.items():
        moved = true.lesions.with_data(torch.logical_xor(true.d0.data, true.d1.data))
        view = view_of(scan.mask("brain"), moved if moved.data.any() else true.lesions)
        heads, (anatomy, grey) = ("",) * 3 if rows else ("T1-w", "predicted PET", "true PET"), _anatomy(scan)
        tiles = [Tile(anatomy, view, grey, heads[0])]
        for head, course in zip(heads[1:], (ours, true), strict=True):
            masks = (course.lesions, course.maps["demyelinating"], course.maps["remyelinating"])
            tiles.append(Tile(anatomy, view, dimmed(grey, times=2.0), head, over=_painted(view, masks, CHANGE)))
        rows.append(Row(tuple(tiles), label))
    return _with_key(panel(rows, width_mm=width_mm), CHANGE)


def attention_sheet(
    maps: Mapping[str, Mapping[str, Volume]], people: Sequence[Subject], *, width_mm: float = FULL_MM
) -> Picture:
    """Lesion masks above the attention saliency of each loss, a column per patient (Eq. 3.7, Fig. 3.9).

    Sizes of gradients of different losses do not compare, so each map is divided by its 99th percentile in the brain;
    its title gives the share of the saliency inside lesions.

    Parameters
    ----------
    maps : mapping of str to mapping of str to Volume
        By loss, then by subject; see :func:`~nbkit.papers.myelin.experiments.saliency_maps`.
    people : sequence of Subject
        Whom to draw, by the letters A, B, ...
    """
    _some(people, "attention_sheet")
    scans = [person.baseline for person in people]
    views = [view_of(scan.mask("brain"), scan.mask("lesions")) for scan in scans]
    masks = [Tile(scan.mask("lesions"), view, Scale(0, 1), f"patient {letter}, {view.level}")
             for letter, scan, view in zip("ABCDEFGHIJ", scans, views, strict=False)]
    rows, heat = [Row(tuple(masks), "lesions")], Scale(0.0, 1.0, "magma", "saliency / its 99th percentile in the brain")
    for loss, by_subject in maps.items():
        tiles = [_saliency(scan, by_subject[scan.subject], view, heat) for scan, view in zip(scans, views, strict=True)]
        rows.append(Row(tuple(tiles), LOSSES.get(loss, loss)))
        heat = replace(heat, label="")
    return panel(rows, width_mm=width_mm)


def _some(examples: Sequence | Mapping, where: str) -> None:
    require(
        len(examples) > 0, f"{where}: examples", expected="at least one patient", found="none",
        remedy="Pass the patients to show.",
    )


def _anatomy(scan: Scan) -> tuple[Volume, Scale]:
    """The T1-w image, or the MTR where there is none, with its greys."""
    image = scan.images["T1w"] if "T1w" in scan.images else scan.image("MTR")
    return image, grey_scale(image, scan.mask("brain"))


def _painted(view: View, masks: Sequence[Volume], colours: Mapping[str, str]) -> Callable[[Axes], None]:
    """What paints masks in their colours over a tile, later ones on top."""

    def draw(axes: Axes) -> None:
        width, height = view.size_mm
        for mask, colour in zip(masks, colours.values(), strict=True):
            inside = np.nan_to_num(view.cut(mask)).T > 0
            paint = np.zeros((*inside.shape, 4))
            paint[inside] = to_rgba(colour)
            axes.imshow(paint, extent=(0, width, 0, height), origin="lower", interpolation="nearest")

    return draw


def _saliency(scan: Scan, saliency: Volume, view: View, scale: Scale) -> Tile:
    values, brain = saliency.data.double(), scan.mask("brain").data.bool()
    peak, total = float(values[brain].quantile(0.99)), float(values[brain].sum())
    share = float(values[scan.mask("lesions").data.bool() & brain].sum()) / total if total else np.nan
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
