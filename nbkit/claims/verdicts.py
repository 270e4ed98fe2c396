"""Verdicts: what a run says about each published claim and number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats as scipy_stats

from nbkit.claims.kept import read_record, well_kept
from nbkit.claims.ledger import Claim, Number, Paper, load_paper, papers
from nbkit.claims.observe import Observation, load_artefacts, load_observations, load_rooms
from nbkit.claims.room import Room
from nbkit.core.files import write_json
from nbkit.core.stats import (
    ALPHA, MIN_SUBJECTS, Interval, bootstrap_mean, bootstrap_p, holm, paired_difference, paired_p,
)

SCORECARD = "scorecard.json"
VERDICTS = ("reproduced", "contradicted", "inconclusive", "no room", "not run")
BETWEEN_METHODS = ("order", "difference")
"""Kinds of claim that say one method is better than another: those that need room."""


@dataclass(frozen=True)
class Bound:
    """One quantity that a claim says is above zero: its interval over subjects, p, and p after Holm."""

    interval: Interval
    p: float
    p_holm: float = 1.0

    @property
    def verdict(self) -> str:
        """reproduced, contradicted or inconclusive."""
        certain = self.p_holm < ALPHA and self.interval.n >= MIN_SUBJECTS
        if certain and self.interval.low > 0:
            return "reproduced"
        return "contradicted" if certain and self.interval.high < 0 else "inconclusive"


@dataclass(frozen=True)
class Comparison:
    """Two ids over the same subjects (or one id against zero), with the tests that decide.

    `effect` is the difference first − second, the mean, or the rank correlation; `paper_p` is the
    two-sided p of the paired t-test, the test the papers use.
    """

    ids: tuple[str, ...]
    effect: Interval
    paper_p: float
    tests: tuple[Bound, ...]
    margin: float = 0.0

    @property
    def verdict(self) -> str:
        """reproduced when all tests are, contradicted when one is, else inconclusive."""
        return _weakest(t.verdict for t in self.tests)

    def as_dict(self) -> dict[str, Any]:
        """For ``scorecard.json``."""
        return {
            "ids": list(self.ids), "verdict": self.verdict, "difference": self.effect.value,
            "interval": [self.effect.low, self.effect.high], "n": self.effect.n,
            "p_holm": max(t.p_holm for t in self.tests), "p_paired_t": self.paper_p,
        } | ({"margin": self.margin} if self.margin else {})


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim with its verdict and evidence.

    "reproduced", "contradicted", "inconclusive", "no room: reach, control, mean" or "not run: reason".
    """

    id: str
    verdict: str
    evidence: Mapping[str, Any]
    where: str
    statement: str


@dataclass(frozen=True)
class NumberVerdict:
    """A number with its verdict: within or outside tolerance, "not comparable: reason", "not run: reason"."""

    id: str
    published: float | None
    observed: float | None
    verdict: str


@dataclass(frozen=True)
class Scorecard:
    """Verdicts of one or several papers."""

    claims: tuple[ClaimVerdict, ...] = ()
    numbers: tuple[NumberVerdict, ...] = ()
    papers: tuple[str, ...] = field(default=())
    rooms: tuple[Room, ...] = ()

    def __add__(self, other: Scorecard) -> Scorecard:
        rooms = {(r.notebook, r.of): r for r in (*self.rooms, *other.rooms)}.values()
        return Scorecard(
            self.claims + other.claims, self.numbers + other.numbers, self.papers + other.papers, tuple(rooms)
        )

    def counts(self) -> dict[str, int]:
        """Number of claims by verdict, all five verdicts named."""
        seen = Counter(c.verdict.split(":")[0] for c in self.claims)
        return {verdict: seen[verdict] for verdict in VERDICTS}

    def as_dict(self) -> dict[str, Any]:
        """For ``scorecard.json``."""
        return {key: value if key == "papers" else list(value) for key, value in asdict(self).items()}


def _weakest(verdicts: Iterable[str]) -> str:
    seen = set(verdicts)
    return next((v for v in ("contradicted", "inconclusive") if v in seen), "reproduced")


