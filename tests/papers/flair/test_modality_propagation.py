"""Modality propagation against a nearest neighbour regressor of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsRegressor

from nbkit.core.checks import NbkitError
from nbkit.papers.flair.modality_propagation import Config, ModalityPropagation
from tests.papers.conftest import explained
from tests.papers.synthesizers import check_output, check_refusals, check_round_trip, predict

SMALL = Config(inputs=("T1w", "T2w"), database=3_000, device="cpu")


@pytest.fixture(scope="module")
def fitted(toy_cohort):
    return ModalityPropagation(SMALL).fit(toy_cohort.subset(toy_cohort.ids[:3]))


def test_it_learns_the_relation(fitted, toy_cohort):
    assert 0.5 < explained(fitted, toy_cohort.subjects[3]) < 1


def test_prediction_equals_scikit_learn_on_patches_cut_by_hand(toy_cohort):
    training = toy_cohort.subset(toy_cohort.ids[:3])
    model = ModalityPropagation(SMALL.changed(database=10**6)).fit(training)
    constants = model.reader.standardiser

    def patches(scan):
        brain = scan.mask("brain").data[0].numpy()
        rows = []
        for name in SMALL.inputs:
            z = (scan.image(name).numpy().astype(np.float64) - constants.mean[name]) / constants.sd[name]
            z = np.pad(np.where(brain, z, 0), 1)
            shifts = [z[i : i + brain.shape[0], j : j + brain.shape[1], k : k + brain.shape[2]][brain]
                      for i in range(3) for j in range(3) for k in range(3)]
            rows.append(np.stack(shifts, 1))
        return np.concatenate(rows, 1), scan.image("FLAIR").numpy()[brain]

    table = [patches(s.baseline) for s in training]
    peer = KNeighborsRegressor(1, algorithm="brute").fit(*(np.concatenate(t) for t in zip(*table)))
    subject = toy_cohort.subjects[3]
    ours = predict(model, subject)[subject.baseline.mask("brain").data]
    np.testing.assert_allclose(ours, peer.predict(patches(subject.baseline)[0]), rtol=1e-5)


def test_a_training_subject_gets_its_own_flair_back(toy_cohort):
    model = ModalityPropagation(SMALL.changed(database=10**6)).fit(toy_cohort)
    scan = toy_cohort.subjects[1].baseline
    brain = scan.mask("brain").data
    torch.testing.assert_close(predict(model, toy_cohort.subjects[1])[brain], scan.image("FLAIR").data[brain])


def test_every_subject_gives_an_equal_share_whatever_the_order(fitted, toy_cohort):
    assert fitted.patches.shape == (3_000, 54)
    backwards = ModalityPropagation(SMALL).fit(toy_cohort.subset(toy_cohort.ids[2::-1]))
    assert torch.equal(backwards.patches[:1_000], fitted.patches[2_000:])


def test_contract(fitted, toy_cohort, tmp_path):
    subject = toy_cohort.subjects[3]
    check_output(fitted, subject)
    check_round_trip(fitted, subject, tmp_path)
    check_refusals(fitted, subject, tmp_path, tensor="values")
    with pytest.raises(NbkitError, match="at least one contrast"):
        Config(inputs=())
