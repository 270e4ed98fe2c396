"""The two ends of predicted images: worse than a mean image is nobody, better than the truth without noise neither."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.papers.trajectories.controls import NoChange
from nbkit.papers.trajectories.image_room import Config, MeanImage, VoxelReach, WithoutNoise

SHAPE, AGES, NOISE = (8, 8, 4), (65.0, 67.0, 70.0), 0.02
RATE = {"CN": 0.0, "AD": -0.06}


def clean(name: str, diagnosis: str, age: float) -> torch.Tensor:
    """A person's own pattern; one half of it darkens with the diagnosis, in LMCI at a pace of one's own."""
    rng = np.random.default_rng(list(name.encode()))
    image = torch.from_numpy(rng.uniform(0.5, 1.0, (1, *SHAPE))).float()
    image[:, :4] *= 1 + RATE.get(diagnosis, rng.uniform(-0.12, 0.0)) * (age - AGES[0])
    return image


def people(
    count: int, prefix: str, diagnoses: tuple[str, ...] = ("CN", "AD")
) -> tuple[Cohort, dict[tuple[str, str], Volume]]:
    subjects, quiet = [], {}
    for k in range(count):
        name, diagnosis, scans = f"{prefix}{k}", diagnoses[k % len(diagnoses)], []
        for i, age in enumerate(AGES):
            rng = torch.Generator().manual_seed(1000 * k + i + len(prefix))
            truth = Volume(clean(name, diagnosis, age))
            noisy = truth.with_data(truth.data + NOISE * torch.randn(1, *SHAPE, generator=rng))
            quiet[name, str(i)] = truth
            scans.append(Scan(name, str(i), age, {"T1w": noisy}, {"brain": Volume(torch.ones(1, *SHAPE).bool())}))
        subjects.append(Subject(name, "F", diagnosis, tuple(scans)))
    return Cohort(prefix, tuple(subjects), "embedded"), quiet


@pytest.fixture(scope="module")
def errors() -> dict[str, float]:
    """Mean squared error of the last visit of the AD people, from the first scan."""
    (train, _), (test, quiet) = people(16, "train"), people(6, "te")
    models = {"mean": MeanImage().fit(train), "no_change": NoChange().fit(train),
              "reach": VoxelReach(Config(voxels=200)).fit(train), "floor": WithoutNoise(test, quiet)}
    found: dict[str, list[float]] = {name: [] for name in models}
    for subject in test:
        if subject.diagnosis == "AD":
            for name, model in models.items():
                image = model.predict(subject.scans[:1], [AGES[-1]], "AD")[0]
                found[name].append(float((image.data - subject.scans[-1].image("T1w").data).square().mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def test_the_ends_stand_where_they_belong(errors):
    assert errors["floor"] < errors["reach"] < 0.5 * errors["no_change"] and errors["no_change"] < errors["mean"]
    assert errors["floor"] == pytest.approx(NOISE**2, rel=0.15)
    assert errors["reach"] < 2.6 * NOISE**2 + 2e-4  # the noise of both scans, and little more


def test_the_mean_image_is_everybodys():
    train, _ = people(4, "train")
    image = MeanImage().fit(train).predict(train.subjects[0].scans, [80.0, 90.0], "CN")
    every = torch.stack([scan.image("T1w").data for s in train for scan in s.scans])
    torch.testing.assert_close(image[0].data, every.mean(dim=0))
    assert image[0] is image[1]


def test_without_noise_it_is_the_visit_nearest_in_age():
    test, quiet = people(2, "te")
    told = WithoutNoise(test, quiet).predict(test.subjects[1].scans[:1], [66.9, 99.0], "AD")
    assert [volume is quiet["te1", name] for volume, name in zip(told, ("1", "2"), strict=True)] == [True, True]


def test_two_scans_tell_more_than_one_of_who_changes_at_a_pace_of_their_own():
    (train, _), (test, _) = people(30, "train", ("LMCI",)), people(8, "te", ("LMCI",))
    told, missed = VoxelReach(Config(voxels=200)).fit(train), {1: [], 2: []}
    for subject in test:
        for seen, found in missed.items():
            image = told.predict(subject.scans[2 - seen : 2], [AGES[2]], "LMCI")[0]
            found.append(float((image.data - subject.scans[2].image("T1w").data).square().mean()))
    assert np.mean(missed[2]) < 0.8 * np.mean(missed[1])


def test_the_same_seed_gives_the_same_images_and_slices_are_volumes_too():
    train, _ = people(4, "train")
    first, again = (VoxelReach(Config(voxels=50, trees=5)).fit(train) for _ in range(2))
    scans = train.subjects[1].scans[:1]
    assert torch.equal(*(model.predict(scans, [70.0], "AD")[0].data for model in (first, again)))
    flat = [s.__class__(s.id, s.sex, s.diagnosis, tuple(_slice(scan) for scan in s.scans)) for s in train]
    cohort = Cohort("slices", tuple(flat), "embedded")
    image = VoxelReach(Config(voxels=50, trees=5)).fit(cohort).predict(flat[0].scans[:1], [70.0], "CN")[0]
    assert image.shape == (8, 8, 1)


def _slice(scan: Scan) -> Scan:
    cut = {"T1w": Volume(scan.image("T1w").data[..., 1:2])}
    return Scan(scan.subject, scan.session, scan.age, cut, {"brain": Volume(torch.ones(1, 8, 8, 1).bool())})


def test_people_seen_once_teach_nothing():
    train, _ = people(3, "train")
    alone = Cohort("once", tuple(Subject(s.id, "F", s.diagnosis, s.scans[:1]) for s in train), "embedded")
    with pytest.raises(NbkitError, match="two ages or more"):
        VoxelReach().fit(alone)
