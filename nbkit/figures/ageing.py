"""Picture pages of ageing: a person's futures beside the truth, what-if futures, and templates over age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from nbkit.core.checks import require
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.figures.charts import number
from nbkit.figures.marks import marks
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.slices import Scale, View, difference_scale, dimmed, grey_scale, rival_scale, view_at
from nbkit.figures.style import FULL_MM, Picture

LEVELS_MM: Mapping[str, float] = {"axial": 14.0, "coronal": -20.0}
"""World levels, in MNI space, of the bodies of the lateral ventricles and of the hippocampi."""

Images = Sequence[Volume]
STILL = 0.01
"""Templates that change nowhere by this share of the greys are said not to change."""


def trajectory_sheet(
    baseline: Scan, truth: Sequence[Scan], predictions: Mapping[str, Images], *, contrast: str = "T1w",
    unit: str = "a.u.", levels_mm: Mapping[str, float] = LEVELS_MM, width_mm: float = FULL_MM,
) -> Picture:
    """One person over ages: baseline and true follow-ups; per model its predictions and their errors.

    Axial slices stand left, coronal ones right. One grey scale (of the baseline) and one scale of
    prediction − truth, centred on 0 and as wide as the median model needs, serve all models; ``"no_change"`` as a model
    shows the change to be predicted.

    Parameters
    ----------
    baseline : Scan
        With the mask "brain".
    truth : sequence of Scan
        Follow-ups, on the grid of the baseline.
    predictions : mapping of str to sequence of Volume
        By model: one image per follow-up, in that order.
    contrast, unit : str
        Which image, and the unit of its intensities.
    levels_mm : mapping of str to float
        World level of the slice by plane ("axial": z, "coronal": y).

    Raises
    ------
    NbkitError
        If a model has not one image per follow-up, a grid differs, or the brain does not reach a level.
    """
    true = [scan.image(contrast) for scan in truth]
    _check_counts(predictions, len(true), "trajectory_sheet")
    brain = _union([baseline, *truth])
    views, grey = _views(brain, levels_mm), grey_scale(baseline.image(contrast), brain)
    gaps = {name: _gaps(made, true, name) for name, made in predictions.items()}
    scale = rival_scale(gaps.values(), brain, label=unit)
    under = baseline.image(contrast), dimmed(grey)
    titles = [_age(baseline, "baseline"), *(_age(scan, "follow-up") for scan in truth)]
    rows = [_row([baseline.image(contrast), *true], views, grey, "truth", titles)]
    for name, mark in marks(predictions).items():
        rows.append(_row([None, *predictions[name]], views, grey, mark.title))
        rows.append(_row([None, *gaps[name]], views, scale, f"{mark.title}\n− truth", under=under))
    return panel(rows, width_mm=width_mm)


def future_sheet(
    baseline: Scan, futures: Mapping[str, Images], ages: Sequence[float], *, contrast: str = "T1w",
    unit: str = "a.u.", levels_mm: Mapping[str, float] = LEVELS_MM, width_mm: float = FULL_MM,
) -> Picture:
    """What could become of one person: each future over ages, and its change since baseline on one scale.

    Parameters
    ----------
    baseline : Scan
        With the mask "brain".
    futures : mapping of str to sequence of Volume
        By future ("HC", "AD", "HC→AD" or any name): one image per age.
    ages : sequence of float
        Years.
    contrast, unit, levels_mm
        As for :func:`trajectory_sheet`.

    Raises
    ------
    NbkitError
        As for :func:`trajectory_sheet`.
    """
    start, brain = baseline.image(contrast), baseline.mask("brain")
    _check_counts(futures, len(ages), "future_sheet")
    views, grey = _views(brain, levels_mm), grey_scale(start, brain)
    gaps = {name: _gaps(made, [start] * len(ages), name) for name, made in futures.items()}
    scale = difference_scale([g for row in gaps.values() for g in row], brain, label=unit, signed=True)
    titles, rows = [_age(baseline, "baseline"), *(f"{age:.1f} y" for age in ages)], []
    for name, mark in marks(futures).items():
        rows.append(_row([None if rows else start, *futures[name]], views, grey, mark.title, () if rows else titles))
        rows.append(_row([None, *gaps[name]], views, scale, f"{mark.title}\n− baseline", under=(start, dimmed(grey))))
    return panel(rows, width_mm=width_mm)


def template_sheet(
    templates: Mapping[str, Mapping[float, Volume]], *, brain: Volume, unit: str = "a.u.",
    levels_mm: Mapping[str, float] = LEVELS_MM, width_mm: float = FULL_MM,
) -> Picture:
    """Templates over ages, one row per group and plane, and the oldest minus the youngest.

    Parameters
    ----------
    templates : mapping of str to mapping of float to Volume
        By group ("HC", "AD" or any name) and age in years; every group has the same ages.
    brain : Volume
        Mask on their grid; nothing outside it is drawn.
    unit, levels_mm
        As for :func:`trajectory_sheet`.

    Raises
    ------
    NbkitError
        For fewer than two ages, groups of different ages or another grid.
    """
    groups = {name: dict(sorted(row.items())) for name, row in templates.items()}
    ages = list(next(iter(groups.values()), {}))
    require(
        len(ages) > 1 and all(list(row) == ages for row in groups.values()), "template_sheet: templates",
        expected="the same two or more ages in every group", found={n: list(row) for n, row in groups.items()},
        remedy="Ask every template model for the same ages.",
    )
    first = next(iter(groups.values()))[ages[0]]
    grey, rows = grey_scale(first, brain), []
    gaps = {name: _gaps([row[ages[-1]]], [row[ages[0]]], name)[0] for name, row in groups.items()}
    scale = difference_scale(gaps.values(), brain, label=unit, signed=True)
    titles, still, above = [f"{age:.0f} y" for age in ages], STILL * (grey.high - grey.low), ""
    scale = replace(scale, low=min(scale.low, -still), high=max(scale.high, still))
    for view in _views(brain, levels_mm):
        for name, mark in marks(groups).items():
            most = float(gaps[name].data[brain.data.bool()].abs().max())
            said = f"no change: |Δ| ≤ {number(most, 1)}" if most < still else f"{ages[-1]:.0f} − {ages[0]:.0f} y"
            heads, last = titles if not rows else [""] * len(titles), "" if said == above else said
            tiles = [Tile(image, view, grey, head) for image, head in zip(groups[name].values(), heads, strict=True)]
            rows.append(Row((*tiles, Tile(gaps[name], view, scale, last, under=(first, dimmed(grey)))), mark.title))
            above = said
    return panel(rows, width_mm=width_mm)


def _check_counts(images: Mapping[str, Images], count: int, where: str) -> None:
    for name, made in images.items():
        require(
            len(made) == count > 0, f"{where}: {name}", expected=f"one image for each of {max(count, 1)} ages",
            found=len(made), remedy="Predict at the ages that are shown, in their order.",
        )


def _union(scans: Sequence[Scan]) -> Volume:
    brain = scans[0].mask("brain")
    masks = [scan.masks.get("brain", brain) for scan in scans]
    for scan, mask in zip(scans, masks, strict=True):
        mask.check_grid(brain, f"{scan.subject}/{scan.session}: brain mask and that of the baseline")
    return brain.with_data(torch.stack([mask.data.bool() for mask in masks]).any(dim=0))


def _views(brain: Volume, levels_mm: Mapping[str, float]) -> list[View]:
    return [view_at(brain, level, plane=plane) for plane, level in levels_mm.items()]


def _gaps(made: Images, reference: Images, name: str) -> list[Volume]:
    gaps = []
    for image, other in zip(made, reference, strict=True):
        image.check_grid(other, f"{name}: image and what it is compared with")
        gaps.append(image.with_data(image.data.float() - other.data.float()))
    return gaps


def _age(scan: Scan, otherwise: str) -> str:
    return otherwise if scan.age is None else f"{scan.age:.1f} y"


def _row(
    images: Sequence[Volume | None], views: Sequence[View], scale: Scale, label: str, titles: Sequence[str] = (), *,
    under: tuple[Volume, Scale] | None = None,
) -> Row:
    tiles = [None if image is None else Tile(image, view, scale, under=under) for view in views for image in images]
    return Row(_titled(tiles, [*titles] * len(views)), label)


def _titled(tiles: Sequence[Tile | None], titles: Sequence[str]) -> tuple[Tile | None, ...]:
    if not titles:
        return tuple(tiles)
    return tuple(tile and replace(tile, title=title) for tile, title in zip(tiles, titles, strict=True))
