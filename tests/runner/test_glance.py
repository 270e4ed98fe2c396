"""What the first page says of papers: counts, reasons, and numbers beside the published ones."""

from __future__ import annotations

import re

import pytest

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Observation
from nbkit.claims.tables import printed_beside_ours
from nbkit.claims.verdicts import ClaimVerdict, judge
from nbkit.runner.glance import FEW, NO_ROOM, PANEL, WIDE, in_words, key_numbers, scatters, untold, untold_table, why


def claim(verdict: str, statement: str = "A beats B.", difference: float = 1.0, **evidence) -> ClaimVerdict:
    compared = [{"difference": difference, "interval": [difference - 1, difference + 1]}]
    return ClaimVerdict("p.x", verdict, {"comparisons": compared, **evidence}, "Table 1", statement)


CLAIMS = [
    claim("reproduced"), claim("contradicted", "Weakly against.", -2.0),
    claim("contradicted", "Strongly against.", -9.0),
    claim("inconclusive"), claim("inconclusive", reason="3 subjects; a verdict needs at least 6"),
    claim("inconclusive", reason="3 subjects; a verdict needs at least 6"),
    claim("no room: reach 1, best control 1.02 (t2_linear), mean 3"), claim("not run: the cohort has no DIR"),
]


def test_one_sentence_says_why():
    assert why(CLAIMS) == (
        "Of 8 claims 1 hold and 2 are contradicted, most clearly “Strongly against”; 2 rest on fewer than six people; "
        "1 have an interval that holds zero; 1 leave no room between a strong learner and the best trivial control; "
        "1 were not asked here."
    )


def test_reasons_by_paper_most_frequent_first():
    assert [untold(c) for c in CLAIMS] == ["", "", "", WIDE, FEW, FEW, NO_ROOM, "not run: the cohort has no DIR"]
    table = untold_table({"one": CLAIMS, "other": CLAIMS[3:4]})
    assert [(row["count"], row["papers"]) for row in table[:2]] == [(2, {"one": 1, "other": 1}), (2, {"one": 2})]


def test_reasons_have_no_code_names():
    assert in_words("best control 1.02 (t2_linear), mean 3") == "best control 1.02 (Linear, T2-w only), mean 3"
    assert in_words("daninet.table1.ssim.c was not recorded") == "its numbers were not recorded in this run"
    assert in_words("a.b has no values per subject") == "it has no values per person"


def _seen(paper, **values) -> dict[str, Observation]:
    units = {n.id: n.unit for n in paper.number}
    return {i: Observation(i, v, sd=0.01234, n=9, unit=units[i]) for i, v in values.items()}


def test_key_numbers_as_printed_and_as_found():
    paper = load_paper("daninet")
    first, *rest = key_numbers(paper, _seen(paper, **{"daninet.table1.ssim.p_c_t": 0.91234}))
    assert (first["what"], first["where"], first["unit"]) == ("SSIM, P-C-T", "Table 1", "SSIM")
    assert (first["published"], first["ours"], first["n"]) == ("0.62 ± 0.16", "0.9123 ± 0.012", 9)
    assert [k["ours"] for k in rest] == ["", ""]


def test_marks_stand_where_their_numbers_say():
    """Equal numbers lie on the diagonal; both axes are alike; other units and single settings are left out."""
    paper = load_paper("daninet")
    ids = [f"daninet.table1.ssim.{k}" for k in ("c", "t", "p", "p_c", "p_t", "p_c_t")]
    values = {i: paper.ids[i].value for i in ids} | {"daninet.data.age.low": 63.0}
    values["daninet.table1.ssim.c"] += 0.1
    seen = _seen(paper, **values)
    (panel,) = scatters(printed_beside_ours(judge(paper, seen), seen))
    assert panel["unit"] == "SSIM" and len(panel["points"]) == 6
    level = [p["left"] - panel["margin"] + p["top"] - 6 for p in panel["points"]]
    assert sum(abs(x - PANEL) < 0.2 for x in level) == 5
    off = next(p for p in panel["points"] if re.search(r"SSIM, C\. ", p["text"]))
    span = float(panel["ticks"][-1][1]) - float(panel["ticks"][0][1])
    assert off["left"] - panel["margin"] + off["top"] - 6 == pytest.approx(PANEL - 0.1 / span * PANEL, abs=0.2)
    assert all(float(t) == pytest.approx(float(panel["ticks"][0][1]) + at / PANEL * span) for at, t in panel["ticks"])
