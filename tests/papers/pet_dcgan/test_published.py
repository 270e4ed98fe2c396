"""The ledger of the PET DCGAN: the few numbers of the text, every claim made of them, and the controls it lacks."""

from __future__ import annotations

from itertools import pairwise

import pytest

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Observation
from nbkit.claims.verdicts import judge

PAPER = load_paper("islam2020_pet")
CLAIMS = {c.id.removeprefix("islam2020.claim."): c for c in PAPER.claim}
STAGES, VIEWS = ("cn", "mci", "ad"), ("axial", "coronal", "sagittal")


def value(id: str) -> float | None:
    return PAPER.ids[f"islam2020.{id}"].value


def test_the_numbers_of_the_text():
    assert (value("text.psnr"), value("text.ssim"), value("text.accuracy.synthetic")) == (32.83, 0.7748, 71.45)
    assert "77.48" in PAPER.ids["islam2020.text.ssim"].note
    assert [value(f"settings.{k}") for k in ("latent", "size", "channels", "batch", "epochs")] == [100, 128, 3, 64, 500]
    assert [value(f"settings.{k}") for k in ("rate", "beta1", "beta2", "leak", "init_sd")] == [1e-4, .5, .999, .2, .02]
    assert [value(f"data.age_{k}") for k in ("min", "max")] == [55, 92]


def test_the_groups_add_up_to_the_scans_and_the_gain_to_the_accuracies():
    assert sum(value(f"data.{k}") for k in ("ad", "nc", "mci")) == value("data.scans") == 411 < value("data.patients")
    gain = value("text.accuracy.synthetic") - value("text.accuracy.real")
    assert gain == pytest.approx(value("text.accuracy.gain")) and "derived" in PAPER.ids[
        "islam2020.text.accuracy.real"].note
    majority = value("data.nc") / (value("data.nc") + value("data.ad"))
    assert 100 * majority < value("text.accuracy.real"), "above the larger of the two groups"


def test_every_unpaired_number_stands_beside_that_of_real_images():
    for measure in ("psnr", "ssim"):
        for which in ("random", "nearest"):
            assert all(value(f"quality.{measure}.{which}.{kind}.{s}") is None
                       for kind in ("generated", "real") for s in STAGES)
    for control in ("frechet.real", "coverage.real", "density.real", "memorisation.expected", "stage.distance.other"):
        assert all(value(f"{control}.{s}") is None for s in STAGES)
    for generator in ("separate", "conditional", "volume"):
        assert value(f"generators.frechet.{generator}") is None


@pytest.mark.parametrize(
    "claim", [c for c in PAPER.claim if None not in [PAPER.ids[i].value for i in c.ids]], ids=lambda c: c.id,
)
def test_claims_hold_for_the_numbers_as_printed(claim):
    values = [PAPER.ids[i].value for i in claim.ids]
    rising = claim.direction in ("ascending", "less")
    assert all((a < b) == rising and a != b for a, b in pairwise(values))


def test_what_the_paper_claims_and_what_is_ours():
    ours = {name for name, c in CLAIMS.items() if c.note.startswith("Not a claim of the paper")}
    assert ours == {f"augmentation.helps.{v}" for v in VIEWS} | {
        "synthetic_vs_plain", "synthetic_vs_class_mean", "real_vs_chance", "few_people"}
    similar = {f"similar.{m}.{s}" for m in ("ssim", "psnr", "histogram") for s in STAGES}
    assert set(CLAIMS) - ours == similar | {f"stage.{s}" for s in STAGES} | {
        "augmentation.helps", "augmentation.ten_points", "plain_gains_little", "separate_cost", "volume_cost"}
    assert all(CLAIMS[name].margin == 0.05 for name in similar)


def per_person(mean: float, step: int, spread: float = 0.01) -> dict[str, float]:
    return {f"s{k}": mean * (1 + spread * (((k * step) % 12) - 5.5) / 5.5) for k in range(12)}


def verdicts(means: dict[str, float]) -> dict[str, str]:
    seen = {f"islam2020.{i}": per_person(m, 1 + 2 * (k % 3)) for k, (i, m) in enumerate(means.items())}
    observed = {i: Observation(i, sum(v.values()) / 12, n=12, per_subject=v) for i, v in seen.items()}
    found = judge(PAPER, observed, not_run=[{"prefix": "islam2020.augmentation", "reason": "no classifier here"}])
    return {c.id.removeprefix("islam2020.claim."): c.verdict for c in found.claims}


def test_images_a_little_farther_than_real_ones_pass_and_blurred_ones_do_not():
    means = {"quality.ssim.random.real.cn": 0.60, "quality.ssim.random.generated.cn": 0.59,
             "quality.ssim.random.real.ad": 0.60, "quality.ssim.random.generated.ad": 0.52,
             "stage.distance.own.ad": 5.0, "stage.distance.other.ad": 4.0}
    found = verdicts(means)
    assert found["similar.ssim.cn"] == "reproduced" and found["similar.ssim.ad"] == "contradicted"
    assert found["stage.ad"] == "contradicted" and found["few_people"] == "not run: no classifier here"


@pytest.mark.parametrize(("gain", "helps", "ten"), [
    (12.0, "reproduced", "reproduced"), (4.0, "reproduced", "contradicted"), (-3.0, "contradicted", "contradicted"),
])
def test_a_gain_of_a_few_points_helps_but_is_not_ten(gain, helps, ten):
    means = {"text.accuracy.real": 80.0, "text.accuracy.synthetic": 80.0 + gain, "augmentation.ten_points": 90.0}
    found = verdicts(means)
    assert (found["augmentation.helps"], found["augmentation.ten_points"]) == (helps, ten)
