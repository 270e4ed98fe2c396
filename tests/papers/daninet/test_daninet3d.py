"""DaniNet in three dimensions on heads that are balls with a hole on one side, which grows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject, TrajectoryModel
from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume
from nbkit.figures.marks import MARKS
from nbkit.papers.daninet import Config3D, DaniNet3D
from nbkit.papers.daninet.aged_slices import AgedSlices
from nbkit.papers.daninet.constraints import AgeingBatch, AgeingObjective
from nbkit.papers.daninet.daninet3d import StackFrame, StackObjective, level_profiles
from nbkit.training.fitted import fitted

SHAPE, SPACING = (13, 18, 12), 8.0
AFFINE = np.diag([SPACING, SPACING, SPACING, 1.0])
SMALL = {
    "device": "cpu", "size": 16, "widths": (4, 8), "latent": 8, "critic_widths": (4, 8), "regions": 3, "epochs": 2,
    "ages": 3, "transfer_steps": 3, "profiles_over_levels": 3,
}


def ball(age: float, *, pace: float, shift: np.ndarray) -> torch.Tensor:
    """(1, X, Y, Z), 0 outside; the hole lies at larger x: on the right."""
    x, y, z = (np.arange(n) - (n - 1) / 2 for n in SHAPE)
    grid = np.stack(np.meshgrid(x - shift[0], y - shift[1], z, indexing="ij"))
    r, hole = np.linalg.norm(grid, axis=0), np.linalg.norm(grid - np.array([2.5, 0, 0])[:, None, None, None], axis=0)
    lost = pace * (age - 60)
    inside = np.clip(hole - 1 - 4 * lost + 0.5, 0.2, 1) * (1 - lost)
    return torch.from_numpy(100 * inside * (r < 5)).float()[None]


def person(name: str, diagnosis: str, ages=(61.0, 66.0, 74.0)) -> Subject:
    rng = numpy_generator(4, name)
    pace, shift = {"CN": 0.01, "AD": 0.03}[diagnosis] * rng.uniform(0.9, 1.1), rng.uniform(-0.5, 0.5, 2)
    scans = []
    for age in ages:
        image = ball(age, pace=pace, shift=shift)
        scans.append(Scan(name, f"{age:g}", age, {"T1w": Volume(image, AFFINE)}, {"brain": Volume(image > 0, AFFINE)}))
    return Subject(name, None, diagnosis, tuple(scans))


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    people = [person(f"{d}{k}", d, ages=(60.0 + k, 66.0 + k, 75.0 + k)) for d in ("CN", "AD") for k in range(3)]
    return Cohort("balls", tuple(people), "embedded", {"data_hash": "balls"})


@pytest.fixture(scope="module")
def model(cohort) -> DaniNet3D:
    return DaniNet3D(Config3D.for_profile("smoke", **SMALL)).fit(cohort)


@pytest.fixture(scope="module")
def stranger() -> Subject:
    return person("stranger", "AD")


def test_it_is_a_trajectory_model_of_volumes(model, stranger):
    assert isinstance(model, TrajectoryModel) and MARKS["daninet3d"].title == "DaniNet, 3D"
    first = stranger.baseline
    images = model.predict([first], [62.0, 75.0], "AD")
    for image, age in zip(images, (62, 75), strict=True):
        image.check_grid(first.image("T1w"), "test")
        assert image.data.dtype == torch.float32 and float(image.data.min()) >= 0
        assert not image.data[~first.mask("brain").data].any()
        assert image.history[-1] == f"DaniNet3D P-C-T at {age} years from a scan at 61"
    assert not torch.equal(images[0].data, images[1].data)


def test_slices_come_back_in_their_place(cohort, stranger):
    """Taken out and put back, a scan is itself, left and right, back and front, low and high."""
    scans = [scan for p in cohort for scan in p.scans]
    for size in (12, 16, 24):
        frame = StackFrame.of(scans, contrast="T1w", size=size, fewest=12)
        taken = (frame.scaled(stranger.baseline) + 1) / 2 * frame.peak
        assert taken.shape == (frame.levels[1], size, size)
        back = frame.placed(taken, stranger.baseline, "back").data
        truth = stranger.baseline.image("T1w").data.clamp(max=frame.peak)
        torch.testing.assert_close(back.clamp(max=frame.peak), truth)
        changed = frame.placed(torch.zeros_like(taken), stranger.baseline, "none").data
        low, count = frame.levels
        assert not changed[..., low : low + count].any() and torch.equal(changed[..., :low], truth[..., :low])


def test_left_is_left(cohort, stranger):
    """The hole lies on one side. A network that has learned its people draws it there."""
    config = Config3D.for_profile("smoke", **SMALL | {"epochs": 100, "transfer_steps": 60, "learning_rate": 5e-3})
    image = DaniNet3D(config.changed(progression=False)).fit(cohort).predict([stranger.baseline], [74.0], "AD")[0]
    found, true = (x.data - x.data.flip(1) for x in (image, stranger.scans[-1].image("T1w")))
    assert (found * true).sum() > 0.5 * true.square().sum()


def test_levels_and_what_lies_beyond(model, stranger):
    """Planes with too little brain stay as they are in the scan; all others are predicted."""
    low, count = model.frame.levels
    assert 0 < low and low + count < SHAPE[2] and count > 2
    image, scan = model.predict([stranger.baseline], [74.0], "AD")[0].data, stranger.baseline.image("T1w").data
    assert torch.equal(image[..., :low], scan[..., :low])
    assert all(not torch.equal(image[..., z], scan[..., z]) for z in range(low, low + count))


def test_every_level_has_its_own_regions_and_regressors(model):
    c, depth = model.config, model.frame.levels[1]
    assert model.rates.masks.shape == (depth, c.regions, c.size, c.size)
    assert model.rates.ratios.shape == (4 * depth, c.ages, c.ages, c.regions)
    ratios = model.rates.ratios.unflatten(0, (4, depth))
    assert ratios[3, :, 0, -1].mean() < ratios[0, :, 0, -1].mean() < 1, "the ill darken faster, level by level"
    assert not torch.equal(model.rates.masks[0], model.rates.masks[depth // 2])


def test_a_slice_is_told_its_level_and_its_diagnosis(model, stranger):
    slices, depth = model._slices(stranger.scans, [3, 0, 3]), model.frame.levels[1]
    assert slices.diagnosis.tolist() == [3 * depth + k for k in range(depth)] + [*range(depth)] + [
        3 * depth + k for k in range(depth)
    ]
    assert slices.own.view(3, depth).eq(slices.own.view(3, depth)[:, :1]).all()
    torch.testing.assert_close(slices.image.view(3, depth, 16, 16)[1], model.frame.scaled(stranger.scans[1]))
    told = model._told().view(4, depth, -1)
    assert torch.equal(told[0, :, -3:], level_profiles(depth, 3)) and torch.equal(told[0, :, -3:], told[2, :, -3:])
    plain = DaniNet3D(model.config.changed(clinical=False))
    plain.frame = model.frame
    assert plain._told().shape == (4 * depth, 3)


def test_profiles_overlap_and_neighbours_are_told_nearly_the_same():
    profiles = level_profiles(9, 3)
    assert profiles[[0, 4, 8], [0, 1, 2]].tolist() == [1, 1, 1]
    assert profiles[4, 0].item() == pytest.approx(2 * np.exp(-0.5) - 1)
    apart = torch.cdist(profiles, profiles)
    assert (apart.diagonal(1) < apart.diagonal(3)[: len(apart) - 3].min()).all()


def test_batches_are_pairs_of_neighbours_of_one_scan(model, cohort):
    scans = [scan for p in cohort for scan in p.scans]
    slices, depth = model._slices(scans, [0] * len(scans)), model.frame.levels[1]
    tagged = replace(slices, alpha=torch.arange(float(len(slices))))
    seen = [batch.slices.alpha.view(-1, 2) for batch in model._batches(tagged, 1)]
    low, high = torch.cat(seen).T
    assert torch.equal(high, low + 1) and (high % depth != 0).all() and len(low.unique()) == len(low)


def test_consistency_is_the_difference_between_neighbours():
    """A shift that both slices of a pair share costs nothing more; one that only one has does."""
    torch.manual_seed(1)
    image = torch.rand(4, 6, 6)
    number = torch.zeros(4, dtype=torch.long)
    slices = AgedSlices(image, image > 0, number, number, torch.ones(4), number)
    weights = {"deformation": 1.0, "consistency": 1.0}
    objective, batch = StackObjective(2, weights), AgeingBatch(slices, None, 0)
    shifted = objective._alike(batch, {"image": image + 0.3})
    torch.testing.assert_close(shifted["deformation"], torch.full((4,), 0.09))
    torch.testing.assert_close(shifted["consistency"], torch.zeros(4), atol=1e-6, rtol=0)
    one = objective._alike(batch, {"image": image + torch.tensor([0.0, 0.3, 0.0, 0.0]).view(4, 1, 1)})
    torch.testing.assert_close(one["consistency"], torch.tensor([0.09, 0.09, 0.0, 0.0]))
    assert set(AgeingObjective(2, weights)._alike(batch, {"image": image})) == {"deformation"}


def test_tuning_brings_the_own_scan_nearer(model, stranger):
    error = {}
    for on in (False, True):
        tuned = model.transferring(on, transfer_steps=60, transfer_learning_rate=5e-3)
        image = tuned.predict([stranger.baseline], [61.0], "AD")[0]
        error[on] = float((image.data - stranger.baseline.image("T1w").data).square().mean())
    assert error[True] < 0.6 * error[False]


def test_people_together_are_people_alone(model, stranger):
    scans, told = [stranger.baseline, person("other", "CN").baseline], ["AD", "CN"]
    together = model.transferring(True, subjects_at_once=2).personalised(scans, told)
    assert together.shape == (2, model.config.ages, model.frame.levels[1], 16, 16)
    for images, scan, diagnosis in zip(together, scans, told, strict=True):
        alone = model.transferring(True, subjects_at_once=1, margin=6.0).personalised([scan], [diagnosis])
        torch.testing.assert_close(images, alone[0], rtol=1e-3, atol=1e-2)


def test_only_the_last_scan_is_looked_at(model, stranger):
    both, alone = (model.predict(h, [70.0], "AD")[0] for h in (stranger.scans[:2], stranger.scans[1:2]))
    assert torch.equal(both.data, alone.data)


def test_save_load_predict_is_identical(model, stranger, tmp_path):
    model.save(tmp_path)
    again = DaniNet3D.load(tmp_path)
    a, b = (m.predict(stranger.scans[:1], [63.0, 75.0], "AD") for m in (model, again))
    assert all(torch.equal(x.data, y.data) for x, y in zip(a, b, strict=True))
    assert (again.config, again.trained_on, again.frame.levels) == (model.config, model.trained_on, model.frame.levels)


def test_it_is_fitted_once_and_knows_only_its_people(cohort, tmp_path):
    from nbkit.core.files import Cache

    train, config = cohort.subset(cohort.ids[:4]), Config3D.for_profile("smoke", **SMALL | {"epochs": 1})
    one, again = (fitted(DaniNet3D(config), train, cache=Cache(tmp_path)) for _ in range(2))
    other = fitted(DaniNet3D(config), cohort.subset(cohort.ids[1:5]), cache=Cache(tmp_path))
    assert one.trained_on == again.trained_on != other.trained_on
    assert not torch.equal(one.rates.ratios, other.rates.ratios)


@pytest.mark.parametrize(("change", "words"), [
    ({"affine": AFFINE[[1, 0, 2, 3]][:, [0, 2, 1, 3]]}, "volumes whose third axis is z"), ({}, "two planes or more"),
])
def test_what_cannot_be_stacked_is_refused(cohort, change, words):
    first = cohort.subjects[0].baseline
    affine = change.get("affine", AFFINE)
    turned = replace(first, images={"T1w": Volume(first.image("T1w").data, affine)},
                     masks={"brain": Volume(first.mask("brain").data, affine)})
    with pytest.raises(NbkitError, match=words):
        StackFrame.of([turned], contrast="T1w", size=16, fewest=12 if change else 10_000)


def test_settings():
    c = Config3D()
    assert (c.size, c.latent, c.ages, c.regions, c.transfer_steps, c.constrained) == (128, 200, 10, 128, 200, 1.0)
    small = Config3D.for_profile("laptop")
    assert (small.size, small.intensities, small.consistency_weight) == (64, "peak", 0.2)
