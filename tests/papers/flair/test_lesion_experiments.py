"""Lesions on true and on synthetic images: whose are compared with whose, and under which ids."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.tidy import by_subject
from nbkit.papers.flair import lesion_experiments
from tests.papers.flair.test_lesion_segmenter import TINY
from tests.papers.flair.test_lesion_segmenter import subject as patient


@pytest.fixture
def cohort():
    return Cohort("toy", tuple(patient(f"s{i}") for i in range(4)), "embedded", {"data_hash": "x"})


def test_a_segmenter_of_others_reads_every_image_of_those_with_lesions(cohort, tmp_path):
    folds = [SimpleNamespace(name="fold1", train_ids=cohort.ids[:3], test_ids=cohort.ids[3:])]
    blank = {s.id: s.baseline.image("FLAIR").with_data(torch.rand(1, 16, 16, 10)) for s in cohort}
    true = {s.id: s.baseline.image("FLAIR") for s in cohort}
    both = {"fcn": blank, "longer_own": true}
    found = lesion_experiments.lesions_found(cohort, folds, both, config=TINY, cache=Cache(tmp_path))
    assert list(found) == ["s3"] and list(found["s3"]) == ["truth", "fcn", "longer_own"]
    assert found["s3"]["truth"].data.any() and torch.equal(found["s3"]["truth"].data, found["s3"]["longer_own"].data)
    dices = lesion_experiments.agreement(cohort, found)
    assert by_subject(dices, id="wei2019.fig2_5.dice.lesions.longer_own") == {"s3": 1.0}
    assert by_subject(dices, id="wei2019.fig2_5.dice.lesions")["s3"] < 1
    table = lesion_experiments.dice_table(dices, {"longer_own": "longer"})
    assert table.index.tolist() == [
        "true vs reference", "true vs synthetic", "synthetic vs reference", "true vs longer", "longer vs reference",
    ]


def test_agreement_is_dice_and_nothing_found_on_either_is_none(cohort):
    mask = cohort.subject("s3").baseline.mask("lesions")
    half = mask.data.clone().flatten()
    half[half.nonzero()[::2]] = False
    found = {"s3": {"truth": mask, "fcn": mask.with_data(half.view(mask.data.shape))}}
    dices = lesion_experiments.agreement(cohort, found).set_index("id")["value"]
    a, b = int(mask.data.sum()), int(half.sum())
    assert dices["wei2019.fig2_5.dice_truth.lesions"] == 1
    assert dices["wei2019.fig2_5.dice.lesions"] == pytest.approx(2 * b / (a + b), abs=1e-6)
    assert dices["wei2019.fig2_5.agreement.lesions"] == pytest.approx(2 * b / (a + b) - 0.7, abs=1e-6)
    empty = mask.with_data(torch.zeros_like(mask.data))
    none = lesion_experiments.agreement(cohort, {"s3": {"truth": empty, "fcn": empty}})
    assert none["value"].tolist() == [0, 0, 0, -0.7]
    assert lesion_experiments.dice_table(none).loc["true vs synthetic", "count"] == 1


def test_a_cohort_without_lesions_is_refused_by_name(cohort):
    with pytest.raises(NbkitError, match=f"{cohort.name}: masks .*at least, found none"):
        lesion_experiments.agreement(cohort, {})
