"""Picture pages that papers share: contrasts of one patient, methods side by side, masks over an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.figures.charts import number
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.slices import Scale, View, difference_scale, dimmed, grey_scale, lesion_boxes, view_of
from nbkit.figures.marks import title_of
from nbkit.figures.style import FULL_MM, Picture


QUANTITIES: Mapping[str, str] = {"MTR": "pu", "FA": "", "RD": "10⁻³ mm²/s", "AD": "10⁻³ mm²/s", "MD": "10⁻³ mm²/s",
                                 "DVR": ""}
"""Maps whose values mean something, with their units."""

TOPS: Mapping[str, float] = {"RD": 95.0, "AD": 95.0, "MD": 95.0, "FA": 99.5}
"""Percentiles of tissue that are white: fluid at its edge is far beyond diffusivities; bundles are the top of FA."""


def contrast_sheet(
    scan: Scan, contrasts: Sequence[str] | None = None, *, columns: int | None = None, index: int | None = None,
    width_mm: float = FULL_MM,
) -> Picture:
    """Every contrast of one scan at one slice, the same lesions in red rectangles (Wei 2019, Fig. 2.1).

    Quantitative maps (:data:`QUANTITIES`) are windowed to tissue, and their titles say from where to where.

    Parameters
    ----------
    scan : Scan
        Needs the mask "brain"; "lesions" is used where present.
    contrasts : sequence of str, optional
        Which ones, in order; default all.
    columns : int, optional
        Images per row; default all of up to four, else three.
    index : int, optional
        Axial slice in RAS order; default the one with most lesion.

    Raises
    ------
    NbkitError
        For a contrast or mask the scan lacks.
    """
    brain, lesions = scan.mask("brain"), scan.masks.get("lesions")
    view = view_of(brain, lesions, index=index)
    boxes = lesion_boxes(lesions, view) if lesions is not None else ()
    names, tiles = tuple(contrasts or scan.images), []
    for name in names:
        image, within = scan.image(name), _tissue(scan) if name in QUANTITIES else brain
        grey = grey_scale(image, within, percentiles=(0.5, TOPS.get(name, 99.0)))
        title, unit = title_of(name), _unit(name, grey)
        if name in QUANTITIES:
            title = f"{title}, {number(grey.low, 2)} to {number(grey.high, 2)}" + (f" ({unit})" if unit else "")
        tiles.append(Tile(image, view, grey, title, boxes=boxes))
    return panel(_rows(tiles, columns or (len(names) if len(names) <= 4 else 3)), width_mm=width_mm)


def _tissue(scan: Scan) -> Volume:
    """Grey and white matter where a scan has their masks, else the brain: fluid would take the window."""
    masks = [scan.masks[name].data.bool() for name in ("gm", "wm", "nawm") if name in scan.masks]
    brain = scan.mask("brain")
    tissue = brain.with_data(torch.stack(masks).any(0) & brain.data.bool()) if masks else brain
    return tissue if tissue.data.any() else brain


def _unit(name: str, grey: Scale) -> str:
    """The unit of a map; of diffusivities by their size: files have them in mm²/s or a thousandth of it."""
    return "mm²/s" if name in ("RD", "AD", "MD") and grey.high < 0.05 else QUANTITIES.get(name, "")


def _rows(tiles: Sequence[Tile], columns: int) -> list[Row]:
    full = [*tiles, *[None] * (-len(tiles) % columns)]
    return [Row(tuple(full[i:i + columns])) for i in range(0, len(full), columns)]


def method_comparison(
    truth: Volume, predictions: Mapping[str, Volume], *, brain: Volume, lesions: Volume | None = None,
    unit: str = "scanner units", signed: bool = False, index: int | None = None, truth_name: str = "truth",
    width_mm: float = FULL_MM,
) -> Picture:
    """Predictions and the true image, a detail round the largest lesion, and the differences (Figs. 2.4, 2.7).

    Parameters
    ----------
    truth : Volume
        The image that was to be predicted; its grey scale serves all.
    predictions : mapping of str to Volume
        By system ("rf", "fcn", ...) or by inputs ("t1_dir", "no_pd", ...), on the grid of `truth`.
    brain, lesions : Volume
        Masks on that grid; without lesions there is no detail row.
    unit : str
        Unit of the intensities, for the colour bar.
    signed : bool
        Show prediction − truth (diverging, centred on 0) instead of its absolute value.
    truth_name : str
        Title of the true image.
    """
    given = {"brain": brain, "lesions": lesions, "unit": unit, "signed": signed, "index": index}
    return panel(comparison_rows(truth, predictions, truth_name=truth_name, **given), width_mm=width_mm)


def comparison_rows(
    truth: Volume, predictions: Mapping[str, Volume], *, brain: Volume, lesions: Volume | None = None,
    unit: str = "scanner units", signed: bool = False, index: int | None = None, truth_name: str = "truth",
) -> list[Row]:
    """The rows of :func:`method_comparison`: images, a detail where there are lesions, differences."""
    view, grey = view_of(brain, lesions, index=index), grey_scale(truth, brain)
    largest = lesion_boxes(lesions, view, most=1) if lesions is not None else ()
    details = [view.zoomed(box) for box in largest]
    boxes = tuple(view.outline_of(detail) for detail in details)
    images = {**predictions, truth_name: truth}
    rows = [Row(tuple(Tile(v, view, grey, title_of(n), boxes=boxes) for n, v in images.items()))]
    rows += [Row(tuple(Tile(v, detail, grey) for v in images.values()), "lesion detail") for detail in details]
    return [*rows, _difference_row(truth, predictions, view, brain, unit, signed, dimmed(grey))]


def _difference_row(
    truth: Volume, predictions: Mapping[str, Volume], view: View, brain: Volume, unit: str, signed: bool,
    below: Scale,
) -> Row:
    gaps = []
    for name, prediction in predictions.items():
        prediction.check_grid(truth, f"method_comparison: {name} and truth")
        gap = prediction.data.float() - truth.data.float()
        gaps.append(truth.with_data(gap if signed else gap.abs()))
    label = f"prediction − truth ({unit})" if signed else f"|prediction − truth| ({unit})"
    scale = difference_scale(gaps, brain, label=label, signed=signed)
    tiles = (Tile(gap, view, scale, under=(truth, below)) for gap in gaps)
    return Row((*tiles, None), "difference" if signed else "absolute difference")


def mask_sheet(
    image: Volume, masks: Mapping[str, Volume], *, brain: Volume, scale: Scale | None = None,
    index: int | None = None, width_mm: float = FULL_MM,
) -> Picture:
    """One image with each mask as a red contour: how a brain, tissue or lesion mask is checked by eye."""
    view, grey = view_of(brain, masks.get("lesions"), index=index), scale or grey_scale(image, brain)
    tiles = (Tile(image, view, grey, title_of(name), contour=mask) for name, mask in masks.items())
    return panel([Row(tuple(tiles))], width_mm=width_mm)
