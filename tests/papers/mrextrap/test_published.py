"""The ledger of MRExtrap: no printed number but the counts, every claim with its control."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Observation
from nbkit.claims.verdicts import judge

PAPER = load_paper("mrextrap")
CLAIMS = {c.id.removeprefix("mrextrap.claim."): c for c in PAPER.claim}
STRUCTURES = ("ventricle", "hippocampus", "grey", "white")


def observed(id: str, values: np.ndarray) -> Observation:
    by_subject = {f"s{k}": float(v) for k, v in enumerate(values)}
    return Observation(id, float(values.mean()), n=values.size, per_subject=by_subject)


def verdicts(values: dict[str, np.ndarray], reasons=()) -> dict[str, str]:
    """Verdict of each claim on values per subject, by id without the paper's prefix."""
    card = judge(PAPER, {f"mrextrap.{i}": observed(f"mrextrap.{i}", v) for i, v in values.items()}, not_run=reasons)
    return {c.id.removeprefix("mrextrap.claim."): c.verdict for c in card.claims}


def test_only_counts_and_settings_are_printed():
    printed = {n.id: n.value for n in PAPER.number if n.value is not None}
    assert printed == {
        "mrextrap.data.scans": 9200, "mrextrap.data.people": 1700, "mrextrap.data.training_people": 1500,
        "mrextrap.settings.beta1": 1, "mrextrap.settings.beta2": 1e-3, "mrextrap.settings.beta3": 1e-6,
        "mrextrap.settings.epochs": 230, "mrextrap.settings.adversarial_from": 100,
        "mrextrap.settings.latent_channels": 4,
    }


@pytest.mark.parametrize("structure", STRUCTURES)
def test_what_the_figures_claim_is_there_with_its_control(structure):
    figures = ("linear", "follows", "more_scans", "competitive_with_daninet")
    for claim in (*figures, "straight", "straighter_than_averages"):
        assert f"{claim}.{structure}" in CLAIMS
    scans = CLAIMS[f"more_scans.{structure}"]
    assert [i.rpartition(".")[2] for i in scans.ids] == ["k2", "k3", "k4"] and scans.direction == "descending"
    assert all(".latest." in i for i in scans.ids), "the same years to go, however many scans"


def test_claims_of_ours_say_so():
    ours = {"straight", "straighter_than_averages", "covers", "bayes_vs_ols", "ols_vs_pixel_ols", "ols_vs_no_change",
            "ols_vs_population", "bayes_vs_no_change", "bayes_vs_population", "aligns_vs_no_change"}
    found = {name.split(".")[0] for name, c in CLAIMS.items() if c.note.startswith("Not a claim of the paper")}
    assert found == ours


def test_coverage_is_asked_for_within_five_points():
    for level in (50, 80, 95):
        claim = CLAIMS[f"covers.{level}"]
        assert claim.kind == "equivalence" and claim.margin * level == pytest.approx(5, abs=0.01)


def test_a_straight_line_is_reproduced_and_a_bent_one_contradicted():
    sizes = np.linspace(6000, 9000, 12)
    middle = {"fig1d.hippocampus.chord": sizes, "fig1d.hippocampus.mean": sizes}
    wobble = 1 + 0.001 * np.sin(np.arange(12))
    assert verdicts(middle | {"fig1d.hippocampus.middle": sizes * wobble})["straight.hippocampus"] == "reproduced"
    off = verdicts(middle | {"fig1d.hippocampus.middle": sizes * wobble * 1.03})
    assert off["linear.hippocampus"] == "contradicted"


def test_what_is_said_of_pictures_can_fail():
    own, wobble = np.linspace(0.8, 0.9, 12), 0.001 * np.cos(np.arange(12))
    for off, morphology, aligned in ((0.1, "reproduced", "contradicted"), (-0.1, "contradicted", "reproduced")):
        found = verdicts({"fig1c.likeness.own": own, "fig1c.likeness.other": own - off + wobble,
                          "held_out.ssim.ols": own - off + wobble, "held_out.ssim.reconstruction": own})
        assert (found["keeps_morphology"], found["aligns_with_held_out"]) == (morphology, aligned)
    bent = np.array([0.0, 1.0] * 6)
    assert verdicts({"fig1d.bent": bent})["not_all_linear"] == "reproduced"
    assert verdicts({"fig1d.bent": 0 * bent})["not_all_linear"] == "inconclusive"


def test_fewer_errors_with_more_scans():
    base = np.linspace(2, 3, 12)
    falling = {f"fig2c.ventricle.latest.ols.k{k}": base / k * (1 + 0.01 * np.cos(np.arange(12) * k)) for k in (2, 3, 4)}
    assert verdicts(falling)["more_scans.ventricle"] == "reproduced"
    rising = dict(zip(falling, [*falling.values()][::-1], strict=True))
    assert verdicts(rising)["more_scans.ventricle"] == "contradicted"


def test_daninet_is_not_run_with_its_reason():
    reasons = [{"prefix": "mrextrap.fig2c.ventricle.daninet", "reason": "not here yet"}]
    found = verdicts({"fig2c.ventricle.latest.ols.k3": np.ones(9)}, reasons)
    assert found["competitive_with_daninet.ventricle"] == "not run: not here yet"
