"""Scores of a predicted DVR map: perfect is perfect, and regions go with the diagnosis."""

from __future__ import annotations

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.papers.myelin.metrics import MyelinScore
from tests.papers.myelin.change_toy import BRAIN, HEALTHY, LESIONS, LOST, X, Y, Z, change_cohort


@pytest.fixture(scope="module")
def cohort():
    return change_cohort()


@pytest.fixture(scope="module")
def score(cohort):
    return MyelinScore(cohort)


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


def test_a_persons_own_scale_and_offset_are_taken_out_of_own_errors_only(cohort, score):
    s = cohort.subject("ms01")
    truth = s.baseline.image("DVR")
    found = score(s, truth.with_data(0.5 * truth.data + 0.2))
    own = ("mse_brain_own", "discrepancy_nawm_own", "discrepancy_lesions_own")
    assert [found[k] for k in own] == pytest.approx([0] * 3, abs=1e-6)
    assert found["mse_brain"] > 1e-3 < found["discrepancy_lesions"] and math.isnan(found["discrepancy_wm_hc_own"])
    assert found["sharpness"] == pytest.approx(0.25)


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


def test_a_map_without_demyelination_has_no_overlap(cohort, score):
    s = cohort.subject("ms03")
    normal = s.baseline.image("DVR")
    normal = normal.with_data(torch.where(LESIONS, HEALTHY, normal.data))
    found = score(s, normal)
    assert (found["percent"], found["dice_demyelinated"]) == (0, 0)


def test_the_name_of_a_score_tells_its_norm(cohort, score):
    other = cohort.subset([i for i in cohort.ids if i != "hc0"])
    assert MyelinScore(cohort).__qualname__ == score.__qualname__ != MyelinScore(other).__qualname__
    assert score.norm.n == 3 and 0.05 < score.norm.chance_floor < 0.3
    with pytest.raises(NbkitError, match="at least one control, found none"):
        MyelinScore(cohort.subset(["ms01"]))
    with pytest.raises(NbkitError, match="ms01: prediction and true DVR"):
        score(cohort.subject("ms01"), Volume(torch.zeros(4, 4, 4)))
