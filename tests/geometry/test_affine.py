"""Affine registration recovers known transforms in every frame; its transforms are applied as they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.geometry.affine import align, apply_affine, through_affine
from nbkit.geometry.warp import warp
from tests.geometry.scene import CENTRE, grid, places, render, scene

TURN = Rotation.from_euler("xyz", [9, -14, 11], degrees=True).as_matrix()
SHEAR = expm(np.array([[0.10, 0.03, -0.02], [0.01, -0.08, 0.04], [0.0, -0.03, 0.06]]))
LINEAR = {"rigid": TURN, "similarity": 1.12 * TURN, "affine": TURN @ SHEAR}
CUBES, SLABS = (3.0, 3.0, 3.0), (2.0, 2.0, 5.0)


def truth(kind: str) -> np.ndarray:
    """Fixed world to moving world, about the scene's centre, with a shift."""
    matrix = np.eye(4)
    matrix[:3, :3] = LINEAR[kind]
    matrix[:3, 3] = CENTRE + [6.0, -4.0, 9.0] - LINEAR[kind] @ CENTRE
    return matrix


def moved_scene(like: Volume, matrix: np.ndarray) -> Volume:
    back = np.linalg.inv(matrix)
    return render(like, lambda world: world @ back[:3, :3].T + back[:3, 3])


def miss(a: np.ndarray, b: np.ndarray) -> float:
    """Largest distance (mm) between two transforms at the corners of the box that holds the scene's blobs."""
    corners = CENTRE + 22 * (np.array(list(np.ndindex(2, 2, 2))) * 2.0 - 1)
    return float(np.linalg.norm(corners @ (a - b)[:3, :3].T + (a - b)[:3, 3], axis=1).max())


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize(
    ("fixed", "moving"), [("RAS", "LAS"), ("LAS", "oblique"), ("oblique", "permuted")]
)
def test_recovers_a_known_transform(kind, fixed, moving):
    """Another frame and anisotropic voxels for the moving image: from 20 mm off to a tenth of a voxel."""
    matrix = truth(kind)
    target = render(grid(fixed, spacing=CUBES, extent=105))
    found = align(moved_scene(grid(moving, spacing=SLABS, extent=120), matrix), target, kind=kind)
    assert miss(np.eye(4), matrix) > 19
    assert miss(found, matrix) < 0.3


def test_rigid_and_similarity_stay_what_they_are():
    target, source = render(grid("RAS", spacing=CUBES)), moved_scene(grid("oblique", spacing=CUBES), truth("affine"))
    rigid, similar = (align(source, target, kind=k)[:3, :3] for k in ("rigid", "similarity"))
    assert np.allclose(rigid.T @ rigid, np.eye(3), atol=1e-10)
    assert np.linalg.det(rigid) == pytest.approx(1)
    assert np.allclose(similar.T @ similar, np.eye(3) * np.linalg.det(similar) ** (2 / 3), atol=1e-10)
    assert np.linalg.det(similar) == pytest.approx(np.linalg.det(SHEAR), rel=0.05)


def test_an_image_is_aligned_with_itself_whatever_its_brightness():
    volume = render(grid("oblique", spacing=CUBES))
    assert miss(align(volume, volume), np.eye(4)) < 1e-3
    brighter = volume.with_data(1000 - 300 + 250 * volume.data)
    assert miss(align(brighter, volume), np.eye(4)) < 0.02


def test_there_and_back():
    """Twice what one way may miss."""
    target = render(grid("RAS", spacing=CUBES, extent=105))
    source = moved_scene(grid("LPS", spacing=CUBES, extent=120), truth("affine"))
    there, back = align(source, target), align(target, source)
    assert miss(there @ back, np.eye(4)) < 2 * 0.3


def test_the_same_scene_stored_otherwise_gives_the_same_matrix():
    target = render(grid("RAS", spacing=CUBES))
    source = moved_scene(grid("RAS", spacing=CUBES), truth("affine"))
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = source.shape[0] - 1
    stored = Volume(source.data.flip(1), source.affine @ mirror)
    assert miss(align(stored, target), align(source, target)) < 0.1


def test_applying_a_transform_pulls_the_scene():
    """moving(M x) = fixed(x), to the bound of linear interpolation for the sharpest blob: 3/8 · (2 mm / 4 mm)²."""
    matrix, like = truth("affine"), grid("oblique", spacing=(2.0, 2.0, 2.0), extent=60)
    source = moved_scene(grid("LAS", spacing=(2.0, 2.0, 2.0), extent=110), matrix)
    moved = apply_affine(source, matrix, like=like)
    expected = render(like)
    assert np.array_equal(moved.affine, like.affine) and moved.shape == like.shape
    assert float((moved.data - expected.data).abs().max()) < 3 / 32 < 0.1 * float(expected.data.max())


def test_labels_stay_whole():
    labels = Volume(torch.randint(0, 5, (1, 9, 8, 7), dtype=torch.int16), np.diag([2.0, 2, 2, 1]))
    moved = apply_affine(labels, truth("rigid"), like=grid("RAS", spacing=CUBES), mode="nearest")
    assert moved.data.dtype == torch.int16
    assert moved.data.sum() > 0


def test_one_interpolation_through_both_transforms():
    """x -> M(x + u): the scene is pulled from its own grid as the analytic composition says."""
    matrix, like = truth("affine"), grid("oblique", spacing=(2.0, 2.0, 2.0), extent=60)
    source = moved_scene(grid("LAS", spacing=(2.0, 2.0, 2.0), extent=110), matrix)
    world = places(like)
    bend = 2 * np.sin((world - CENTRE)[:, [1, 2, 0]] / 9)
    field = torch.from_numpy(bend.T.reshape(1, 3, *like.shape)).float()
    both = through_affine(field, matrix, affine=like.affine)
    moved = warp(source.data[None], both, affine=like.affine, image_affine=source.affine)
    expected = torch.from_numpy(scene(world + bend).reshape(like.shape))
    assert float((moved[0, 0] - expected).abs().max()) < 3 / 32 < 0.1 * float(expected.max())


def test_bad_input_is_named():
    good = render(grid("RAS", spacing=(6.0, 6.0, 6.0)))
    with pytest.raises(NbkitError, match="align: kind: expected one of affine, rigid, .*Did you mean 'rigid'"):
        align(good, good, kind="rigidd")
    with pytest.raises(NbkitError, match="align: moving: expected finite values, found 1 NaN"):
        align(good.with_data(good.data.index_put((torch.tensor(0),) * 4, torch.tensor(float("nan")))), good)
    with pytest.raises(NbkitError, match="align: fixed: expected an image with contrast"):
        align(good, good.with_data(0 * good.data))
    with pytest.raises(NbkitError, match="align: fixed: expected one channel, found 2 channels"):
        align(good, Volume(good.data.expand(2, -1, -1, -1), good.affine))
    with pytest.raises(NbkitError, match="align: levels_mm: expected at least one level"):
        align(good, good, levels_mm=())
    with pytest.raises(NbkitError, match="apply_affine: matrix: expected an invertible 4×4 world matrix"):
        apply_affine(good, np.zeros((4, 4)), like=good)
    with pytest.raises(NbkitError, match="through_affine: matrix: expected an invertible 4×4"):
        through_affine(torch.zeros(1, 3, 2, 2, 2), np.eye(3), affine=np.eye(4))
    with pytest.raises(NbkitError, match="resample: mode: expected 'nearest' for labels and masks"):
        apply_affine(good.with_data(good.data > 0), np.eye(4), like=good)
