"""The ends of an error of images: the mean, what a learner reaches, one's own level, and the truth without noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.claims.room import Room
from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort
from nbkit.core.tidy import where
from nbkit.papers.trajectories.controls import NoChange
from nbkit.papers.trajectories.experiments import score_trajectories
from nbkit.papers.trajectories.image_room import (
    METRICS, MeanScan, OwnLevel, VoxelBoosting, image_room, image_rooms,
)
from nbkit.papers.trajectories.pixel_regression import Config, PixelRegression
from tests.papers.trajectories.dimming import brain, person, school

SHAPE = (14, 15, 13)


@pytest.fixture(scope="module")
def train() -> Cohort:
    return school(shape=SHAPE)


@pytest.fixture(scope="module")
def new() -> Cohort:
    return Cohort("new", (person("x", "CN", shape=SHAPE), person("y", "AD", shape=SHAPE)), "embedded")


def error(model, people: Cohort, seen: int = 1) -> float:
    return float(score_trajectories({"m": model}, people, seen=seen, progress=False).visits["mae"].mean())


def test_a_learner_sees_what_repeating_the_scan_and_the_mean_do_not(train, new):
    learner = VoxelBoosting(voxels=20_000).fit(train)
    found = {"reach": error(learner, new), "copy": error(NoChange(), new), "mean": error(MeanScan(train), new)}
    assert found["reach"] < 0.3 * found["copy"] and found["copy"] < found["mean"]
    again = VoxelBoosting(voxels=20_000).fit(train)
    history = new.subjects[0].scans[:1]
    assert torch.equal(*(m.predict(history, [74.0], "CN")[0].data for m in (learner, again)))
    with pytest.raises(NbkitError, match="people scanned 2 times"):
        VoxelBoosting().fit(Cohort("once", (person("z", "CN", 1),), "embedded"))


def test_a_second_scan_tells_the_pace_of_a_person():
    paces = [0.2 * k for k in range(1, 11)]
    people = [person(f"p{k}", "AD", shape=SHAPE, faster=pace) for k, pace in enumerate(paces)]
    train = Cohort("paces", tuple(people), "embedded")
    new = Cohort("new", (person("slow", "AD", shape=SHAPE, faster=0.3),), "embedded")
    one, two = (VoxelBoosting(seen=k, voxels=40_000).fit(train) for k in (1, 2))
    assert error(two, new, seen=2) < 0.5 * error(one, new, seen=2)
    three = new.subjects[0].scans
    assert torch.equal(*(one.predict(h, [80.0], "AD")[0].data for h in (three, three[-1:])))


def test_the_mean_scan_is_that_of_all_training_scans(train, new):
    (image,) = MeanScan(train).predict(new.subjects[0].scans[:1], [80.0], "CN")
    every = np.stack([s.image("T1w").numpy() for p in train for s in p.scans])
    np.testing.assert_allclose(image.data[0].numpy(), every.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_own_level_takes_out_a_gain_and_nothing_else():
    people = Cohort("louder", (person("l", "CN", gain=1.3, shape=SHAPE),), "embedded")
    first, last = people.subjects[0].scans[0], people.subjects[0].scans[-1]
    (image,) = OwnLevel(NoChange(), people).predict((first,), [last.age], "CN")
    inside = brain(SHAPE)
    x, y = (scan.image("T1w").data[inside].double().numpy() for scan in (first, last))
    slope, offset = np.linalg.lstsq(np.column_stack([x, np.ones_like(x)]), y, rcond=None)[0]
    np.testing.assert_allclose(image.data[inside].numpy(), slope * x + offset, rtol=1e-5)
    assert not image.data[~inside].any() and error(OwnLevel(NoChange(), people), people) < error(NoChange(), people)


def test_a_room_has_all_ends_of_every_metric(train, new):
    free = {(s.subject, s.session): s.image("T1w") for p in new for s in p.scans}
    found = image_room(train, new, id="inbrainsyn.table1.{metric}.{system}", free=free)
    rooms = {told["of"]: told for told in image_rooms(found, "inbrainsyn.table1.{metric}.")}
    assert list(rooms) == [f"inbrainsyn.table1.{metric}." for metric in METRICS]
    for of, told in rooms.items():
        room = Room.of_frame(told["frame"], of=[of], measure=told["measure"], better=told["better"])
        sign = 1 if told["better"] == "lower" else -1
        assert sign * room.floor <= sign * room.reach < sign * room.mean and f"{of}no_change" in room.controls
    assert set(where(found, metric="mae")["subject"]) == set(new.ids)
    assert where(found, metric="mae", system="floor")["value"].max() == pytest.approx(0, abs=1e-6)


def test_the_better_control_at_its_own_level_stands_for_the_persons_part(train, new):
    found = where(image_room(train, new, id="{metric}.{system}"), metric="ssim")
    means = found.groupby("system")["value"].mean()
    line = PixelRegression(Config(estimator="population")).fit(train)
    own = {name: OwnLevel(control, new) for name, control in (("line", line), ("still", NoChange()))}
    scored = score_trajectories(own, new, progress=False).visits
    per_person = scored.groupby(["model", "subject"])["ssim"].mean().groupby("model").mean()
    assert means["person"] == pytest.approx(per_person.max()) and per_person.nunique() == 2


def test_a_diagnosis_of_which_nothing_was_learned_has_no_mean_change(train, new):
    other = replace(new, subjects=(replace(new.subjects[0], diagnosis="MCI"),))
    systems = set(image_room(train, other, id="{metric}.{system}")["system"])
    assert systems == {"mean", "no_change", "person", "reach"}
