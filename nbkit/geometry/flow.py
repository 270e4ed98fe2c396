"""Flows of stationary velocity fields: exponential, logarithm, composition, inverse, Jacobian determinant."""

from __future__ import annotations

import math
from typing import NewType

import numpy as np
import torch

from nbkit.core.checks import NbkitError, require
from nbkit.geometry.warp import Displacement, check_field, doubled, grid_positions, to_voxels, warp

Velocity = NewType("Velocity", torch.Tensor)
"""Stationary velocity field v (B, 3, X, Y, Z) in mm per unit time, world components."""


def sup_voxels(field: torch.Tensor, where: str, *, affine: np.ndarray) -> float:
    """Length in voxels of the longest vector of a field (B, 3, X, Y, Z) in mm; NaN and infinities are refused."""
    x, y, z = to_voxels(field.detach(), affine).unbind(dim=1)
    longest = math.sqrt(float((x * x + y * y + z * z).max()))  # norm(dim=1) takes several times as long
    require(
        math.isfinite(longest), where, expected="a finite field", found="NaN or infinite vectors",
        remedy="Check the network or the registration that made the field.",
    )
    return longest


def squarings(velocity: Velocity, *, affine: np.ndarray) -> int:
    """Smallest n with sup|v| / 2^n below half a voxel: the number of squarings :func:`expv` takes."""
    longest = sup_voxels(velocity, "expv: velocity", affine=affine)
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
    first = warp(small, Displacement(small / 2), affine=affine, padding="border")
    return doubled(Displacement(first), steps, affine=affine)


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
    return _determinant(displacement_mm, "jacobian_determinant: displacement_mm", affine=affine)


def inverse(displacement_mm: Displacement, *, affine: np.ndarray, tolerance_mm: float = 1e-3) -> Displacement:
    """Displacement w of the inverse of x -> x + u(x), by Newton's method at every voxel.

    Solves w(y) + u(y + w(y)) = 0; outside the grid u continues with its border values. The inverse of
    the flow of a velocity field v is also ``expv(-v)``, up to interpolation.

    Parameters
    ----------
    displacement_mm : torch.Tensor
        u (B, 3, X, Y, Z) in mm, world components.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm).
    tolerance_mm : float
        The largest |w(y) + u(y + w(y))| that may remain.

    Raises
    ------
    NbkitError
        If the transform folds, or 100 steps leave more than `tolerance_mm`.
    """
    where = "inverse: displacement_mm"
    check_field(displacement_mm, where)
    grid, to_mm = np.eye(4), np.linalg.inv(affine)
    forward = Displacement(to_voxels(displacement_mm, affine))
    _refuse_folds(forward, where, affine=grid)
    slopes = torch.stack(_slopes(forward, where), dim=2).flatten(1, 2)  # component, then derivative
    places = grid_positions(forward.shape[2:], grid, like=forward)
    last = places.amax(dim=(2, 3, 4), keepdim=True)
    back = -forward
    for _ in range(100):
        miss = compose(forward, Displacement(back), affine=grid)
        left = float(to_voxels(miss, to_mm).norm(dim=1).max())
        if left <= tolerance_mm:
            return Displacement(to_voxels(back, to_mm))
        slope = warp(slopes, Displacement(back), affine=grid, padding="border").unflatten(1, (3, 3))
        # outside, the field no longer changes along the axis that left the grid
        slope = slope * ((places + back > 0) & (places + back < last))[:, None]
        matrix = slope.movedim((1, 2), (-2, -1)) + torch.eye(3).to(slope)
        step = torch.linalg.solve_ex(matrix, miss.movedim(1, -1)).result.movedim(-1, 1)
        # a full step from far away can leap into another valley: half a voxel at a time
        back = back - step * (0.5 / step.norm(dim=1, keepdim=True)).clamp(max=1)
    raise NbkitError(
        where, expected=f"a transform that can be undone to {tolerance_mm:g} mm", found=f"{left:.3g} mm left",
        remedy="Look where jacobian_determinant is near zero, and at the border; or invert expv(v) as expv(-v).",
    )


