"""The ledgers of thesis chapters 3 and 4: tables as printed, claims that their own numbers support, misprints named."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from scipy import stats

from nbkit.claims.ledger import Claim, Paper, load_paper
from nbkit.claims.observe import Observation
from nbkit.claims.tables import comparison_table
from nbkit.claims.verdicts import judge

SKETCHER, ATTENTION = load_paper("wei2019_myelin"), load_paper("wei2020_cfsagan")
BOTH = pytest.mark.parametrize("paper", [SKETCHER, ATTENTION], ids=lambda p: p.name)
SYSTEMS = ("dnn", "unet", "unet_w", "cgan", "cgan_w", "refiner")
LATER = ("dnn", "unet", "cgan", "refiner_cgan", "cfsagan", "refiner_cfsagan")
OURS = "Not a claim of the paper"


def cells(paper: Paper, prefix: str, names) -> list[tuple[float, float]]:
    """(value, spread) of PREFIX.NAME."""
    return [(n.value, n.spread) for n in (paper.ids[f"{paper.prefix}.{prefix}.{name}"] for name in names)]


def claims(paper: Paper, start: str) -> dict[str, Claim]:
    """Claims whose id goes on with `start`, by the rest."""
    begin = f"{paper.prefix}.claim.{start}"
    return {c.id.removeprefix(begin): c for c in paper.claim if c.id.startswith(begin)}


def test_table_3_1_as_printed():
    assert cells(SKETCHER, "table3_1.mse", SYSTEMS) == [
        (0.0136, 0.0048), (0.0107, 0.0041), (0.0113, 0.0043), (0.0094, 0.0038), (0.0103, 0.0042), (0.0083, 0.0037)]
    assert cells(SKETCHER, "table3_1.psnr", SYSTEMS) == [
        (27.767, 1.214), (29.297, 0.986), (28.606, 1.007), (29.475, 0.981), (29.077, 0.995), (30.044, 1.095)]


def test_table_3_2_as_printed():
    rows = {r: cells(SKETCHER, f"table3_2.{r}", SYSTEMS) for r in ("wm_hc", "nawm", "lesions")}
    assert rows["wm_hc"] == [
        (0.059, 0.040), (0.053, 0.034), (0.054, 0.034), (0.053, 0.041), (0.052, 0.037), (0.048, 0.026)]
    assert rows["nawm"] == [
        (0.041, 0.036), (0.039, 0.033), (0.038, 0.031), (0.034, 0.022), (0.035, 0.027), (0.029, 0.021)]
    assert rows["lesions"] == [
        (0.131, 0.051), (0.035, 0.027), (0.032, 0.029), (0.030, 0.017), (0.027, 0.022), (0.022, 0.015)]


def test_tables_of_inputs_end_with_the_refiner():
    for metric, (table, other) in {"mse": ("3_3", "3_1"), "psnr": ("3_3", "3_1"), "lesions": ("3_4", "3_2")}.items():
        assert cells(SKETCHER, f"table{table}.{metric}", ["mtr_dti"]) == cells(
            SKETCHER, f"table{other}.{metric}", ["refiner"])
    assert cells(SKETCHER, "table3_3.mse", ("mtr", "mtr_rd")) == [(0.0094, 0.0043), (0.0092, 0.0043)]
    assert cells(SKETCHER, "table3_4.lesions", ("mtr", "mtr_rd")) == [(0.037, 0.029), (0.025, 0.017)]


def test_chapter_4_repeats_the_rows_of_chapter_3_and_its_own_tables():
    again = {"dnn": "dnn", "unet": "unet", "cgan": "cgan", "refiner_cgan": "refiner"}
    for metric in ("mse", "psnr"):
        old = cells(SKETCHER, f"table3_1.{metric}", again.values())
        assert cells(ATTENTION, f"table4_1.{metric}", again) == old
    assert [cells(ATTENTION, "table4_1.mse", [n])[0][0] for n in LATER[4:]] == [0.0085, 0.0078]
    for net in ("unet", "cgan", "cfsagan"):
        l1 = cells(ATTENTION, f"table4_2a.{net}", ["l1"]), cells(ATTENTION, "table4_1.mse", [net])
        assert l1[0] == l1[1]


def test_improvements_of_the_text_follow_from_table_4_1():
    for metric, sign in (("mse", -1), ("psnr", 1)):
        best = ATTENTION.ids[f"wei2020.table4_1.{metric}.refiner_cfsagan"].value
        for name in ("dnn", "unet"):
            other = ATTENTION.ids[f"wei2020.table4_1.{metric}.{name}"].value
            printed = ATTENTION.ids[f"wei2020.text.improvement.{metric}.{name}"].value
            assert 100 * sign * (best / other - 1) == pytest.approx(printed, abs=0.01)


@pytest.mark.parametrize("part", ["a", "b"])
@pytest.mark.parametrize("index", ["demyelination", "remyelination"])
def test_table_4_3_is_a_regression_over_fifteen_patients(part, index):
    """t = coefficient / standard error within rounding, and p is that of t with 15 − 5 degrees of freedom."""
    for row in (index, *(f"{index}.{c}" for c in ("age", "gender", "t2_load"))):
        b, se, t, p, _ = (ATTENTION.ids[f"wei2020.table4_3{part}.{row}.{c}"].value
                          for c in ("coefficient", "se", "t", "p", "beta"))
        half = 5e-4 if abs(b) > 0.01 else 5e-9
        ratios = [(b + i * half) / (se + j * half) for i in (-1, 1) for j in (-1, 1)]
        assert min(ratios) - 0.0051 <= t <= max(ratios) + 0.0051
        assert p == pytest.approx(2 * stats.t.sf(abs(t), 10), abs=0.005)
    assert ATTENTION.ids[f"wei2020.table4_3{part}.{index}.beta"].n == 15


def test_betas_agree_between_the_parts_but_for_the_named_misprint():
    """β over coefficient is SD of the covariate over SD of EDSS: the same people in all four regressions."""
    off = set()
    for row, scale in (("age", 3.45), ("gender", 0.301), ("t2_load", 2.05e4)):
        for part, index in product("ab", ("demyelination", "remyelination")):
            cell = f"wei2020.table4_3{part}.{index}.{row}"
            b, beta = (ATTENTION.ids[f"{cell}.{c}"].value for c in ("coefficient", "beta"))
            if beta / b != pytest.approx(scale, rel=0.05):
                off.add((part, index, row))
    assert off == {("b", "remyelination", "age")}
    assert "misprint of −0.17" in ATTENTION.ids["wei2020.table4_3b.remyelination.age.beta"].note


def test_misprints_are_named_where_they_are():
    bias, mean = (SKETCHER.ids[f"wei2019m.{i}"] for i in ("fig3_7.bias.lesions.refiner", "table3_2.lesions.refiner"))
    assert abs(bias.value) > mean.value and "impossible" in bias.note, "|mean| cannot exceed the mean of |.|"
    assert abs(SKETCHER.ids["wei2019m.fig3_7.bias.wm_nawm.refiner"].value) < mean.value
    psnr = ATTENTION.ids["wei2020.table4_1.psnr.refiner_cfsagan"]
    assert psnr.spread == 0.0993 and "0.993" in psnr.note


def test_patch_counts_of_the_text():
    flat, solid = (SKETCHER.ids[f"wei2019m.text.patches.overlapping_{d}"] for d in ("2d", "3d"))
    assert abs((256 - 70 + 1) ** 2 - flat.value) <= flat.tolerance
    counts = {size: np.prod(np.array((128, 160, 128)) - size + 1) for size in ((32, 32, 32), (32, 40, 32))}
    assert abs(counts[32, 32, 32] - solid.value) <= solid.tolerance < abs(counts[32, 40, 32] - solid.value)


@BOTH
def test_claims_hold_for_the_numbers_as_printed(paper):
    """All but those that the ledger names."""
    against = []
    for claim in paper.claim:
        values = [paper.ids[i].value for i in claim.ids] + ([0.0] if claim.kind == "sign" else [])
        if None in values:
            continue
        if claim.kind == "equivalence":
            holds = abs(values[0] - values[1]) < claim.margin * abs(values[1])
        else:
            rising = claim.direction in ("ascending", "less")
            lost = claim.margin * abs(values[1])
            holds = all((b - a if rising else a - b) + lost > 0 for a, b in pairwise(values))
        against += [] if holds else [claim.id]
    named = ["gain_in_lesions.cgan_w", "weighted_better.wm_hc.unet", "weighted_better.nawm.cgan"]
    assert against == ([f"wei2019m.claim.{i}" for i in named] if paper is SKETCHER else [])
    assert all("say the opposite" in claims(SKETCHER, i)[""].note for i in named)


def test_the_proposed_system_meets_every_other():
    for metric in ("mse", "psnr", "wm_hc", "nawm", "lesions"):
        found = claims(SKETCHER, f"best.{metric}.")
        assert set(found) == set(SYSTEMS) - {"refiner"} and all(c.ids[0].endswith(".refiner") for c in found.values())
    for metric in ("mse", "psnr"):
        assert set(claims(ATTENTION, f"best.{metric}.")) == set(LATER) - {"refiner_cfsagan"}


@BOTH
def test_controls_of_ours_say_so_and_nothing_is_compared_with_patients(paper):
    controls = [n for n in paper.number if n.id.split(".")[-1] in ("linear", "mean", "chance")]
    assert controls and all(n.value is None and "not in the paper" in n.note for n in controls)
    ours = [c for c in paper.claim if c.note.startswith(OURS)]
    assert {i.split(".")[-1] for c in ours for i in c.ids if "null" not in c.id} >= {"linear", "mean", "chance"}
    ends = [n for n in paper.number if n.id.split(".")[-1] in ("floor", "reach", "reach_tenfold", "person")]
    assert ends and all(n.value is None and "not in the paper" in n.note for n in ends)
    assert not paper.paper.comparable
    assert {n.id.split(".")[1] for n in paper.number if n.comparable} == {"settings"}


@BOTH
def test_every_table_has_one_cell_for_each_number(paper):
    for where in paper.places:
        numbers = paper.at(where)
        assert len({(n.row, n.column) for n in numbers}) == len(numbers)
        seen = {n.id: Observation(n.id, 1.0) for n in numbers}
        table = comparison_table(paper, seen, where=where)
        assert int((table.xs("ours", level=1) == "1").to_numpy().sum()) == len(numbers)


def observed(paper: Paper, means: dict[str, float], n: int) -> dict[str, Observation]:
    """Each id with one value per subject around its mean."""
    found = {}
    for k, (name, mean) in enumerate(means.items()):
        wobble = np.resize(np.roll(np.linspace(-1, 1, n), 3 * k), n) * 0.02 * abs(mean)
        values = {f"ms{i:02}": mean + float(w) for i, w in enumerate(wobble)}
        found[f"{paper.prefix}.{name}"] = Observation(f"{paper.prefix}.{name}", mean, n=n, per_subject=values)
    return found


def test_a_run_of_chapter_3_in_which_two_refinements_are_needed_and_a_regression_wins():
    printed = cells(SKETCHER, "table3_1.mse", SYSTEMS)
    means = {f"table3_1.mse.{k}": v for k, (v, _) in zip(SYSTEMS, printed, strict=True)}
    means |= {"table3_1.mse.linear": 0.006, "fig3_5.mse.gain01": 0.001, "fig3_5.mse.gain12": 0.002}
    means |= {"fig3_6.nawm.truth": 1.17, "fig3_6.wm_hc_level.truth": 1.18, "fig3_6.lesions.truth": 0.95}
    card = judge(SKETCHER, observed(SKETCHER, means, 18), not_run=[{"prefix": "wei2019m.fig3_9", "reason": "no maps"}])
    verdicts = {c.id.removeprefix("wei2019m.claim."): c.verdict for c in card.claims}
    held = ["cgan_over_unet.mse", "nawm_like_wm.truth", "lesions_below_nawm.truth"]
    assert {verdicts[i] for i in (*held, *(f"best.mse.{k}" for k in SYSTEMS[:-1]))} == {"reproduced"}
    assert {verdicts[i] for i in ("mse_below.linear", "one_suffices.mse")} == {"contradicted"}
    assert verdicts["saliency.lesions"] == "not run: no maps"


def test_a_run_of_chapter_4_in_which_change_is_noise_and_only_true_pet_knows_the_edss():
    means = {f"{place}.dynamic_remyelination.truth": 0.1 for place in ("fig4_5", "null")} | {"fig4_5.direction": 0.8}
    means |= {f"table4_3a.{k}.pseudovalues": b for k, b in (("demyelination", 0.2), ("remyelination", -0.7))}
    means |= {f"table4_3b.{k}.pseudovalues": b for k, b in (("demyelination", 0.2), ("remyelination", 0.1))}
    means |= {"table4_3a.demyelination.beside": -0.7, "table4_3b.demyelination.beside": 0.4}
    means |= {"table4_2b.cgan.nwl1": 0.028, "table4_2b.cgan.wl1": 0.027, "table4_2b.cgan.l1": 0.030}
    card = judge(ATTENTION, observed(ATTENTION, means, 15))
    verdicts = {c.id.removeprefix("wei2020.claim."): c.verdict for c in card.claims}
    held = ("edss_remyelination.true", "edss_demyelination.true", "direction", "nwl1_lesions.cgan")
    assert {verdicts[i] for i in (*held, "l1_lesions.cgan.wl1")} == {"reproduced"}
    assert verdicts["above_null.dynamic_remyelination"] == "inconclusive"
    against = ("edss_remyelination.synthesized", "edss_demyelination.synthesized", "edss_alike")
    assert {verdicts[i] for i in against} == {"contradicted"}
