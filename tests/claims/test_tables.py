"""Tables behind overviews: printed numbers beside ours, and claims by cohort."""

from __future__ import annotations

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Observation
from nbkit.claims.tables import (
    BENCHMARK, claims_by_cohort, comparison_table, entrants_lead, entrants_table, printed_beside_ours,
)
from nbkit.claims.verdicts import judge

PAPER = load_paper("inbrainsyn")
SSIM, PSNR = (f"inbrainsyn.table1.{metric}.no_pt" for metric in ("ssim", "psnr"))


def test_printed_numbers_stand_beside_ours_only_in_one_unit():
    seen = {SSIM: Observation(SSIM, 0.5, unit="SSIM", n=8), PSNR: Observation(PSNR, 20.0, unit="other", n=8)}
    table = printed_beside_ours(judge(PAPER, seen), seen)
    assert table.to_dict("records") == [{
        "paper": PAPER.paper.short, "id": SSIM, "what": "Table 1: SSIM, No-PT", "published": PAPER.ids[SSIM].value,
        "ours": 0.5, "unit": "SSIM"}]
    nobody = {SSIM: Observation(SSIM, 0.5, unit="SSIM")}
    assert printed_beside_ours(judge(PAPER, nobody), nobody).empty


def test_every_claim_has_a_row_for_each_cohort_that_judged_it():
    card = judge(PAPER, {})
    table = claims_by_cohort({"embedded": card, "open": card})
    assert len(table) == 2 * len(PAPER.claim) and set(table["cohort"]) == {"embedded", "open"}
    assert set(table["claim"]) == {claim.id for claim in PAPER.claim} and set(table["paper"]) == {PAPER.paper.short}
    assert table["verdict"].str.startswith("not run").all()


def test_a_system_that_no_ledger_knows_has_a_column_of_its_own():
    mine = "inbrainsyn.table1.ssim.Mine"
    seen = {SSIM: Observation(SSIM, 0.5, unit="SSIM", n=8), mine: Observation(mine, 0.25, unit="SSIM", n=8)}
    table = comparison_table(PAPER, seen, where="Table 1", more=("Mine", "Other"))
    without = comparison_table(PAPER, seen, where="Table 1")
    assert list(table.columns) == [*without.columns, "Mine"]
    cells = {(row, source.split(",")[0]): cell for (row, source), cell in table["Mine"].items()}
    assert {key: cell for key, cell in cells.items() if cell != "–"} == {("SSIM", "ours"): "0.25"}
    assert table[without.columns].equals(without)


def test_strangers_are_ranked_by_every_measure_in_the_order_of_the_first(tmp_path):
    assert entrants_table(tmp_path).empty and entrants_table(tmp_path).index.names == ["system", "kind"]
    (tmp_path / BENCHMARK).write_text(
        "metric,measure,title,kind,mean\nventricle,error,mine,entrant,4.26\nventricle,error,ours,system of a paper,12\n"
        "ssim,SSIM,ours,system of a paper,0.91\n")
    table = entrants_table(tmp_path)
    assert table.index.tolist() == [("mine", "entrant"), ("ours", "system of a paper")]
    assert table["error"].tolist() == ["1. 4.26", "2. 12"] and table["SSIM"].tolist() == ["–", "1. 0.91"]


def test_a_stranger_that_beats_our_systems_is_said_first(tmp_path):
    assert "judged" in entrants_lead(tmp_path)
    (tmp_path / BENCHMARK).write_text(
        "metric,measure,title,kind,mean,beats,of\nv,error,ours,system of a paper,4,,\nv,error,mine,entrant,5,0,2\n"
        "v,error,theirs,entrant,6,1,2\nssim,SSIM,mine,entrant,.9,2,2\nssim,SSIM,ours,system of a paper,.8,,\n")
    assert entrants_lead(tmp_path).endswith(
        "by error, theirs is better than 1 of 2; by SSIM, mine is better than all 2.")
