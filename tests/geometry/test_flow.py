"""Flows: group laws, linear fields against matrix functions, volumes; scipy and voxelmorph as independent flows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from nbkit.core.checks import NbkitError
from nbkit.geometry.flow import compose, expv, inverse, jacobian_determinant, logarithm, squarings
from nbkit.geometry.warp import to_voxels, warp
from tests.geometry.fields import GENERATOR, INSIDE, linear_field, smooth_field, swirl, swirl_at
from tests.geometry.frames import FRAMES, SHAPE

frames = pytest.mark.parametrize("affine", FRAMES.values(), ids=FRAMES)


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


def error_against_scipy(n: int) -> float:
    """Root mean square distance (mm), at 9³ places, from scipy's solution of dφ/dt = v(φ) for the analytic field."""
    velocity, affine = swirl(n)
    places = (slice(None), *(slice((n - 1) // 10, -1, (n - 1) // 10),) * 3)
    start = np.indices((n, n, n))[places].reshape(3, -1) / (n - 1)
    to_place = np.linalg.inv(affine[:3, :3]) / (n - 1)
    path = solve_ivp(
        lambda _, p: (to_place @ swirl_at(p.reshape(3, -1))).ravel(), (0, 1), start.ravel(), rtol=1e-8, atol=1e-10
    )
    moved = affine[:3, :3] @ (path.y[:, -1].reshape(3, -1) - start) * (n - 1)
    flow = expv(velocity, affine=affine)[0][places].reshape(3, -1).numpy()
    return float(np.sqrt(np.square(flow - moved).sum(axis=0).mean()))


def test_flow_agrees_with_scipys_solution():
    """Near second order: voxels half the size quarter each error of interpolation, but take one squaring more."""
    coarse, fine = error_against_scipy(21), error_against_scipy(41)
    assert fine < 0.01
    assert 2.5 < coarse / fine < 5


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


@frames
@pytest.mark.parametrize("forward", [3 * GENERATOR, GENERATOR + np.diag([2.0, -0.6, 0.3])], ids=["mild", "strong"])
def test_inverse_of_a_linear_map_is_its_inverse_matrix(affine, forward):
    """The strong map stretches threefold: iterating w <- −u(y + w) would run away."""
    back = np.linalg.inv(np.eye(3) + forward) - np.eye(3)
    found = inverse(linear_field(forward, affine), affine=affine, tolerance_mm=1e-9)
    inside = linear_field(back + np.eye(3), affine)
    reached = (to_voxels(inside, affine).abs().amax(dim=1, keepdim=True) < 4).expand_as(found)
    assert torch.allclose(found[reached], linear_field(back, affine)[reached], atol=1e-8)
    assert float(found[reached].abs().max()) > 0.5


@given(st.integers(0, 2**32 - 1))
def test_inverse_holds_to_its_tolerance(seed):
    affine = FRAMES["oblique"]
    displacement = expv(smooth_field(affine, size_mm=3.0, seed=seed), affine=affine)
    back = inverse(displacement, affine=affine)
    assert float(compose(displacement, back, affine=affine).norm(dim=1).max()) <= 1e-3
    assert float(displacement.norm(dim=1).max()) > 0.5


def inverse_against_backward_flow(n: int) -> float:
    velocity, affine = swirl(n)
    found = inverse(expv(velocity, affine=affine), affine=affine, tolerance_mm=1e-6)
    return float((found - expv(-velocity, affine=affine)).norm(dim=1).max())


def test_inverse_of_a_flow_is_the_backward_flow_to_second_order():
    coarse, fine = inverse_against_backward_flow(21), inverse_against_backward_flow(41)
    assert fine < 0.04
    assert 3 < coarse / fine < 5


def rms_voxels(field: torch.Tensor, affine: np.ndarray) -> float:
    return float(to_voxels(field, affine).square().sum(dim=1).mean().sqrt())


def test_logarithm_undoes_the_exponential():
    velocity, affine = swirl(21)
    displacement = expv(velocity, affine=affine)
    left = rms_voxels(logarithm(displacement, affine=affine) - velocity, affine)
    assert left < 1e-3
    assert left < rms_voxels(displacement - velocity, affine) / 40


@frames
def test_logarithm_of_a_linear_map_is_the_matrix_logarithm(affine):
    """Inside: what crosses the border is the flow of no field."""
    velocity = logarithm(linear_field(expm(GENERATOR) - np.eye(3), affine), affine=affine)
    assert torch.allclose(velocity[INSIDE], linear_field(GENERATOR, affine)[INSIDE], atol=1e-4)


@frames
def test_exponential_undoes_the_logarithm(affine):
    """Of a transform that was not made as one flow."""
    parts = (expv(smooth_field(affine, size_mm=1.0, seed=s), affine=affine) for s in (0, 1))
    displacement = compose(*parts, affine=affine)
    again = expv(logarithm(displacement, affine=affine), affine=affine)
    assert rms_voxels(again - displacement, affine) < 1e-3


@frames
def test_logarithm_of_a_translation_is_the_translation(affine):
    shift = torch.tensor([1.3, -0.4, 2.1], dtype=torch.float64).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    assert torch.allclose(logarithm(shift, affine=affine), shift, atol=1e-12)


def test_batches_of_logarithms_and_inverses_are_their_members():
    affine = FRAMES["oblique"]
    displacement = torch.cat([expv(smooth_field(affine, size_mm=s, seed=2), affine=affine) for s in (0.5, 2.5)])
    for act, atol in ((logarithm, 1e-12), (inverse, 2e-3)):
        each = torch.cat([act(one[None], affine=affine) for one in displacement])
        assert torch.allclose(act(displacement, affine=affine), each, atol=atol)


def test_agrees_with_voxelmorph():
    """Warp to rounding; expv to its first step: Euler there, midpoint here, so each squaring halves the gap."""
    vxm = pytest.importorskip("voxelmorph", minversion="0.3.4").nn.functional
    velocity, affine = swirl(21)
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, 21, 21, 21)))
    moved = vxm.spatial_transform(image, to_voxels(velocity, affine))
    assert torch.allclose(warp(image, velocity, affine=affine), moved, atol=1e-10)
    gaps = []
    for steps in (6, 7):
        theirs = vxm.integrate_vec(to_voxels(velocity, affine), steps)
        gaps.append(float((to_voxels(expv(velocity, affine=affine, steps=steps), affine) - theirs).abs().max()))
    assert gaps[0] < 0.02
    assert 1.9 < gaps[0] / gaps[1] < 2.1


