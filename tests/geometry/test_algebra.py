"""Algebra of velocity fields: bracket laws, closed forms for linear fields, BCH against the matrix logarithm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd.functional import jvp

from nbkit.core.checks import NbkitError
from nbkit.geometry.algebra import directional_derivative, lie_bracket
from nbkit.geometry.warp import grid_positions
from tests.geometry.fields import CENTRE, GENERATOR, INSIDE, OTHER, linear_field
from tests.geometry.frames import FRAMES, SHAPE

frames = pytest.mark.parametrize("affine", FRAMES.values(), ids=FRAMES)
seeds = st.integers(0, 2**32 - 1)


def polynomial(seed: int, degree: int, affine: np.ndarray) -> torch.Tensor:
    """A random vector polynomial of world position (in cm from CENTRE), components of order 1 mm."""
    rng = np.random.default_rng(seed)
    x = (grid_positions(SHAPE, affine, like=torch.empty(0).double())[0] - torch.as_tensor(CENTRE).view(3, 1, 1, 1)) / 10
    constant, linear, quadratic = (torch.from_numpy(rng.normal(size=(3, *(3,) * n))) for n in range(3))
    field = constant.view(3, 1, 1, 1) + torch.einsum("ij,jxyz->ixyz", linear, x)
    if degree == 2:
        field = field + torch.einsum("ijk,jxyz,kxyz->ixyz", quadratic, x, x)
    return field[None]


def noise(seed: int, batch: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(batch, 3, *SHAPE)))


@frames
def test_derivative_of_a_linear_field_is_its_matrix(affine):
    """Exact up to the border, along a direction that differs from voxel to voxel."""
    direction = noise(0)
    expected = torch.einsum("ij,bjxyz->bixyz", torch.as_tensor(GENERATOR), direction)
    assert torch.allclose(directional_derivative(linear_field(GENERATOR, affine), direction, affine=affine), expected)


@frames
def test_bracket_of_linear_fields_is_the_commutator_of_their_matrices(affine):
    bracket = lie_bracket(linear_field(GENERATOR, affine), linear_field(OTHER, affine), affine=affine)
    assert torch.allclose(bracket, linear_field(GENERATOR @ OTHER - OTHER @ GENERATOR, affine), atol=1e-12)
    assert float(bracket.abs().max()) > 0.1


@frames
def test_bracket_with_a_translation_differentiates(affine):
    """[c, Ax] = −Ac, the sign on which transport rests."""
    c = torch.tensor([1.3, -0.4, 2.1], dtype=torch.float64).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    expected = -torch.einsum("ij,bjxyz->bixyz", torch.as_tensor(GENERATOR), c)
    assert torch.allclose(lie_bracket(c, linear_field(GENERATOR, affine), affine=affine), expected, atol=1e-12)


@given(seeds, seeds, seeds, st.floats(-3, 3))
def test_bracket_is_antisymmetric_and_bilinear(a, b, c, factor):
    u, v, w, affine = noise(a), noise(b), noise(c), FRAMES["oblique"]
    assert torch.equal(lie_bracket(v, u, affine=affine), -lie_bracket(u, v, affine=affine))
    assert torch.equal(lie_bracket(v, v, affine=affine), torch.zeros_like(v))
    both = lie_bracket(v, u, affine=affine) + factor * lie_bracket(w, u, affine=affine)
    assert torch.allclose(lie_bracket(v + factor * w, u, affine=affine), both, atol=1e-10)


@frames
@given(seed=seeds)
def test_jacobi_identity_on_polynomial_fields(affine, seed):
    """Every derivative taken is of a polynomial of degree two or less, so central differences are exact."""
    a, b, c = polynomial(seed, 2, affine), polynomial(seed + 1, 1, affine), polynomial(seed + 2, 1, affine)

    def double(x, y, z):
        return lie_bracket(x, lie_bracket(y, z, affine=affine), affine=affine)[INSIDE]

    terms = double(a, b, c), double(b, c, a), double(c, a, b)
    assert torch.allclose(sum(terms), torch.zeros(()).double(), atol=1e-10)
    assert float(terms[0].abs().max()) > 1e-4


def world_fields(scale: float):
    """Two smooth velocity functions of world position, for automatic differentiation."""
    x0 = torch.as_tensor(CENTRE)

    def v(x):
        a, b, c = (x - x0).unbind(-1)
        return torch.stack([torch.sin(scale * b), torch.cos(scale * (a + c)), torch.sin(scale * a) * b / 10], -1)

    def u(x):
        a, b, c = (x - x0).unbind(-1)
        return torch.stack([torch.cos(scale * c) * a / 10, torch.sin(scale * (a - b)), torch.cos(scale * b)], -1)

    return v, u


def bracket_error(n: int) -> float:
    """Largest difference inside between the bracket on an n³ grid 20 mm wide and automatic differentiation."""
    affine = FRAMES["oblique"].copy()
    affine[:3, :3] *= 20 / (n - 1) / np.linalg.norm(affine[:3, :3], axis=0)
    affine[:3, 3] = CENTRE - affine[:3, :3] @ np.full(3, (n - 1) / 2)
    points = grid_positions((n, n, n), affine, like=torch.empty(0).double())[0].flatten(1).T
    v, u = world_fields(0.3)
    (_, v_along_u), (_, u_along_v) = jvp(v, points, u(points)), jvp(u, points, v(points))
    exact = v_along_u - u_along_v
    fields = [f(points).T.reshape(1, 3, n, n, n) for f in (v, u)]
    gap = lie_bracket(*fields, affine=affine) - exact.T.reshape(1, 3, n, n, n)
    assert float(exact.norm(dim=1).max()) > 0.3
    return float(gap[:, :, 1:-1, 1:-1, 1:-1].norm(dim=1).max())


def test_bracket_agrees_with_automatic_differentiation_to_second_order():
    coarse, fine = bracket_error(11), bracket_error(21)
    assert fine < 0.02
    assert 3 < coarse / fine < 5


def test_storage_order_does_not_matter():
    """The same two fields stored as RAS and as LAS have the same bracket."""
    ras = FRAMES["RAS"]
    las = ras @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    v, u = noise(0), noise(1)
    assert torch.allclose(lie_bracket(v, u, affine=ras), lie_bracket(v.flip(2), u.flip(2), affine=las).flip(2))


def test_a_batch_is_its_members():
    v, u, affine = noise(0, batch=3), noise(1), FRAMES["oblique"]
    each = torch.cat([lie_bracket(one[None], u, affine=affine) for one in v])
    assert torch.allclose(lie_bracket(v, u, affine=affine), each, atol=1e-12)


def test_bad_fields_are_named():
    with pytest.raises(NbkitError, match=r"two fields on one grid.*found \(1, 3, 4, 4, 4\) and \(1, 3, 4, 4, 5\)"):
        lie_bracket(torch.zeros(1, 3, 4, 4, 4), torch.zeros(1, 3, 4, 4, 5), affine=np.eye(4))
    with pytest.raises(NbkitError, match="two voxels per axis"):
        lie_bracket(torch.zeros(1, 3, 4, 4, 1), torch.zeros(1, 3, 4, 4, 1), affine=np.eye(4))
    with pytest.raises(NbkitError, match=r"expected shape \(B, 3, X, Y, Z\)"):
        lie_bracket(torch.zeros(3, 4, 4, 4), torch.zeros(3, 4, 4, 4), affine=np.eye(4))
