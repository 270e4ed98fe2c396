"""A finished run against the committed reference: has anything become worse?"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.claims.ledger import load_paper, papers
from nbkit.claims.observe import (
    ARTEFACTS, Observation, load_artefacts, load_observations, load_rooms, write_observations,
)
from nbkit.claims.room import Room
from nbkit.claims.verdicts import SCORECARD, ClaimVerdict, NumberVerdict, Scorecard, judge, load_scorecard
from nbkit.core.checks import require
from nbkit.core.files import atomic, write_json

# how good a verdict is; within one number, moving down is a regression
ORDER = {
    "reproduced": 3, "inconclusive": 2, "no room": 2, "contradicted": 1,
    "within tolerance": 3, "outside tolerance": 1, "not comparable": 3, "not run": 0,
}
RTOL = 1e-6
TIMES = ("s", "seconds", "ms", "min", "h", "days")


@dataclass(frozen=True)
class Regression:
    """A verdict that is worse, or a value farther off, than the reference records."""

    id: str
    reference: str
    now: str
    why: str


def compare_with_reference(results_dir: Path | str, reference_dir: Path | str) -> list[Regression]:
    """Regressions of a run against a reference folder; empty when there are none.

    A verdict regresses when it is worse (reproduced, inconclusive or no room, contradicted, not run, in this order). A
    value regresses when it is missing, or when it is off the reference by more than one standard error of
    the reference (SD/√n over subjects; without a spread, by more than 1e-6 of the value). Values equal to 1e-6
    pass whatever their spread, seconds always pass, and papers and notebooks of which this run holds nothing are left
    out.

    Raises
    ------
    NbkitError
        If either folder has no observations.
    """
    before, now = load_observations(reference_dir), load_observations(results_dir)
    for folder, found, remedy in (
        (reference_dir, before, "Commit a reference for this profile and cohort, or verify another one."),
        (results_dir, now, "Run `make reproduce` with the same PROFILE and COHORT first."),
    ):
        require(
            bool(found), f"verify: {Path(folder).name}", expected="a results folder with observations",
            found="none", remedy=remedy,
        )
    present, ran = {i.split(".")[0] for i in now}, {o.notebook for o in now.values()}
    absent = {i for i, o in before.items() if i.split(".")[0] not in present or o.notebook not in ran}
    verdicts = _verdicts(load_scorecard(reference_dir), load_scorecard(results_dir), present, absent)
    values = [_value(o, now.get(i)) for i, o in before.items() if i not in absent]
    return verdicts + [v for v in values if v]


def write_reference(results_dir: Path | str, reference_dir: Path | str) -> Path:
    """Keep a finished run as the reference: its observations, scorecard, figures and their captions, nothing else.

    What the reference holds of notebooks and papers that this run did not touch stays, as does the benchmark's page; a
    picture that its notebook no longer draws goes. A paper of which this run has one part and the reference another (a
    rival's row that a second notebook fills in) is judged on both together.

    Raises
    ------
    NbkitError
        If the run is of restricted data, or holds no observations.
    """
    results, old = Path(results_dir), Path(reference_dir)
    found = load_observations(results).values()
    require(
        bool(found) and all(o.level != "restricted" for o in found), f"reference: {results.name}",
        expected="a finished run on embedded or open data",
        found="restricted data" if found else "no observations",
        remedy="References are committed: run `make reproduce` with COHORT=embedded or COHORT=open.",
    )
    ran = {o.notebook for o in found}
    kept = [o for o in load_observations(old).values() if o.notebook not in ran]
    before = load_scorecard(old)
    rooms = (*(r for r in before.rooms if r.notebook not in ran), *load_rooms(results))
    card = _merged(before, load_scorecard(results) + _judged_again(kept, found, results, rooms), rooms)
    stale = {a["file"] for a in load_artefacts(old)["artefacts"] if a["notebook"] in ran}
    figures = {file.name: file for file in old.glob("*.png") if file.name not in stale}
    figures |= {file.name: file for file in (results / "figures").glob("*.png")}
    with atomic(old) as part:
        part.mkdir()
        for file in (*figures.values(), *old.glob("benchmark.*")):
            shutil.copy(file, part)
        write_observations(part, sorted([*kept, *found], key=lambda o: o.notebook))
        write_json(part / SCORECARD, card.as_dict())
        write_json(part / ARTEFACTS, {"artefacts": _captions(old, results, figures)})
    return old


def _captions(old: Path, results: Path, figures: Collection[str]) -> list[dict[str, Any]]:
    """What the index of a run says of `figures`, which lie in the reference itself; the last word on each."""
    told = (a for folder in (old, results) for a in load_artefacts(folder)["artefacts"] if a["kind"] == "figure")
    last = {name: a | {"file": name} for a in told if (name := Path(a["file"]).name) in figures}
    return sorted(last.values(), key=lambda a: a["notebook"])


def _judged_again(
    kept: Collection[Observation], found: Collection[Observation], results: Path, rooms: Sequence[Room]
) -> Scorecard:
    """Verdicts on papers of which both hold observations."""
    both, not_run = {o.id: o for o in (*kept, *found)}, load_artefacts(results)["not_run"]
    shared = set.intersection(*({o.id.split(".")[0] for o in some} for some in (kept, found)))
    again = [paper for paper in map(load_paper, papers()) if paper.prefix in shared]
    return sum((judge(paper, both, not_run=not_run, rooms=rooms) for paper in again), Scorecard())


def _merged(before: Scorecard, now: Scorecard, rooms: Sequence[Room]) -> Scorecard:
    """`now`, the last of two verdicts on one thing, and what `before` says of papers that `now` lacks."""
    def both(old: Sequence, new: Sequence) -> tuple:
        last = {v.id: v for v in new}
        return (*(v for v in old if v.id not in last), *last.values())

    names = tuple(dict.fromkeys((*before.papers, *now.papers)))
    return Scorecard(both(before.claims, now.claims), both(before.numbers, now.numbers), names, tuple(rooms))


def _verdicts(before: Scorecard, now: Scorecard, present: set[str], absent: set[str]) -> list[Regression]:
    new = {v.id: v.verdict for v in (*now.claims, *now.numbers)}
    judged = [v for v in (*before.claims, *before.numbers) if v.id.split(".")[0] in present and not absent & _ids(v)]
    old = {v.id: v.verdict for v in judged}
    worse = [i for i, v in old.items() if _rank(new.get(i, "not run")) < _rank(v)]
    return [Regression(i, old[i], new.get(i, "not run"), "the verdict is worse") for i in worse]


def _ids(verdict: ClaimVerdict | NumberVerdict) -> set[str]:
    """Its own, and those of the observations it rests on."""
    compared = getattr(verdict, "evidence", {}).get("comparisons", [])
    return {verdict.id, *(i for comparison in compared for i in comparison["ids"])}


def _rank(verdict: str) -> int:
    return ORDER[verdict.split(":")[0]]


def _value(before: Observation, now: Observation | None) -> Regression | None:
    if now is None:
        return Regression(before.id, f"{before.value:.6g}", "missing", "the number is no longer recorded")
    if before.unit in TIMES:
        return None
    allowed = RTOL * abs(before.value)
    if before.sd is not None:
        allowed = max(allowed, before.sd / (before.n or 1) ** 0.5)
    off = abs(now.value - before.value)
    why = f"off by {off:.3g}, more than the {allowed:.3g} allowed"
    return None if off <= allowed else Regression(before.id, f"{before.value:.6g}", f"{now.value:.6g}", why)
