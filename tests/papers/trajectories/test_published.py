"""The ledger of the head-to-head: printed tables of BrLP and what a comparison owes."""

from __future__ import annotations

import pytest

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Observation
from nbkit.claims.verdicts import judge

PAPER = load_paper("head_to_head")
INTERNAL = {
    "daninet": (0.016, 0.623, 0.030, 0.018, 0.257, 0.038, 1.081),
    "countersynth": (0.010, 0.824, 0.030, 0.014, 0.310, 0.127, 0.881),
    "brlp": (0.004, 0.914, 0.022, 0.015, 0.248, 0.029, 0.825),
}
SEVERAL = {
    "sadm": (0.008, 0.855, 0.035, 0.018, 0.329, 0.037, 0.924),
    "brlp": (0.004, 0.914, 0.020, 0.014, 0.231, 0.030, 0.799),
}
EXTERNAL = {
    "daninet": (0.017, 0.611, 0.032, 0.018, 0.232, 0.039, 1.154),
    "countersynth": (0.011, 0.813, 0.030, 0.014, 0.283, 0.111, 1.173),
    "brlp": (0.005, 0.909, 0.024, 0.014, 0.213, 0.030, 1.044),
}
MEASURES = ("mse", "ssim", "hippocampus", "amygdala", "ventricle", "thalamus", "csf")


@pytest.mark.parametrize(
    ("place", "printed"), [("internal_one", INTERNAL), ("internal_several", SEVERAL), ("external_one", EXTERNAL)],
)
def test_the_tables_as_printed(place, printed):
    for system, values in printed.items():
        assert tuple(PAPER.ids[f"head_to_head.{place}.{m}.{system}"].value for m in MEASURES) == values
    for system in ("no_change", "mrextrap_bayes"):
        assert all(PAPER.ids[i].value is None for i in PAPER.ids if i.startswith(f"head_to_head.{place}.") and
                   i.endswith(system))


def test_every_printed_number_has_its_source_and_none_is_judged():
    assert not PAPER.paper.comparable and PAPER.paper.reason
    printed = [number for number in PAPER.number if number.value is not None]
    assert len(printed) == 102
    assert all("review" in n.note or "repository" in n.note for n in printed)
    assert all("no text at hand confirms it" in n.note for n in printed), "they come from table images"


def test_the_printed_numbers_agree_with_what_brlp_claims_of_them():
    ssim = {s: values[1] for s, values in INTERNAL.items()}
    assert ssim["brlp"] > ssim["countersynth"] > ssim["daninet"]
    samples = [PAPER.ids[f"head_to_head.samples.ssim.m{m}"].value for m in (1, 4, 16, 64)]
    assert samples == sorted(samples) and samples[-1] == ssim["brlp"]
    parts = [PAPER.ids[f"head_to_head.ablation.ssim.{p}"].value for p in ("base", "volumes", "average", "both")]
    assert parts == sorted(parts)


@pytest.mark.parametrize("measure", ["ventricle", "hippocampus"])
def test_every_published_system_owes_a_gain_over_no_change(measure):
    claims = {c.id.removeprefix("head_to_head.claim."): c for c in PAPER.claim}
    for setting, systems in {"one": ("inbrainsyn", "mrextrap_bayes", "brlp", "countersynth", "daninet3d"),
                             "several": ("mrextrap_ols", "mrextrap_bayes", "brlp")}.items():
        for system in systems:
            claim = claims[f"{setting}.{measure}.{system}_vs_no_change"]
            place = f"head_to_head.{setting}.{measure}"
            assert claim.ids == (f"{place}.{system}", f"{place}.no_change") and claim.direction == "less"
            assert "stated before any result" in claim.note


def test_brlp_is_claimed_better_than_older_methods_as_its_table_prints_it():
    claims = {c.id.removeprefix("head_to_head.claim.brlp."): c for c in PAPER.claim}
    better = {"mse": "less", "ssim": "greater", "hippocampus": "less", "ventricle": "less"}
    for rival in ("countersynth", "daninet"):
        for measure, direction in better.items():
            claim, k = claims[f"{measure}_vs_{rival}"], MEASURES.index(measure)
            assert claim.ids == tuple(f"head_to_head.internal_one.{measure}.{s}" for s in ("brlp", rival))
            ours, theirs = INTERNAL["brlp"][k], INTERNAL[rival][k]
            assert claim.direction == direction and (ours < theirs) == (direction == "less")


@pytest.mark.parametrize("setting", ["one", "several"])
def test_every_measure_has_its_floor_and_volumes_their_reach(setting):
    for measure in ("ventricle", "hippocampus", "ssim", "psnr", "mae", "sharpness"):
        assert f"head_to_head.{setting}.{measure}.floor" in PAPER.ids
    for measure in ("ventricle", "hippocampus"):
        assert {f"head_to_head.{setting}.{measure}.{s}" for s in ("reach", "reach_tenfold", "person")} <= set(PAPER.ids)


def test_a_run_of_ten_people_is_decided_and_daninet_is_not_run():
    """MRExtrap as claimed, BrLP the other way round, nothing of DaniNet."""
    errors = {"mrextrap_bayes": 4.0, "no_change": 6.0, "brlp": 9.0, "inbrainsyn": 6.0}
    observed = {}
    for system, mean in errors.items():
        id, shift = f"head_to_head.one.ventricle.{system}", {"inbrainsyn": 1.0}.get(system, 0.1)
        values = {f"s{k}": mean + shift * (-1) ** (k // (1 + len(system) % 3)) for k in range(10)}
        observed[id] = Observation(id, mean, n=10, per_subject=values)
    for level, cover in (("coverage.several.mrextrap_bayes", 0.8), ("coverage.nominal", 0.8)):
        id = f"head_to_head.{level}.level80"
        observed[id] = Observation(id, cover, n=10, per_subject={f"s{k}": cover for k in range(10)})
    reason = {"prefix": "head_to_head.one.ventricle.daninet3d", "reason": "not there yet"}
    card = judge(PAPER, observed, not_run=[reason])
    verdicts = {c.id.removeprefix("head_to_head.claim."): c.verdict for c in card.claims}
    assert verdicts["one.ventricle.mrextrap_bayes_vs_no_change"] == "reproduced"
    assert verdicts["one.ventricle.brlp_vs_no_change"] == "contradicted"
    assert verdicts["one.ventricle.inbrainsyn_vs_no_change"] == "inconclusive"
    assert verdicts["one.ventricle.daninet3d_vs_no_change"] == "not run: not there yet"
    assert verdicts["coverage.mrextrap_bayes"] == "reproduced"
    assert verdicts["one.ssim.brlp_vs_no_change"].startswith("not run")
