"""Cubes over the field of view: world coordinates stay where they are, and planes are those of the slices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.pet_slices import CENTRE_MM, VIEWS, field_grid, levels_of, slice_table
from nbkit.geometry.warp import grid_positions
from nbkit.papers.pet_dcgan.pet_volumes import Volumes, planes, volume_table

AFFINE = np.array([[3.0, 0, 0, -110], [0, 3.0, 0, -125], [0, 0, 3.0, -100], [0, 0, 0, 1]])


def linear(positions: torch.Tensor) -> torch.Tensor:
    """An uptake ratio that is linear in world coordinates, (..., X, Y, Z) of (3, X, Y, Z)."""
    return 0.9 + 0.004 * positions[0] - 0.003 * positions[1] + 0.002 * positions[2]


def scanned(name: str, diagnosis: str) -> Subject:
    image = Volume(linear(grid_positions((74, 74, 72), AFFINE)[0]).float(), AFFINE)
    return Subject(name, "F", diagnosis, (Scan(name, "01", 70.0, {"FDG": image}),))


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return Cohort("toy", (scanned("a", "CN"), scanned("b", "LMCI")), "embedded")


def test_a_voxel_holds_the_uptake_at_its_place(cohort):
    table = volume_table(cohort, size=16)
    shape, affine = field_grid(16)
    truth = 2 * linear(grid_positions(shape, affine)[0]) / table.suvr_max - 1
    assert table.images.shape == (2, 1, 16, 16, 16) and table.stage == ("CN", "MCI") and table.view == ("volume",) * 2
    assert torch.allclose(table.images[0, 0], truth.float(), atol=1e-4)


def test_planes_of_a_cube_are_the_slices_of_the_scan(cohort):
    table = volume_table(cohort, size=16)
    cut, straight = table.slices(per_view=2, size=32), slice_table(cohort, per_view=2, size=32)
    for view in VIEWS:
        mine, theirs = cut.select(view=view, subjects=["a"]), straight.select(view=view, subjects=["a"])
        assert mine.level_mm == theirs.level_mm == levels_of(view, 2)
        inner = (..., slice(1, -1), slice(1, -1))  # a coarse cube ends half a voxel before the field does
        assert torch.allclose(mine.images[inner], theirs.images[inner], atol=1e-3), view


def test_a_plane_through_voxels_is_these_voxels():
    cubes = torch.rand(2, 1, 16, 16, 16)
    z = CENTRE_MM[2] + 12.0 * (5 - 7.5)
    assert torch.allclose(planes(cubes, "axial", z, size=16), cubes[..., 5], atol=1e-6)
    x = CENTRE_MM[0] + 12.0 * (15 - 7.5)
    assert torch.allclose(planes(cubes, "sagittal", x, size=16), cubes[:, :, 15], atol=1e-6)


def test_a_plane_of_the_field_is_one_voxel_thick():
    shape, affine = field_grid(64, plane=("coronal", -25.0))
    assert shape == (64, 1, 64) and affine[1, 3] == -25.0 and np.allclose(np.diag(affine)[:3], 3)
    assert np.allclose(affine @ [31.5, 0, 31.5, 1], [CENTRE_MM[0], affine[1, 3], CENTRE_MM[2], 1])


def test_people_and_stages_are_chosen_by_name(cohort):
    table = volume_table(cohort, size=16)
    assert table.select(stages="MCI").subject == ("b",) and table.select(subjects=["a"]).stage == ("CN",)
    with pytest.raises(NbkitError, match="Did you mean 'MCI'"):
        table.select(stages="MCIi")
    with pytest.raises(NbkitError, match="at least one slice"):
        table.select(subjects=["a"], stages="AD")


@pytest.mark.parametrize(("act", "said"), [
    (lambda: Volumes(torch.zeros(1, 1, 8, 8, 9), ("a",), ("CN",)), "Volumes: images"),
    (lambda: Volumes(torch.zeros(1, 1, 8, 8, 8), ("a", "b"), ("CN",)), "Volumes: labels"),
    (lambda: Volumes(torch.zeros(1, 1, 8, 8, 8), ("a",), ("CM",)), "Volumes: stage"),
    (lambda: planes(torch.zeros(1, 1, 8, 8, 8), "axial", 500.0, size=8), "a level inside the field of view"),
    (lambda: planes(torch.zeros(1, 1, 8, 8, 8), "axail", 5.0, size=8), "Did you mean 'axial'"),
    (lambda: field_grid(16, plane=("top", 0.0)), "field_grid: view"),
    (lambda: volume_table(Cohort("toy", (), "embedded"), size=8), "16 pixels or more"),
    (lambda: volume_table(Cohort("toy", (), "embedded"), suvr_max=0), "a positive uptake ratio"),
])
def test_what_does_not_fit_is_refused(act, said):
    with pytest.raises(NbkitError, match=said):
        act()
