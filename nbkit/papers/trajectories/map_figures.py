"""Maps of the head-to-head: one visit by everybody, the mean over people on MNI152, and uncertainty beside error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from scipy.stats import spearmanr

from nbkit.core.checks import require
from nbkit.core.protocols import Cohort, Forecast, Scan
from nbkit.core.volume import Volume
from nbkit.figures.ageing import LEVELS_MM
from nbkit.figures.charts import number
from nbkit.figures.marks import marks, title_of
from nbkit.figures.mni import in_mni, on_template, template
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.slices import difference_scale, dimmed, grey_scale, rival_scale, view_at
from nbkit.figures.style import FULL_MM, Picture
from nbkit.papers.trajectories.design import UNCERTAIN, Design, last_visit
from nbkit.papers.trajectories.entered import entered
from nbkit.papers.trajectories.figures import lineup
from nbkit.papers.trajectories.head_to_head import SAID

Visit = tuple[Scan, Scan, Mapping[str, Volume]]
"""The last scan seen, the true later one, and what each system predicts of it."""
UNIT = "1 = white matter"
AVERAGED = ("inbrainsyn", "brlp", "mrextrap_bayes")
MOST = 12
"""Systems that are averaged over people, and how many people at most."""


def visit_pictures(models: Mapping[str, Any], people: Cohort, plan: Design) -> Iterator[tuple[str, str, Picture]]:
    """Name, caption and picture of the last visit by every system, of means over people, and of uncertainty.

    Means need images in MNI space, uncertainty systems that draw futures: what is not there is left out.
    """
    first = people.subjects[0]
    for setting, said in SAID.items():
        yield f"pictures_{setting}", f"Last visit of one person, {said}", lineup(
            *last_visit(models, first, design=plan, setting=setting))
    some = {name: models[name] for name in (*AVERAGED, *entered(models)) if name in models}
    made = [last_visit(some, s, design=plan, setting="several") for s in people.subjects[:MOST]]
    if all(in_mni(last.mask("brain")) for last, *_ in made):
        said = f"Change to the last visit, and errors: means over {len(made)} people, on MNI152 at 1 mm"
        yield "group_maps", said, group_maps(made)
    seen, later = first.scans[: plan.shown["several"]], first.scans[-1]
    sure = {name: models[name].predict_with_uncertainty(seen, [later.age], first.diagnosis)[0]
            for name in UNCERTAIN if name in models}
    if sure:
        yield "uncertainty_maps", "Where systems err, and where they are unsure", uncertainty_sheet(later, sure)


def group_maps(
    visits: Sequence[Visit], *, levels_mm: Mapping[str, float] = LEVELS_MM, width_mm: float = FULL_MM
) -> Picture:
    """Mean change since the last scan seen, true and predicted, and mean absolute error, over the MNI152 brain at 1 mm.

    Parameters
    ----------
    visits : sequence of Visit
        One a person, in MNI space, with T1w and the same systems.

    Raises
    ------
    NbkitError
        Without people.
    """
    require(
        len(visits) > 0, "group_maps: visits", expected="at least one person", found="none",
        remedy="Ask for the last visit of somebody.",
    )
    systems, (anatomy, brain) = list(visits[0][2]), template()
    changes = {"truth": _mean(later.image("T1w").data - last.image("T1w").data for last, later, _ in visits)}
    misses = {}
    for name in systems:
        changes[name] = _mean(made[name].data - last.image("T1w").data for last, _, made in visits)
        misses[name] = _mean((made[name].data - later.image("T1w").data).abs() for _, later, made in visits)
    like = visits[0][0].image("T1w")
    moved, missed = ({name: on_template(like.with_data(values)) for name, values in maps.items()}
                     for maps in (changes, misses))
    under = anatomy, dimmed(grey_scale(anatomy, brain))
    change = rival_scale([[image] for image in moved.values()], brain, label=f"mean change ({UNIT})")
    error = difference_scale(missed.values(), brain, label=f"mean |error| ({UNIT})")
    rows = []
    for plane, level in levels_mm.items():
        view, heads = view_at(brain, level, plane=plane), not rows
        rows.append(Row(tuple(
            Tile(image, view, change, ("true change" if name == "truth" else title_of(name)) if heads else "",
                 under=under) for name, image in moved.items()), "change"))
        rows.append(Row((None, *(Tile(image, view, error, under=under) for image in missed.values())), "error"))
    return panel(rows, width_mm=width_mm)


def _mean(maps: Iterator[torch.Tensor]) -> torch.Tensor:
    return torch.stack([values.float() for values in maps]).mean(0)


def uncertainty_sheet(
    later: Scan, sure: Mapping[str, Forecast], *, levels_mm: Mapping[str, float] = LEVELS_MM,
    width_mm: float = FULL_MM,
) -> Picture:
    """What is expected, how far it misses, and the standard deviation of the futures drawn, a row a system.

    Above the spread stands its rank correlation with the error over the voxels of the brain: near 1 a system knows
    where it errs. Error and spread share one scale.

    Parameters
    ----------
    later : Scan
        The true visit, with T1w and the mask "brain".
    sure : mapping of str to Forecast
        By system, on the grid of that scan.

    Raises
    ------
    NbkitError
        For a forecast on another grid.
    """
    truth, brain = later.image("T1w"), later.mask("brain")
    grey, inside, errors = grey_scale(truth, brain), brain.data.bool(), {}
    for name, forecast in sure.items():
        forecast.image.check_grid(truth, f"uncertainty_sheet: {name} and the true visit")
        errors[name] = truth.with_data((forecast.image.data.float() - truth.data.float()).abs())
    scale = difference_scale(errors.values(), brain, label=f"error, SD ({UNIT})")
    views, rows = [view_at(brain, level, plane=plane) for plane, level in levels_mm.items()], []
    for name, mark in marks(sure).items():
        error, spread = errors[name], sure[name].sd
        known = float(spearmanr(error.data[inside].numpy(), spread.data[inside].numpy()).statistic)
        tiles: list[Tile] = []
        for k, view in enumerate(views):
            said = ("expected", "|error|", f"SD, ρ\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{number(known, decimals=2)}")
            below = truth, dimmed(grey)
            tiles += [Tile(sure[name].image, view, grey, said[0]), Tile(error, view, scale, said[1], under=below),
                      Tile(spread, view, scale, said[2] if k == 0 else "SD", under=below)]
        rows.append(Row(tuple(tile if not rows or tile.title.startswith("SD,") else replace(tile, title="")
                              for tile in tiles), mark.title))
    return panel(rows, width_mm=width_mm)
