"""Slices of PET in three views: where they lie in the world, what they keep, and which stages they know."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from skimage.measure import block_reduce

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.pet_slices import CENTRE_MM, FIELD_MM, STAGES, VIEWS, Slices, levels_of, slice_table, stage_of
from tests.geometry.frames import FRAMES

SHAPE = (48, 52, 50)
AXES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
"""World axes of rows and columns, and across."""
SLOPE = np.array([0.004, -0.003, 0.002])


def grid(frame: np.ndarray = FRAMES["RAS"], spacing: float = 4.5, shape=SHAPE) -> np.ndarray:
    """An affine around the middle of the brain, in the directions of a frame."""
    affine = np.eye(4)
    directions = frame[:3, :3] / np.linalg.norm(frame[:3, :3], axis=0)
    affine[:3, :3] = spacing * directions
    affine[:3, 3] = CENTRE_MM - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine


def world(affine: np.ndarray, shape=SHAPE) -> np.ndarray:
    return np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]


def cohort(*images: Volume, diagnoses=("CN", "EMCI", "AD")) -> Cohort:
    people = [
        Subject(f"s{k}", "F", d, (Scan(f"s{k}", "01", 70.0, {"FDG": v}),))
        for k, (v, d) in enumerate(zip(images, diagnoses, strict=False))
    ]
    return Cohort("pet", tuple(people), "embedded")


def values(places: np.ndarray) -> np.ndarray:
    return 1 + places @ SLOPE


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_linear_field_keeps_its_value_at_its_place_in_every_view(frame):
    affine = grid(frame)
    table = slice_table(cohort(Volume(torch.from_numpy(values(world(affine))), affine)), per_view=2, size=24)
    pixel = FIELD_MM / 24
    steps = pixel * (np.arange(24) - 11.5)
    for image, view, level in zip(table.suvr(table.images)[:, 0].numpy(), table.view, table.level_mm, strict=True):
        a, b, across = AXES[view]
        places = np.zeros((24, 24, 3))
        places[..., a], places[..., b] = steps[:, None] + CENTRE_MM[a], steps + CENTRE_MM[b]
        places[..., across] = level
        voxels = (places - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
        inside = ((voxels > 1.5) & (voxels < np.array(SHAPE) - 2.5)).all(axis=-1)
        assert inside.mean() > 0.3
        np.testing.assert_allclose(image[inside], values(places)[inside], atol=1e-4)


def test_rows_and_columns_rise_to_the_right_the_front_and_upwards():
    affine = grid()
    spot = np.exp(-((world(affine) - np.add(CENTRE_MM, (20, 30, 10))) ** 2).sum(-1) / 800)
    table = slice_table(cohort(Volume(torch.from_numpy(spot), affine)), per_view=1, size=64)
    for image, view in zip(table.suvr(table.images)[:, 0].numpy(), table.view, strict=True):
        found = [float((m * image).sum() / image.sum()) * 3 - 94.5 for m in np.indices(image.shape)]
        a, b, _ = AXES[view]
        assert found == pytest.approx([(20, 30, 10)[a], (20, 30, 10)[b]], abs=1.0)


def test_pixels_larger_than_voxels_are_averages():
    shape, rng = (64, 64, 9), np.random.default_rng(0)
    affine = np.diag([3.0, 3.0, 30.0, 1.0])
    affine[:3, 3] = [CENTRE_MM[0] - 94.5, CENTRE_MM[1] - 94.5, 20.0 - 120]
    volume = Volume(torch.from_numpy(rng.uniform(0, 2, shape)).float(), affine)
    table = slice_table(cohort(volume), views=("axial",), per_view=1, size=32)
    plane = volume.numpy()[:, :, 4]
    assert table.level_mm == (20.0,)
    np.testing.assert_allclose(table.suvr(table.images)[0, 0], block_reduce(plane, (2, 2), np.mean), atol=1e-5)


def test_intensities_are_clipped_to_the_stated_range_and_come_back():
    affine = grid()
    volume = Volume(torch.from_numpy(world(affine)[..., 0]).float() / 30, affine)  # −3 to 3 from left to right
    table = slice_table(cohort(volume), views=("axial",), size=64)
    assert (table.images.min(), table.images.max()) == (-1.0, 1.0) and table.images.dtype == torch.float32
    assert table.suvr_max == 2.0 and float(table.suvr(torch.tensor(0.5))) == 1.5


@pytest.fixture
def table() -> Slices:
    """Three people, a slice per level and view; the value tells the row."""
    rows = [(f"s{k}", stage, view, z) for k, stage in enumerate(STAGES) for view in VIEWS for z in levels_of(view, 2)]
    images = torch.linspace(-1, 1, len(rows))[:, None, None, None].expand(-1, 1, 16, 16)
    return Slices(images, *map(tuple, zip(*rows, strict=True)))


def test_rows_of_people_stages_and_views_are_found(table):
    assert len(table) == 18 and table.subjects == ("s0", "s1", "s2")
    assert table.stage_of == dict(zip(table.subjects, STAGES, strict=True))
    one = table.select(stages="AD", view="coronal")
    assert set(one.subject) == {"s2"} and one.view == ("coronal", "coronal") and one.level_mm == (-65.0, 15.0)
    assert torch.equal(one.images, table.images[[14, 15]])
    two = table.select(subjects=["s0", "s2"])
    assert len(two) == 12 and two.select(subjects=["s2"], view="coronal").level_mm == one.level_mm


def test_subjects_made_from_one_person_are_that_person(table):
    people = table.of_people({"s0": "a", "s1": "b", "s2": "a"})
    assert people.subjects == ("a", "b") and torch.equal(people.images, table.images) and people.stage == table.stage
    assert len(people.select(subjects=["a"])) == 12


def test_a_digest_changes_with_any_pixel_and_label(table):
    brighter = table.images.clone()
    brighter[3, 0, 2, 2] += 0.01
    others = [dataclasses.replace(table, images=brighter), dataclasses.replace(table, level_mm=(0.0,) * 18)]
    assert len({t.digest for t in (table, *others)}) == 3 and dataclasses.replace(table).digest == table.digest


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda t: t.select(stages="NC"), "Did you mean 'CN'"),
        (lambda t: t.select(stages=["AD", "MIC"]), "Did you mean 'MCI'"),
        (lambda t: t.select(view="axail"), "Did you mean 'axial'"),
        (lambda t: t.select(subjects=["s9"]), "one of s0, s1, s2"),
        (lambda t: t.select(subjects=["s0"], stages="AD"), "none of 1 people, stages AD"),
        (lambda t: dataclasses.replace(t, stage=("dementia",) * 18), "one of AD, CN, MCI"),
        (lambda t: dataclasses.replace(t, view=("axial",)), "18 of each.*1 view"),
        (lambda t: dataclasses.replace(t, images=t.images[..., :8]), r"shape \(N, 1, S, S\)"),
        (lambda t: levels_of("axial", 0), "1 or more"),
        (lambda t: stage_of("MC"), "Did you mean 'MCI'"),
    ],
)
def test_what_is_not_in_the_table_is_refused(table, wrong, message):
    with pytest.raises(NbkitError, match=message):
        wrong(table)


def test_early_and_late_impairment_are_one_stage_and_other_diagnoses_none():
    affine = grid()
    image = Volume(torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)), affine)
    table = slice_table(cohort(image, image, image), views=("axial",), per_view=1, size=16)
    assert table.stage == ("CN", "MCI", "AD")
    with pytest.raises(NbkitError, match=r"s0: diagnosis.*'SMC'"):
        slice_table(cohort(image, diagnoses=("SMC",)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"views": ("axial", "coronl")}, "Did you mean 'coronal'"),
        ({"size": 8}, "16 pixels or more"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(NbkitError, match=message):
        slice_table(cohort(Volume(torch.rand(SHAPE), grid())), **settings)


def test_a_plane_outside_the_image_is_refused_by_name():
    low = grid()
    low[2, 3] -= 120
    with pytest.raises(NbkitError, match=r"s0/01: axial: expected a level from .* found 50 mm"):
        slice_table(cohort(Volume(torch.rand(SHAPE), low)), per_view=2)


def test_levels_are_even_and_one_lies_in_the_middle():
    assert levels_of("axial", 3) == (-10.0, 20.0, 50.0) and levels_of("axial", 1) == (20.0,)
    assert np.ptp(np.diff(levels_of("sagittal", 5))) == pytest.approx(0)
