"""Slices keep their place in the world whatever the storage order, and a cohort of them keeps its people."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from skimage.measure import block_reduce

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.lazy import LazyVolumes, Shelf
from nbkit.data.slices import CENTRE_MM, cut, diagnosis_code, slice_grid, sliced
from tests.geometry.frames import FRAMES

SHAPE, LEVEL = (24, 20, 34), 9.0
SLOPE = np.array([0.3, -1.2, 0.7, 5.0])
frames = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


def affine_around(frame: np.ndarray, middle=(*CENTRE_MM[:2], 7.0), shape=SHAPE) -> np.ndarray:
    """The directions and (doubled) spacing of a frame, around a place in the world."""
    affine = np.eye(4)
    affine[:3, :3] = 2 * frame[:3, :3]
    affine[:3, 3] = middle - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine


def world(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """World position (X, Y, Z, 4) of every voxel."""
    return np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]


def ramp(places: np.ndarray) -> np.ndarray:
    return places @ SLOPE[:3] + SLOPE[3]


# one volume


def test_the_grid_is_centred_and_axial():
    shape, affine = slice_grid(12.5, size=32, spacing_mm=6.0)
    assert shape == (32, 32, 1) and np.array_equal(affine[:3, :3], 6 * np.eye(3))
    middle = affine @ [15.5, 15.5, 0, 1]
    assert middle[:3] == pytest.approx([0.0, -17.0, 12.5])


@frames
@pytest.mark.parametrize("spacing", [0.8, 3.0, 5.0])
def test_a_linear_field_keeps_its_value_in_the_world(frame, spacing):
    affine = affine_around(frame)
    volume = Volume(torch.from_numpy(ramp(world(SHAPE, affine))), affine)
    found = cut(volume, LEVEL, size=16, spacing_mm=spacing)
    places = world(found.shape, found.affine)
    inverse = np.linalg.inv(affine)
    voxels = places @ inverse[:3, :3].T + inverse[:3, 3]
    reach = np.abs(inverse[:3, :2]).sum(axis=1) * spacing / 2  # half a pixel, in voxels
    inside = ((voxels >= reach) & (voxels <= np.array(SHAPE) - 1 - reach)).all(axis=-1)
    assert inside.mean() > 0.1 and found.data.dtype == torch.float32
    np.testing.assert_allclose(found.numpy()[inside], ramp(places)[inside], atol=2e-4)


@frames
def test_left_and_right_front_and_back_stay_where_they_are(frame):
    """A tissue to the right and in front is found at high x and y, by hand from its world position."""
    affine = affine_around(frame)
    places = world(SHAPE, affine) - [*CENTRE_MM[:2], LEVEL]
    spot = Volume(torch.from_numpy(np.exp(-((places - [6.0, 3.0, 0.0]) ** 2).sum(-1) / 18)), affine)
    image = cut(spot, LEVEL, size=40, spacing_mm=1.0).numpy()[..., 0]
    middle = [float((m * image).sum() / image.sum()) for m in np.indices(image.shape)]
    assert middle == pytest.approx([19.5 + 6, 19.5 + 3], abs=0.3)


def aligned(spacing: float, size: int, depth: int = 3) -> np.ndarray:
    """Affine of a RAS volume (size, size, depth) whose planes cover a slice; plane 1 lies at LEVEL."""
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = [*(c - spacing * (size - 1) / 2 for c in CENTRE_MM[:2]), LEVEL - spacing]
    return affine


def test_a_slice_on_the_voxels_is_the_plane_itself():
    data = torch.rand(2, 16, 16, 3)
    found = cut(Volume(data, aligned(3.0, 16), ("read",)), LEVEL, size=16, spacing_mm=3.0)
    torch.testing.assert_close(found.data, data[..., 1:2], atol=1e-5, rtol=0)
    assert found.history == ("read", "axial slice at z = 9 mm, 16×16 pixels of 3 mm")
    between = cut(Volume(data, aligned(3.0, 16)), LEVEL + 1.5, size=16, spacing_mm=3.0)
    torch.testing.assert_close(between.data, data[..., 1:].mean(-1, keepdim=True), atol=1e-5, rtol=0)


def test_pixels_larger_than_voxels_are_means():
    data = torch.rand(48, 48, 3)
    found = cut(Volume(data, aligned(2.0, 48)), LEVEL, size=16, spacing_mm=6.0)
    np.testing.assert_allclose(found.numpy()[..., 0], block_reduce(data[..., 1].numpy(), (3, 3), np.mean), atol=1e-5)


def test_what_lies_outside_the_volume_is_zero():
    found = cut(Volume(torch.ones(8, 8, 3), aligned(3.0, 8)), LEVEL, size=16, spacing_mm=3.0).numpy()[..., 0]
    assert found[4:12, 4:12].min() > 0.999 and found.sum() == pytest.approx(64, rel=1e-3)


def test_labels_stay_whole_and_none_is_skipped_between_voxels():
    """Pixels half-way between voxels take neighbour after neighbour, never one twice."""
    codes = torch.arange(17, dtype=torch.int16)[:, None, None].expand(17, 17, 3)
    found = cut(Volume(codes, aligned(3.0, 17)), LEVEL, size=16, spacing_mm=3.0, mode="nearest")
    assert found.data.dtype == torch.int16
    assert (np.diff(found.numpy()[..., 0], axis=0) == 1).all()


def test_a_mask_stays_boolean_and_a_slice_holds_only_itself():
    volume = Volume(torch.rand(64, 64, 3), aligned(3.0, 64))
    mask = volume.with_data(volume.data > 0.5)
    for source, mode in ((volume, "linear"), (mask, "nearest")):
        found = cut(source, LEVEL, size=16, spacing_mm=3.0, mode=mode)
        assert found.data.untyped_storage().nbytes() == found.data.numel() * found.data.element_size()
    assert found.data.dtype == torch.bool and 0.3 < found.data.float().mean() < 0.7


def test_half_precision_is_read_too():
    data = torch.rand(16, 16, 3)
    halves = cut(Volume(data.half(), aligned(3.0, 16)), LEVEL, size=16, spacing_mm=3.0)
    torch.testing.assert_close(halves.data[0], data[..., 1:2], atol=1e-3, rtol=0)


@pytest.mark.parametrize(("change", "words"), [
    ({"size": 15}, "slice_grid: size: expected 16 pixels or more, found 15"),
    ({"spacing_mm": 0.0}, "slice_grid: spacing_mm: expected a positive pixel size"),
    ({"level_mm": float("nan")}, "cut: level_mm: expected a level from .* found nan"),
    ({"level_mm": 12.1}, "cut: level_mm: expected a level from 6.0 to 12.0 mm, inside the volume, found 12.1"),
    ({"level_mm": 5.9}, "inside the volume, found 5.9"),
    ({"mode": "nerest"}, "Did you mean 'nearest'"),
])
def test_bad_slices_are_refused(change, words):
    volume = Volume(torch.rand(16, 16, 3), aligned(3.0, 16))
    with pytest.raises(NbkitError, match=words):
        cut(volume, **{"level_mm": LEVEL, "size": 16, "spacing_mm": 3.0} | change)


def test_diagnoses_are_numbers_in_the_order_of_the_disease():
    assert [diagnosis_code(d) for d in ("CN", "SMC", "EMCI", "LMCI", "MCI", "AD")] == [0, 1, 2, 2, 2, 3]
    with pytest.raises(NbkitError, match="diagnosis_code: name: .*Did you mean 'LMCI'"):
        diagnosis_code("LMIC")


# a cohort

SETTINGS = {"level_mm": LEVEL, "size": 16, "spacing_mm": 3.0}


def scan(person: str, session: str, age: float | None, diagnosis: str | None, *, lift: float = 0.0) -> Scan:
    """A ball of radius 18 mm in a volume of 54 mm, its centre `lift` mm above the slice."""
    affine = aligned(3.0, 18, 18)
    affine[2, 3] -= 24.0
    apart = np.linalg.norm(world((18, 18, 18), affine) - [*CENTRE_MM[:2], LEVEL + lift], axis=-1)
    image = Volume(torch.from_numpy((1.1 - apart / 40) * (apart < 18)).float(), affine)
    labels = Volume(torch.from_numpy((apart < 18).astype(np.uint8) + (apart < 9)), affine)
    brain = LazyVolumes((person, session), ("brain",), lambda _: Volume(apart < 18, affine), shelf=Shelf())
    return Scan(person, session, age, {"T1w": image, "T2w": image}, brain, labels, {1: "cortex", 2: "core"}, diagnosis)


def cohort(**changes) -> Cohort:
    people = (
        Subject("a", "F", "EMCI", (scan("a", "M000", 70.25, "EMCI"), scan("a", "M012", 71.5, "AD")), {"converter": 1}),
        Subject("b", None, "CN", (scan("b", "M000", None, None, lift=8.0),)),
    )
    facts = {"data_hash": "1234", "grid": {"shape": [18, 18, 18]}, "licence": "none"}
    return dataclasses.replace(Cohort("balls", people, "embedded", facts, {"a": "what a phantom knows"}), **changes)


def test_people_ages_and_diagnoses_are_kept_and_truth_is_not():
    before, after = cohort(), sliced(cohort(), **SETTINGS)
    assert after.name == "balls (slice)" and after.access == "embedded" and after.truth == {}
    assert after.ids == before.ids
    for one, other in zip(before, after, strict=True):
        assert (one.sex, one.diagnosis, one.covariates) == (other.sex, other.diagnosis, other.covariates)
        kept = [[(s.session, s.age, s.diagnosis, s.label_names) for s in p.scans] for p in (one, other)]
        assert kept[0] == kept[1]


def test_a_scan_becomes_its_slice_on_one_grid():
    found = sliced(cohort(), **SETTINGS, contrast="T2w")
    for subject in found:
        for one in subject.scans:
            assert list(one.images) == ["T2w"] and one.image("T2w").shape == (16, 16, 1)
            for other in (one.mask("brain"), one.labels):
                one.image("T2w").check_grid(other, "test")
            assert one.mask("brain").data.dtype == torch.bool and one.labels.data.dtype == torch.uint8
            assert set(one.labels.data.unique().tolist()) <= {0, 1, 2}
    # by hand: pixels whose centre is within 18 and 9 mm of the ball's centre
    _, affine = slice_grid(**SETTINGS)
    radius = np.linalg.norm(world((16, 16, 1), affine)[..., :2] - CENTRE_MM[:2], axis=-1)[..., 0]
    first, higher = found.subject("a").baseline, found.subject("b").baseline
    assert np.array_equal(first.mask("brain").numpy()[..., 0], radius < 18)
    assert np.array_equal(first.labels.numpy()[..., 0] == 2, radius < 9)
    assert np.array_equal(higher.mask("brain").numpy()[..., 0], radius < np.sqrt(18**2 - 8**2))


def test_provenance_tells_what_was_cut():
    facts = sliced(cohort(), **SETTINGS).provenance
    assert facts["slice"] == {**SETTINGS, "contrast": "T1w"} and facts["licence"] == "none"
    assert facts["grid"] == {"shape": [16, 16, 1], "spacing_mm": [3.0, 3.0, 3.0]}
    others = [{"level_mm": 10.0}, {"size": 17}, {"spacing_mm": 2.5}, {"contrast": "T2w"}]
    hashes = [sliced(cohort(), **SETTINGS | change).provenance["data_hash"] for change in others]
    other_people = cohort(provenance={"data_hash": "5678"})
    hashes += [facts["data_hash"], "1234", sliced(other_people, **SETTINGS).provenance["data_hash"]]
    assert len(set(hashes)) == 7
    assert "data_hash" not in sliced(cohort(provenance={}), **SETTINGS).provenance


def without(**changes) -> Cohort:
    return cohort(subjects=(Subject("c", "M", "AD", (dataclasses.replace(scan("c", "M006", 80.0, "AD"), **changes),)),))


def test_labels_may_be_missing():
    assert sliced(without(labels=None), **SETTINGS).subjects[0].baseline.labels is None


@pytest.mark.parametrize(("people", "change", "words"), [
    (cohort, {"contrast": "T1"}, "a/M000: contrast: expected 'T1', found only T1w, T2w. Did you mean 'T1w'"),
    (lambda: without(masks={}), {}, "c/M006: mask: expected 'brain'"),
    (cohort, {"level_mm": -5.0}, "b/M000: brain mask: expected some brain in the slice at z = -5 mm, found none"),
    (cohort, {"level_mm": 50.0}, "cut: level_mm"),
])
def test_scans_without_a_slice_are_refused_by_name(people, change, words):
    with pytest.raises(NbkitError, match=words):
        sliced(people(), **SETTINGS | change)
