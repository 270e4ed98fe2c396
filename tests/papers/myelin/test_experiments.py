"""Tables and figures of chapter 3 as rows with the ids of the ledger, by hand; and attention saliency maps."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.claims.ledger import load_paper
from nbkit.claims.room import Room
from nbkit.core.checks import NbkitError
from nbkit.core.tidy import by_subject, stacked, tidy, where
from nbkit.core.volume import Volume
from nbkit.metrics.stats import two_sample_p
from nbkit.papers.myelin import experiments, index_experiments
from nbkit.papers.myelin.experiments import attention_saliency, lesion_share
from nbkit.papers.myelin.metrics import ControlNorm, MyelinScore
from nbkit.papers.myelin.synthesis import Config, MyelinSynthesizer
from nbkit.papers.synthesis.room import ROLES
from tests.papers.myelin.change_toy import change_cohort
from tests.papers.myelin.myelin_toy import toy_cohort

LEDGER = load_paper("wei2019_myelin").ids
SYSTEMS = ("dnn", "unet", "cgan", "refiner", "refiner2", "mtr", "mtr_rd", "linear")
PATIENTS, CONTROLS = ("ms1", "ms2", "ms3"), ("hc1", "hc2")
OF_PATIENTS = ("mean_nawm", "true_mean_nawm", "discrepancy_nawm", "mean_lesions", "true_mean_lesions",
               "discrepancy_lesions", "mae_lesions", "percent", "true_percent", "dice_demyelinated", "dice_chance")
OF_CONTROLS = ("mean_wm_hc", "true_mean_wm_hc", "discrepancy_wm_hc")


def value(system: str, metric: str, subject: str) -> float:
    """What a system scored; what is true depends on no system."""
    of_system = 0 if metric.startswith("true_") else SYSTEMS.index(system)
    return 1 + of_system + (len(metric) % 7) / 10 + int(subject[-1]) ** 2 / 100


@pytest.fixture(scope="module")
def scores():
    people = {metric: PATIENTS for metric in OF_PATIENTS} | {metric: CONTROLS for metric in OF_CONTROLS}
    people |= dict.fromkeys(("mse", "psnr", "mse_brain"), PATIENTS + CONTROLS)
    return stacked(*(
        tidy({s: value(system, metric, s) for s in who}, system=system, metric=metric, fold="fold1")
        for system in SYSTEMS for metric, who in people.items()
    ))


def test_tables_have_the_ids_and_units_of_the_ledger(scores):
    main = scores[scores["system"].isin(SYSTEMS[:4])]
    quality, regions = experiments.image_quality(main), experiments.region_errors(main)
    sets = experiments.contrast_sets(scores)
    assert set(stacked(quality, regions, sets)["id"]) <= LEDGER.keys()
    assert by_subject(quality, id="wei2019m.table3_1.psnr.unet") == {
        s: value("unet", "psnr", s) for s in PATIENTS + CONTROLS}
    assert set(zip(quality["metric"], quality["unit"])) == {("mse", "DVR²"), ("psnr", "dB"), ("mse_brain", "DVR²")}
    assert set(regions["unit"]) == {"DVR"} and len(regions) == 4 * (2 + 3 + 3 + 3)
    assert by_subject(sets, id="wei2019m.table3_3.gain.fa_ad") == pytest.approx(dict.fromkeys(PATIENTS + CONTROLS, 3))
    assert by_subject(sets, id="wei2019m.table3_4.wm_hc.mtr_dti") == {
        s: value("refiner", "discrepancy_wm_hc", s) for s in CONTROLS}


def test_gains_are_differences_on_the_same_person(scores):
    found = experiments.region_gains(scores)
    assert by_subject(found, id="wei2019m.gain.lesions.dnn") == pytest.approx(dict.fromkeys(PATIENTS, -3))
    assert set(found["metric"]) == {"discrepancy_nawm", "discrepancy_lesions"} and "refiner" not in set(found["system"])


def test_refinements_count_from_the_sketcher_and_gains_are_what_each_takes_away(scores):
    found = experiments.refinements(scores, ("cgan", "refiner", "refiner2"))
    assert set(found["id"]) <= LEDGER.keys()
    values = by_subject(found, id="wei2019m.fig3_5.mse.iteration1")
    assert values == {s: value("refiner", "mse", s) for s in PATIENTS + CONTROLS}
    assert by_subject(found, id="wei2019m.fig3_5.wm_hc.gain12") == pytest.approx(dict.fromkeys(CONTROLS, -1))
    gains = where(found, metric="gain")
    assert set(gains["iteration"]) == {1, 2} and set(found["structure"]) == {"whole image", "wm_hc", "nawm", "lesions"}


def test_means_tests_and_agreement_of_regions(scores):
    means = experiments.region_means(scores, ("refiner", "unet"))
    assert list(means["system"].unique()) == ["truth", "unet", "refiner"]
    tests = experiments.region_tests(means)
    lesions, nawm = ([value("refiner", f"true_mean_{r}", s) for s in PATIENTS] for r in ("lesions", "nawm"))
    p = where(tests, id="wei2019m.fig3_6.p.lesions_vs_nawm.truth")["value"].item()
    assert p == pytest.approx(two_sample_p(lesions, nawm))
    level = np.mean([value("refiner", "mean_wm_hc", s) for s in CONTROLS])
    assert by_subject(tests, id="wei2019m.fig3_6.wm_hc_level.refiner") == pytest.approx(dict.fromkeys(PATIENTS, level))
    found = experiments.agreement(means)
    bias = by_subject(found, id="wei2019m.fig3_7.bias.wm_nawm.unet")
    want = {s: value("unet", f"mean_{r}", s) - value("unet", f"true_mean_{r}", s)
            for r, people in (("wm_hc", CONTROLS), ("nawm", PATIENTS)) for s in people}
    assert bias == pytest.approx(want)
    sizes = by_subject(found, id="wei2019m.fig3_7.abs.wm_nawm.unet")
    assert sizes == pytest.approx({s: abs(v) for s, v in want.items()})
    assert set(stacked(means, tests, found)["id"]) <= LEDGER.keys()


def test_demyelination_has_truth_chance_and_floor_beside_the_systems(scores):
    norm = ControlNorm(np.array([1.0]), np.array([1.0]), np.array([0.1]), 0.17, 3)
    found = experiments.demyelination(scores[scores["system"].isin(SYSTEMS[:4])], norm)
    assert set(found["id"]) <= LEDGER.keys() and found["system"].iloc[0] == "truth"
    assert by_subject(found, id="wei2019m.fig3_8.dice.chance") == {
        s: value("refiner", "dice_chance", s) for s in PATIENTS}
    assert where(found, subject="")[["id", "value", "unit"]].to_numpy().tolist() == [
        ["wei2019m.fig3_8.chance_floor", 17.0, "%"]]
    ends = experiments.dice_ends(where(found, system="refiner", metric="dice_demyelinated"))
    assert ends == {"highest Dice": "ms3", "lowest Dice": "ms1"}


def test_alternatives_are_paired_with_their_base(scores):
    moved = experiments.alternatives(scores, {"mtr": "refiner", "unet": "dnn"})
    assert where(moved, system="unet")["value"].to_numpy() == pytest.approx(1) and set(moved["id"]) == {""}
    assert set(zip(moved["metric"], moved["unit"])) == {("mse", "DVR²"), ("discrepancy_lesions", "DVR")}


def test_facts_of_the_cohort_and_who_has_most_lesion(cohort):
    people = change_cohort()
    found = experiments.cohort_facts(people)
    assert set(found["id"]) <= LEDGER.keys()
    assert all(any(i.startswith(start) for i in LEDGER) for start in experiments.UNANSWERED)
    assert where(found, id="wei2019m.data.controls")["value"].item() == 3
    assert by_subject(found, id="wei2019m.data.age.hc") == {"hc0": 30, "hc1": 30, "hc2": 30}
    sizes = [int(s.baseline.mask("lesions").data.sum()) for s in experiments.most_lesion_first(cohort)]
    assert len(sizes) == 2 and sizes == sorted(sizes, reverse=True)


def test_rooms_are_of_ids_that_the_ledger_has_with_a_role_each():
    values = {"mean": 3.0, "linear": 2.0, "person": 1.5, "reach": 1.0, "reach_tenfold": 0.9, "floor": 0.5}
    metrics = ("mse", "psnr", "discrepancy_wm_hc", "discrepancy_nawm", "discrepancy_lesions", "dice_demyelinated")
    ends = pd.concat([tidy({f"{m} a": v, f"{m} b": v}, system=s, metric=m, role=ROLES[s])
                      for m in metrics for s, v in values.items()])
    for ledger, chapter in (("wei2019_myelin", None), ("wei2020_cfsagan", index_experiments.ROOMS)):
        paper = load_paper(ledger)
        found = experiments.rooms(ends, chapter) if chapter else experiments.rooms(ends)
        assert len(found) == len(chapter or metrics) + (not chapter), "and controls and patients together"
        for rows, measure in found:
            room = Room.of_frame(rows, **measure)
            assert (room.mean, room.reach) == (3.0, 0.9 if measure["better"] == "lower" else 1.0)
            assert set(rows["id"]) <= paper.ids.keys(), measure
            assert all(any(i.startswith(start) for i in paper.ids) for start in measure["of"])
    assert experiments.rooms(ends[ends["system"] != "linear"]) == [], "without a control nothing is decided"


def test_sizes_say_what_small_profiles_change():
    table = experiments.sizes_table({"published": Config.named("refiner"), "smoke": Config.named("refiner", "smoke")})
    assert table["published"].tolist() == [
        "32", "a whole image", "400 × all", "0.0001, 5e-05", "instance", "0.5", "leaky", "sum", "image"]
    assert table["smoke"].tolist() == [
        "4", "a crop of 16×16×16", "9", "0.003, 0.003", "none", "0", "linear", "mean", "brain"]


class Answers:
    """A result whose model adds up how many contrasts it was given."""

    def model_for(self, subject):
        """Itself."""
        return self

    def synthesize(self, images, *, mask):
        """One level everywhere."""
        return mask.with_data(torch.full(mask.data.shape, float(len(images))))


def test_each_contrast_is_left_out_in_turn():
    people = change_cohort()
    found = experiments.missing_contrast(Answers(), people, ["ms01", "hc0"], ("DVR",), MyelinScore(people))
    truth = people.subject("hc0").baseline.image("DVR").data
    assert found["setting"].tolist() == ["without DVR"] * 2 + ["with all"] * 2
    assert by_subject(found, setting="without DVR")["hc0"] == pytest.approx(float(truth.square().mean()))
    assert by_subject(found, setting="with all")["hc0"] == pytest.approx(float((truth - 1).square().mean()))


def test_shares_stand_beside_those_of_the_voxels_where_there_is_such_a_region(cohort):
    people = cohort.subjects
    even = {s.id: s.baseline.mask("brain").with_data(s.baseline.mask("brain").data.float()) for s in people}
    found = experiments.saliency_shares({"l1": even}, people)
    assert set(found["structure"]) == {"lesions"} and set(found["id"]) == {"", "wei2019m.fig3_9.share.lesions.l1"}
    assert by_subject(found, system="l1") == pytest.approx(by_subject(found, system="voxels"))
    assert set(found["subject"]) == {s.id for s in people if s.diagnosis == "MS"}


FAST = {"slim": 8, "levels": 2, "crop": (12, 12, 12), "patch": (4, 4, 4), "critic_widths": (16, 32), "epochs": 2,
        "crops_per_epoch": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def cohort():
    return toy_cohort(3)


def fitted(cohort, name, tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path))
    return MyelinSynthesizer(Config.named(name, "smoke", **FAST)).fit(cohort)


class Known:
    """Loss = Σ weight · channel², so that the slope is 2 · weight · channel."""

    config = SimpleNamespace(inputs=("MTR", "RD"))

    def __init__(self, inputs):
        self.inputs = inputs

    def example(self, scan):
        return SimpleNamespace(inputs=self.inputs)

    def loss(self, inputs, example):
        return (torch.tensor([1.0, 3.0, 100.0])[:, None, None, None] * inputs.square()).flatten(1).sum(1)


def test_a_known_loss_gives_its_slope_at_the_strongest_contrast(cohort):
    scan = cohort.subjects[1].baseline
    inside = scan.mask("brain").data[0].nonzero()
    box = tuple((inside.amax(0) - inside.amin(0) + 1).tolist())
    channels = torch.randn(3, *box, generator=torch.Generator().manual_seed(1))
    out = attention_saliency(Known(channels), scan)
    values = out.data[0][scan.mask("brain").data[0]]
    expected = torch.maximum(2 * channels[0].abs(), 6 * channels[1].abs())  # the third channel is no contrast
    torch.testing.assert_close(values, expected.flatten())
    assert not out.data[~scan.mask("brain").data].any()


@pytest.mark.parametrize("name", ["unet_w", "refiner"])
def test_equals_finite_differences_through_all_stages(cohort, name, tmp_path, monkeypatch):
    model, scan = fitted(cohort, name, tmp_path, monkeypatch), cohort.subjects[1].baseline
    model.net.double()
    example = model.example(scan)
    example = type(example)(*(t.double() if t.is_floating_point() else t for t in (
        example.inputs, example.target, example.mask)))
    monkeypatch.setattr("nbkit.losses.regions.torch.Tensor.float", lambda t: t.double())
    place, step, slopes = (7, 8, 6), 1e-5, []
    for channel in range(4):
        losses = []
        for sign in (1, -1):
            moved = example.inputs[None].clone()
            moved[(0, channel, *place)] += sign * step
            losses.append(float(model.loss(moved, example).detach()))
        slopes.append(abs(losses[0] - losses[1]) / (2 * step))
    model.example = lambda scan: example
    out = attention_saliency(model, scan)
    corner = scan.mask("brain").data[0].nonzero().amin(0)
    value = float(out.data[(0, *(int(c) + p for c, p in zip(corner, place)))])
    assert value == pytest.approx(max(slopes), rel=1e-3) and float(out.data.min()) >= 0


def test_share_inside_lesions_by_hand():
    affine = np.eye(4)
    saliency = Volume(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 2, 2, 1), affine)
    lesions = Volume(torch.tensor([True, False, True, False]).view(1, 2, 2, 1), affine)
    assert lesion_share(saliency, lesions) == pytest.approx(0.4)
    nothing = lesions.with_data(torch.zeros_like(lesions.data))
    assert math.isnan(lesion_share(saliency, nothing))
    assert math.isnan(lesion_share(saliency.with_data(saliency.data * 0), lesions))
    with pytest.raises(NbkitError, match="saliency and lesions"):
        lesion_share(saliency, Volume(lesions.data, 2 * np.eye(4)))
