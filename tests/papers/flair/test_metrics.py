"""Scores of a predicted FLAIR: perfect is perfect, units cancel, lesions count."""

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.papers.flair.metrics import FlairScore, contrast_ratios

SHAPE = (1, 20, 18, 16)


def subject(name, lesions=True, gain=1.0):
    g = torch_generator(2, name)
    image = (100 + 10 * torch.randn(SHAPE, generator=g)) * gain
    brain = torch.zeros(SHAPE, dtype=torch.bool)
    brain[:, 2:-2, 2:-2, 2:-2] = True
    spots = torch.zeros_like(brain)
    spots[:, 8:11, 8:11, 7:9] = lesions
    image = torch.where(spots, image + 60 * gain, image)
    masks = {n: Volume(m) for n, m in (("brain", brain), ("lesions", spots), ("nawm", brain & ~spots))}
    return Subject(name, None, "MS" if lesions else "HC", (Scan(name, "1", None, {"FLAIR": Volume(image)}, masks),))


@pytest.fixture(scope="module")
def cohort():
    return Cohort("toy", (subject("a"), subject("b"), subject("c", lesions=False)), "embedded")


def test_the_truth_scores_perfectly_although_its_background_is_not_empty(cohort):
    s = cohort.subjects[0]
    scores = FlairScore(cohort)(s, s.baseline.image("FLAIR"))
    assert scores["mse"] == scores["mse_raw"] == 0
    assert scores["ssim"] == pytest.approx(1)


def test_only_the_brain_counts(cohort):
    s = cohort.subjects[0]
    truth, brain = s.baseline.image("FLAIR"), s.baseline.mask("brain").data
    wild = truth.with_data(torch.where(brain, truth.data + 1, torch.full_like(truth.data, 1e6)))
    scores = FlairScore(cohort)(s, wild)
    assert scores["mse_raw"] == pytest.approx(1, rel=1e-4)
    assert scores["ssim"] > 0.99


def test_the_mean_image_has_an_mse_near_one_over_the_cohort(cohort):
    """z² is the variance of true FLAIR over all brain voxels: predicting the mean costs one of it on average."""
    values = [s.baseline.image("FLAIR").data[s.baseline.mask("brain").data] for s in cohort]
    flat = Volume(torch.full(SHAPE, float(torch.cat(values).mean())))
    score = FlairScore(cohort)
    assert np.mean([score(s, flat)["mse"] for s in cohort]) == pytest.approx(1, rel=1e-3)


def test_z_squared_does_not_depend_on_the_scanner_unit(cohort):
    scaled = Cohort("toy", tuple(subject(n, n != "c", gain=7.0) for n in "abc"), "embedded")
    a, b = (FlairScore(c)(c.subjects[0], shift(c.subjects[0], 5 * g)) for c, g in ((cohort, 1.0), (scaled, 7.0)))
    assert a["mse"] == pytest.approx(b["mse"], rel=1e-4)
    assert b["mse_raw"] == pytest.approx(49 * a["mse_raw"], rel=1e-4)
    assert a["ratio1"] == pytest.approx(b["ratio1"], rel=1e-4)


def test_a_wrong_gain_and_level_cost_nothing_once_they_are_taken_out(cohort):
    s = cohort.subjects[0]
    truth = s.baseline.image("FLAIR")
    scores = FlairScore(cohort)(s, truth.with_data(truth.data * 1.3 - 20))
    assert scores["mse"] > 0.5
    assert scores["mse_own"] == pytest.approx(0, abs=1e-6)
    bent = FlairScore(cohort)(s, truth.with_data((truth.data - 100).square()))
    assert 0.1 < bent["mse_own"] < bent["mse"]


def test_a_blurred_image_is_less_sharp_than_the_truth(cohort):
    s = cohort.subjects[0]
    truth = s.baseline.image("FLAIR")
    score = FlairScore(cohort)
    assert score(s, truth)["sharpness"] == pytest.approx(1)
    assert score(s, truth.with_data(truth.data * 2))["sharpness"] == pytest.approx(4)
    assert score(s, truth.with_data((truth.data + truth.data.roll(1, 1)) / 2))["sharpness"] < 0.9


def shift(s, value):
    image = s.baseline.image("FLAIR")
    return image.with_data(image.data + value)


def test_ratios_follow_equation_2_4_and_are_undefined_without_lesions(cohort):
    ratios = contrast_ratios(cohort.subjects[0], cohort.subjects[0].baseline.image("FLAIR"))
    assert ratios["ratio1"] == pytest.approx(1.6, abs=0.05)
    assert ratios["ratio2"] == pytest.approx(1.6, abs=0.05)
    none = contrast_ratios(cohort.subjects[2], cohort.subjects[2].baseline.image("FLAIR"))
    assert np.isnan(none["ratio1"]) and np.isnan(none["ratio2"])


def test_a_prediction_on_another_grid_is_refused_by_subject(cohort):
    with pytest.raises(NbkitError, match="a: prediction and true FLAIR"):
        FlairScore(cohort)(cohort.subjects[0], Volume(torch.zeros(1, 4, 4, 4)))
