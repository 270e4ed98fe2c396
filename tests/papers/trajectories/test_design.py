"""Who is compared, on which visits, and that every system is asked alike."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from nbkit.core.files import Cache
from nbkit.papers.trajectories import design
from nbkit.papers.trajectories.controls import NoChange
from tests.papers.trajectories.ageing_balls import cohort, person, people

AGES = (62.0, 66.0, 70.0, 72.0)


@pytest.fixture(scope="module")
def balls():
    """Four people of four visits, two of each diagnosis, and one of a single visit."""
    made = [person(f"{g}{k}", g, ages=AGES, size=1.0, centre=(0, 0, 0)) for k in range(2) for g in ("AD", "HC")]
    return cohort([*made, replace(made[0], id="once", scans=made[0].scans[:1])])


def test_the_first_of_each_diagnosis_with_the_visits_that_are_asked_for(balls):
    plan = design.Design(seen=2, each=1, ahead=1)
    chosen = plan.chosen(balls, lambda subject: True)
    assert chosen.ids == ("HC0", "AD0") and [len(s.scans) for s in chosen] == [3, 3]
    assert plan.shown == {"one": 1, "several": 2}
    picked = plan.chosen(balls, lambda subject: subject.id.endswith("1"), diagnoses=("AD",))
    assert picked.ids == ("AD1",)
    assert design.Design(seen=2).chosen(balls, lambda s: True, diagnoses=("AD",)).ids == ("AD0", "AD1")


def test_visits_can_be_picked(balls):
    ends = design.visits_of(balls.subset(["AD0"]), lambda scans: (scans[0], scans[-1]))
    assert [scan.age for scan in ends.subjects[0].scans] == [62.0, 72.0]


def test_training_and_test_people_are_the_first_fold():
    both = cohort(people(4, "HC", seed=1) + people(4, "AD", seed=2))
    train, test = design.Design(folds=2).split(both, seed=7)
    assert set(train.ids) | set(test.ids) == set(both.ids) and not set(train.ids) & set(test.ids)
    table = design.ages(train, test)
    assert table.loc["count"].tolist() == [4, 4] and 62 <= table.loc["mean", "training"] <= 64


def test_one_scan_without_labels_is_enough_to_have_none(balls):
    first = balls.subjects[0]
    bare = replace(first, scans=(*first.scans[:-1], replace(first.scans[-1], labels=None)))
    assert design.has_labels(balls) and not design.has_labels(balls, cohort([bare]))


class Reader:
    """Sees everything as white matter."""

    config, trained_on = None, ""

    def segment(self, image, *, mask):
        return image.with_data(torch.where(mask.data & (image.data > 0.02), 2, 0).to(torch.int16))

    def volumes(self, image, *, mask):
        return {"hippocampus_left": 1.0, "white_matter_left": float((image.data > 0.02).sum())}


def test_systems_are_read_both_ways_beside_hindsight(balls, tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path))
    models, one = {"no_change": NoChange(), "other": NoChange()}, balls.subset(["AD0"])
    found = design.compare(models, one, ["no_change", "nobody"], segmenter=Reader(), key=1)
    assert set(found.visits["model"]) == {"no_change", "hindsight"}
    assert set(found.regions["reading"]) == {"own", "alike"}
    clean = {(s.subject, s.session): s.image("T1w") for s in one.subjects[0].scans}
    both = models | design.floor(one, clean)
    floored = design.compare(both, one, ["no_change", "floor"], segmenter=Reader(), key=1).visits
    assert set(floored["model"]) == {"no_change", "hindsight", "floor"}
    assert (floored.loc[floored["model"] == "floor", "mae"] == 0).all() and not design.floor(one, {})
    late = design.visits_of(one, lambda scans: scans[2:])
    again = design.compare(models, late, ["no_change"], segmenter=None, key=1)
    assert again.visits["age"].tolist() == [72.0], "other visits are another question"
    assert set(again.visits["model"]) == {"no_change"} and Cache().root == tmp_path


def test_the_last_visit_by_everybody_and_the_memory_of_a_stranger(balls):
    models = {"no_change": NoChange(), "no_pt": NoChange(), "pixel_ols": NoChange(), "floor": None}
    last, target, made = design.last_visit(models, balls.subjects[0], design=design.Design(seen=2), setting="several")
    assert (last.age, target.age, list(made)) == (66.0, 72.0, ["pixel_ols"])
    memory = design.stranger_memory(models, balls, lambda subject: True, seen=2)
    assert set(memory) == set(models) - {"floor"}


def test_controls_are_fitted_lines_and_the_scan_repeated(balls, tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path))
    known = replace(balls, provenance={"data_hash": "x"})
    found = design.controls(known)
    assert set(found) == {"pixel_ols", "pixel_population", "no_change"}
    assert found["pixel_population"].config.estimator == "population" and found["pixel_ols"].trained_on


def test_forecasts_are_of_as_many_people_as_are_drawn(balls, tmp_path, monkeypatch):
    asked = []

    def kept(models, people, **options):
        asked.append((list(models), people.ids, options["seen"], options["options"]))
        return SimpleNamespace()

    monkeypatch.setattr(design, "kept_forecasts", kept)
    plan = design.Design(seen=2, drawn=1, draws=5)
    models = {"mrextrap_bayes": 1, "brlp": 2, "no_change": 3}
    assert list(design.forecasts(models, balls, plan, segmenter=None, key=1)) == ["one", "several"]
    drawn = {"mrextrap_bayes": {"draws": 5}}
    assert asked == [(["mrextrap_bayes", "brlp"], ("AD0",), seen, drawn) for seen in (1, 2)]
