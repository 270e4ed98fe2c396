"""InBrainSyn in pictures: its method, templates over age, futures, and deformations drawn over anatomy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nbkit.core.protocols import Cohort, Scan, Subject, TrajectoryModel
from nbkit.core.stats import bootstrap_mean
from nbkit.core.tidy import paired, where
from nbkit.core.volume import Volume
from nbkit.figures.ageing import LEVELS_MM, future_sheet, template_sheet, trajectory_sheet
from nbkit.figures.charts import bounds, forest_plot, interval_text
from nbkit.figures.loop import Loop, ageing_loop as loop
from nbkit.figures.marks import marks
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.pipeline import Box, pipeline_drawing
from nbkit.figures.published import printed
from nbkit.figures.slices import View, canonical, difference_scale, dimmed, grey_scale, thumbnails, view_at
from nbkit.figures.style import Picture
from nbkit.figures.trajectories import person_trajectories, with_truth
from nbkit.geometry.futures import Futures
from nbkit.papers.inbrainsyn.inbrainsyn import InBrainSyn
from nbkit.papers.inbrainsyn.known_truth import transported_maps
from nbkit.papers.trajectories.limits import limits
from nbkit.papers.trajectories.figures import error_by_horizon, horizon_intervals

UNIT = "1 = white matter"
VENTRICLES = "lateral_ventricle"
SHOWN = ("inbrainsyn", "no_pt", "no_change")
"""Models whose pictures are shown."""
GRID = "#FFD400"


def method_drawing(people: Iterable[Subject] = ()) -> Picture:
    """The method as boxes and arrows, with first scans of `people` in them."""
    pictures = thumbnails(*(person.baseline for person in islice(people, 3)))
    boxes = [
        Box("scan", "one scan of a person, age a₀", 0, 0, "input", pictures[:1]),
        Box("way", "v: template to person", 1, 0),
        Box("carried", "w = Π(u): pole ladder along v", 2, 0),
        Box("future", "scan and labels at age a, warped once", 3, 0, "output"),
        Box("group", "scans of a group (HC or AD), all ages", 0, 1, "input", pictures[1:]),
        Box("templates", "templates T(a₀) and T(a)", 1, 1, "learned"), Box("change", "u: T(a₀) to T(a)", 2, 1),
    ]
    arrows = [
        ("group", "templates", "Atlas-GAN"), ("templates", "change", "register"), ("scan", "way", "register"),
        ("templates", "way", ""), ("way", "carried", ""), ("change", "carried", "transport"),
        ("carried", "future", "exp(w)"),
    ]
    return pipeline_drawing(boxes, arrows)


def templates_over_age(model: InBrainSyn, *, brain: Volume, count: int = 4) -> Picture:
    """The templates of both groups at `count` ages that both were learned from."""
    starts, ends = np.round(list(zip(*model.age_ranges.values(), strict=True)), 1)
    ages = [float(age) for age in np.linspace(starts.max(), ends.min(), count)]
    images = {group: {age: template.template(age) for age in ages} for group, template in model.templates.items()}
    return template_sheet(images, brain=brain, unit=UNIT)


def differences(
    table1: pd.DataFrame, metrics: Sequence[str] = ("ssim", "dice"), *, published: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> dict[str, Picture]:
    """By name of the picture, metrics of Table 1 that are there: every model minus InBrainSyn, person by person.

    Differences of `published` means (numbers of the ledger by id) are triangles.
    """
    found = [metric for metric in metrics if metric in set(table1["metric"])]
    return {f"inbrainsyn_{m}_differences": _difference(where(table1, metric=m), published or {}, seed) for m in found}


def _difference(rows: pd.DataFrame, published: Mapping[str, Any], seed: int) -> Picture:
    name = {"ssim": "SSIM", "psnr": "PSNR (dB)", "mae": "MAE", "dice": "Dice"}[rows["metric"].iloc[0]]
    sides = ("the model", "InBrainSyn") if name == "MAE" else ("InBrainSyn", "the model")
    label = f"{name} of the model − {name} of InBrainSyn"
    means = printed(published, f"inbrainsyn.table1.{rows['metric'].iloc[0]}", against="inbrainsyn")
    return forest_plot(paired(rows, "inbrainsyn"), label, better=sides, published=means, seed=seed)


def predicted_sheet(
    models: Mapping[str, TrajectoryModel], subject: Subject, course: str, *, visits: int = 3
) -> Picture:
    """One person's first scan, the next `visits` as they came true, and as each model predicts them on `course`."""
    later = subject.scans[1 : 1 + visits]
    made = {name: model.predict(subject.scans[:1], [s.age for s in later], course) for name, model in models.items()}
    return trajectory_sheet(subject.baseline, later, made, unit=UNIT)


