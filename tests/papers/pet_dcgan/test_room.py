"""Room of notebook 07: people of the stage are nearer than those of another, and learners find what slices tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.claims.room import Room
from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.tidy import by_subject, where
from nbkit.data.pet_slices import Slices
from nbkit.data.splits import folds
from nbkit.papers.pet_dcgan.augmentation_study import CHANCE, CLASS_MEAN, EVERY_VIEW, REAL
from nbkit.papers.pet_dcgan.metrics import pairwise_quality
from nbkit.papers.pet_dcgan.room import classifier_room, likeness_room, stage_room

SIZE, STAGES, VIEWS = 32, ("CN", "AD"), ("axial", "coronal")
SPOT = {"CN": 0.4, "AD": -0.4}


def picture(level: float, *names: object) -> torch.Tensor:
    """A disc of noise with a spot of the level in one place."""
    rng = torch_generator(1, *names)
    x = torch.linspace(-1, 1, SIZE)
    disc = (x[:, None] ** 2 + x[None] ** 2).sqrt() < 0.8
    image = torch.where(disc, 0.08 * torch.randn(SIZE, SIZE, generator=rng), torch.tensor(-1.0))
    image[8:16, 8:16] += level
    return image.clamp(-1, 1)[None]


def table(people: int, side: str, *, told: float = 1.0) -> Slices:
    rows = [(f"{side}{stage}{i}", stage, view) for i in range(people) for stage in STAGES for view in VIEWS]
    images = torch.stack([picture(told * SPOT[stage], name, view) for name, stage, view in rows])
    return Slices(images, *map(tuple, zip(*rows, strict=True)), (0.0,) * len(rows))


TRAIN, HELD, MANY = table(10, "t"), table(6, "h"), table(30, "x")


def cohort_of(slices: Slices) -> Cohort:
    rng, subjects, truth = np.random.default_rng(0), [], {}
    for name, stage in slices.stage_of.items():
        subjects.append(Subject(name, "F", stage, (Scan(name, "01", 70.0, {}),)))
        level = np.exp(SPOT[stage] + 0.1 * rng.normal())
        truth[name] = {"stage": stage, "factor.a": level, "factor.b": 1.0, "size_change": {"hippocampus": level}}
    return Cohort("toy", tuple(subjects), "embedded", {}, truth)


def study_of(slices: Slices, view: str = EVERY_VIEW) -> pd.DataFrame:
    rows = [(arm, name, 50.0 if arm == CHANCE else 60.0) for arm in (CHANCE, CLASS_MEAN, REAL)
            for name in slices.subjects]
    frame = pd.DataFrame(rows, columns=["system", "subject", "value"])
    return frame.assign(view=view, share=1.0, metric="accuracy", unit="%", id="")


def test_likeness_is_highest_to_the_own_stage_and_the_mean_image_beats_every_person():
    found = likeness_room(TRAIN, HELD, stage="CN", strangers=MANY)
    psnr = where(found, metric="psnr").groupby("system")["value"].mean()
    assert psnr["other_stage"] < psnr[["reach", "reach_tenfold", "floor"]].min()
    assert psnr[["reach", "reach_tenfold", "floor"]].max() < psnr["mean_image"]
    assert psnr["reach_tenfold"] == pytest.approx(psnr["floor"], abs=0.3)
    assert set(found["subject"]) == {f"hCN{k}" for k in range(6)}
    assert "islam2020.quality.ssim.random.reach_tenfold.cn" in set(found["id"])
    assert dict(zip(found["system"], found["role"])) == {
        "other_stage": "mean", "mean_image": "control", "reach": "reach", "reach_tenfold": "reach", "floor": "floor"}


def test_likeness_to_the_training_people_is_the_mean_over_pairs():
    own, past = (t.select(stages="AD", view="axial") for t in (HELD, TRAIN))
    expected = pairwise_quality(own.images, past.images)[0].mean(dim=1)
    alone = likeness_room(TRAIN, own, stage="AD")
    got = by_subject(alone, metric="psnr", system="reach")
    np.testing.assert_allclose([got[name] for name in own.subject], expected)


def test_nobody_is_compared_with_themselves():
    floor = by_subject(likeness_room(TRAIN, HELD, stage="CN"), metric="psnr", system="floor")
    assert np.isfinite([*floor.values()]).all() and max(floor.values()) < 30


def test_the_nearest_image_of_the_own_stage_is_nearer():
    found = stage_room(TRAIN, HELD, stage="AD", strangers=MANY)
    near = found.groupby("system")["value"].mean()
    assert near[["reach", "reach_tenfold", "floor"]].max() < near["other_stage"]
    assert set(found["metric"]) == {"distance"} and "islam2020.stage.distance.reach.ad" in set(found["id"])
    assert not Room.of_frame(found, of=["islam2020.stage.distance"], measure="distance").lacks()


def test_one_person_alone_has_no_floor():
    one = HELD.select(subjects=["hCN0"])
    for frame in (stage_room(TRAIN, one, stage="CN"), likeness_room(TRAIN, one, stage="CN")):
        assert "floor" not in set(frame["system"]) and np.isfinite(frame["value"]).all()


def classified(told: float, **options) -> dict[str, float]:
    slices, many = table(20, "p", told=told), table(60, "x", told=told)
    people = cohort_of(slices)
    splits = folds(people, 2, seed=1)
    frame = classifier_room(study_of(slices), slices, splits, strangers=many, truth=people, **options)
    assert frame.groupby("system")["subject"].nunique().eq(40).all()
    return frame.groupby("system")["value"].mean().to_dict()


def test_learners_find_what_slices_tell_and_nothing_where_they_are_silent():
    speaking, silent = classified(1.0), classified(0.0)
    assert speaking["reach_ridge"] > 95 and speaking["reach_tenfold_ridge"] > 95 and speaking["floor"] > 95
    assert max(silent[name] for name in ("reach_ridge", "reach_tenfold", "reach_tenfold_ridge")) < 75
    assert silent["floor"] > 95  # the truth tells what these slices do not


def test_chance_is_the_mean_class_means_a_control_and_networks_have_no_role():
    slices = table(8, "p")
    people = cohort_of(slices)
    options = {"splits": folds(people, 2, seed=1)}
    frame = classifier_room(study_of(slices), slices, **options)
    roles = dict(zip(frame["system"], frame["role"], strict=True))
    assert roles == {CHANCE: "mean", CLASS_MEAN: "control", REAL: "", "reach": "reach", "reach_ridge": "reach"}
    view = classifier_room(study_of(slices, "axial"), slices, view="axial", **options)
    assert "islam2020.augmentation.accuracy.axial.reach" in set(view["id"])
    with pytest.raises(NbkitError, match="classifier_room: accuracy"):
        classifier_room(where(study_of(slices), system=REAL), slices, **options)


def test_a_person_on_both_sides_is_refused():
    for make in (likeness_room, stage_room):
        with pytest.raises(NbkitError, match=make.__name__):
            make(TRAIN, TRAIN, stage="CN")
