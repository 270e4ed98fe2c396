"""The ledger of InBrainSyn: the printed table, the article's contradiction with itself, and what has no data."""

from __future__ import annotations

import pytest

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Observation
from nbkit.claims.verdicts import judge

PAPER = load_paper("inbrainsyn")
PRINTED = {
    "psnr": (24.97, 22.51, 21.36), "ssim": (0.903, 0.848, 0.800), "mae": (0.029, 0.036, 0.040),
    "dice": (0.851, 0.832, 0.730),
}


@pytest.mark.parametrize("metric", PRINTED)
def test_the_table_as_printed(metric):
    found = [PAPER.ids[f"inbrainsyn.table1.{metric}.{s}"].value for s in ("inbrainsyn", "brlp", "no_pt")]
    assert tuple(found) == PRINTED[metric]
    for control in ("no_change", "no_transport", "full", "wrong_sign"):
        assert PAPER.ids[f"inbrainsyn.table1.{metric}.{control}"].value is None


def test_stars_are_those_of_the_article_and_the_faq_speaks_of_modern_models():
    stars = {row: [PAPER.ids[f"inbrainsyn.stars.{row}.{s}"].value for s in ("brlp", "countersynth", "inbrainsyn")]
             for row in ("sharpness", "accuracy", "speed")}
    assert stars == {"sharpness": [5, 3, None], "accuracy": [5, 3, None], "speed": [4, 2, None]}
    assert {PAPER.ids[f"inbrainsyn.faq.{m}"].column for m in ("psnr", "ssim")} == {"Modern models"}


def test_the_text_promises_more_than_the_table_holds():
    for metric in ("psnr", "ssim"):
        promised, printed = PAPER.ids[f"inbrainsyn.faq.{metric}"], PAPER.ids[f"inbrainsyn.table1.{metric}.inbrainsyn"]
        assert promised.value > printed.value and f"{printed.value:g}" in promised.note


@pytest.mark.parametrize(
    "claim", [c for c in PAPER.claim if None not in [PAPER.ids[i].value for i in c.ids]], ids=lambda c: c.id,
)
def test_claims_hold_for_the_numbers_as_printed(claim):
    first, second = (PAPER.ids[i].value for i in claim.ids)
    assert (first < second) == (claim.direction == "less") and first != second


def test_every_metric_is_compared_with_every_rival():
    ids = {c.id.removeprefix("inbrainsyn.claim.") for c in PAPER.claim}
    assert {f"{m}_vs_{rival}" for m in PRINTED for rival in ("no_pt", "brlp", "no_change")} <= ids


@pytest.mark.parametrize(("error", "hippocampus", "verdict"), [(0.4, -3.0, "reproduced"), (1.8, 3.0, "contradicted")])
def test_what_is_said_in_words_can_fail(error, hippocampus, verdict):
    def observed(name: str, value: float) -> Observation:
        values = {f"s{k}": value * (1 + 0.01 * k) for k in range(8)}
        return Observation(f"inbrainsyn.{name}", value, n=8, per_subject=values)

    rows = {"precision.error": error, "precision.beyond": error - 1, "precision.no_change": 2 * error,
            "early.hippocampus": hippocampus, "early.elsewhere": 0.1}
    found = {f"inbrainsyn.{name}": observed(name, value) for name, value in rows.items()}
    verdicts = {c.id.removeprefix("inbrainsyn.claim."): c.verdict for c in judge(PAPER, found).claims}
    assert verdicts["submillimetre"] == verdicts["early_localised"] == verdict
    assert verdicts["precision_vs_no_change"] == "reproduced"


def test_a_run_without_brlp_says_so_and_decides_the_rest():
    """Eight people for whom all goes as claimed: reproduced, BrLP not run with its reason, numbers not comparable."""
    better = {"psnr": 1.0, "ssim": 0.01, "mae": -0.01, "dice": 0.01}
    observed = {}
    for metric, gain in better.items():
        for system, share in (("inbrainsyn", 1.0), ("no_pt", 0.0), ("no_change", 0.5)):
            values = {f"s{k}": 1 + gain * share * (1 + 0.1 * k) for k in range(8)}
            id = f"inbrainsyn.table1.{metric}.{system}"
            observed[id] = Observation(id, sum(values.values()) / 8, n=8, per_subject=values)
    reasons = [{"prefix": f"inbrainsyn.table1.{m}.brlp", "reason": "BrLP is not there yet"} for m in PRINTED]
    card = judge(PAPER, observed, not_run=reasons)
    verdicts = {c.id.removeprefix("inbrainsyn.claim."): c.verdict for c in card.claims}
    for metric in PRINTED:
        assert verdicts[f"{metric}_vs_no_pt"] == verdicts[f"{metric}_vs_no_change"] == "reproduced"
        assert verdicts[f"{metric}_vs_brlp"] == "not run: BrLP is not there yet"
    numbers = {n.id: n.verdict for n in card.numbers}
    assert numbers["inbrainsyn.table1.psnr.inbrainsyn"].startswith("not comparable: OASIS-3")
