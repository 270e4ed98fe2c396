"""The linear controls against numpy and closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.papers.synthesis.linear import Config, LinearSynthesizer
from tests.papers.conftest import explained
from tests.papers.synthesizers import check_output, check_refusals, check_round_trip, predict

INPUTS = ("T1w", "T2w")


def brain_values(cohort, contrast):
    """All brain voxels of all subjects, float64."""
    scans = [s.baseline for s in cohort]
    return np.concatenate([s.image(contrast).data[s.mask("brain").data].double().numpy() for s in scans])


@pytest.fixture(scope="module")
def fitted(toy_cohort):
    return LinearSynthesizer(Config(inputs=INPUTS)).fit(toy_cohort.subset(toy_cohort.ids[:3]))


@pytest.mark.parametrize("inputs", [INPUTS, ("T2w",)])
def test_prediction_equals_numpy_least_squares(toy_cohort, inputs):
    training, tested = toy_cohort.subset(toy_cohort.ids[:3]), toy_cohort.subset(toy_cohort.ids[3:])

    def design(cohort):
        columns = [brain_values(cohort, name) for name in inputs]
        return np.stack([*columns, np.ones_like(columns[0])], 1)

    solution = np.linalg.lstsq(design(training), brain_values(training, "FLAIR"))[0]
    model = LinearSynthesizer(Config(inputs=inputs)).fit(training)
    subject = tested.subjects[0]
    ours = predict(model, subject)[subject.baseline.mask("brain").data]
    np.testing.assert_allclose(ours, design(tested) @ solution, rtol=1e-5)


def test_without_inputs_it_is_the_training_mean(toy_cohort):
    training, subject = toy_cohort.subset(toy_cohort.ids[:3]), toy_cohort.subjects[3]
    values = predict(LinearSynthesizer(Config(inputs=())).fit(training), subject)
    mean = brain_values(training, "FLAIR").mean()
    np.testing.assert_allclose(values[subject.baseline.mask("brain").data], mean, rtol=1e-6)


def test_a_contrast_given_twice_changes_nothing(toy_cohort, fitted):
    def with_copy(subject):
        scan = subject.baseline
        return replace(subject, scans=(replace(scan, images={**scan.images, "copy": scan.image("T2w")}),))

    cohort = replace(toy_cohort, subjects=tuple(map(with_copy, toy_cohort)))
    doubled = LinearSynthesizer(Config(inputs=(*INPUTS, "copy"))).fit(cohort.subset(cohort.ids[:3]))
    torch.testing.assert_close(predict(doubled, cohort.subjects[3]), predict(fitted, toy_cohort.subjects[3]))


def test_more_inputs_explain_more(toy_cohort, fitted):
    alone = LinearSynthesizer(Config(inputs=("T2w",))).fit(toy_cohort.subset(toy_cohort.ids[:3]))
    subject = toy_cohort.subjects[3]
    assert 0.5 < explained(alone, subject) < explained(fitted, subject) < 1


def test_each_image_scaled_by_itself_ignores_a_scanner_gain(toy_cohort):
    model = LinearSynthesizer(Config(inputs=INPUTS, normalise="subject")).fit(toy_cohort)
    scan = toy_cohort.subjects[0].baseline
    gained = {n: v.with_data(v.data * 3) for n, v in scan.images.items()}
    out = [model.synthesize(images, mask=scan.mask("brain")).data for images in (scan.images, gained)]
    torch.testing.assert_close(*out, rtol=1e-5, atol=1e-3)


def test_the_voxels_of_the_z_scores_change_no_straight_line(toy_cohort, fitted):
    """All of the image, or the brain: other constants, the same prediction; another word is refused."""
    brain = LinearSynthesizer(Config(inputs=INPUTS, over="brain")).fit(toy_cohort.subset(toy_cohort.ids[:3]))
    assert brain.reader.standardiser.sd != fitted.reader.standardiser.sd
    subject = toy_cohort.subjects[3]
    torch.testing.assert_close(predict(brain, subject), predict(fitted, subject), rtol=1e-4, atol=1e-3)
    with pytest.raises(NbkitError, match="Did you mean 'brain'"):
        Config(inputs=INPUTS, over="brains")


def test_contract(fitted, toy_cohort, tmp_path):
    subject = toy_cohort.subjects[3]
    check_output(fitted, subject)
    check_round_trip(fitted, subject, tmp_path)
    check_refusals(fitted, subject, tmp_path, tensor="weights")
