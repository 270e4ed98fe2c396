"""Flows: the group laws of the exponential, linear fields against the matrix exponential, volumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.linalg import expm

from nbkit.core.checks import NbkitError
from nbkit.geometry.flow import compose, expv, jacobian_determinant, squarings
from nbkit.geometry.warp import grid_positions, to_voxels, warp
from tests.geometry.frames import FRAMES, SHAPE

frames = pytest.mark.parametrize("affine", FRAMES.values(), ids=FRAMES)
CENTRE = np.array([3.0, -5.0, 7.0])
GENERATOR = np.array([[0.05, -0.12, 0.03], [0.10, -0.08, 0.02], [-0.04, 0.06, 0.07]])
INSIDE = (slice(None), slice(None), *(slice(4, -4),) * 3)


def linear_field(matrix: np.ndarray, affine: np.ndarray) -> torch.Tensor:
    """matrix · (x − CENTRE) at every voxel: the centre stays where it is."""
    offset = grid_positions(SHAPE, affine, like=torch.empty(0, dtype=torch.float64))
    offset = offset - torch.as_tensor(CENTRE).view(1, 3, 1, 1, 1)
    return torch.einsum("ij,bjxyz->bixyz", torch.as_tensor(matrix), offset)


def smooth_field(affine: np.ndarray, *, size_mm: float, seed: int = 0) -> torch.Tensor:
    """A smooth random field that fades out towards the border."""
    field = np.random.default_rng(seed).normal(size=(3, *SHAPE))
    window = [np.hanning(n + 2)[1:-1] for n in SHAPE]
    field = np.stack([ndimage.gaussian_filter(c, 2.5) for c in field]) * np.einsum("i,j,k->ijk", *window)
    return torch.from_numpy(field * size_mm / np.linalg.norm(field, axis=0).max())[None]


@frames
def test_linear_field_matches_the_matrix_exponential(affine):
    flow = expv(linear_field(GENERATOR, affine), affine=affine, steps=7)
    expected = linear_field(expm(GENERATOR) - np.eye(3), affine)
    assert torch.allclose(flow[INSIDE], expected[INSIDE], atol=2e-5)
    assert float(expected[INSIDE].abs().max()) > 0.2


@frames
def test_constant_velocity_is_a_translation(affine):
    velocity = torch.tensor([1.3, -0.4, 2.1], dtype=torch.float64).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    assert torch.allclose(expv(velocity, affine=affine), velocity, atol=1e-12)


def swirl(n: int) -> tuple[torch.Tensor, np.ndarray]:
    """A smooth 3 mm swirl, zero on the border of a 40 mm cube sampled n times per axis, in an oblique frame."""
    affine = FRAMES["oblique"].copy()
    affine[:3, :3] /= np.linalg.norm(affine[:3, :3], axis=0) * (n - 1) / 40
    x, y, z = (np.indices((n, n, n)) / (n - 1) - 0.5) * np.pi
    bump = (np.cos(x) * np.cos(y) * np.cos(z)) ** 2
    return torch.from_numpy(3 * bump * np.stack([np.sin(2 * y), -np.sin(2 * x), np.cos(x + z)]))[None], affine


def residual_of_inverse(n: int) -> float:
    """Largest distance (mm) by which exp(−v) ∘ exp(v) misses the identity."""
    velocity, affine = swirl(n)
    there, back = expv(velocity, affine=affine), expv(-velocity, affine=affine)
    assert float(there.norm(dim=1).max()) > 2.5
    return float(compose(back, there, affine=affine).norm(dim=1).max())


def test_backward_flow_undoes_the_forward_flow():
    """The residual is that of linear interpolation (about h²/8 · 3 sup|u''| = 0.04 mm at 1 mm), of second order."""
    coarse, fine = residual_of_inverse(21), residual_of_inverse(41)
    assert fine < 0.04
    assert 3 < coarse / fine < 5


def test_twice_the_time_is_the_flow_after_itself():
    affine = FRAMES["oblique"]
    velocity = smooth_field(affine, size_mm=1.5)
    once, twice = expv(velocity, affine=affine, steps=5), expv(2 * velocity, affine=affine, steps=6)
    assert torch.allclose(compose(once, once, affine=affine), twice, atol=1e-12)


def test_no_velocity_no_flow():
    still = torch.zeros(1, 3, *SHAPE)
    assert squarings(still, affine=np.eye(4)) == 0
    assert torch.equal(expv(still, affine=np.eye(4)), still)


@frames
@pytest.mark.parametrize("size_mm", [0.1, 1.0, 7.3, 40.0])
def test_squarings_make_the_first_step_below_half_a_voxel(affine, size_mm):
    velocity = smooth_field(affine, size_mm=size_mm)
    n = squarings(velocity, affine=affine)
    longest = float(to_voxels(velocity, affine).norm(dim=1).max())
    assert longest / 2**n < 0.5
    assert n == 0 or longest / 2 ** (n - 1) >= 0.5


@frames
def test_composition_warps_outer_first(affine):
    """Pull-back order: warping by outer, then by inner, is warping once by outer ∘ inner."""
    slope = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)
    image = torch.einsum("i,bixyz->bxyz", slope, linear_field(np.eye(3), affine))[None]
    outer, inner = linear_field(0.3 * GENERATOR, affine), smooth_field(affine, size_mm=1.0)
    one_by_one = warp(warp(image, outer, affine=affine), inner, affine=affine)
    at_once = warp(image, compose(outer, inner, affine=affine), affine=affine)
    assert torch.allclose(one_by_one[INSIDE], at_once[INSIDE], atol=1e-10)
    swapped = warp(image, compose(inner, outer, affine=affine), affine=affine)
    assert not torch.allclose(swapped[INSIDE], at_once[INSIDE], atol=1e-3)


@frames
def test_jacobian_of_a_linear_map_is_its_determinant(affine):
    determinant = jacobian_determinant(linear_field(GENERATOR, affine), affine=affine)
    expected = np.linalg.det(np.eye(3) + GENERATOR)
    assert determinant.shape == (1, *SHAPE)
    assert torch.allclose(determinant, torch.full_like(determinant, expected), atol=1e-10)


def test_volume_of_a_flow_is_the_exponential_of_its_divergence():
    affine = FRAMES["oblique"]
    determinant = jacobian_determinant(expv(linear_field(GENERATOR, affine), affine=affine, steps=7), affine=affine)
    inner = determinant[:, 4:-4, 4:-4, 4:-4]
    assert torch.allclose(inner, torch.full_like(inner, np.exp(np.trace(GENERATOR))), atol=1e-5)


def test_a_fold_has_a_negative_determinant():
    affine = np.eye(4)
    fold = torch.zeros(1, 3, *SHAPE, dtype=torch.float64)
    fold[:, 0] = -2 * torch.arange(SHAPE[0]).view(-1, 1, 1)
    assert float(jacobian_determinant(fold, affine=affine).max()) < 0


def test_bad_fields_are_named():
    with pytest.raises(NbkitError, match="expv: velocity: expected a finite field"):
        expv(torch.full((1, 3, 4, 4, 4), float("nan")), affine=np.eye(4))
    with pytest.raises(NbkitError, match=r"expv: velocity: expected shape \(B, 3, X, Y, Z\)"):
        expv(torch.zeros(3, 4, 4, 4), affine=np.eye(4))
    with pytest.raises(NbkitError, match="two voxels per axis"):
        jacobian_determinant(torch.zeros(1, 3, 4, 4, 1), affine=np.eye(4))