def test_bad_fields_are_named():
    with pytest.raises(NbkitError, match="expv: velocity: expected a finite field"):
        expv(torch.full((1, 3, 4, 4, 4), float("nan")), affine=np.eye(4))
    with pytest.raises(NbkitError, match=r"expv: velocity: expected shape \(B, 3, X, Y, Z\)"):
        expv(torch.zeros(3, 4, 4, 4), affine=np.eye(4))
    with pytest.raises(NbkitError, match="two voxels per axis"):
        jacobian_determinant(torch.zeros(1, 3, 4, 4, 1), affine=np.eye(4))
    fold = torch.zeros(1, 3, 4, 4, 4)
    fold[:, 0, 2] = -3
    with pytest.raises(NbkitError, match="inverse: displacement_mm: .* without folds, found 16 voxels"):
        inverse(fold, affine=np.eye(4))
    with pytest.raises(NbkitError, match="logarithm: displacement_mm: expected a transform without folds"):
        logarithm(fold, affine=np.eye(4))
    with pytest.raises(NbkitError, match="that can be undone to 0 mm, found .* mm left"):
        inverse(smooth_field(np.eye(4), size_mm=1.0).float(), affine=np.eye(4), tolerance_mm=0)
    with pytest.raises(NbkitError, match="expected the flow of a stationary velocity field"):
        logarithm(linear_field(np.diag([-1.5, -1.8, 0]), FRAMES["RAS"]), affine=FRAMES["RAS"])
