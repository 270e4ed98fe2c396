"""What is predicted at both visits, PET without noise in its place, and the order of patients."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import torch

from nbkit.core.tidy import stacked, tidy
from nbkit.core.volume import Volume
from nbkit.papers.myelin import visits
from nbkit.papers.myelin.metrics import Course
from nbkit.papers.myelin.synthesis import VARIANTS
from tests.papers.myelin.change_toy import change_cohort


def index() -> pd.DataFrame:
    """True indices of three patients, and predicted ones in another order."""
    lost, back = {"a": 0.3, "b": 0.1, "c": 0.2}, {"a": 0.0, "b": 0.4, "c": 0.25}
    change = {s: lost[s] - back[s] for s in lost}
    return stacked(*(
        tidy(values, system=system, metric=metric) for system, sign in (("truth", 1), ("refiner_cfsagan", -1))
        for metric, values in (("dynamic_demyelination", lost), ("dynamic_remyelination", back),
                               ("global_change", {s: sign * v for s, v in change.items()}))
    ))


def test_systems_are_variants_each_once():
    assert set(visits.SYSTEMS.values()) <= set(VARIANTS) and len(set(visits.SYSTEMS.values())) == len(visits.SYSTEMS)


def test_patients_are_ordered_by_true_change_and_three_are_shown():
    assert visits.by_change(index()) == ["b", "c", "a"]
    maps = {"truth": {s: course(40) for s in "abc"}}
    assert visits.three_courses(index(), maps) == {"patient A": "a", "patient B": "b"}, "one is most of two things"


def test_patients_in_whom_next_to_nothing_changes_are_not_shown_where_there_are_others():
    few = {"truth": {"a": course(29), "b": course(40), "c": course(40)}}
    assert "a" not in visits.three_courses(index(), few).values()
    none = {"truth": {s: course(3) for s in "abc"}}
    assert visits.three_courses(index(), none) == {"patient A": "a", "patient B": "b"}


def course(changed: int) -> Course:
    """Lesions of 7 × 7 × 2 voxels of which some, all in one slice, lose their myelin."""
    before = torch.zeros(1, 7, 7, 2, dtype=torch.bool)
    after = before.clone()
    after[0, :, :, 1] = (torch.arange(49) < changed).reshape(7, 7)
    return Course(Volume(torch.ones_like(before)), Volume(before), Volume(after))


def test_images_without_noise_stand_for_predictions_at_the_visit_they_are_of():
    cohort = change_cohort()
    images = {(s.id, scan.session): scan.image("DVR") for s in cohort for scan in s.scans}
    first, second = visits.noise_free_visits(cohort, images)["floor"]
    assert set(first) == set(cohort.ids) and set(second) == {s.id for s in cohort if len(s.scans) > 1} != set()
    for s in cohort:
        assert all(images[s.id, scan.session] is made[s.id] for scan, made in zip(s.scans, (first, second)))
    assert visits.noise_free_visits(cohort, {}) == {}


def test_only_those_asked_for_are_applied_to_second_scans():
    asked = []
    result = SimpleNamespace(predictions=lambda people, visit: asked.append(visit) or {visit: people})
    found = visits.two_visits({"linear": result, "other": result}, "everybody", ("linear",))
    assert found == {"linear": ({0: "everybody"}, {1: "everybody"})} and asked == [0, 1]
