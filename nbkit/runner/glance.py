"""A paper at a glance, and all of them: verdicts counted, the numbers that matter, why claims cannot be told."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from nbkit.claims.ledger import Paper
from nbkit.claims.observe import Observation
from nbkit.claims.tables import name_of, short_number
from nbkit.claims.verdicts import ClaimVerdict
from nbkit.figures.marks import CYCLE, title_of

FEW, WIDE, NO_ROOM = "fewer than six people", "an interval that holds zero", "no room on this measure"
PHRASES = {
    FEW: "rest on fewer than six people", WIDE: "have an interval that holds zero",
    NO_ROOM: "leave no room between a strong learner and the best trivial control",
}
NOT_ASKED = "were not asked here"
PANEL, MARGIN, LEAST = 150.0, 34.0, 4
"""Side of a scatter, room for its ticks, and how many numbers of one unit make one."""
SHAPES = {
    "o": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z", "s": "M-3.5,-3.5h7v7h-7z", "^": "M0,-4.5l4.2,8h-8.4z",
    "D": "M0,-5l4,5l-4,5l-4,-5z", "v": "M0,4.5l4.2,-8h-8.4z", "P": "M-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "X": "M-4,-2l2,-2l2,2l2,-2l2,2l-2,2l2,2l-2,2l-2,-2l-2,2l-2,-2l2,-2z",
    "p": "M0,-4.5l4.5,3.3l-1.7,5.2h-5.6l-1.7,-5.2z",
}
"""Markers of :data:`nbkit.figures.marks.CYCLE` as paths around zero."""


def untold(claim: ClaimVerdict) -> str:
    """Why a claim is neither reproduced nor contradicted; empty when it is one of them."""
    kind, _, reason = claim.verdict.partition(": ")
    if kind == "not run":
        return "not run: " + in_words(reason)
    if kind == "no room":
        return NO_ROOM
    return "" if kind != "inconclusive" else FEW if "reason" in claim.evidence else WIDE


def in_words(reason: str) -> str:
    """A reason without code names: ids of numbers, and systems in brackets by their titles."""
    reason = re.sub(r"^\S+ was not recorded$", "its numbers were not recorded in this run", reason)
    reason = re.sub(r"^\S+ has no values per subject$", "it has no values per person", reason)
    return re.sub(r"\((\w+)\)", lambda m: f"({title_of(m[1])})", reason)


def why(claims: Sequence[ClaimVerdict]) -> str:
    """One sentence: how many claims hold, which is contradicted most clearly, why the others cannot be told."""
    counts = Counter(c.verdict.split(":")[0] for c in claims)
    text = f"Of {len(claims)} claims {counts['reproduced']} hold and {counts['contradicted']} are contradicted"
    against = [c for c in claims if c.verdict == "contradicted"]
    if against:
        text += f", most clearly “{max(against, key=_clarity).statement.rstrip('.')}”"
    reasons = Counter(reason if reason in PHRASES else NOT_ASKED for c in claims if (reason := untold(c)))
    said = [f"{n} {PHRASES.get(reason, reason)}" for reason, n in reasons.most_common()]
    return text + "".join(f"; {part}" for part in said) + "."


def _clarity(claim: ClaimVerdict) -> float:
    """How many interval widths the difference is from zero."""
    return max(abs(c["difference"]) / max(c["interval"][1] - c["interval"][0], 1e-12)
               for c in claim.evidence["comparisons"])


def untold_table(cards: Mapping[str, Sequence[ClaimVerdict]]) -> list[dict[str, Any]]:
    """Reasons, most frequent first, with the number of claims behind each, in all and by paper."""
    by_paper = {name: Counter(filter(None, map(untold, claims))) for name, claims in cards.items()}
    total = sum(by_paper.values(), Counter())
    return [{"reason": reason, "count": n, "papers": {name: c[reason] for name, c in by_paper.items() if c[reason]}}
            for reason, n in total.most_common()]


def key_numbers(paper: Paper, observations: Mapping[str, Observation]) -> list[dict[str, Any]]:
    """The three numbers that matter: what they are, as printed (empty: not printed) and as this run has them."""
    found = []
    for number in (paper.ids[i] for i in paper.paper.key):
        seen = observations.get(number.id)
        unit = number.unit or (seen.unit if seen else "")
        found.append({
            "what": name_of(number), "where": number.where, "unit": "" if unit == "1" else unit,
            "published": _with_spread(number.value, number.spread),
            "ours": _with_spread(seen.value, seen.sd) if seen else "", "n": seen.n if seen else None,
            "same_unit": not seen or seen.unit == unit, "our_unit": seen.unit if seen else "",
        })
    return found


def _with_spread(value: float | None, spread: float | None) -> str:
    if value is None:
        return ""
    return short_number(value).replace("-", "−") + (f" ± {spread:.2g}" if spread else "")


def scatters(numbers: pd.DataFrame) -> list[dict[str, Any]]:
    """Published against ours, a square of SVG with like axes for each unit with enough numbers.

    Parameters
    ----------
    numbers : DataFrame
        Of :func:`nbkit.claims.tables.printed_beside_ours`.
    """
    looks = {paper: (CYCLE[k % len(CYCLE)][0], SHAPES[CYCLE[k % len(CYCLE)][1]])
             for k, paper in enumerate(numbers["paper"].unique())}
    panels = [
        _panel(unit, [_point(row, looks) for row in rows.to_dict("records")])
        for unit, rows in numbers.groupby("unit", sort=False) if len(rows) >= LEAST
    ]
    return sorted(panels, key=lambda p: -len(p["points"]))


def _point(row: Mapping[str, Any], looks: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    text = (f"{row['paper']}, {row['what']}. Published {short_number(row['published'])}, "
            f"ours {short_number(row['ours'])}")
    return {"x": row["published"], "y": row["ours"], "look": looks[row["paper"]], "paper": row["paper"], "text": text}


def _panel(unit: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    values = [p[k] for p in points for k in ("x", "y")]
    step, low, high = _scale(min(values), max(values))
    place = lambda v: PANEL * (v - low) / (high - low)  # noqa: E731
    for p in points:
        p["left"], p["top"] = round(MARGIN + place(p["x"]), 1), round(PANEL - place(p["y"]) + 6, 1)
    ticks = [(round(place(low + k * step), 1), short_number(low + k * step).replace("-", "−"))
             for k in range(round((high - low) / step) + 1)]
    return {"unit": unit, "points": points, "ticks": ticks, "side": PANEL, "margin": MARGIN,
            "papers": {p["paper"]: p["look"] for p in points}}


def _scale(low: float, high: float) -> tuple[float, float, float]:
    """A round step, and ends at multiples of it that hold both values, at most four steps apart or so."""
    rough = ((high - low) or abs(high) or 1.0) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(s for s in (1.0, 2.0, 2.5, 5.0, 10.0) if s * power >= rough)
    first, last = math.floor(low / step) * step, math.ceil(high / step) * step
    return step, first, max(last, first + step)
