"""The page of a judgement: one file that fetches nothing, everything in it escaped."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from nbkit.core.protocols import Cohort
from nbkit.core.tidy import where
from nbkit.figures.charts import coverage_plot, number
from nbkit.figures.marks import region_title, title_of
from nbkit.figures.overview import region_heatmap
from nbkit.figures.style import Picture
from nbkit.figures.tables import show_table
from nbkit.figures.trajectories import person_trajectories, with_truth
from nbkit.figures.web import Embedded, embedded
from nbkit.papers.trajectories import figures
from nbkit.papers.trajectories.head_to_head import PERCENT, SAID, TITLES, by_diagnosis
from nbkit.papers.trajectories.ranking import NO_FORECAST

TEMPLATE = Path(__file__).with_name("judge.html.j2")
HOW = (
    "A volume that is read from an image is the true one at the last scan shown, times the growth between an entrant's "
    "own pictures of both ages (the scan itself, where it made none of the first), by one segmenter for all. Errors "
    "are absolute, in % of the true volume, mean over a person's visits; people count alike. Images are scored inside "
    "the brain. A person without a forecast counts as no change. The rules are frozen in the file of the task, "
    "whose hash stands above."
)


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


def pairs_section(pairs: pd.DataFrame) -> Iterator[Section]:
    """What is said of every two entrants; nothing of a single one."""
    if len(pairs):
        yield Section("Entrants against each other", (
            "Differences by person on the same visits; positive: the first is better. Told apart where the 95 % "
            "interval excludes zero and p after Holm's correction over all rows is below 0.05, with six people or more."
        ), [table(pairs, "Every two entrants")], [])


def facts_of(identity: Mapping[str, Any], truth: str, entrants: Mapping[str, str]) -> dict[str, str]:
    """What stands at the head of every page: the task and its hash, whose data, how open the truth is, who entered."""
    kinds = ", ".join(f"{name.lower()} {identity[name]}" for name in ("Profile", "Seed", "History", "Target")
                      if name in identity)
    return {
        "task": f"{identity['Task']}, sha256 {identity['TaskSHA256']}",
        "people": f"{identity['Cohort']}, {kinds}; data {identity['DataHash']}, asked {identity['WantedHash']} "
                  "(two pages with the same hashes were asked the same)",
        "truth": truth, "entrants": "; ".join(f"{name} ({told})" for name, told in entrants.items()),
    }


def credit_of(people: Cohort) -> str:
    """Licence and attribution, as its licence asks for."""
    told = people.provenance
    return f"Licence: {told.get('licence', '')}. {told.get('attribution', '')}"


def fill(path: Path, *, names: Sequence[str], **values: Any) -> Path:
    """Write a page from its parts: lead, facts, forgotten, failed, sections, how and credit."""
    text = page(TEMPLATE, styles=look(TEMPLATE), version=__version__, heading=", ".join(names), **values)
    return write_text(path, text)


def write_page(path: Path, found: Judged) -> Path:
    """Write the page of a judgement, atomically."""
    task = found.task
    beside = f"fitted on the training people: {'; '.join(map(title_of, found.systems))}" if found.systems else (
        "none of the papers' systems was asked for (--systems all)")
    facts = facts_of(task.identity, task.truth_said, {e.name: e.told for e in found.entrants})
    return fill(
        path, names=[e.name for e in found.entrants], facts=facts | {"beside them": f"controls, always; {beside}"},
        lead=f"{task.rules.told['title']}: {len(task.asked())} forecasts of {len(task.test)} people whom nobody "
             f"learned from, from {SAID[task.history]} each.",
        forgotten=forgotten_lines(found), failed=[f"{title_of(name)}: {why}" for name, why in found.failed.items()],
        sections=list(_sections(found)), how=HOW, credit=credit_of(task.people),
    )


def _sections(found: Judged) -> Iterator[Section]:
    yield _standings(found)
    seed = found.task.rules.told["metrics"]["bootstrap_seed"]
    yield from pairs_section(pairs_table(found.main, [e.name for e in found.entrants], TITLES, seed=seed))
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
        "Systems from best to worst on each measure, mean and 95 % interval over people. Hollow: controls. The grey "
        "band holds all that paired differences over people do not tell apart from the first. Floor: the true visit "
        "without its noise, read by the segmenter. Reach: what boosting or ridge regression makes of true volumes. "
        "Whoever has no volumes of their own is read by one segmenter, alike; told volumes carry no error of reading."
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
            (shown(figures.lineup(*_visit(found, entrant, who))),
             f"{said} person, sub-{found.task.labels[who]}, last visit")
            for said, who in chosen.items() if entrant.images
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