def logarithm(displacement_mm: Displacement, *, affine: np.ndarray) -> Velocity:
    """Stationary velocity field v whose flow is x -> x + u(x): ``expv(logarithm(u))`` gives u.

    Fixed point of v <- v + (u − (exp(v) − id)) ∘ exp(−v/2): what the flow misses is brought back to the
    middle of the path, where a change of v counts first. It ends when less than 0.001 voxel (root mean
    square over the grid) is missing, or when the miss falls by less than a tenth.

    Parameters
    ----------
    displacement_mm : torch.Tensor
        u (B, 3, X, Y, Z) in mm, world components.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm).

    Returns
    -------
    torch.Tensor
        v (B, 3, X, Y, Z), mm per unit time.

    Raises
    ------
    NbkitError
        If the transform folds, or the flow still misses more than 0.1 voxel: not every transform is the
        flow of a stationary field, and one that crosses the border of the grid seldom is.

    References
    ----------
    Bossa & Olmos, MFCA 2008 (the same idea with the change brought back to the end of the path).
    """
    _refuse_folds(displacement_mm, "logarithm: displacement_mm", affine=affine)
    # one by one, so that no result depends on its neighbours in the batch
    return Velocity(torch.cat([_logarithm(Displacement(one), affine) for one in displacement_mm.split(1)]))


def _logarithm(displacement_mm: Displacement, affine: np.ndarray) -> Velocity:
    velocity = trial = Velocity(displacement_mm)
    left = math.inf
    while left > 1e-3:
        miss = displacement_mm - expv(trial, affine=affine)
        size = float(to_voxels(miss, affine).square().sum(dim=1).mean().sqrt())
        if size > 0.9 * left:
            break
        velocity, left = trial, size
        middle = expv(Velocity(-velocity / 2), affine=affine)
        trial = Velocity(velocity + warp(miss, middle, affine=affine, padding="border"))
    require(
        left <= 0.1, "logarithm: displacement_mm", expected="the flow of a stationary velocity field",
        found=f"a transform that no such flow meets to better than {left:.2g} voxels",
        remedy="Take the logarithm of a smaller step, or let the field fade out towards the border.",
    )
    return velocity


def _slopes(displacement_mm: Displacement, where: str) -> tuple[torch.Tensor, ...]:
    """Three fields (B, 3, X, Y, Z): change of u per voxel along each axis."""
    check_field(displacement_mm, where)
    require(
        min(displacement_mm.shape[2:]) >= 2, where, expected="two voxels per axis",
        found=tuple(displacement_mm.shape[2:]), remedy="A derivative along an axis needs neighbours there.",
    )
    return torch.gradient(displacement_mm, dim=(2, 3, 4))


def _determinant(displacement_mm: Displacement, where: str, *, affine: np.ndarray) -> torch.Tensor:
    """Volume of the image of a voxel over the voxel's own: the edges' triple product, without any 3×3 matrices."""
    edges = torch.as_tensor(np.asarray(affine, dtype=np.float64)[:3, :3]).to(displacement_mm)
    slopes = _slopes(displacement_mm, where)
    a, b, c = (slope + edge.view(1, 3, 1, 1, 1) for slope, edge in zip(slopes, edges.T, strict=True))
    return (a * torch.linalg.cross(b, c, dim=1)).sum(dim=1) / torch.linalg.det(edges)


def _refuse_folds(displacement_mm: Displacement, where: str, *, affine: np.ndarray) -> None:
    folded = int((~(_determinant(displacement_mm, where, affine=affine) > 0)).sum())
    require(
        folded == 0, where, expected="a transform without folds", found=f"{folded} voxels that fold or are not finite",
        remedy="Smooth the field, or make it as the flow of a velocity field (expv), which cannot fold.",
    )
