"""The page of a judgement: one file that fetches nothing, everything in it escaped."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from nbkit import __version__
from nbkit.benchmark.entries import Entrant
from nbkit.benchmark.scoring import Entered, Judged
from nbkit.benchmark.tables import (
    costs_table, coverage_rows, forgotten_lines, pairs_table, people_table, person_errors, readings_table,
    structure_table, tadpole_table,
)
from nbkit.core.files import write_text
from nbkit.core.page import look, page
from nbkit.core.tidy import where
from nbkit.figures.charts import coverage_plot, number
from nbkit.figures.marks import region_title, title_of
from nbkit.figures.overview import region_heatmap
from nbkit.figures.style import Picture
from nbkit.figures.tables import show_table
from nbkit.figures.trajectories import person_trajectories, with_truth
from nbkit.figures.web import Embedded, embedded
from nbkit.papers.trajectories import figures
from nbkit.papers.trajectories.head_to_head import PERCENT, SAID, by_diagnosis
from nbkit.papers.trajectories.ranking import NO_FORECAST

TEMPLATE = Path(__file__).with_name("judge.html.j2")


class Section(NamedTuple):
    """A heading, what is said beneath it, tables as safe HTML, and pictures with their captions."""

    title: str
    said: str
    tables: list[str]
    pictures: list[tuple[Embedded, str]]


def shown(picture: Picture) -> Embedded:
    """A chart for the page."""
    return embedded(io.BytesIO(picture._repr_png_()))


def table(frame: pd.DataFrame, caption: str) -> str:
    """A table as HTML, its cells escaped."""
    return show_table(frame, caption).to_html()


def write_page(path: Path, found: Judged) -> Path:
    """Write the page of a judgement, atomically."""
    task, told = found.task, found.task.people.provenance
    text = page(
        TEMPLATE, styles=look(TEMPLATE), version=__version__, task=task.identity, title=task.rules.told["title"],
        truth=task.truth_said, history=SAID[task.history], asked=len(task.asked()), people=len(task.test),
        entrants=[{"name": e.name, "told": e.told} for e in found.entrants], forgotten=forgotten_lines(found),
        failed=[f"{title_of(name)}: {why}" for name, why in found.failed.items()], systems=list(found.systems),
        control=found.task.rules.told["metrics"]["control"], sections=list(_sections(found)),
        credit=f"{told.get('licence', '')}. {told.get('attribution', '')}",
    )
    return write_text(path, text)


def _sections(found: Judged) -> Iterator[Section]:
    yield _standings(found)
    pairs = pairs_table(found)
    if len(pairs):
        yield Section("Entrants against each other", (
            "Differences by person on the same visits; positive: the first is better. Told apart where the 95 % "
            "interval excludes zero and p after Holm's correction over all rows is below 0.05, with six people or more."
        ), [table(pairs, "Every two entrants")], [])
    yield from _tadpole(found)
    yield from _volumes(found)
    yield from _persons(found)
    costs = costs_table(found)
    if len(costs):
        yield Section("Cost", "", [table(costs, "What a forecast costs")], [])
    yield Section("Who", "", [table(people_table(found), "People by diagnosis at the first scan")], [])


def _standings(found: Judged) -> Section:
    seed = found.task.rules.told["metrics"]["bootstrap_seed"]
    picture, ranks = figures.ranked(found.main, found.task.history, seed=seed)
    said = (
        "Systems from best to worst on each measure, mean and 95 % interval over people. Hollow: controls. The grey band "
        "holds all that paired differences over people do not tell apart from the first. Floor: the true visit without "
        "its noise, read by the segmenter. Reach: what boosting or ridge regression makes of true volumes. Whoever has "
        "no volumes of their own is read by one segmenter, alike; volumes that are told carry no error of reading."
    )
    return Section("Who stands where", said, [table(ranks, "Standings, with the gain over no change")], [
        (shown(picture), "Ranking")])


def _tadpole(found: Judged) -> Iterator[Section]:
    regions = tuple(r for r in found.task.rules.told["metrics"]["tadpole"] if r in found.task.structures)
    tables = [table(tadpole_table(found, r), region_title(r)) for r in regions]
    said = (
        "Over all forecasts, as the TADPOLE challenge scored them: the mean absolute error; the error weighted by one "
        "over the width of the 50 % interval, so that to be sure and wrong costs most; and how far the share of "
        "intervals that hold the truth is from one half. Small is good of all three. Who gave no intervals has the "
        "first alone. In brackets, 95 % over people."
    )
    if tables:
        yield Section("TADPOLE's three numbers", said, tables, [])
    covered = coverage_rows(found, regions)
    if len(covered):
        means = covered.groupby("system", sort=False).agg(
            **{"share inside": ("value", "mean"), "mean width (% of the true volume)": ("width", "first")})
        yield Section("Are they as sure as they say?", "Half of all truths should lie inside.", [
            table(means.rename(index=title_of), "The 50 % intervals of ventricles and hippocampi")], [
            (shown(coverage_plot(covered)), "Share of each person's volumes inside, and how many should be")])


def _volumes(found: Judged) -> Iterator[Section]:
    setting, rows = found.task.history, where(found.scored, unit=PERCENT, reading="alike")
    rows = rows[~rows["system"].isin(NO_FORECAST)]
    pictures = [
        (shown(figures.horizon_grid({setting: found.scores})), "Errors of volumes by years ahead"),
        (shown(region_heatmap(rows, "absolute error (% of the true volume)")), "Mean error of every region"),
    ]
    tables = [table(structure_table(found), "Error of every region, % of the true volume, mean over people"),
              table(by_diagnosis(found.main, setting).rename(columns=title_of), "By diagnosis at the first scan")]
    both = readings_table(found)
    if len(both):
        tables.append(table(both, "Volumes told, and read from the images of the same entrant: error in %"))
    yield Section("By years ahead, region and diagnosis", "", tables, pictures)


def _persons(found: Judged) -> Iterator[Section]:
    """The worst and the median person of every entrant, as pictures where there are images, else as courses."""
    for entrant in found.entrants:
        errors = person_errors(found, entrant.name)
        chosen = {"worst": errors.index[-1], "median": errors.index[(len(errors) - 1) // 2]}
        pictures = [
            (shown(figures.lineup(*_visit(found, entrant, who))), f"{which} person, last visit: {found.task.labels[who]}")
            for which, who in chosen.items() if entrant.images
        ]
        courses = _courses(found, entrant, list(dict.fromkeys(chosen.values())))
        if courses is not None:
            pictures.append((shown(courses), "Volumes of the worst person (1) and the median one (2)"))
        said = f"By mean error, {number(abs(errors.iloc[-1]))} for the worst person."
        yield Section(f"{entrant.name}: the worst and the median person", said, [], pictures)


def _visit(found: Judged, entrant: Entrant, who: str):
    person = found.task.people.subject(who)
    last, target = found.task.last(person), person.scans[-1]
    (image,) = Entered(entrant, found.task).predict([last], [target.age], person.diagnosis)
    return last, target, {entrant.name: image}


def _courses(found: Judged, entrant: Entrant, people: list[str]) -> Picture | None:
    """Volumes of ventricles and hippocampus of some people: true, forecast, and no change."""
    regions = [r for r in found.task.rules.told["metrics"]["tadpole"] if r in found.task.structures]
    rows = where(found.scores.regions, reading="alike")
    rows = rows[rows["model"].isin((entrant.name, "no_change")) & rows["subject"].isin(people)]
    own = set(rows.loc[rows["model"] == entrant.name, "structure"])
    regions = [r for r in regions if r in own]
    if not regions:
        return None
    rows = rows[rows["structure"].isin(regions)].sort_values("subject", key=lambda s: s.map(people.index))
    return person_trajectories(with_truth(rows), structures=regions)
