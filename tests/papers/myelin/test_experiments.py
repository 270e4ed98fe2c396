"""Scores of a predicted DVR map: perfect is perfect, regions go with the diagnosis, change needs two scans."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.papers.myelin import experiments as evaluation
from nbkit.papers.myelin.experiments import MyelinScore

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (14, 15, 12)
X, Y, Z = torch.meshgrid(*map(torch.arange, SHAPE), indexing="ij")
BRAIN = (X > 0) & (X < 13) & (Y > 0) & (Y < 14) & (Z > 0) & (Z < 11)
WHITE, LESIONS = BRAIN & (X >= 4), (X >= 6) & (X <= 9) & (Y >= 5) & (Y <= 8) & (Z >= 4) & (Z <= 7)
HEALTHY, LOST = 1.2, 0.8


def scan(name: str, session: str, sick: torch.Tensor | None) -> Scan:
    """White matter around 1.2, the voxels `sick` of the lesions at 0.8, CSF 0.5; `sick` None for a control."""
    noise = 0.05 * torch.randn(SHAPE, generator=torch_generator(3, name, session))
    dvr = torch.where(WHITE, HEALTHY + noise.clamp(-0.1, 0.1), 0.5)
    lesions = torch.zeros_like(BRAIN)
    if sick is not None:
        lesions, dvr = LESIONS, torch.where(LESIONS, torch.where(sick, LOST, HEALTHY), dvr)
    masks = {"brain": BRAIN, "csf": BRAIN & (X <= 2), "wm": WHITE, "lesions": lesions, "nawm": WHITE & ~lesions}
    images = {"DVR": Volume(dvr * BRAIN, AFFINE)}
    age = {"t0": 30.0, "t1": 30.25}[session]
    return Scan(name, session, age, images, {k: Volume(m, AFFINE) for k, m in masks.items()})


def patient(i: int, *, seen_again: bool = True) -> Subject:
    """Patient i: of 64 lesion voxels 16 + 4i are demyelinated at t0; 8 of them recover, 2i others are lost."""
    order = torch.full(SHAPE, -1)
    order[LESIONS] = torch.arange(64)
    before = (order >= 0) & (order < 16 + 4 * i)
    after = (before & (order >= 8)) | ((order >= 50) & (order < 50 + 2 * i))
    name = f"ms{i:02}"
    scans = (scan(name, "t0", before), *([scan(name, "t1", after)] if seen_again else []))
    facts = {"age": 30.0 + 1.3 * (i % 5), "edss": 1.0 + 0.5 * i, "t2_load_ml": 4.0 + (i * i) % 7}
    return Subject(name, "FM"[i % 3 == 0], "MS", scans, facts)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    controls = tuple(Subject(f"hc{i}", "F", "HC", (scan(f"hc{i}", "t0", None),)) for i in range(3))
    return Cohort("toy", (*(patient(i, seen_again=i != 2) for i in range(1, 8)), *controls), "embedded")


@pytest.fixture(scope="module")
def score(cohort) -> MyelinScore:
    return MyelinScore(cohort)


def truths(cohort: Cohort, session: int) -> dict[str, Volume]:
    return {s.id: s.scans[session].image("DVR") for s in cohort if s.diagnosis == "MS" and len(s.scans) > session}


def test_the_truth_scores_perfectly(cohort, score):
    s = cohort.subject("ms03")
    found = score(s, s.baseline.image("DVR"))
    zero = ("mse", "mse_brain", "discrepancy_nawm", "discrepancy_lesions", "mae_lesions")
    assert [found[k] for k in zero] == [0] * 5 and found["psnr"] == math.inf
    assert found["dice_demyelinated"] == 1 and found["percent"] == found["true_percent"] == pytest.approx(100 * 28 / 64)


def test_errors_count_every_voxel_of_the_image_and_the_peak_is_that_of_the_true_one(cohort, score):
    s = cohort.subject("ms01")
    truth = s.baseline.image("DVR")
    g = torch.Generator().manual_seed(1)
    guess = truth.with_data(truth.data + 0.1 * torch.randn(truth.data.shape, generator=g))
    found = score(s, guess)
    a, b = (v.data[0].double().numpy() for v in (truth, guess))
    assert found["mse"] == pytest.approx(((a - b) ** 2).mean())
    assert found["mse_brain"] == pytest.approx(((a - b)[BRAIN] ** 2).mean())
    assert found["psnr"] == pytest.approx(peak_signal_noise_ratio(a, b, data_range=a.max()))


def test_regions_of_a_patient_and_of_a_control(cohort, score):
    sick, healthy = cohort.subject("ms01"), cohort.subject("hc1")
    guess = {s.id: s.baseline.image("DVR").with_data(s.baseline.image("DVR").data - 0.03) for s in (sick, healthy)}
    of_sick, of_healthy = score(sick, guess["ms01"]), score(healthy, guess["hc1"])
    undefined = {"wm_hc": of_sick, "nawm": of_healthy, "lesions": of_healthy}
    assert all(math.isnan(found[f"{kind}_{region}"]) for region, found in undefined.items()
               for kind in ("mean", "true_mean", "discrepancy"))
    assert all(math.isnan(of_healthy[k]) for k in ("mae_lesions", "percent", "true_percent", "dice_demyelinated"))
    for region, found in (("wm_hc", of_healthy), ("nawm", of_sick), ("lesions", of_sick)):
        assert found[f"discrepancy_{region}"] == pytest.approx(0.03, abs=1e-6)
        assert found[f"true_mean_{region}"] - found[f"mean_{region}"] == pytest.approx(0.03, abs=1e-6)
    assert of_sick["true_mean_lesions"] == pytest.approx((20 * LOST + 44 * HEALTHY) / 64)
    assert list(of_sick) == list(of_healthy), "cross-validation takes the metrics of the first subject"


def test_errors_inside_lesions_cancel_in_the_mean_but_not_by_voxel(cohort, score):
    s = cohort.subject("ms01")
    truth = s.baseline.image("DVR")
    sign = torch.where((X + Y + Z) % 2 == 0, 0.1, -0.1) * LESIONS
    found = score(s, truth.with_data(truth.data + sign))
    assert found["discrepancy_lesions"] == pytest.approx(0, abs=1e-6)
    assert found["mae_lesions"] == pytest.approx(0.1, abs=1e-6)


def test_a_map_without_demyelination_has_no_overlap_and_another_scan_can_be_scored(cohort, score):
    s = cohort.subject("ms03")
    normal = s.baseline.image("DVR")
    normal = normal.with_data(torch.where(LESIONS, HEALTHY, normal.data))
    found = score(s, normal)
    assert (found["percent"], found["dice_demyelinated"]) == (0, 0)
    later = score(s, s.scans[1].image("DVR"), s.scans[1])
    assert later["mse"] == 0 and later["true_percent"] == pytest.approx(100 * 26 / 64)


def test_the_name_of_a_score_tells_its_norm(cohort, score):
    other = cohort.subset([i for i in cohort.ids if i != "hc0"])
    assert MyelinScore(cohort).__qualname__ == score.__qualname__ != MyelinScore(other).__qualname__
    assert score.norm.n == 3 and 0.05 < score.norm.chance_floor < 0.3
    with pytest.raises(NbkitError, match="at least one control, found none"):
        MyelinScore(cohort.subset(["ms01"]))
    with pytest.raises(NbkitError, match="ms01: prediction and true DVR"):
        score(cohort.subject("ms01"), Volume(torch.zeros(4, 4, 4)))


def test_indices_of_true_pet_by_hand(cohort):
    table = evaluation.indices(cohort).set_index("subject")
    assert list(table.index) == [f"ms{i:02}" for i in range(1, 8)]
    for i in (1, 3, 4, 5, 6, 7):
        sick = 16 + 4 * i
        want = {"percent_t0": 100 * sick / 64, "percent_t1": 100 * (sick - 8 + 2 * i) / 64,
                "global_change": (2 * i - 8) / 64,
                "dynamic_demyelination": 2 * i / 64, "dynamic_demyelination_normal": 2 * i / (64 - sick),
                "dynamic_remyelination": 8 / 64, "dynamic_remyelination_demyelinated": 8 / sick}
        assert table.loc[f"ms{i:02}"].to_dict() == pytest.approx(want)


def test_a_patient_without_a_second_scan_has_a_baseline_and_no_change(cohort):
    row = evaluation.indices(cohort).set_index("subject").loc["ms02"]
    assert row["percent_t0"] == 100 * 24 / 64 and row.drop("percent_t0").isna().all()
    agreement = evaluation.map_agreement(cohort, truths(cohort, 0), truths(cohort, 1)).set_index("subject")
    assert agreement.loc["ms02", "dice_t0"] == 1 and agreement.loc["ms02"].isna().sum() == 6
    assert agreement.loc["ms02", "chance_t0"] == 24 / 64


def test_predictions_replace_true_pet_but_not_the_threshold(cohort):
    first, second = truths(cohort, 0), truths(cohort, 1)
    assert evaluation.indices(cohort, first, second).equals(evaluation.indices(cohort))
    swapped = evaluation.indices(cohort, second, {i: first[i] for i in second}).set_index("subject")
    true = evaluation.indices(cohort).set_index("subject").loc[list(second)]
    assert "ms02" not in swapped.index
    assert swapped["global_change"].to_numpy() == pytest.approx(-true["global_change"].to_numpy())
    assert swapped["dynamic_remyelination"].to_numpy() == pytest.approx(true["dynamic_demyelination"].to_numpy())
    darker = {i: v.with_data(v.data - 0.5) for i, v in first.items()}
    assert (evaluation.indices(cohort, darker, {})["percent_t0"] == 100).all()


def test_agreement_of_maps_by_hand(cohort):
    """Predicting that nothing changes: t1 is read as t0, so there is no dynamic voxel to agree on."""
    first = truths(cohort, 0)
    table = evaluation.map_agreement(cohort, first, {i: first[i] for i in truths(cohort, 1)}).set_index("subject")
    for i in (1, 5):
        sick, later = 16 + 4 * i, 8 + 6 * i
        shared = sick - 8
        assert table.loc[f"ms{i:02}", "dice_t1"] == pytest.approx(2 * shared / (sick + later))
        assert table.loc[f"ms{i:02}", ["dice_demyelinating", "dice_remyelinating"]].tolist() == [0, 0]
        p, q = later / 64, sick / 64
        assert table.loc[f"ms{i:02}", "chance_t1"] == pytest.approx(2 * p * q / (p + q))
    assert (table["dice_t0"] == 1).all() and (table["chance_remyelinating"].dropna() == 0).all()


def test_chance_is_what_random_maps_reach():
    rng = np.random.default_rng(5)
    a, b = rng.random((2000, 64)) < 0.5, rng.random((2000, 64)) < 0.25
    drawn = 2 * (a & b).sum() / (a.sum() + b.sum())
    assert evaluation.chance_dice(0.5, 0.25) == pytest.approx(drawn, abs=0.01)
    assert math.isnan(evaluation.chance_dice(0.0, 0.0))


def test_swapped_time_points_are_refused_by_age(cohort):
    s = cohort.subject("ms03")
    swapped = replace(s, scans=(replace(s.scans[0], age=30.25), replace(s.scans[1], age=30.0)))
    wrong = replace(cohort, subjects=(swapped, *cohort.subjects[-3:]))
    with pytest.raises(NbkitError, match="ms03: t0 and t1: expected a second scan at a later age"):
        evaluation.indices(wrong)


def test_unknown_subjects_and_a_cohort_without_patients_are_refused(cohort):
    with pytest.raises(NbkitError, match="courses: predictions_t0.*Did you mean 'ms03'"):
        evaluation.indices(cohort, {"ms3": cohort.subject("ms03").baseline.image("DVR")})
    with pytest.raises(NbkitError, match="at least one patient with lesions, found none"):
        evaluation.indices(cohort.subset(["hc0", "hc1"]))


def test_edss_follows_the_index_it_was_made_from(cohort):
    table = evaluation.indices(cohort)
    change = dict(zip(table["subject"], table["global_change"], strict=True))
    people = [s if math.isnan(change.get(s.id, math.nan)) else replace(
        s, covariates={**s.covariates, "edss": 3 - 20 * change[s.id] + 0.1 * s.covariates["age"]}) for s in cohort]
    found = evaluation.edss_regression(replace(cohort, subjects=tuple(people)), table, "global_change")
    want = {"index": -0.2, "age": 0.1, "sex": 0, "t2_load": 0}
    assert found["coefficient"].to_dict() == pytest.approx(want, abs=1e-9)
    assert list(found["n"]) == [6] * 4
    with pytest.raises(NbkitError, match="Did you mean 'dynamic_remyelination'"):
        evaluation.edss_regression(cohort, table, "remyelination")
    bare = replace(cohort, subjects=tuple(replace(s, covariates={}) for s in cohort))
    with pytest.raises(NbkitError, match="edss_regression: age: expected a value for every patient, found none for"):
        evaluation.edss_regression(bare, table, "global_change")
    unknown = replace(cohort, subjects=tuple(replace(s, sex=None) for s in cohort))
    with pytest.raises(NbkitError, match="edss_regression: sex: expected a value for every patient"):
        evaluation.edss_regression(unknown, table, "global_change")


def test_pseudovalues_estimate_beta_and_have_its_standard_error(cohort):
    """On many people the jackknife agrees with least squares, whose errors here have one variance."""
    rng = np.random.default_rng(8)
    index, age = rng.normal(0.1, 0.04, 120), rng.normal(32, 6, 120)
    load, noise = rng.lognormal(1.5, 0.5, 120), rng.normal(0, 1, 120)
    scans = (scan("x", "t0", None),)
    facts = [{"age": age[i], "t2_load_ml": load[i], "edss": 4 - 20 * index[i] + noise[i]} for i in range(120)]
    people = (Subject(f"p{i}", "FM"[i % 2], "MS", scans, f) for i, f in enumerate(facts))
    many = Cohort("many", tuple(people), "embedded")
    table = pd.DataFrame({"subject": many.ids, "dynamic_remyelination": index})
    fit = evaluation.edss_regression(many, table, "dynamic_remyelination").loc["index"]
    values = np.array(list(evaluation.edss_pseudovalues(many, table, "dynamic_remyelination").values()))
    assert values.mean() == pytest.approx(fit["beta"], abs=0.01) and fit["beta"] < -0.4
    slope = values.std(ddof=1) / np.sqrt(120)
    assert slope == pytest.approx(abs(fit["beta"] / fit["t"]), rel=0.25)