def what_if_sheet(futures: Mapping[str, Futures]) -> Picture:
    """One person's futures by course, and how each differs from the scan."""
    one = next(iter(futures.values()))
    return future_sheet(one.scan, {name: future.images() for name, future in futures.items()}, one.ages, unit=UNIT)


def ageing_loop(model: InBrainSyn, scan: Scan, *, count: int = 11, ages: tuple[float, float] = (55.0, 85.0)) -> Loop:
    """A person's brain healthy and with disease at `count` ages, from one scan, as a looping picture.

    Of `ages`, those that the templates of both groups know; the ventricles are in mL, each voxel times its growth.
    """
    starts, ends = zip(*model.age_ranges.values(), strict=True)
    asked = [round(float(a), 1) for a in np.linspace(max(*starts, ages[0]), min(*ends, ages[1]), count)]
    made = {course: model.futures(scan, asked, course) for course in ("HC", "AD")}
    grown = pd.DataFrame([
        (course, age, sum(v for name, v in volumes.items() if name.startswith(VENTRICLES)) / 1000)
        for course, future in made.items() for age, volumes in zip(asked, future.volumes(), strict=True)
    ], columns=["model", "age", "value"])
    images = {course: future.images() for course, future in made.items()}
    return loop(images, asked, grown, brain=scan.mask("brain"), ylabel="lateral ventricles (mL)", unit=UNIT)


def person_sheets(
    models: Mapping[str, TrajectoryModel], people: Cohort, asked: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str, Picture]]:
    """Name, caption and :func:`predicted_sheet` of the first person asked on each course, by some of the models."""
    some = {name: models[name] for name in SHOWN}
    for course, ids in asked.items():
        for person in people.subset(ids[:1]) if len(ids) else ():
            sheet = predicted_sheet(some, person, course)
            yield f"futures_{course.lower()}", f"One person on the {course} course", sheet


def errors_ahead(regions: pd.DataFrame, structure: str, ends: pd.DataFrame | None = None) -> Picture:
    """Absolute error of one structure's predicted volume ("miss", %) against the years ahead.

    `ends` is :func:`~nbkit.papers.inbrainsyn.experiments.room`: thin lines, means over all visits.
    """
    spans = horizon_intervals(where(regions, structure=structure), "miss", edges=(0, 1.5, 3, 5, 8, 12))
    picture = error_by_horizon(spans, "absolute error (%)")
    bounds(picture.axes[0], limits(ends).get(structure, {}))
    return picture


def volumes_of(regions: pd.DataFrame, subjects: Sequence[str], *, structures: Sequence[str]) -> Picture:
    """Volumes of some people since their first scan, true and predicted, in % of the first."""
    return person_trajectories(with_truth(regions[regions["subject"].isin(subjects)]), structures=structures)


def transport_sheet(model: InBrainSyn, cohort: Cohort, *, years: float = 5.0) -> Picture:
    """What each variant of transport makes of the last person's own change, which the simulation knows."""
    subject = cohort.subjects[-1]
    maps = transported_maps(cohort.truth[subject.id].velocity, model.way(subject.baseline), years=years)
    anatomy, brain = subject.baseline.image(model.config.contrast), subject.baseline.mask("brain")
    return deformation_sheet(anatomy, maps, brain=brain, label=f"ln Jacobian over {years:g} years", exaggeration=3.0)


