"""Pictures of slices that age: the method, regions and their rates, systems side by side, a person over all ages.

Slices are Volumes of one axial slice (S, S, 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib import patheffects as effects
from matplotlib.axes import Axes

from nbkit.core.checks import check_keys
from nbkit.core.protocols import Subject
from nbkit.core.volume import Volume
from nbkit.figures.charts import SOFT, looks, panels
from nbkit.figures.marks import CYCLE, marks, needs
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.pipeline import Box, pipeline_drawing
from nbkit.figures.slices import Scale, View, difference_scale, dimmed, grey_scale, thumbnails, view_of
from nbkit.figures.style import Picture, look
from nbkit.papers.daninet.experiments import Case

UNIT = "1 = white matter"


def method_drawing(people: Iterable[Subject] = ()) -> Picture:
    """DaniNet as boxes and arrows, with the first scan of the first of `people` in it."""
    pictures = thumbnails(*(person.baseline for person in islice(people, 1)))
    boxes = [
        Box("slice", "slice x at age a", 0, 0, "input", pictures), Box("code", "code z (encoder)", 1, 0, "learned"),
        Box("ages", "slices at all ages (generator)", 2, 0, "learned"),
        Box("out", "slice at the age asked for", 3, 0, "output"), Box("told", "age bin; diagnosis (C)", 1, 1, "input"),
        Box("critics", "critics of codes and slices", 2, 1, "learned"),
        Box("rates", "regional rates (P), one SVR each", 3, 1, "learned"), Box("tune", "tuned to the person (T)", 0, 1),
    ]
    arrows = [
        ("slice", "code", ""), ("code", "ages", ""), ("ages", "out", "mixed"), ("told", "ages", ""),
        ("critics", "ages", ""), ("rates", "ages", "darken"), ("slice", "tune", ""), ("tune", "code", ""),
    ]
    return pipeline_drawing(boxes, arrows)


def biomarker_drawing() -> Picture:
    """From training slices to the rates of regional intensity that P asks for (Fig. 2)."""
    boxes = [
        Box("slices", "training slices", 0, 0, "input"),
        Box("regions", "clusters of local intensity, grown: regions", 1, 0, "learned"),
        Box("pairs", "pairs of scans of a person", 0, 1, "input"),
        Box("ratio", "sum of a region, older / younger", 1, 1), Box("falling", "pairs that fall", 2, 1),
        Box("svr", "SVR of each region: both ages, diagnosis", 3, 1, "learned"),
        Box("table", "rate between any two bins", 3, 0, "output"),
    ]
    arrows = [
        ("slices", "regions", ""), ("regions", "ratio", ""), ("pairs", "ratio", ""), ("ratio", "falling", ""),
        ("falling", "svr", ""), ("svr", "table", ""),
    ]
    return pipeline_drawing(boxes, arrows)


@look()
def regional_progression(courses: pd.DataFrame, pairs: pd.DataFrame, *, regions: Sequence[int]) -> Picture:
    """Predicted intensity of some regions over age, relative to the first age, one panel each (Fig. 2).

    Parameters
    ----------
    courses : DataFrame
        Columns diagnosis, age, structure and value (:func:`nbkit.papers.daninet.progression.regional_courses`).
    pairs : DataFrame
        Two scans of one person each, drawn as a line from the curve of their diagnosis at the younger age: columns
        diagnosis, younger, older, structure and value (the ratio).
    regions : sequence of int
        Which structures.
    """
    needs(courses, ("diagnosis", "age", "structure", "value"), "regional_progression: courses")
    needs(pairs, ("diagnosis", "younger", "older", "structure", "value"), "regional_progression: pairs")
    names = list(courses["diagnosis"].unique())
    shared = {"x": "age", "y": "value", "hue": "diagnosis", "hue_order": names, "palette": looks(names)["palette"]}

    def draw(axes: Axes, region: str) -> None:
        curves, own = (table[table["structure"] == int(region)] for table in (courses, pairs))
        ends = pd.concat([_segments(curves, own, name) for name in names])
        axes.axhline(1.0, color=SOFT, linewidth=0.6)
        sns.lineplot(curves, style="diagnosis", style_order=names, estimator=None, ax=axes, **shared)
        sns.lineplot(ends, units="pair", estimator=None, lw=0.5, alpha=0.5, legend=False, ax=axes, **shared)
        dots = ends[ends["last"]].assign(diagnosis=lambda t: t["diagnosis"] + ", two scans of a person")
        sns.scatterplot(dots, x="age", y="value", hue="diagnosis", s=8, alpha=0.6, ax=axes, linewidth=0,
                        palette={f"{n}, two scans of a person": c for n, c in shared["palette"].items()})
        axes.set(xlabel="age (years)", ylabel="intensity / at the first age")

    figure = panels([str(r) for r in regions], draw, titles={str(r): f"region {r} (outlined above)" for r in regions})
    low, high = zip(*(axes.get_ylim() for axes in figure.axes), strict=True)
    for axes in figure.axes:
        axes.set_ylim(min(low), max(high))
    return figure


def _segments(curves: pd.DataFrame, pairs: pd.DataFrame, diagnosis: str) -> pd.DataFrame:
    """Both ends of every pair of one diagnosis: pair, diagnosis, age, value, and whether it is the last."""
    curve, own = (table[table["diagnosis"] == diagnosis] for table in (curves, pairs))
    start = np.interp(own["younger"], curve["age"], curve["value"])
    ends = ((own["younger"], start, False), (own["older"], start * own["value"], True))
    told = {"pair": own.index, "diagnosis": diagnosis}
    return pd.concat([pd.DataFrame({**told, "age": age, "value": value, "last": last}) for age, value, last in ends])


def region_map(image: Volume, masks: torch.Tensor, *, brain: Volume, marked: Sequence[int] = ()) -> Picture:
    """A slice, its overlapping regions, and how many of them hold each pixel (paper, section 2.4).

    Parameters
    ----------
    image, brain : Volume
        E.g. of one person, and the mask in which it is drawn.
    masks : torch.Tensor
        Regions (R, S, S).
    marked : sequence of int
        Regions outlined and numbered on the slice.
    """
    view, regions = view_of(brain, index=0), masks.numpy() > 0
    drawn = (torch.from_numpy(x.astype(np.float32)) for x in (regions.sum(0), _hues(regions)))
    cover, hues = (brain.with_data(x[None, ..., None]) for x in drawn)
    tiles = (
        Tile(image, view, grey_scale(image, brain), "slice", over=_outlines(regions, marked, view)),
        Tile(hues, view, Scale(0, 1, "turbo"), f"{len(regions)} regions", smooth=False),
        Tile(cover, view, Scale(0, float(cover.data.max()), "viridis", "regions over a pixel"), "overlap",
             smooth=False),
    )
    return panel([Row(tiles)])


def _hues(masks: np.ndarray) -> np.ndarray:
    """A colour in [0.05, 0.95] for each region, far from its predecessor's; NaN where there is none.

    Where regions overlap, the one whose centre is nearest is shown.
    """
    golden = 0.05 + 0.9 * ((np.arange(1, len(masks) + 1) * 0.618034) % 1)
    places = np.indices(masks.shape[1:])
    centres = np.stack([places[:, mask].mean(axis=1) for mask in masks])
    away = np.square(places[None] - centres[:, :, None, None]).sum(axis=1)
    nearest = np.where(masks, away, np.inf).argmin(axis=0)
    return np.where(masks.any(axis=0), golden[nearest], np.nan)


def _outlines(masks: np.ndarray, marked: Sequence[int], view: View) -> Callable[[Axes], None]:
    """Draws the outline and number of some regions, in mm of the view."""
    halo = [effects.withStroke(linewidth=1.5, foreground="black")]

    def draw(axes: Axes) -> None:
        for region, (colour, _) in zip(marked, CYCLE, strict=False):
            mask = masks[region][view.box].astype(float)
            x, y = ((np.arange(n) + 0.5) * s for n, s in zip(mask.shape, view.spacing, strict=True))
            axes.contour(x, y, mask.T, levels=[0.5], colors=[colour], linewidths=1.2)
            at = [places[i].mean() for places, i in zip((x, y), np.nonzero(mask), strict=True)]
            axes.text(*at, str(region), color="white", ha="center", va="center", fontsize=7.0, path_effects=halo)

    return draw


def configurations_sheet(cases: Sequence[Case], *, simulated: bool = False) -> Picture:
    """Input, follow-up and the simulations of each system, and below each what it misses (Fig. 3).

    One scale of simulation − follow-up serves all people, and one of greys each person; below the input stands what
    repeating it would miss.

    Parameters
    ----------
    cases : sequence of Case
        All with the same systems.
    simulated : bool
        Real people whose ageing, and disease, are simulated: the labels say so.
    """
    names, rows = list(cases[0].candidates), []
    titles = ["input", "follow-up", *(mark.title for mark in marks(names).values())]
    for case in cases:
        check_keys(names, case.candidates, f"configurations_sheet: {case.id}")
    shown = [[case.baseline, case.truth, *(case.candidates[name] for name in names)] for case in cases]
    gaps = [[_minus(image, row[1]) for image in row] for row in shown]
    scales = [
        difference_scale([row[0], *row[2:]], case.brain, label=f"simulation − follow-up ({UNIT})", signed=True)
        for row, case in zip(gaps, cases, strict=True)
    ]
    miss = max(scales, key=lambda scale: scale.high)
    for k, case in enumerate(cases):
        ill = case.diagnosis
        who = f"healthy adult {k + 1},\nsimulated {ill}" if simulated else f"person {k + 1}, {ill}"
        view, label = view_of(case.brain, index=0), f"{who}\n+{case.years:.1f} years"
        below = case.truth, dimmed(grey_scale(case.baseline, case.brain))
        missed = [None if i == 1 else Tile(gap, view, miss, under=below) for i, gap in enumerate(gaps[k])]
        rows += [Row(_greys(shown[k], case, view, [] if k else titles), label), Row(tuple(missed), "− follow-up")]
    return panel(rows)


def _greys(images: Iterable[Volume], case: Case, view: View, titles: Sequence[str]) -> tuple[Tile, ...]:
    grey = grey_scale(case.baseline, case.brain)
    heads = [*titles, *[""] * (2 + len(case.candidates) - len(titles))]
    return tuple(Tile(image, view, grey, title) for image, title in zip(images, heads, strict=True))


def survey_sheet(case: Case, letters: Mapping[str, str]) -> Picture:
    """What a rater sees, pixel by pixel: the input, the follow-up and, under letters, the simulations, without names.

    Parameters
    ----------
    case : Case
    letters : mapping of str to str
        Letter to show, and the system behind it.
    """
    shown = [case.baseline, case.truth, *(case.candidates[name] for name in letters.values())]
    tiles = _greys(shown, case, view_of(case.brain, index=0), ["input", "follow-up", *letters])
    return panel([Row(tuple(replace(tile, smooth=False) for tile in tiles))])


def ages_sheet(images: Sequence[Volume], ages: Sequence[float], *, brain: Volume, columns: int = 5) -> Picture:
    """One person's slices over the ages, and below each the difference from the first (Fig. 4).

    Parameters
    ----------
    images : sequence of Volume
        One per age, two at least, on the grid of `brain` (mask).
    ages : sequence of float
        Years, rising.
    columns : int
        Ages side by side.
    """
    view, grey, gaps = view_of(brain, index=0), grey_scale(images[0], brain), [_minus(i, images[0]) for i in images]
    change = difference_scale(gaps[1:], brain, label=f"change ({UNIT})", signed=True)
    above = [Tile(i, view, grey, f"{age:.1f} years") for i, age in zip(images, ages, strict=True)]
    below = [None, *(Tile(gap, view, change, under=(images[0], dimmed(grey))) for gap in gaps[1:])]
    rows = []
    for k in range(0, len(images), columns):
        for tiles, label in ((above, ""), (below, "− first")):
            part = tiles[k:k + columns]
            rows.append(Row((*part, *[None] * (min(columns, len(images)) - len(part))), label))
    return panel(rows)


def _minus(image: Volume, other: Volume) -> Volume:
    return image.with_data(image.data.float() - other.data.float())
