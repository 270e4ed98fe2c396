"""Warps: identity, translations, frames, and scipy as an independent interpolator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.geometry.flow import compose
from nbkit.geometry.warp import doubled, grid_positions, resample, to_voxels, warp, warp_each
from tests.geometry.frames import FRAMES, SHAPE

frames = pytest.mark.parametrize("affine", FRAMES.values(), ids=FRAMES)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@frames
def test_no_displacement_changes_nothing(affine):
    image = noise(2, 3, *SHAPE)
    still = torch.zeros(2, 3, *SHAPE, dtype=torch.float64)
    assert torch.allclose(warp(image, still, affine=affine), image, atol=1e-12)


@frames
def test_one_voxel_along_an_axis_pulls_the_neighbour(affine):
    image = noise(1, 1, *SHAPE)
    step = torch.as_tensor(affine[:3, 1]).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    moved = warp(image, step, affine=affine)
    assert torch.allclose(moved[:, :, :, :-1], image[:, :, :, 1:], atol=1e-10)
    assert torch.allclose(moved[:, :, :, -1], torch.zeros(()).double(), atol=1e-10)


@frames
@pytest.mark.parametrize(
    ("mode", "padding", "order", "scipy_mode"),
    [("linear", "border", 1, "nearest"), ("linear", "zeros", 1, "grid-constant"), ("nearest", "border", 0, "nearest")],
)
def test_agrees_with_scipy(affine, mode, padding, order, scipy_mode):
    image, field = noise(1, 1, *SHAPE), 3 * noise(1, 3, *SHAPE, seed=1)
    world = np.einsum("ij,jxyz->ixyz", affine[:3, :3], np.indices(SHAPE)) + affine[:3, 3, None, None, None]
    inverse = np.linalg.inv(affine)
    voxels = np.einsum("ij,jxyz->ixyz", inverse[:3, :3], world + field[0].numpy()) + inverse[:3, 3, None, None, None]
    expected = ndimage.map_coordinates(image[0, 0].numpy(), voxels, order=order, mode=scipy_mode)
    moved = warp(image, field, affine=affine, mode=mode, padding=padding)[0, 0].numpy()
    np.testing.assert_allclose(moved, expected, atol=1e-10)


def test_storage_order_does_not_matter():
    """The same scene stored as RAS and as LAS moves the same way under the same world displacement."""
    ras = FRAMES["RAS"]
    las = ras @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    image, field = noise(1, 1, *SHAPE), noise(1, 3, *SHAPE, seed=1)
    a = warp(image, field, affine=ras)
    b = warp(image.flip(2), field.flip(2), affine=las)
    assert torch.allclose(a, b.flip(2), atol=1e-10)


def test_a_nonlinear_world_function_is_pulled_from_another_grid():
    """Linear interpolation is exact for a linear function of world position, whatever the two grids."""
    source, target = FRAMES["oblique"], FRAMES["RAS"].copy()
    target[:3, :3] *= 0.3
    target[:3, 3] = [3, -5, 7] - target[:3, :3] @ (np.array(SHAPE) - 1) / 2
    slope = torch.tensor([0.7, -1.1, 0.4], dtype=torch.float64)
    image = torch.einsum("i,bixyz->bxyz", slope, grid_positions(SHAPE, source, like=slope))[None]
    field = 0.2 * noise(1, 3, *SHAPE)
    moved = warp(image, field, affine=target, image_affine=source)
    expected = torch.einsum("i,bixyz->bxyz", slope, grid_positions(SHAPE, target, like=slope) + field)[None]
    assert torch.allclose(moved, expected, atol=1e-10)


def test_one_displacement_moves_a_batch():
    image, field = noise(3, 2, *SHAPE), noise(1, 3, *SHAPE, seed=1)
    affine = FRAMES["LPS"]
    each = torch.cat([warp(i[None], field, affine=affine) for i in image])
    assert torch.equal(warp(image, field, affine=affine), each)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("threads", [2, 3, 11])
def test_slabs_for_threads_change_nothing(batch, threads, monkeypatch):
    """Of 13 × 11 × 12 places, 2, 3 or 11 equal parts: batches smaller than the threads are cut up."""
    image, field = noise(1, 2, *SHAPE), noise(batch, 3, 13, 11, 12, seed=1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    whole = warp(image, field, affine=FRAMES["oblique"])
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(warp(image, field, affine=FRAMES["oblique"]), whole)


@frames
def test_maps_warped_each_where_it_is_are_those_warped_everywhere(affine):
    maps, field = torch.zeros(5, *SHAPE), 3 * noise(1, 3, 13, 11, 12, seed=1)
    maps[0, 1:3, 2:5, 4], maps[1, -1], maps[2, :, 0, 0], maps[4] = 1.0, 0.5, -2.0, noise(*SHAPE)
    grid = affine @ np.diag([1.3, 0.8, 1.1, 1])
    for options in ({"affine": affine}, {"affine": grid, "image_affine": affine}):
        everywhere = warp(maps[None], field, **options)[0]
        assert everywhere[0].any() and torch.equal(warp_each(maps, field, **options), everywhere)


@frames
def test_doubling_is_composing_with_itself(affine):
    field = 0.3 * noise(1, 3, *SHAPE)
    twice = compose(field, field, affine=affine)
    again = compose(twice, twice, affine=affine)
    assert torch.allclose(doubled(field, 2, affine=affine), again, atol=1e-10)


def test_gradients_reach_image_and_field():
    image, field = noise(1, 1, 4, 5, 6).requires_grad_(), (0.3 * noise(1, 3, 4, 5, 6, seed=1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, f: warp(i, f, affine=np.diag([1.1, 0.9, 1.3, 1.0])), (image, field))


@frames
def test_world_components_turn_into_voxels(affine):
    vector = torch.as_tensor(affine[:3, :3] @ [1.0, -2.0, 0.5]).view(1, 3, 1, 1, 1)
    expected = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    assert torch.allclose(to_voxels(vector, affine).flatten(), expected, atol=1e-12)


@frames
def test_resample_there_and_back_on_a_finer_grid(affine):
    coarse = Volume(noise(1, *SHAPE), affine)
    finer = affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    back = resample(resample(coarse, tuple(2 * n - 1 for n in SHAPE), finer), SHAPE, affine)
    assert torch.allclose(back.data, coarse.data, atol=1e-10)
    assert back.history == ("resample linear to 25×21×23", "resample linear to 13×11×12")


def test_resample_keeps_labels_whole():
    labels = Volume(torch.randint(0, 5, (1, *SHAPE), dtype=torch.int16), FRAMES["oblique"])
    moved = resample(labels, SHAPE, FRAMES["RAS"], mode="nearest", padding="border")
    assert moved.data.dtype == torch.int16
    assert set(moved.data.unique().tolist()) <= set(range(5))
    mask = Volume(labels.data > 2, labels.affine)
    nearest = resample(mask, SHAPE, FRAMES["RAS"], mode="nearest", padding="border")
    assert torch.equal(nearest.data, moved.data > 2)


def test_single_slice_volumes_work():
    image = noise(1, 1, 6, 5, 1)
    still = torch.zeros(1, 3, 6, 5, 1, dtype=torch.float64)
    assert torch.allclose(warp(image, still, affine=np.eye(4)), image)


def test_wrong_inputs_are_named():
    image, field = noise(1, 1, *SHAPE), noise(1, 3, *SHAPE)
    with pytest.raises(NbkitError, match=r"displacement_mm: expected shape \(B, 3, X, Y, Z\)"):
        warp(image, field[:, :2], affine=np.eye(4))
    with pytest.raises(NbkitError, match=r"warp: image: expected a floating"):
        warp(image.long(), field, affine=np.eye(4))
    with pytest.raises(NbkitError, match="Did you mean 'nearest'"):
        warp(image, field, affine=np.eye(4), mode="neares")
    with pytest.raises(NbkitError, match="Did you mean 'border'"):
        warp(image, field, affine=np.eye(4), padding="borders")
    with pytest.raises(NbkitError, match="mode='nearest'"):
        resample(Volume(torch.ones(1, 2, 2, 2, dtype=torch.bool)), (2, 2, 2), np.eye(4))
