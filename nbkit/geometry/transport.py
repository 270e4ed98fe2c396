"""Transport of a change to another anatomy: the pole ladder for fields that pull back, and the exact conjugation."""

from __future__ import annotations

import math

import numpy as np

from nbkit.core.checks import known
from nbkit.geometry.algebra import adjoint, check_pair
from nbkit.geometry.flow import Velocity, compose, expv, sup_voxels
from nbkit.geometry.warp import Displacement

SHARES = {"half": 0.5, "full": 1.0, "none": 0.0}
"""By variant: how much of `along` conjugates the change."""


def rungs(along: Velocity, *, affine: np.ndarray, rung_voxels: float = 0.5) -> int:
    """Smallest n ≥ 1 with sup|along| / n below `rung_voxels`, half a voxel by default: the steps of the ladder.

    Half a voxel is the rule of Lorenzi & Pennec, 2014.
    """
    return math.floor(sup_voxels(along, "transport: along", affine=affine) / rung_voxels) + 1


def transport(
    velocity: Velocity, along: Velocity, *, affine: np.ndarray, variant: str = "half", rung_voxels: float = 0.5
) -> Velocity:
    """Carry the change `velocity` from a source anatomy to the target that `along` leads to.

    Both fields pull back, as everywhere in nbkit: ``target = warp(source, expv(along))`` and
    ``later_source = warp(source, expv(velocity))``; with Π the result,
    ``later_target = warp(target, expv(Π))``. One rung, with w = ½ along / n, is

        Π(u) = u − [w, u] + ½ [w, [w, u]]

    and n rungs (:func:`rungs`) follow one another. The published formula has + in front of the first
    bracket: it is for fields that push forward, where exp(Π) = exp(v/2) ∘ exp(u) ∘ exp(−v/2). For
    fields that pull back the maps multiply in the other order, exp(Π) = exp(−v/2) ∘ exp(u) ∘ exp(v/2),
    so v changes its sign; give ``-along`` to transport push-forward fields.

    Parameters
    ----------
    velocity : torch.Tensor
        The change u of the source, (B, 3, X, Y, Z), mm per unit time, world components.
    along : torch.Tensor
        The way v from source to target, on the same grid, in the same units; B may be 1 for either.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm).
    variant : {"half", "full", "none"}
        "half", as published: the symmetric ladder, which conjugates by exp(v/2) and so leaves the
        pattern of change half-way between the two anatomies; "full" takes it all the way, to what
        :func:`conjugate` gives; "none" returns `velocity` as it is.
    rung_voxels : float
        Of :func:`rungs`.

    Raises
    ------
    NbkitError
        For an unknown variant, fields on different grids, or an `along` with NaN or infinite vectors.

    References
    ----------
    Lorenzi & Pennec, J Math Imaging Vis 2014 (pole ladder, BCH form); Hadj-Hamou et al., Front Neurosci 2016.
    """
    share = SHARES[known(variant, SHARES, "transport: variant")]
    check_pair(velocity, along, "transport: velocity, along")
    steps = rungs(along, affine=affine, rung_voxels=rung_voxels) if share else 0
    bracket = adjoint(along, affine=affine)
    for _ in range(steps):
        first = bracket(velocity) * (share / steps)
        second = bracket(first) * (share / steps)
        velocity = Velocity(velocity - first + second / 2)
    return velocity


def conjugate(displacement_mm: Displacement, along: Velocity, *, affine: np.ndarray) -> Displacement:
    """Displacement of exp(−along) ∘ φ ∘ exp(along): the transform φ seen from the target that `along` leads to.

    Exact up to interpolation, for any φ(x) = x + u(x): with ``target = warp(source, expv(along))``, warping
    `target` by the result is warping `source` by φ and then by ``expv(along)``.

    Parameters
    ----------
    displacement_mm : torch.Tensor
        u (B, 3, X, Y, Z) in mm, world components, on the grid of the source.
    along : torch.Tensor
        Velocity (B, 3, X, Y, Z), mm per unit time, on the same grid; B may be 1 for either.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm).
    """
    check_pair(displacement_mm, along, "conjugate: displacement_mm, along")
    there, back = (expv(Velocity(sign * along), affine=affine) for sign in (1, -1))
    return compose(back, compose(displacement_mm, there, affine=affine), affine=affine)
