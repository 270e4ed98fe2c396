"""Region sizes and lesion contrast on a subject drawn by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.metrics.volumes import lesion_contrast, lesion_loads, median_patient, region_mean, volume_mm3

AFFINE = np.diag([0.9, 0.9, 3.0, 1.0])


def grid() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Voxel indices of a 24×20×16 grid."""
    return torch.meshgrid(*[torch.arange(n) for n in (24, 20, 16)], indexing="ij")


@pytest.fixture
def subject() -> tuple[Volume, Volume, Volume]:
    """One lesion voxel of 160 at (11, 9, 7); NAWM 120 up to 5 steps away and 80 beyond; no WM where z < 2."""
    x, y, z = grid()
    steps = (x - 11).abs() + (y - 9).abs() + (z - 7).abs()
    image = torch.where(steps == 0, 160.0, torch.where(steps <= 5, 120.0, 80.0))
    return Volume(image, AFFINE), Volume(steps == 0, AFFINE), Volume(z >= 2, AFFINE)


def test_contrast_by_hand(subject):
    image, lesions, white = subject
    x, y, z = grid()
    steps = (x - 11).abs() + (y - 9).abs() + (z - 7).abs()
    near = int(((steps <= 5) & (steps > 0) & (z >= 2)).sum())
    all_of_it = int((z >= 2).sum()) - 1
    level = (120 * near + 80 * (all_of_it - near)) / all_of_it
    assert lesion_contrast(image, lesions, white) == pytest.approx((160 / level, 160 / 120))


def test_contrast_ignores_the_unit_and_follows_the_distance(subject):
    image, lesions, white = subject
    doubled = image.with_data(image.data * 2)
    assert lesion_contrast(doubled, lesions, white) == pytest.approx(lesion_contrast(image, lesions, white))
    far = lesion_contrast(image, lesions, white, surround_voxels=40)
    assert far.ratio2 == pytest.approx(far.ratio1)


def test_contrast_is_undefined_without_lesions_or_white_matter(subject):
    image, lesions, white = subject
    nothing = lesions.with_data(torch.zeros_like(lesions.data))
    assert all(map(math.isnan, lesion_contrast(image, nothing, white)))
    assert all(map(math.isnan, lesion_contrast(image, lesions, nothing)))


def test_sizes_and_means(subject):
    image, lesions, white = subject
    assert volume_mm3(lesions) == pytest.approx(0.9 * 0.9 * 3)
    assert region_mean(image, lesions) == 160.0
    assert region_mean(image, white) == pytest.approx(float(image.data[white.data].mean()))


def test_volume_follows_the_voxel_whatever_its_direction():
    turn = np.array([[0.6, -0.8, 0, 0], [0.8, 0.6, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    x, y, z = grid()
    ball = (x - 11) ** 2 + (y - 9) ** 2 + (z - 7) ** 2 <= 6**2
    sizes = [volume_mm3(Volume(ball, turn @ np.diag([*spacing, 1.0]))) for spacing in ((1, 1, 1), (-0.5, 2, 3))]
    within = [4 / 3 * math.pi * (6 + s * math.sqrt(3) / 2) ** 3 for s in (-1, 1)]
    assert within[0] < sizes[0] < within[1]
    assert sizes[1] == pytest.approx(3 * sizes[0])


def test_bad_input_is_refused(subject):
    image, lesions, white = subject
    z_scores = image.with_data(image.data - 100)
    with pytest.raises(NbkitError, match="expected an image in the scanner's unit, found mean -1"):
        lesion_contrast(z_scores, lesions, white)
    moved = Volume(lesions.data, np.diag([1.0, 0.9, 3.0, 1.0]))
    with pytest.raises(NbkitError, match="image and lesions: expected the same affine"):
        lesion_contrast(image, moved, white)
    with pytest.raises(NbkitError, match="image and region: expected the same affine"):
        region_mean(image, moved)


def people(*voxels: int, truth: dict | None = None) -> Cohort:
    """Patients p0, p1, ... with so many lesion voxels of 2.43 mm³, the last with two visits, and a control."""
    subjects = []
    for i, count in enumerate((*voxels, 9)):
        mask = Volume((torch.arange(10) < count).reshape(1, 10, 1, 1), AFFINE)
        name, visits = ("hc", 1) if i == len(voxels) else (f"p{i}", 1 + (i == len(voxels) - 1))
        scans = tuple(Scan(name, str(v), 30.0 + v, {}, {"lesions": mask}) for v in range(visits))
        subjects.append(Subject(name, "F", "HC" if name == "hc" else "MS", scans))
    return Cohort("drawn", tuple(subjects), "embedded", {}, truth or {})


def test_loads_are_the_truth_where_it_is_known_and_else_the_mask():
    truth = {"p0": {"lesion_load_ml": 3.5}, "p1": {"facts": {"load_ml": 0.0}}, "p2": {"velocity": None}}
    assert lesion_loads(people(4, 5, 6, truth=truth)) == pytest.approx({"p0": 3.5, "p1": 0.0, "p2": 6 * 0.00243})


@pytest.mark.parametrize(("voxels", "name"), [((7, 3, 5), "p2"), ((7, 3, 5, 1), "p1"), ((4, 4, 4), "p1"), ((2,), "p0")])
def test_the_patient_shown_has_the_median_load(voxels, name):
    assert median_patient(people(*voxels)).id == name


def test_the_patient_shown_has_as_many_visits_as_asked_for():
    assert median_patient(people(1, 2, 9), visits=2).id == "p2"
    with pytest.raises(NbkitError, match="a patient with 3 scans"):
        median_patient(people(1, 2, 9), visits=3)
