"""Transport: signs and halves from the analytic case, matrix conjugation, and known truth on curved fields."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from nbkit.core.checks import NbkitError
from nbkit.geometry.flow import compose, expv, jacobian_determinant
from nbkit.geometry.transport import conjugate, rungs, transport
from nbkit.geometry.warp import to_voxels, warp
from tests.geometry.fields import GENERATOR, INSIDE, OTHER, linear_field, smooth_field, swirl
from tests.geometry.frames import FRAMES, SHAPE

frames = pytest.mark.parametrize("affine", FRAMES.values(), ids=FRAMES)
SHIFT = np.array([1.3, -0.4, 2.1])


def constant(vector: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(vector).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)


def shifted_field(matrix: np.ndarray, shift: np.ndarray, affine: np.ndarray) -> torch.Tensor:
    """matrix · (x − CENTRE + shift)."""
    return linear_field(matrix, affine) + constant(matrix @ shift)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b)[INSIDE].norm(dim=1).max())


@frames
@pytest.mark.parametrize(("variant", "share"), [("half", 0.5), ("full", 1.0), ("none", 0.0)])
def test_linear_change_along_a_translation(affine, variant, share):
    """v = c, u = A(x − p): pull-back transport gives A(x − p + share · c), for any number of rungs, to the border."""
    change, along = linear_field(GENERATOR, affine), constant(SHIFT)
    assert rungs(along, affine=affine) > 1
    moved = transport(change, along, affine=affine, variant=variant)
    assert torch.allclose(moved, shifted_field(GENERATOR, share * SHIFT, affine), atol=1e-10)


@frames
def test_conjugation_along_a_translation_is_exact(affine):
    """The truth of the case above: exp(−c) ∘ exp(u) ∘ exp(c) is the flow of A(x − p + c)."""
    change = linear_field(expm(GENERATOR) - np.eye(3), affine)
    truth = shifted_field(expm(GENERATOR) - np.eye(3), SHIFT, affine)
    assert torch.allclose(conjugate(change, constant(SHIFT), affine=affine)[INSIDE], truth[INSIDE], atol=1e-10)


def test_the_wrong_sign_is_worse_than_no_transport():
    affine = FRAMES["oblique"]
    change, along = linear_field(GENERATOR, affine), constant(SHIFT)
    truth = shifted_field(GENERATOR, SHIFT, affine)
    moved = [transport(change, along, affine=affine, variant=v) for v in ("full", "half", "none")]
    full, *others = (distance(m, truth) for m in [*moved, transport(change, -along, affine=affine)])
    assert full < 1e-10
    assert np.allclose(others, np.linalg.norm(GENERATOR @ SHIFT) * np.array([0.5, 1, 1.5]))


@frames
@pytest.mark.parametrize(("variant", "share"), [("half", 0.5), ("full", 1.0)])
def test_linear_fields_transport_as_their_matrices_conjugate(affine, variant, share):
    """v = B(x − p), u = A(x − p): exp(−sB) A exp(sB), to the remainder of the second-order series of each rung."""
    along = linear_field(3 * OTHER, affine)
    moved = transport(linear_field(GENERATOR, affine), along, affine=affine, variant=variant)
    exact = expm(-3 * share * OTHER) @ GENERATOR @ expm(3 * share * OTHER)
    n, adjoint = rungs(along, affine=affine), 2 * share * np.linalg.norm(3 * OTHER, 2)
    bound = n * (adjoint / n) ** 3 / 6 * np.exp(adjoint) * np.linalg.norm(GENERATOR, 2)
    reach = linear_field(np.eye(3), affine).norm(dim=1)
    missing = (moved - linear_field(exact, affine)).norm(dim=1)
    assert bool((missing <= bound * reach).all())
    assert bound < 0.25 * np.linalg.norm(exact - GENERATOR, 2)


def curved(n: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """A change u, up to 1 mm on one side of a 40 mm cube, and the 3 mm swirl along which it travels."""
    along, affine = swirl(n)
    x, y, z = (np.indices((n, n, n)) / (n - 1) - 0.5) * np.pi
    bump = (np.cos(x) * np.cos(y) * np.cos(z)) ** 2
    return torch.from_numpy(bump * np.stack([np.cos(y + 1), np.sin(2 * x - 1), np.cos(x - z)]))[None], along, affine


def miss(n: int, *, variant: str, share: float, sign: int = 1) -> float:
    """Largest distance (mm) of the flow of the transported change from conjugation by `share` of the way."""
    change, along, affine = curved(n)
    truth = conjugate(expv(change, affine=affine), share * along, affine=affine)
    moved = transport(change, sign * along, affine=affine, variant=variant)
    return float((expv(moved, affine=affine) - truth).norm(dim=1).max())


@pytest.mark.parametrize(("variant", "share"), [("half", 0.5), ("full", 1.0)])
def test_ladder_converges_to_the_conjugation(variant, share):
    """Second order in the voxel size: differences, interpolation and rungs (their number grows as voxels shrink)."""
    coarse, fine = miss(21, variant=variant, share=share), miss(41, variant=variant, share=share)
    assert fine < 0.05
    assert 3 < coarse / fine < 5


def test_on_curved_fields_the_whole_way_is_nearest_to_the_truth():
    full, half, none = (miss(21, variant=v, share=1.0) for v in ("full", "half", "none"))
    wrong = miss(21, variant="half", share=1.0, sign=-1)
    assert full < half / 2 < half < none < wrong


def test_a_change_along_itself_stays():
    velocity = smooth_field(FRAMES["oblique"], size_mm=3.0)
    assert torch.equal(transport(velocity, velocity, affine=FRAMES["oblique"]), velocity)


def test_there_and_back():
    change, along, affine = curved(21)
    there = transport(change, along, affine=affine, variant="full")
    back = transport(there, -along, affine=affine, variant="full")
    assert float((back - change).norm(dim=1).max()) < 0.05 * float((there - change).norm(dim=1).max())


def test_two_halves_make_the_whole():
    change, along, affine = curved(21)
    whole = transport(change, along, affine=affine, variant="full")
    halves = transport(transport(change, along, affine=affine), along, affine=affine)
    assert float((halves - whole).norm(dim=1).max()) < 0.02 * float((whole - change).norm(dim=1).max())


def test_transported_and_conjugated_changes_do_not_fold():
    change, along, affine = curved(21)
    moved = expv(transport(change, along, affine=affine), affine=affine)
    truth = conjugate(expv(change, affine=affine), along, affine=affine)
    assert min(float(jacobian_determinant(f, affine=affine).min()) for f in (moved, truth)) > 0.5


@frames
def test_conjugation_by_one_voxel_moves_the_change_by_one_voxel(affine):
    """An image of the target at x comes from the source at x + along: so does its change."""
    change = smooth_field(affine, size_mm=1.0)
    along = constant(affine[:3, 1])
    moved = conjugate(change, along, affine=affine)
    assert torch.allclose(moved[:, :, :, :-1], change[:, :, :, 1:], atol=1e-10)


def conjugation_of_images(n: int) -> float:
    """Root mean square difference of the later source seen in the target from the target changed by the conjugate."""
    change, along, affine = curved(n)
    x, y, z = np.indices((n, n, n)) / (n - 1)
    source = torch.from_numpy(np.sin(5 * x) + np.cos(4 * y) * z)[None, None]
    phi, way = expv(change, affine=affine), expv(along, affine=affine)
    later = warp(warp(source, phi, affine=affine), way, affine=affine)
    target = warp(source, way, affine=affine)
    assert float((later - target).square().mean().sqrt()) > 0.005
    gap = warp(target, conjugate(phi, along, affine=affine), affine=affine) - later
    return float(gap.square().mean().sqrt())


def test_target_changes_as_the_source_does():
    """Near second order (one squaring more for the smaller voxels)."""
    coarse, fine = conjugation_of_images(21), conjugation_of_images(41)
    assert fine < 4e-4
    assert 2.5 < coarse / fine < 5


def conjugation_of_a_composition(n: int) -> float:
    """Largest distance (mm) between the conjugate of φ ∘ ψ and the composed conjugates of φ and ψ."""
    change, along, affine = curved(n)
    phi, psi = expv(change, affine=affine), expv(-change.flip(1), affine=affine)
    at_once = conjugate(compose(phi, psi, affine=affine), along, affine=affine)
    apart = compose(*(conjugate(f, along, affine=affine) for f in (phi, psi)), affine=affine)
    return float((at_once - apart).norm(dim=1).max())


def test_conjugation_respects_composition():
    coarse, fine = conjugation_of_a_composition(21), conjugation_of_a_composition(41)
    assert fine < 0.06
    assert 3 < coarse / fine < 5


@frames
@pytest.mark.parametrize("size_mm", [0.1, 1.0, 7.3])
def test_rungs_are_below_half_a_voxel_or_what_is_asked(affine, size_mm):
    along = smooth_field(affine, size_mm=size_mm)
    n, longest = rungs(along, affine=affine), float(to_voxels(along, affine).norm(dim=1).max())
    assert longest / n < 0.5
    assert n == 1 or longest / (n - 1) >= 0.5
    whole = rungs(along, affine=affine, rung_voxels=1.0)
    assert longest / whole < 1 and (whole == 1 or longest / (whole - 1) >= 1)


def test_one_change_travels_to_several_subjects():
    change, along, affine = curved(11)
    several = torch.cat([along, 0.9 * along.flip(1)])
    assert rungs(several[:1], affine=affine) == rungs(several[1:], affine=affine)
    each = torch.cat([transport(change, way[None], affine=affine) for way in several])
    assert torch.allclose(transport(change, several, affine=affine), each, atol=1e-12)
    assert transport(change.float(), several.float(), affine=affine).dtype == torch.float32


def test_bad_input_is_named():
    field = torch.zeros(1, 3, 4, 4, 4)
    with pytest.raises(NbkitError, match="transport: variant: expected one of full, half, none.*Did you mean 'half'"):
        transport(field, field, affine=np.eye(4), variant="halve")
    with pytest.raises(NbkitError, match="transport: along: expected a finite field"):
        transport(field, field / 0, affine=np.eye(4))
    with pytest.raises(NbkitError, match="transport: velocity, along: expected two fields on one grid"):
        transport(field, field[..., 1:], affine=np.eye(4), variant="none")
    with pytest.raises(NbkitError, match="conjugate: displacement_mm, along: expected two fields on one grid"):
        conjugate(field, field[..., 1:], affine=np.eye(4))
