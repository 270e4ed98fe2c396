"""Many systems' pictures of one visit, side by side."""

from __future__ import annotations

from collections.abc import Mapping

from nbkit.core.checks import require
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.figures.ageing import LEVELS_MM
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.marks import marks
from nbkit.figures.slices import difference_scale, grey_scale, view_at
from nbkit.figures.style import FULL_MM, Picture


def lineup(
    last: Scan, target: Scan, predictions: Mapping[str, Volume], *, contrast: str = "T1w", unit: str = "a.u.",
    levels_mm: Mapping[str, float] = LEVELS_MM, width_mm: float = FULL_MM,
) -> Picture:
    """The last scan seen, the true later one and every prediction of it, a column each; below them what they miss.

    One grey scale (of the last scan) and one of prediction − truth serve all; under the last scan stands what it would
    miss itself.

    Parameters
    ----------
    last, target : Scan
        With the mask "brain", on one grid.
    predictions : mapping of str to Volume
        By model, on the same grid.
    contrast, unit : str
        Which image, and the unit of its intensities.
    levels_mm : mapping of str to float
        World level of the slice by plane.

    Raises
    ------
    NbkitError
        Without predictions, or for one on another grid.
    """
    require(
        len(predictions) > 0, "lineup: predictions", expected="an image by at least one model", found="none",
        remedy="Ask a model to predict the age of the target.",
    )
    seen, truth = last.image(contrast), target.image(contrast)
    for name, image in {"last scan": seen, **predictions}.items():
        image.check_grid(truth, f"lineup: {name} and target")
    brain = last.mask("brain")
    brain = brain.with_data(brain.data.bool() | target.mask("brain").data.bool())
    images = [seen, truth, *predictions.values()]
    gaps = [None if image is truth else image.with_data(image.data.float() - truth.data.float()) for image in images]
    grey = grey_scale(seen, brain)
    miss = difference_scale([gap for gap in gaps if gap is not None], brain, label=unit, signed=True)
    ages = [f"seen, {last.age:.1f}\N{NO-BREAK SPACE}y", f"true, {target.age:.1f}\N{NO-BREAK SPACE}y"]
    titles = [*ages, *(mark.title for mark in marks(predictions).values())]
    rows = []
    for level, view in enumerate(view_at(brain, mm, plane=plane) for plane, mm in levels_mm.items()):
        heads = titles if level == 0 else [""] * len(titles)
        rows.append(Row(tuple(Tile(i, view, grey, title=t) for i, t in zip(images, heads, strict=True))))
        rows.append(Row(tuple(None if g is None else Tile(g, view, miss) for g in gaps), "− truth"))
    return panel(rows, width_mm=width_mm)