def judge(
    paper: Paper | str, observations: Mapping[str, Observation], *, not_run: Iterable[Mapping[str, str]] = (),
    rooms: Iterable[Room] = (),
) -> Scorecard:
    """Verdicts on every claim and number of a paper.

    A claim is a set of quantities that it says are above zero (differences of paired values per subject, in
    the claimed direction; for an equivalence the distances to both margins). It is reproduced when all their
    95 % bootstrap intervals over subjects lie above zero and p < 0.05 after Holm's correction over all tests of
    the paper, contradicted when one lies below, inconclusive otherwise or with fewer than six subjects. Where a claim
    of one method over another is not reproduced, and the measure leaves no room for any comparison that fails, the
    verdict is "no room".

    Parameters
    ----------
    paper : Paper or str
    observations : mapping of id to Observation
    not_run : iterable of {"prefix", "reason"}
        Why ids starting with `prefix` are missing (``load_artefacts(out_dir)["not_run"]``).
    rooms : iterable of Room
        What could be won on which measure (``load_rooms(out_dir)``).
    """
    paper = load_paper(paper) if isinstance(paper, str) else paper
    reasons = {r["prefix"]: r["reason"] for r in not_run}
    found = {c.id: _missing(c.ids, observations, reasons) or _compare(c, observations) for c in paper.claim}
    corrected = _correct({i: c for i, c in found.items() if not isinstance(c, str)})
    rooms = tuple(rooms)
    claims = tuple(_claim_verdict(c, corrected.get(c.id, found[c.id]), rooms) for c in paper.claim)
    seen = [n for n in paper.number if n.value is not None or n.id in observations]
    numbers = tuple(_number_verdict(n, paper, observations, reasons) for n in seen)
    mine = tuple(r for r in rooms if any(i.startswith(paper.prefix + ".") for i in r.of))
    return Scorecard(claims, numbers, (paper.name,), mine)


def judge_folder(out_dir: Path | str) -> Scorecard:
    """Judge every paper that a results folder observes, and write ``scorecard.json`` there."""
    observations, not_run = load_observations(out_dir), load_artefacts(out_dir)["not_run"]
    rooms = load_rooms(out_dir)
    named = [*observations, *(r["prefix"] for r in not_run)]
    ledgers = [load_paper(name) for name in papers()]
    present = [p for p in ledgers if any(i.startswith(p.prefix + ".") for i in named)]
    card = sum((judge(p, observations, not_run=not_run, rooms=rooms) for p in present), Scorecard())
    write_json(Path(out_dir) / SCORECARD, card.as_dict())
    return card


def load_scorecard(folder: Path | str) -> Scorecard:
    """Read ``scorecard.json``; an empty scorecard when there is none."""
    path = Path(folder) / SCORECARD
    raw = read_record(path)
    with well_kept(f"{path}"):
        claims = tuple(ClaimVerdict(**c) for c in raw.get("claims", ()))
        rooms = tuple(Room(**{**r, "of": tuple(r["of"])}) for r in raw.get("rooms", ()))
        numbers = tuple(NumberVerdict(**n) for n in raw.get("numbers", ()))
        return Scorecard(claims, numbers, tuple(raw.get("papers", ())), rooms)


def _missing(ids: Sequence[str], observations: Mapping[str, Observation], reasons: Mapping[str, str]) -> str:
    """Why a claim cannot be judged; empty when it can."""
    absent = [i for i in ids if i not in observations]
    if absent:
        return f"not run: {_reason(absent[0], reasons)}"
    bare = [i for i in ids if not observations[i].per_subject]
    if bare:
        return f"not run: {bare[0]} has no values per subject"
    shared = set.intersection(*(set(observations[i].per_subject) for i in ids))
    return "" if shared else "not run: the compared numbers share no subject"


def _reason(id: str, reasons: Mapping[str, str]) -> str:
    return next((why for prefix, why in reasons.items() if id.startswith(prefix)), f"{id} was not recorded")


def _compare(claim: Claim, observations: Mapping[str, Observation]) -> tuple[Comparison, ...]:
    values = [observations[i].per_subject for i in claim.ids]
    sign = -1.0 if claim.direction in ("ascending", "less") else 1.0
    if claim.kind == "sign":
        return (_against_zero(claim.ids, np.array([*values[0].values()]), sign),)
    pairs = zip(claim.ids, claim.ids[1:], values, values[1:], strict=False)
    compare = _correlate if claim.kind == "correlation" else _pair
    return tuple(compare((i, j), *_paired(a, b), sign, claim) for i, j, a, b in pairs)


