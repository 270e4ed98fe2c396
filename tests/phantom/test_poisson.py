"""Velocity of prescribed divergence: closed forms, exact balance, and a wall that nothing crosses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nbkit.core.checks import NbkitError
from nbkit.phantom.poisson import at_centres, fluxes, net_outflow, solve_potential

SPACING = (1.0, 2.0, 1.5)


def distances(shape, spacing):
    """World offsets (3, X, Y, Z) in mm from the middle of the grid."""
    axes = [(np.arange(n) - (n - 1) / 2) * h for n, h in zip(shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def random_cavity(seed: int):
    """A blob in one piece, and a balanced random divergence in it."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal((12, 14, 10)), 2)
    pieces, _ = ndimage.label(smooth > np.median(smooth))
    inside = pieces == int(np.argmax(np.bincount(pieces.ravel())[1:])) + 1
    divergence = np.where(inside, rng.standard_normal(inside.shape), 0)
    divergence[inside] -= divergence[inside].mean()
    return inside, divergence


@pytest.mark.parametrize("waves", [(1, 0, 0), (2, 3, 1), (0, 5, 4)])
def test_cosines_are_eigenfunctions_of_the_box(waves):
    """∇² of cos(πk(i + ½)/n) is itself times −Σ (2/h sin(πk/2n))², with no flow through the sides."""
    shape = (12, 9, 10)
    parts = [np.cos(np.pi * k * (np.arange(n) + 0.5) / n) for k, n in zip(waves, shape, strict=True)]
    wave = np.einsum("x,y,z->xyz", *parts)
    triples = zip(waves, shape, SPACING, strict=True)
    eigenvalue = sum((2 / h * np.sin(np.pi * k / (2 * n))) ** 2 for k, n, h in triples)
    potential = solve_potential(wave, np.ones(shape, dtype=bool), spacing=SPACING)
    np.testing.assert_allclose(potential, -wave / eigenvalue, atol=1e-8)


@settings(max_examples=15)
@given(st.integers(0, 2**31))
def test_the_divergence_is_the_prescribed_one_and_nothing_crosses_the_wall(seed):
    inside, divergence = random_cavity(seed)
    faces = fluxes(solve_potential(divergence, inside, spacing=SPACING), inside, spacing=SPACING)
    outflow = net_outflow(faces, spacing=SPACING)
    np.testing.assert_allclose(outflow, divergence, atol=1e-4)
    assert (outflow[~inside] == 0).all()
    for axis, face in enumerate(faces):
        ends = np.moveaxis(inside, axis, 0)
        wall = ends[1:] != ends[:-1]
        assert wall.any() and (np.moveaxis(face, axis, 0)[wall] == 0).all()


def test_a_growing_ball_in_a_sphere_pushes_by_the_inverse_square():
    """Source 1 in r < a, its sink in a < r < b: v = r / 3, then a³ (b³ − r³) / (3 r² (b³ − a³)), along r."""
    a, b, spacing = 12.0, 22.0, (1.0, 1.0, 2.0)
    place = distances((48, 48, 26), spacing)
    r = np.linalg.norm(place, axis=0)
    inside, ball = r < b, r < a
    divergence = ball - (inside & ~ball) * ball.sum() / (inside & ~ball).sum()
    potential = solve_potential(divergence, inside, spacing=spacing)
    velocity = at_centres(fluxes(potential, inside, spacing=spacing), inside)
    radial = (velocity * place).sum(axis=0) / r
    expected = np.where(ball, r / 3, a**3 * (b**3 - r**3) / (3 * r**2 * (b**3 - a**3)))
    sideways = np.linalg.norm(velocity - radial * place / r, axis=0)
    for part in ((r > 3) & (r < a - 2), (r > a + 2) & (r < b - 4)):  # away from the staircases of ball and wall
        np.testing.assert_allclose(radial[part], expected[part], atol=0.03 * a / 3)
        assert sideways[part].max() < 0.03 * a / 3


def test_between_voxels_the_flow_stops_at_a_flat_wall():
    inside = np.zeros((10, 8, 8), dtype=bool)
    inside[2:8] = True
    divergence = np.where(inside, distances(inside.shape, SPACING)[0], 0)
    potential = solve_potential(divergence, inside, spacing=SPACING)
    velocity = at_centres(fluxes(potential, inside, spacing=SPACING), inside)
    assert np.abs(velocity[0][2:8]).min() > 0.1
    np.testing.assert_allclose(velocity[0][1] + velocity[0][2], 0, atol=1e-12)
    np.testing.assert_allclose(velocity[0][7] + velocity[0][8], 0, atol=1e-12)


def test_no_source_no_flow():
    inside, divergence = random_cavity(3)
    assert (solve_potential(0 * divergence, inside, spacing=SPACING) == 0).all()


def test_a_start_near_the_solution_leads_to_the_same_flow():
    inside, divergence = random_cavity(4)
    first = solve_potential(divergence, inside, spacing=SPACING)
    again = solve_potential(1.1 * divergence, inside, spacing=SPACING, start=first)
    for one, other in zip(*(fluxes(p, inside, spacing=SPACING) for p in (1.1 * first, again)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_sources_without_sinks_are_refused():
    inside, divergence = random_cavity(5)
    with pytest.raises(NbkitError, match="sources and sinks that balance inside the cavity, found a sum of"):
        solve_potential(divergence + inside, inside, spacing=SPACING)


def test_a_cavity_in_pieces_is_refused():
    """The whole balances, its two pieces do not."""
    inside = np.zeros((9, 4, 4), dtype=bool)
    inside[:4] = inside[5:] = True
    divergence = np.zeros(inside.shape)
    divergence[:4], divergence[5:] = 1, -1
    with pytest.raises(NbkitError, match="a cavity in one piece, found no solution"):
        solve_potential(divergence, inside, spacing=SPACING)
