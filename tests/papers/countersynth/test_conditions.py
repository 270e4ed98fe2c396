"""What CounterSynth's networks are told of age, sex and diagnosis."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.papers.countersynth.conditions import Conditions
from tests.papers.trajectories.ageing_balls import cohort, people

CONDITIONS = Conditions(70.0, 10.0, 55.0, 90.0, ("AD", "CN"))


def test_labels_are_in_standard_deviations_and_one_diagnosis():
    assert CONDITIONS.labels(85.0, "M", "CN").tolist() == [1.5, 1.0, 0.0, 1.0]
    assert CONDITIONS.labels(70.0, None, "AD").tolist() == [0.0, 0.5, 1.0, 0.0]


def test_the_generator_is_told_changes_and_the_diagnosis_aimed_at():
    source = torch.stack([CONDITIONS.labels(60.0, sex, "CN") for sex in ("F", "M", None, "F")])
    target = torch.stack([CONDITIONS.labels(80.0, sex, "AD") for sex in ("M", "M", "M", None)])
    told = CONDITIONS.told(source, target)
    assert told[:, 0].tolist() == [2.0] * 4 and told[:, 2:].tolist() == [[1.0, 0.0]] * 4
    assert told[:, 1].tolist() == [1.0, 0.0, 0.0, 0.0], "a sex that is not known does not change"


def test_ageing_is_what_a_person_who_keeps_sex_and_diagnosis_is_told():
    a, b = CONDITIONS.labels(60.0, "F", "AD"), CONDITIONS.labels(66.0, "F", "AD")
    torch.testing.assert_close(CONDITIONS.told(a, b), CONDITIONS.ageing(6.0, "AD"))
    assert CONDITIONS.ageing(0.0, "CN")[:2].tolist() == [0.0, 0.0] and CONDITIONS.size == 4


def test_nothing_changes_where_labels_are_kept():
    kept = CONDITIONS.kept(torch.stack([CONDITIONS.labels(60.0, "M", "AD"), CONDITIONS.labels(90.0, None, "CN")]))
    assert kept.tolist() == [[0, 0, 1, 0], [0, 0, 0, 1]]
    torch.testing.assert_close(kept[0], CONDITIONS.ageing(0.0, "AD"))


def test_they_are_learned_from_every_scan_and_survive_json():
    found = Conditions.of(cohort(people(3, "HC", seed=1) + people(2, "AD", seed=2)))
    assert found.diagnoses == ("AD", "CN") and found.youngest < 65 and found.oldest > 69
    assert Conditions.from_dict(json.loads(json.dumps(asdict(found)))) == found


def test_an_unknown_diagnosis_is_refused_with_the_nearest():
    with pytest.raises(NbkitError, match="CN"):
        CONDITIONS.ageing(1.0, "CM")
