"""A finished run against the committed reference: has anything become worse?"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from nbkit.claims.observe import OBSERVATIONS, Observation, load_observations
from nbkit.claims.verdicts import SCORECARD, Scorecard, load_scorecard
from nbkit.core.checks import require
from nbkit.core.files import atomic

# how good a verdict is; within one number, moving down is a regression
ORDER = {
    "reproduced": 3, "inconclusive": 2, "contradicted": 1,
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

    A verdict regresses when it is worse (reproduced, inconclusive, contradicted, not run, in this order). A
    value regresses when it is missing, or when it is off the reference by more than one standard error of
    the reference (SD/√n over subjects; without a spread, by more than 1e-6 of the value). Values equal to 1e-6
    pass whatever their spread, seconds always pass, and papers of which this run holds nothing are left out.

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
    present = {i.split(".")[0] for i in now}
    verdicts = _verdicts(load_scorecard(reference_dir), load_scorecard(results_dir), present)
    values = [_value(o, now.get(i)) for i, o in before.items() if i.split(".")[0] in present]
    return verdicts + [v for v in values if v]


def write_reference(results_dir: Path | str, reference_dir: Path | str) -> Path:
    """Keep a finished run as the reference: its observations, scorecard and figures, nothing else.

    Raises
    ------
    NbkitError
        If the run is of restricted data, or holds no observations.
    """
    results = Path(results_dir)
    found = load_observations(results).values()
    require(
        bool(found) and all(o.level != "restricted" for o in found), f"reference: {results.name}",
        expected="a finished run on embedded or open data",
        found="restricted data" if found else "no observations",
        remedy="References are committed: run `make reproduce` with COHORT=embedded or COHORT=open.",
    )
    with atomic(reference_dir) as part:
        part.mkdir()
        for file in (results / OBSERVATIONS, results / SCORECARD, *results.glob("figures/*.png")):
            shutil.copy(file, part)
    return Path(reference_dir)


def _verdicts(before: Scorecard, now: Scorecard, present: set[str]) -> list[Regression]:
    new = {v.id: v.verdict for v in (*now.claims, *now.numbers)}
    old = {v.id: v.verdict for v in (*before.claims, *before.numbers) if v.id.split(".")[0] in present}
    worse = [i for i, v in old.items() if _rank(new.get(i, "not run")) < _rank(v)]
    return [Regression(i, old[i], new.get(i, "not run"), "the verdict is worse") for i in worse]


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