def told(moved: pd.DataFrame) -> pd.DataFrame:
    """The open points as a table: mean and 95 % interval of each paired difference, in words."""
    rows = moved.groupby(["left open", "our choice", "the other way", "metric"], sort=False)["value"]
    return rows.agg(lambda gaps: interval_text(bootstrap_mean(gaps))).unstack(sort=False)


def deformation_sheet(
    anatomy: Volume, maps: Mapping[str, tuple[Volume, Volume]], *, brain: Volume, label: str = "ln Jacobian",
    plane: str = "axial", level_mm: float | None = None, spacing_mm: float = 8.0, exaggeration: float = 1.0,
) -> Picture:
    """Change of volume over anatomy for the truth and its rivals, what they miss, and the grid each one carries.

    Blue is loss and red is growth; weak change lets the anatomy through. The grid shows where the lines of a
    regular grid on the baseline lie after the change, as far as it happens within the slice.

    Parameters
    ----------
    anatomy : Volume
        Drawn below, in grey.
    maps : mapping of str to (Volume, Volume)
        By variant, "truth" and any others: pull-back displacement (3, X, Y, Z) in mm, world components, and the
        log-Jacobian of the way forward, on one grid.
    brain : Volume
        Mask on that grid.
    label : str
        What the colours mean, e.g. ``"ln Jacobian per year"`` or ``"change of volume (% per year)"``.
    plane, level_mm
        Slice; default :data:`~nbkit.figures.ageing.LEVELS_MM`.
    spacing_mm : float
        Between two lines of the grid.
    exaggeration : float
        The grid is drawn with so many times the displacement, and says so.

    Raises
    ------
    NbkitError
        If a grid differs, or the brain does not reach the slice.
    """
    view = view_at(brain, LEVELS_MM.get(plane, 0.0) if level_mm is None else level_mm, plane=plane)
    growth = {name: log_jacobian for name, (_, log_jacobian) in maps.items()}
    for name, log_jacobian in growth.items():
        log_jacobian.check_grid(growth["truth"], f"deformation_sheet: {name} and truth")
    scale = replace(difference_scale(growth.values(), brain, label=label, signed=True), cmap="RdBu_r")
    bare, dim = replace(scale, label=""), dimmed(grey_scale(anatomy, brain))
    below = anatomy, dim
    heat, gaps, grids = [], [], []
    for name, mark in marks(maps).items():
        gap = growth[name].with_data(growth[name].data.float() - growth["truth"].data.float())
        heat.append(Tile(growth[name], view, scale, mark.title, under=below))
        gaps.append(None if name == "truth" else Tile(gap, view, bare, under=below))
        lines = partial(_carried_grid, view, maps[name][0], spacing_mm, exaggeration)
        grids.append(Tile(anatomy, view, dim, over=lines))
    said = f"grid, displacement × {exaggeration:g}" if exaggeration != 1 else "grid carried along"
    return panel([Row(tuple(heat), "change of volume"), Row(tuple(gaps), "− truth"), Row(tuple(grids), said)])


def _carried_grid(view: View, displacement: Volume, spacing_mm: float, times: float, axes: Axes) -> None:
    """Lines where x + u(x), the place a voxel came from, crosses the lines of a regular grid (in mm of the view)."""
    upright = canonical(displacement)
    pixels = [np.arange(s.stop - s.start) for s in view.box]
    places = [(p + 0.5) * step for p, step in zip(pixels, view.spacing, strict=True)]
    for axis, own in zip(view.within, np.meshgrid(*places, indexing="ij"), strict=True):
        came_from = own + times * view.cut(upright.with_data(upright.data[axis:axis + 1]))
        levels = np.arange(spacing_mm / 2, own.max(), spacing_mm)
        axes.contour(*places, came_from.T, levels=levels, colors=[GRID], linewidths=0.55)
