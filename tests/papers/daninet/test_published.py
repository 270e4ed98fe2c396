"""The ledger of DaniNet: Table 1 and the survey as printed, every claim, and the controls the paper lacks."""

from __future__ import annotations

from itertools import pairwise

import pytest

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Observation
from nbkit.claims.verdicts import judge

PAPER = load_paper("daninet")
CLAIMS = {c.id.removeprefix("daninet.claim."): c for c in PAPER.claim}
TABLE = {"caae": (0.43, 0.07), "c": (0.44, 0.06), "t": (0.59, 0.14), "c_t": (0.60, 0.14), "p": (0.44, 0.08),
         "p_c": (0.48, 0.08), "p_t": (0.61, 0.15), "p_c_t": (0.62, 0.16)}
CONTROLS = ("copy", "mean_change")


def value(id: str) -> float | None:
    return PAPER.ids[f"daninet.{id}"].value


def parts(key: str) -> frozenset[str]:
    """The components of a configuration."""
    return frozenset() if key == "caae" else frozenset(key.split("_"))


def test_table_1_as_printed():
    cells = {key: PAPER.ids[f"daninet.table1.ssim.{key}"] for key in TABLE}
    assert {key: (n.value, n.spread) for key, n in cells.items()} == TABLE
    assert [n.column for n in cells.values()] == ["[9]", "C", "T", "C-T", "P", "P-C", "P-T", "P-C-T"]


def test_the_same_images_are_observed_by_other_measures_and_beside_controls():
    for measure in ("ssim_brain", "ssim_changed", "psnr", "mae"):
        assert all(value(f"controls.{measure}.{key}") is None for key in (*TABLE, *CONTROLS))
    bounds = ("mean", "person", "floor", "reach")
    assert not any(value(f"table1.ssim.{key}") for key in (*CONTROLS, *bounds))
    others = ("ssim_brain", "ssim_changed", "psnr", "mae")
    assert not any(value(f"controls.{measure}.{key}") for measure in others for key in bounds)


@pytest.mark.parametrize("component", ["t", "p", "c"])
def test_gains_are_means_over_the_pairs_that_differ_by_one_component(component):
    gains = [TABLE[a][0] - TABLE[b][0] for a in TABLE for b in TABLE if parts(a) - parts(b) == {component} and
             parts(a) - {component} == parts(b)]
    assert len(gains) == 4 and value(f"table1.gain.{component}") == pytest.approx(sum(gains) / 4)


def test_the_survey_adds_up_as_printed():
    names = ("p_c_t", "c_t", "caae", "none")
    times, shares = ([value(f"survey.experts.{kind}.{name}") for name in names] for kind in ("times", "share"))
    assert (times, sum(times)) == ([26, 7, 1, 2], 36) and (shares, sum(shares)) == ([72, 19, 3, 6], 100)
    for mean, share in zip(times, shares, strict=True):
        assert abs(100 * mean / 36 - share) < 1, "rounded"


def test_what_the_text_says_of_its_people():
    assert sum(value(f"data.share.{d}") for d in ("cn", "smc", "mci", "ad")) == 100
    assert (value("abstract.images_train"), value("data.slices_train")) == (9652, 9852), "printed twice, otherwise"
    assert value("abstract.images_test") == value("data.slices_test") == 1283
    assert (value("fig4.age"), value("survey.sets"), value("table1.p")) == (69, 36, 1e-4)
    assert value("regions.count") * value("regions.pixels") > 128 * 128, "regions overlap"


@pytest.mark.parametrize(
    "claim", [c for c in PAPER.claim if None not in [PAPER.ids[i].value for i in c.ids]], ids=lambda c: c.id,
)
def test_claims_hold_for_the_numbers_as_printed(claim):
    values = [PAPER.ids[i].value for i in claim.ids] + ([0.0] if claim.kind == "sign" else [])
    rising = claim.direction in ("ascending", "less")
    assert all((a < b) == rising and a != b for a, b in pairwise(values))


def test_the_full_system_meets_every_other_and_every_component_the_baseline():
    best = {name.removeprefix("best.") for name in CLAIMS if name.startswith("best.")}
    improves = {name.removeprefix("improves.") for name in CLAIMS if name.startswith("improves.")}
    assert best == set(TABLE) - {"p_c_t"} and improves == set(TABLE) - {"p_c_t", "caae"}
    assert all(CLAIMS[f"best.{k}"].ids[0] == "daninet.table1.ssim.p_c_t" for k in best)
    assert all(CLAIMS[f"improves.{k}"].ids[1] == "daninet.table1.ssim.caae" for k in improves)


def test_claims_of_ours_say_so():
    ours = {name for name, c in CLAIMS.items() if c.note.startswith("Not a claim of the paper")}
    forecasts = {f"{measure}_vs_{control}" for measure in ("ssim", "ssim_brain") for control in CONTROLS}
    assert ours == forecasts | {"svr_vs_constant.monotone", "svr_vs_constant.unbiased"}
    assert all("automated" in c.note for name, c in CLAIMS.items() if name.startswith("observer."))


def test_a_run_in_which_transfer_does_it_all_but_beats_no_copy():
    """Twelve people: T adds .16, P and C .02 each, and the input itself is nearer than any simulation."""
    def per_person(mean: float, step: int) -> dict[str, float]:
        return {f"s{k}": mean + 0.002 * ((k * step) % 12 - 5.5) for k in range(12)}

    adds = {"t": 0.16, "p": 0.02, "c": 0.02}
    means = {f"table1.ssim.{key}": 0.43 + sum(adds[p] for p in parts(key)) for key in TABLE}
    means |= {"table1.ssim.copy": 0.7} | {f"table1.gain.{k}": gain for k, gain in adds.items()}
    seen = {f"daninet.{i}": per_person(mean, 1 + 2 * (k % 3)) for k, (i, mean) in enumerate(means.items())}
    observed = {i: Observation(i, sum(v.values()) / 12, n=12, per_subject=v) for i, v in seen.items()}
    reasons = [{"prefix": "daninet.fig4", "reason": "no simulation here"}]
    verdicts = {c.id.removeprefix("daninet.claim."): c.verdict for c in judge(PAPER, observed, not_run=reasons).claims}
    reproduced = [f"best.{k}" for k in TABLE if k != "p_c_t"] + ["transfer_most.p", "transfer_most.c", "contributes.p"]
    assert {verdicts[name] for name in reproduced} == {"reproduced"}
    assert verdicts["ssim_vs_copy"] == "contradicted"
    assert verdicts["expansion"] == "not run: no simulation here"


SETTINGS = {n.id.removeprefix("daninet.settings."): n for n in PAPER.number if n.id.startswith("daninet.settings.")}


def test_settings_as_printed():
    found = {name: n.value for name, n in SETTINGS.items()}
    assert found == {
        "ages": 10, "diagnoses": 3, "latent": 200, "size": 128, "rate": 2e-4, "beta1": 0.5, "batch": 100,
        "epochs": 3000, "transfer_steps": 200, "weight.latent": 3e-4, "weight.image": 3e-4, "weight.voxel": 3e-4,
        "weight.region": 3e-4, "weight.deformation": 0.2,
    }
    assert all(n.comparable and n.tolerance == 0 for n in SETTINGS.values())
    assert PAPER.ids["daninet.regions.count"].comparable
