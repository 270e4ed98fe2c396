"""The picture pages of the papers: contrasts of one patient, methods side by side, segmentations, saliency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nbkit.core.checks import require
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.slices import Scale, View, difference_scale, grey_scale, lesion_boxes, view_of
from nbkit.figures.marks import title_of
from nbkit.figures.style import FULL_MM, Picture


def contrast_sheet(
    scan: Scan, contrasts: Sequence[str] | None = None, *, columns: int | None = None, index: int | None = None,
    width_mm: float = FULL_MM,
) -> Picture:
    """Every contrast of one scan at one slice, the same lesions in red rectangles (Wei 2019, Fig. 2.1).

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
        image = scan.image(name)
        tiles.append(Tile(image, view, grey_scale(image, brain, percentiles=(0.5, 99.0)), title_of(name), boxes=boxes))
    return panel(_rows(tiles, columns or (len(names) if len(names) <= 4 else 3)), width_mm=width_mm)


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
    view, grey = view_of(brain, lesions, index=index), grey_scale(truth, brain)
    largest = lesion_boxes(lesions, view, most=1) if lesions is not None else ()
    details = [view.zoomed(box) for box in largest]
    boxes = tuple(view.outline_of(detail) for detail in details)
    images = {**predictions, truth_name: truth}
    rows = [Row(tuple(Tile(v, view, grey, title_of(n), boxes=boxes) for n, v in images.items()))]
    rows += [Row(tuple(Tile(v, detail, grey) for v in images.values()), "lesion detail") for detail in details]
    return panel([*rows, _difference_row(truth, predictions, view, brain, unit, signed)], width_mm=width_mm)


def _difference_row(
    truth: Volume, predictions: Mapping[str, Volume], view: View, brain: Volume, unit: str, signed: bool,
) -> Row:
    gaps = []
    for name, prediction in predictions.items():
        prediction.check_grid(truth, f"method_comparison: {name} and truth")
        gap = prediction.data.float() - truth.data.float()
        gaps.append(truth.with_data(gap if signed else gap.abs()))
    label = f"prediction − truth ({unit})" if signed else f"|prediction − truth| ({unit})"
    scale = difference_scale(gaps, brain, label=label, signed=signed)
    return Row((*(Tile(g, view, scale) for g in gaps), None), "difference" if signed else "absolute difference")


def combination_sheet(
    truth: Volume, predictions: Mapping[str, Volume], *, brain: Volume, lesions: Volume | None = None,
    unit: str = "scanner units", width_mm: float = FULL_MM,
) -> Picture:
    """What one system predicts from different inputs ("t1_dir", "t1_t2_pd", ...), and the truth (Fig. 2.7)."""
    return method_comparison(truth, predictions, brain=brain, lesions=lesions, unit=unit, width_mm=width_mm)


@dataclass(frozen=True)
class SegmentationExample:
    """One subject of Fig. 2.5: images, the lesions found on each, and how well the two agree.

    Parameters
    ----------
    label : str
        E.g. ``"sub-07, high Dice"``.
    truth, predicted : Volume
        True and predicted image.
    truth_lesions, predicted_lesions : Volume
        Lesions found by one segmenter on either image.
    brain : Volume
    dice : float
        Overlap of the two segmentations, 0 to 1.
    """

    label: str
    truth: Volume
    truth_lesions: Volume
    predicted: Volume
    predicted_lesions: Volume
    brain: Volume
    dice: float


def segmentation_examples(examples: Sequence[SegmentationExample], *, width_mm: float = FULL_MM) -> Picture:
    """True image, its segmentation, predicted image, its segmentation: one row per subject (Fig. 2.5)."""
    require(
        len(examples) > 0, "segmentation_examples: examples", expected="at least one subject", found="none",
        remedy="Pass the subjects with the highest and the lowest Dice.",
    )
    rows = [_segmentation_row(example, first=i == 0) for i, example in enumerate(examples)]
    return panel(rows, width_mm=width_mm)


def _segmentation_row(example: SegmentationExample, *, first: bool) -> Row:
    view, grey = view_of(example.brain, example.truth_lesions), grey_scale(example.truth, example.brain)
    true = Tile(example.truth, view, grey, "True FLAIR" if first else "")
    predicted = Tile(example.predicted, view, grey, "Predicted FLAIR" if first else "")
    lesions = "its lesions (red)" if first else ""
    return Row(
        (true, replace(true, title=lesions, fill=example.truth_lesions),
         predicted, replace(predicted, title=lesions, fill=example.predicted_lesions)),
        f"{example.label}\nDice {example.dice:.2f}",
    )


def saliency_sheet(
    saliency: Mapping[str, Volume], inputs: Mapping[str, Volume], *, brain: Volume, lesions: Volume | None = None,
    label: str = "|∂ loss / ∂ input| (per z)", width_mm: float = FULL_MM,
) -> Picture:
    """P3S maps on one common scale, above the images they belong to (Wei 2019, Eq. 2.3 and Fig. 2.6).

    Parameters
    ----------
    saliency, inputs : mapping of str to Volume
        By contrast; every contrast of `saliency` must be among `inputs`.
    brain, lesions : Volume
        Masks on the same grid.
    label : str
        What the colours mean, with the unit.
    """
    missing = [name for name in saliency if name not in inputs]
    require(
        not missing, "saliency_sheet: inputs", expected=f"the image of {', '.join(saliency)}",
        found=f"none for {', '.join(missing)}", remedy="Pass the inputs the maps were computed for.",
    )
    view = view_of(brain, lesions)
    heat = replace(difference_scale(saliency.values(), brain, label=label), cmap="magma")
    above = Row(tuple(Tile(v, view, heat, title_of(n)) for n, v in saliency.items()), "saliency")
    below = Row(tuple(Tile(inputs[n], view, grey_scale(inputs[n], brain)) for n in saliency), "input")
    return panel([above, below], width_mm=width_mm)


def mask_sheet(
    image: Volume, masks: Mapping[str, Volume], *, brain: Volume, scale: Scale | None = None,
    index: int | None = None, width_mm: float = FULL_MM,
) -> Picture:
    """One image with each mask as a red contour: how a brain, tissue or lesion mask is checked by eye."""
    view, grey = view_of(brain, masks.get("lesions"), index=index), scale or grey_scale(image, brain)
    tiles = (Tile(image, view, grey, title_of(name), contour=mask) for name, mask in masks.items())
    return panel([Row(tuple(tiles))], width_mm=width_mm)
