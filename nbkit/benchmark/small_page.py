"""The page of the smaller tasks: standings, pairs, one chart a measure, and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nbkit.benchmark.judge_page import Section, fill, pairs_section, shown, table
from nbkit.benchmark.tables import pairs_table
from nbkit.core.stats import Interval, bootstrap_mean
from nbkit.figures.charts import dot_plot, interval_text
from nbkit.figures.marks import title_of
from nbkit.figures.style import Picture
from nbkit.papers.trajectories.ranking import NO_FORECAST, standings


@dataclass(frozen=True, eq=False)
class Small:
    """What came of a small task.

    Parameters
    ----------
    lead : str
    facts : mapping of str to str
        As :func:`~nbkit.benchmark.judge_page.facts_of` gives them.
    names : tuple of str
        The entrants.
    frame : DataFrame
        Tidy scores by person: metric, system, subject, value.
    titles : mapping of str to str
        Metrics that rank, in order, and what readers see.
    control : str
        The system that the others owe a difference from.
    how, credit : str
    forgotten : tuple of str
        Lines.
    pictures : tuple of (Picture, caption)
    tables : tuple of (DataFrame, caption)
    seed : int
        Of the bootstrap.
    """

    lead: str
    facts: Mapping[str, str]
    names: tuple[str, ...]
    frame: pd.DataFrame
    titles: Mapping[str, str]
    control: str
    how: str
    credit: str
    forgotten: tuple[str, ...] = ()
    pictures: tuple[tuple[Picture, str], ...] = field(default_factory=tuple)
    tables: tuple[tuple[pd.DataFrame, str], ...] = field(default_factory=tuple)
    seed: int = 0

    @property
    def ranks(self) -> pd.DataFrame:
        """Standings of what ranks, best first."""
        rows = self.frame[self.frame["metric"].isin(self.titles)].assign(setting="")
        return standings(rows, control=self.control, seed=self.seed)


def write_small_page(path: Path, found: Small) -> Path:
    """Write the page, atomically."""
    return fill(
        path, names=found.names, lead=found.lead, facts=dict(found.facts), forgotten=list(found.forgotten), failed=[],
        sections=list(_sections(found)), how=found.how, credit=found.credit,
    )


def _sections(found: Small) -> Iterator[Section]:
    pictures = [
        (shown(dot_plot(part, title, width_mm=165)), title)
        for metric, title in found.titles.items() if len(part := found.frame[found.frame["metric"] == metric])
    ]
    said = ("Mean and 95 % interval over people, best first; the gain is over the control on the same people, and "
            "better or worse means told apart after Holm's correction, with six people or more.")
    yield Section("Who stands where", said, [table(_standings(found), "Standings")], pictures)
    yield from pairs_section(pairs_table(found.frame, found.names, found.titles, seed=found.seed))
    if found.tables:
        yield Section("As sets", "", [table(frame, caption) for frame, caption in found.tables], [])
    if found.pictures:
        yield Section("What it looks like", "", [], [(shown(picture), caption) for picture, caption in found.pictures])


def _standings(found: Small) -> pd.DataFrame:
    rows = []
    for row in found.ranks.to_dict("records"):
        mean, gain = (interval_text(Interval(*(row[name] for name in names), row["people"]))
                      for names in (("mean", "low", "high"), ("gain", "gain_low", "gain_high")))
        word = row["against control"]
        rows.append((found.titles[row["metric"]], title_of(row["system"]), mean.replace("+", ""),
                     word if word == "–" else f"{gain} {word}"))
    ends = found.frame[found.frame["system"].isin(NO_FORECAST) & found.frame["metric"].isin(found.titles)]
    for (metric, system), part in ends.groupby(["metric", "system"], sort=False):
        mean = interval_text(bootstrap_mean(part["value"], seed=found.seed)).replace("+", "")
        rows.append((found.titles[metric], title_of(system), mean, "–"))
    names = ["measure", "system", "mean [95 %]", f"gain over {title_of(found.control)}"]
    frame = pd.DataFrame(rows, columns=names)
    order = list(found.titles.values())
    frame = frame.sort_values("measure", key=lambda c: c.map(order.index), kind="stable")
    return frame.set_index(["measure", "system"])


def people_lines(lacking: Mapping[str, Sequence[str]], everybody: int, instead: str) -> tuple[str, ...]:
    """Whom entrants have nothing of, in words."""
    return tuple(
        f"{name}: nothing of {len(people)} of {everybody} people, scored as {instead}: "
        + ", ".join(f"sub-{label}" for label in people) for name, people in lacking.items() if people
    )
