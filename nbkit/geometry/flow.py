"""Flows of stationary velocity fields: exponential, composition, Jacobian determinant."""

from __future__ import annotations

import math
from typing import NewType

import numpy as np
import torch

from nbkit.core.checks import require
from nbkit.geometry.warp import Displacement, check_field, to_voxels, warp

Velocity = NewType("Velocity", torch.Tensor)
"""Stationary velocity field v (B, 3, X, Y, Z) in mm per unit time, world components."""


def squarings(velocity: Velocity, *, affine: np.ndarray) -> int:
    """Smallest n with sup|v| / 2^n below half a voxel: the number of squarings :func:`expv` takes."""
    longest = float(to_voxels(velocity.detach(), affine).norm(dim=1).max())
    require(
        math.isfinite(longest), "expv: velocity", expected="a finite field", found="NaN or infinite vectors",
        remedy="Check the network or the registration that made the field.",
    )
    return max(0, math.floor(math.log2(longest / 0.5)) + 1) if longest > 0 else 0


def expv(velocity: Velocity, *, affine: np.ndarray, steps: int | None = None) -> Displacement:
    """Displacement of the flow of `velocity` at time one, by scaling and squaring.

    The flow solves dφ/dt = v(φ), φ_0 = id. The first small step is a midpoint step, so the error
    falls with the square of the step; outside the grid the field continues with its border values.

    Parameters
    ----------
    velocity : torch.Tensor
        (B, 3, X, Y, Z), mm per unit time, world components.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm).
    steps : int, optional
        Number of squarings; by default :func:`squarings`, from the size of the field.

    Returns
    -------
    torch.Tensor
        Displacement u (B, 3, X, Y, Z) in mm: exp(v)(x) = x + u(x).

    References
    ----------
    Arsigny et al., MICCAI 2006 (scaling and squaring for diffeomorphisms).
    """
    check_field(velocity, "expv: velocity")
    steps = squarings(velocity, affine=affine) if steps is None else steps
    small = velocity / 2**steps
    flow = warp(small, Displacement(small / 2), affine=affine, padding="border")
    for _ in range(steps):
        flow = compose(flow, flow, affine=affine)
    return Displacement(flow)


def compose(outer: Displacement, inner: Displacement, *, affine: np.ndarray) -> Displacement:
    """Displacement of x -> φ_outer(φ_inner(x)): inner(x) + outer(x + inner(x)), mm.

    Warping an image by the result equals warping it by `outer` first and then by `inner`
    (warps pull back). Both fields are (B, 3, X, Y, Z) on the grid of `affine`.
    """
    return Displacement(inner + warp(outer, inner, affine=affine, padding="border"))


def jacobian_determinant(displacement_mm: Displacement, *, affine: np.ndarray) -> torch.Tensor:
    """Determinant of the Jacobian of x -> x + u(x) in world coordinates, shape (B, X, Y, Z).

    Central differences inside, one-sided at the border. Below 1 the transform shrinks volume,
    at or below 0 it folds. Needs at least two voxels along every axis.
    """
    check_field(displacement_mm, "jacobian_determinant: displacement_mm")
    require(
        min(displacement_mm.shape[2:]) >= 2, "jacobian_determinant: displacement_mm", expected="two voxels per axis",
        found=tuple(displacement_mm.shape[2:]), remedy="A derivative along an axis needs neighbours there.",
    )
    rows = torch.stack(torch.gradient(displacement_mm, dim=(2, 3, 4)), dim=-1)
    linear = torch.as_tensor(np.linalg.inv(np.asarray(affine, dtype=np.float64)[:3, :3])).to(displacement_mm)
    gradient = torch.einsum("bcxyzi,ij->bxyzcj", rows, linear)
    return torch.linalg.det(gradient + torch.eye(3).to(gradient))
