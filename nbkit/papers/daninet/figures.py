"""Pictures of slices that age: regions and their rates, configurations side by side, one person over all ages.

Slices are Volumes of one axial slice (S, S, 1), or arrays (S, S) with right and anterior rising, which carry no level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib import patheffects as effects
from matplotlib.axes import Axes

from nbkit.core.checks import check_keys, known, require
from nbkit.core.volume import Volume
from nbkit.figures.charts import LINES, SOFT
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.marks import CYCLE, DIAGNOSES, Mark, TRAJECTORIES, marks, needs
from nbkit.figures.slices import Scale, View, difference_scale, grey_scale, view_of
from nbkit.figures.style import FULL_MM, Picture, look, new_figure
from nbkit.figures.trajectories import KEY_MM, PANEL_MM

Slice = np.ndarray | Volume

CONFIGURATIONS: dict[str, Mark] = {
    "caae": Mark("[9]", "#8C8C8C", "X"), "c": Mark("C", "#56B4E9", "p"), "t": Mark("T", "#E69F00", "P"),
    "c_t": Mark("C-T", "#009E73", "^"), "p": Mark("P", "#B3A800", "h"), "p_c": Mark("P-C", "#D55E00", "v"),
    "p_t": Mark("P-T", "#CC79A7", "D"), "p_c_t": Mark("P-C-T", "#0072B2", "o"),
    "copy": Mark("input repeated", "#444444", "x"), "mean_change": Mark("mean change", "#882255", "H"),
}
"""Of DaniNet, in the order of its Table 1: progression (P), clinical condition (C), transfer (T), or the face-ageing
baseline [9]; then two controls."""


@dataclass(frozen=True)
class _Unplaced(View):
    """A view of a slice whose level nobody knows."""

    @property
    def level(self) -> str:
        """Nothing to say."""
        return ""


@dataclass(frozen=True, eq=False)
class Simulated:
    """One person of :func:`configurations_sheet`.

    Parameters
    ----------
    label : str
        E.g. ``"sub-07, AD"``.
    baseline, followup : Slice
    outputs : mapping of str to Slice
        Simulations of the follow-up, by configuration (or any name).
    brain : Slice
        Mask; what lies outside is not drawn.
    years : float, optional
        From baseline to follow-up.
    """

    label: str
    baseline: Slice
    followup: Slice
    outputs: Mapping[str, Slice]
    brain: Slice
    years: float | None = None


@look()
def regional_progression(
    ratios: np.ndarray, centres: Sequence[float], *, diagnoses: Mapping[str, int], regions: Sequence[int],
    pairs: pd.DataFrame | None = None, columns: int = 3, width_mm: float = FULL_MM,
) -> Picture:
    """Predicted intensity of some regions over age, relative to the first age, one panel each (Fig. 2).

    Parameters
    ----------
    ratios : numpy.ndarray
        (D, A, A, R): predicted intensity at the older age bin (third axis) over that at the younger (second axis).
    centres : sequence of float
        Middle of the A bins, years.
    diagnoses : mapping of str to int
        Which to draw, e.g. ``{"CN": 0, "AD": 3}``: places along the first axis.
    regions : sequence of int
        Places along the last axis.
    pairs : DataFrame, optional
        Two scans of one person each, drawn as a line from the curve of their diagnosis at the younger age: columns
        region, diagnosis, younger and older (years), ratio (older over younger).
    columns : int
        Panels per row.

    Raises
    ------
    NbkitError
        For arrays that do not fit together, a region or diagnosis that is not there, or a missing column.
    """
    ratios, centres = np.asarray(ratios, float), np.asarray(centres, float)
    _check_ratios(ratios, centres, diagnoses, regions)
    if pairs is not None:
        needs(pairs, ("region", "diagnosis", "younger", "older", "ratio"), "regional_progression: pairs")
    used, drawn = min(columns, len(regions)), marks(diagnoses, DIAGNOSES)
    rows = -(-len(regions) // used)
    figure = new_figure(width_mm * max(used / columns, 0.5), rows * PANEL_MM + KEY_MM)
    panels = figure.subplots(rows, used, squeeze=False, sharey=True).ravel()
    for axes, region in zip(panels, regions, strict=False):
        axes.axhline(1.0, color=SOFT, linewidth=0.6)
        for line, (name, mark) in enumerate(drawn.items()):
            curve = ratios[diagnoses[name], 0, :, region]
            axes.plot(centres, curve, color=mark.colour, linestyle=LINES[line % len(LINES)], label=mark.title)
            if pairs is not None:
                own = pairs[(pairs["region"] == region) & (pairs["diagnosis"] == name)]
                _pairs(axes, own, (centres, curve), mark)
        axes.set_title(f"region {region}", loc="left")
        axes.set(xlabel="age (years)")
        axes.grid(axis="y")
    for axes in panels[::used]:
        axes.set_ylabel("intensity / at the first age")
    for axes in panels[len(regions):]:
        axes.remove()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2 * len(drawn))
    return figure


def _pairs(axes: Axes, pairs: pd.DataFrame, curve: tuple[np.ndarray, np.ndarray], mark: Mark) -> None:
    start = np.interp(pairs["younger"], *curve)
    x, y = (np.stack(ends) for ends in ((pairs["younger"], pairs["older"]), (start, start * pairs["ratio"])))
    axes.plot(x, y, color=mark.colour, linewidth=0.5, alpha=0.5)
    axes.plot(x[1], y[1], mark.marker, color=mark.colour, markersize=2.4, alpha=0.6, markeredgewidth=0,
              label=f"{mark.title}, two scans of a person")


def _check_ratios(
    ratios: np.ndarray, centres: np.ndarray, diagnoses: Mapping[str, int], regions: Sequence[int]
) -> None:
    ages = centres.size
    require(
        ratios.ndim == 4 and ratios.shape[1:3] == (ages, ages), "regional_progression: ratios", found=ratios.shape,
        expected=f"shape (D, {ages}, {ages}, R) for {ages} ages", remedy="Pass the table and the centres of its bins.",
    )
    require(
        len(diagnoses) > 0 and len(regions) > 0, "regional_progression", expected="a diagnosis and a region to draw",
        found=f"{len(diagnoses)} and {len(regions)}", remedy="Name some.",
    )
    places = {"diagnoses": (diagnoses.values(), ratios.shape[0]), "regions": (regions, ratios.shape[3])}
    for what, (asked, size) in places.items():
        bad = [k for k in asked if not 0 <= k < size]
        require(
            not bad, f"regional_progression: {what}", expected=f"places from 0 to {size - 1}", found=bad,
            remedy="Count along the axis of the table.",
        )


def region_map(
    image: Slice, masks: np.ndarray, *, brain: Slice, marked: Sequence[int] = (), width_mm: float = FULL_MM
) -> Picture:
    """A slice, its overlapping regions, and how many of them hold each pixel (paper, section 2.4).

    Parameters
    ----------
    image, brain : Slice
        E.g. the mean of the training slices, and the mask in which it is drawn.
    masks : numpy.ndarray
        (R, S, S) boolean.
    marked : sequence of int
        Regions outlined and numbered on the slice.

    Raises
    ------
    NbkitError
        For masks of another size, or a marked region that is not there.
    """
    mask, view = _framed(brain)
    grey, masks = grey_scale(_like(image, mask), mask), np.asarray(masks, bool)
    require(
        masks.ndim == 3 and masks.shape[1:] == mask.shape[:2], "region_map: masks", found=masks.shape,
        expected=f"shape (R, {mask.shape[0]}, {mask.shape[1]})", remedy="Pass the regions of this slice's grid.",
    )
    for region in marked:
        known(str(region), map(str, range(len(masks))), "region_map: marked")
    cover = _like(masks.sum(0).astype(np.float32), mask)
    most = float(max(cover.data.max(), 1))
    tiles = (
        Tile(_like(image, mask), view, grey, "slice", over=_outlines(masks, marked, view)),
        Tile(_like(_hues(masks), mask), view, Scale(0, 1, "turbo"), f"{len(masks)} regions"),
        Tile(cover, view, Scale(0, most, "viridis", "regions over a pixel"), "overlap"),
    )
    return panel([Row(tiles)], width_mm=width_mm)


def _hues(masks: np.ndarray) -> np.ndarray:
    """A colour in [0.05, 0.95] for each region, far from its predecessor's; NaN where there is none.

    Where regions overlap, the one whose centre is nearest is shown.
    """
    golden = 0.05 + 0.9 * ((np.arange(1, len(masks) + 1) * 0.618034) % 1)
    places = np.indices(masks.shape[1:])
    centres = np.stack([places[:, mask].mean(axis=1) if mask.any() else np.zeros(2) for mask in masks])
    away = np.square(places[None] - centres[:, :, None, None]).sum(axis=1)
    nearest = np.where(masks, away, np.inf).argmin(axis=0)
    return np.where(masks.any(axis=0), golden[nearest], np.nan).astype(np.float32)


def _outlines(masks: np.ndarray, marked: Sequence[int], view: View) -> Callable[[Axes], None]:
    """Draws the outline and number of some regions, in mm of the view."""
    (a, b), (sx, sy) = view.box, view.spacing
    colours, halo = [colour for colour, _ in CYCLE], [effects.withStroke(linewidth=1.5, foreground="black")]

    def draw(axes: Axes) -> None:
        for k, region in enumerate(marked):
            mask = masks[region][a, b].astype(float)
            if mask.any() and not mask.all():
                x, y = ((np.arange(n) + 0.5) * s for n, s in zip(mask.shape, (sx, sy), strict=True))
                axes.contour(x, y, mask.T, levels=[0.5], colors=[colours[k % len(colours)]], linewidths=1.2)
                at = [float(p[i.astype(int)].mean()) for p, i in zip((x, y), np.nonzero(mask), strict=True)]
                axes.text(*at, str(region), color="white", ha="center", va="center", fontsize=7.0, path_effects=halo)

    return draw


def configurations_sheet(
    people: Sequence[Simulated], *, unit: str = "share of peak", width_mm: float = FULL_MM
) -> Picture:
    """Input, follow-up and the outputs of each configuration, and below each what it misses (Fig. 3).

    One scale of output − follow-up serves all people, and one of greys each person; below the input stands what
    repeating it would miss.

    Parameters
    ----------
    people : sequence of Simulated
        All with the same configurations.
    unit : str
        Of the intensities, for the colour bar.

    Raises
    ------
    NbkitError
        Without people, for one without outputs or with other configurations than the first, or slices on another grid.
    """
    require(
        len(people) > 0 and len(people[0].outputs) > 0, "configurations_sheet: people", found="none",
        expected="at least one person with one output", remedy="Simulate a follow-up first.",
    )
    names, rows, framed = list(people[0].outputs), [], [_framed(p.brain) for p in people]
    titles = ["input", "follow-up", *(m.title for m in marks(names, {**TRAJECTORIES, **CONFIGURATIONS}).values())]
    images = []
    for person, (brain, _) in zip(people, framed, strict=True):
        check_keys(person.outputs, names, f"configurations_sheet: {person.label}")
        check_keys(names, person.outputs, f"configurations_sheet: {person.label}")
        shown = [person.baseline, person.followup, *(person.outputs[n] for n in names)]
        images.append([_like(image, brain) for image in shown])
    gaps = [[None if k == 1 else _minus(image, row[1]) for k, image in enumerate(row)] for row in images]
    miss = _shared_scale(gaps, [brain for brain, _ in framed], f"output − follow-up ({unit})")
    for k, (person, (brain, view)) in enumerate(zip(people, framed, strict=True)):
        grey, heads = grey_scale(images[k][0], brain), titles if k == 0 else [""] * len(titles)
        later = "" if person.years is None else f"\n+{person.years:.1f} years"
        shown = tuple(Tile(i, view, grey, t) for i, t in zip(images[k], heads, strict=True))
        missed = tuple(None if g is None else Tile(g, view, miss) for g in gaps[k])
        rows += [Row(shown, person.label + later), Row(missed, "− follow-up")]
    return panel(rows, width_mm=width_mm)


def ages_sheet(
    images: Sequence[Slice], ages: Sequence[float], *, brain: Slice, columns: int = 5, unit: str = "share of peak",
    width_mm: float = FULL_MM,
) -> Picture:
    """One person's slices over the ages, and below each the difference from the first (Fig. 4).

    Parameters
    ----------
    images : sequence of Slice
        One per age, on one grid.
    ages : sequence of float
        Years, rising.
    brain : Slice
        Mask.
    columns : int
        Ages side by side.
    unit : str
        Of the intensities, for the colour bar.

    Raises
    ------
    NbkitError
        For fewer than two images, or another number of ages than of images.
    """
    require(
        len(images) == len(ages) > 1, "ages_sheet: images, ages", expected="two or more images, and an age for each",
        found=f"{len(images)} images, {len(ages)} ages", remedy="Simulate the centres of the age bins.",
    )
    mask, view = _framed(brain)
    shown = [_like(image, mask) for image in images]
    grey, gaps = grey_scale(shown[0], mask), [_minus(image, shown[0]) for image in shown]
    change = difference_scale(gaps[1:], mask, label=f"change ({unit})", signed=True)
    above = [Tile(i, view, grey, f"{age:.1f} years") for i, age in zip(shown, ages, strict=True)]
    below = [None, *(Tile(gap, view, change) for gap in gaps[1:])]
    rows = []
    for k in range(0, len(shown), columns):
        pad = [None] * max(0, min(columns, len(shown)) - len(shown[k:k + columns]))
        pair = (above[k:k + columns], below[k:k + columns])
        rows += [Row((*part, *pad), label) for part, label in zip(pair, ("", "− first"), strict=True) if any(part)]
    return panel(rows, width_mm=width_mm)


def survey_sheet(
    baseline: Slice, followup: Slice, candidates: Mapping[str, Slice], *, width_mm: float = FULL_MM
) -> Picture:
    """What a rater sees: the input, the follow-up and, under letters, the simulations; one grey scale, no names.

    All are cut to the box in which any of them is brighter than a hundredth of the follow-up's brightest pixel.

    Parameters
    ----------
    baseline, followup : Slice
    candidates : mapping of str to Slice
        By the letter to show.
    """
    first = _volume(baseline)
    whole = first.with_data(torch.ones_like(first.data, dtype=torch.bool))
    shown = {title: _like(image, whole) for title, image in
             {"input": baseline, "follow-up": followup, **candidates}.items()}
    faint = 0.01 * float(shown["follow-up"].data.max())
    bright = torch.stack([image.data > faint for image in shown.values()]).any(dim=0)
    view = _Unplaced(whole, 0, view_of(first.with_data(bright), index=0).box)
    grey = grey_scale(shown["follow-up"], whole, percentiles=(0.5, 99.9))
    return panel([Row(tuple(Tile(image, view, grey, title) for title, image in shown.items()))], width_mm=width_mm)


def _volume(image: Slice) -> Volume:
    """A Volume of one slice; an array gets pixels of 1 mm."""
    if isinstance(image, Volume):
        found = image
    else:
        values = torch.as_tensor(np.array(image))
        require(
            values.ndim == 2, "figures.progression: slice", expected="shape (S, S)", found=tuple(values.shape),
            remedy="Pass one slice, right and anterior rising.",
        )
        found = Volume(values[..., None])
    require(
        found.shape[2] == 1, "figures.progression: slice", expected="one axial slice, shape (S, S, 1)",
        found=found.shape, remedy="Cut the slice first.",
    )
    return found


def _like(image: Slice, brain: Volume) -> Volume:
    """The slice on the grid of its brain mask: an array takes that grid, a Volume must have it."""
    if isinstance(image, Volume):
        image.check_grid(brain, "figures.progression: slice and brain")
        return image
    return brain.with_data(_volume(image).data)


def _framed(brain: Slice) -> tuple[Volume, View]:
    """The mask as a Volume, and the view of it; a mask given as an array knows no level."""
    mask = _volume(brain)
    mask = mask.with_data(mask.data.bool())
    view = view_of(mask, index=0)
    return mask, view if isinstance(brain, Volume) else _Unplaced(view.brain, view.index, view.box)


def _minus(image: Volume, other: Volume) -> Volume:
    return image.with_data(image.data.float() - other.data.float())


def _shared_scale(gaps: Sequence[Sequence[Volume | None]], brains: Sequence[Volume], label: str) -> Scale:
    """One diverging scale for the differences of several people, each up to the 99th percentile in its brain."""
    scales = [difference_scale([g for g in row if g is not None], brain, label=label, signed=True)
              for row, brain in zip(gaps, brains, strict=True)]
    return max(scales, key=lambda scale: scale.high)
