"""The Lie algebra of stationary velocity fields: the bracket, and fields carried by a flow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from nbkit.core.checks import require
from nbkit.geometry.flow import Velocity
from nbkit.geometry.warp import check_field, to_voxels


def check_pair(a: torch.Tensor, b: torch.Tensor, where: str) -> None:
    """Refuse two vector fields (B, 3, X, Y, Z) that do not share one grid of at least two voxels per axis."""
    check_field(a, where)
    check_field(b, where)
    require(
        a.shape[2:] == b.shape[2:] and min(a.shape[2:]) >= 2, where,
        expected="two fields on one grid, with two voxels per axis", found=f"{tuple(a.shape)} and {tuple(b.shape)}",
        remedy="Resample one field onto the grid of the other first (nbkit.geometry.warp.warp with image_affine).",
    )


def directional_derivative(field: torch.Tensor, direction: torch.Tensor, *, affine: np.ndarray) -> torch.Tensor:
    """(direction · ∇) field = J_field · direction, in world millimetres.

    Central differences inside, one-sided at the border; exact for linear fields.

    Parameters
    ----------
    field, direction : torch.Tensor
        (B, 3, X, Y, Z) in mm, world components, on one grid; B may be 1 for either.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm).
    """
    check_pair(field, direction, "directional_derivative: field, direction")
    return _directional(_slopes(field), direction, affine)


def _slopes(field: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.gradient(field, dim=(2, 3, 4))


def _directional(slopes: tuple[torch.Tensor, ...], direction: torch.Tensor, affine: np.ndarray) -> torch.Tensor:
    # ∂/∂world · direction = ∂/∂voxel · (direction in voxels): one matrix for the three axes, whatever the frame
    rates = to_voxels(direction, affine).split(1, dim=1)
    total = rates[0] * slopes[0]
    for rate, slope in zip(rates[1:], slopes[1:], strict=True):
        total = total.addcmul(rate, slope)
    return total


def adjoint(v: Velocity, *, affine: np.ndarray) -> Callable[[Velocity], Velocity]:
    """The map u -> [v, u] of :func:`lie_bracket`, for many brackets with one `v`: its slopes are taken once.

    Parameters
    ----------
    v : torch.Tensor
        (B, 3, X, Y, Z), mm per unit time, world components.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm).
    """
    check_pair(v, v, "adjoint: v")
    slopes = _slopes(v)
    return lambda u: Velocity(_directional(slopes, u, affine) - _directional(_slopes(u), v, affine))


def lie_bracket(v: Velocity, u: Velocity, *, affine: np.ndarray) -> Velocity:
    """Lie bracket [v, u] = J_v · u − J_u · v of two velocity fields.

    In this sign the bracket of linear fields is the commutator of their matrices,
    [Ax, Bx] = (AB − BA)x, and exp([v, u]) is to second order exp(v) ∘ exp(u) ∘ exp(−v) ∘ exp(−u).
    Many texts on geometry use the opposite sign.

    Parameters
    ----------
    v, u : torch.Tensor
        (B, 3, X, Y, Z), mm per unit time, world components, on one grid; B may be 1 for either.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm).

    Raises
    ------
    NbkitError
        For fields on different grids or with a single slice.

    References
    ----------
    Lorenzi & Pennec, IJCV 2013 (geodesics and one-parameter subgroups of diffeomorphisms).
    """
    check_pair(v, u, "lie_bracket: v, u")
    return adjoint(v, affine=affine)(u)