def _paired(a: Mapping[str, float], b: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    shared = [s for s in a if s in b]
    return np.array([a[s] for s in shared]), np.array([b[s] for s in shared])


def _above_zero(x: np.ndarray) -> Bound:
    return Bound(bootstrap_mean(x), bootstrap_p(x, np.zeros_like(x)))


def _against_zero(ids: tuple[str, ...], x: np.ndarray, sign: float) -> Comparison:
    return Comparison(ids, bootstrap_mean(x), paired_p(x, np.zeros_like(x)), (_above_zero(sign * x),))


def _pair(ids: tuple[str, str], a: np.ndarray, b: np.ndarray, sign: float, claim: Claim) -> Comparison:
    margin = claim.margin * abs(float(b.mean()))
    sides = (1.0, -1.0) if claim.kind == "equivalence" else (sign,)
    tests = tuple(_above_zero(side * (a - b) + margin) for side in sides)
    return Comparison(ids, paired_difference(a, b), paired_p(a, b), tests, margin)


def _correlate(ids: tuple[str, str], a: np.ndarray, b: np.ndarray, sign: float, claim: Claim) -> Comparison:
    """Spearman's ρ over subjects, its percentile bootstrap interval, and the p of the asymptotic test."""
    rho, p = scipy_stats.spearmanr(a, b) if a.size > 2 and np.ptp(a) and np.ptp(b) else (0.0, 1.0)
    draws = np.random.default_rng(0).integers(0, a.size, size=(2_000, a.size))
    x, y = (scipy_stats.rankdata(v[draws], axis=1) for v in (a, b))
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    scale = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    boot = np.divide((x * y).sum(1), scale, out=np.zeros(len(x)), where=scale > 0)
    low, high = np.percentile(boot, [2.5, 97.5])
    effect = Interval(float(rho), float(low), float(high), a.size)
    claimed = effect if sign > 0 else Interval(-effect.value, -effect.high, -effect.low, effect.n)
    return Comparison(ids, effect, float(p), (Bound(claimed, float(p)),))


def _correct(found: Mapping[str, tuple[Comparison, ...]]) -> dict[str, tuple[Comparison, ...]]:
    """Holm over all tests of the paper; a test that serves several claims counts once."""
    tests = {(c.ids, t): t.p for claim in found.values() for c in claim for t in c.tests}
    adjusted = dict(zip(tests, map(float, holm(list(tests.values()))), strict=True)) if tests else {}
    return {
        i: tuple(replace(c, tests=tuple(replace(t, p_holm=adjusted[c.ids, t]) for t in c.tests)) for c in claim)
        for i, claim in found.items()
    }


def _claim_verdict(claim: Claim, found: str | tuple[Comparison, ...], rooms: tuple[Room, ...]) -> ClaimVerdict:
    if isinstance(found, str):
        return ClaimVerdict(claim.id, found, {}, claim.where, claim.statement)
    decided = _no_room(claim, found, rooms) or _weakest(c.verdict for c in found)
    n = min(c.effect.n for c in found)
    evidence = {"kind": claim.kind, "direction": claim.direction, "n": n, "comparisons": [c.as_dict() for c in found]}
    few = {"reason": f"{n} subjects; a verdict needs at least {MIN_SUBJECTS}"} if n < MIN_SUBJECTS else {}
    return ClaimVerdict(claim.id, decided, evidence | few, claim.where, claim.statement)


def _no_room(claim: Claim, found: tuple[Comparison, ...], rooms: tuple[Room, ...]) -> str:
    """The verdict of a claim between methods that fails only where nothing could be won; else empty."""
    failed = [c.ids for c in found if c.verdict != "reproduced"]
    room = next((r for r in rooms if r.covers(claim.ids)), None) if claim.kind in BETWEEN_METHODS else None
    if not failed or room is None or not all(room.lacks(ids) for ids in failed):
        return ""
    return f"no room: {room.said(failed[0])}"


def _number_verdict(
    number: Number, paper: Paper, observations: Mapping[str, Observation], reasons: Mapping[str, str],
) -> NumberVerdict:
    if number.id not in observations:
        return NumberVerdict(number.id, number.value, None, f"not run: {_reason(number.id, reasons)}")
    ours = observations[number.id].value
    comparable = paper.paper.comparable if number.comparable is None else number.comparable
    allowed = number.spread if number.tolerance is None else number.tolerance
    if number.value is None:
        verdict = "not comparable: no number is printed"
    elif not comparable:
        verdict = f"not comparable: {number.reason or paper.paper.reason}"
    elif allowed is None:
        verdict = "not comparable: no tolerance is known"
    else:
        near = abs(ours - number.value) <= allowed
        verdict = "within tolerance" if near else "outside tolerance"
    return NumberVerdict(number.id, number.value, ours, verdict)
