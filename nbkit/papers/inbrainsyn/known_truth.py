"""Where the truth is known: how near each way of transport brings a template's change to the person's own.

The person is the template moved by a known flow, so the change that the person would show is known exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from nbkit.core.volume import Volume
from nbkit.geometry.algebra import directional_derivative
from nbkit.geometry.flow import Velocity, expv, jacobian_determinant
from nbkit.geometry.transport import conjugate, transport
from nbkit.geometry.warp import Displacement, warp
from nbkit.metrics.regions import structure

VARIANTS = ("none", "wrong", "half", "full", "conjugation")


def transport_experiment(
    change: Volume, along: Volume, *, labels: Volume, names: Mapping[int, str], years: float = 1.0
) -> pd.DataFrame:
    """Errors of the transported change over `years`, for every variant and structure.

    The person is ``warp(template, ψ)`` with ψ = exp(along); the change u of the template is then exactly
    (Dψ)⁻¹ · u(ψ(x)) in the person. Compared are the displacement that takes tissue where it will be, and the
    logarithm of its Jacobian determinant, which is local growth.

    Parameters
    ----------
    change, along : Volume
        (3, X, Y, Z) velocities that pull back, world components: mm per year, and mm.
    labels : Volume
        Regions of the person, (1, X, Y, Z) whole numbers on the same grid.
    names : mapping of int to str
        Codes that count; what they cover together is the "brain". The two sides of a structure are one.
    years : float

    Returns
    -------
    pandas.DataFrame
        One row per variant ("conjugation" is exact but for interpolation) and region: variant, region, field_error
        and growth_error (root of the summed squared error over that of the truth), growth_pct and true_growth_pct
        (mean change of volume).

    Raises
    ------
    NbkitError
        For fields or labels on different grids.
    """
    change.check_grid(labels, "transport_experiment: change and labels")
    changed, regions = _changed(change, along, -years), _regions(labels, names)
    truth = changed.pop("truth")
    return pd.DataFrame([
        {"variant": variant, "region": name} | _errors(found, truth, inside)
        for variant, found in changed.items() for name, inside in regions.items()
    ])


def transported_maps(change: Volume, along: Volume, *, years: float = 1.0) -> dict[str, tuple[Volume, Volume]]:
    """Displacement (3, X, Y, Z; mm, pulling back) and ln Jacobian of the truth and of every variant, for a picture.

    Parameters are those of :func:`transport_experiment`; what pulls back over `years` makes the later image.
    """
    back, onward = (_changed(change, along, t) for t in (years, -years))
    return {
        name: (Volume(field[0].float(), change.affine), Volume(onward[name][1].log().float(), change.affine))
        for name, (field, _) in back.items()
    }


def _changed(change: Volume, along: Volume, years: float) -> dict[str, tuple[Displacement, torch.Tensor]]:
    """Displacement (1, 3, X, Y, Z) and its Jacobian determinant over `years`, of the truth and of every variant."""
    change.check_grid(along, "known truth: change and along")
    affine, (u, v) = change.affine, (Velocity(volume.data[None].double()) for volume in (change, along))
    u, truth = Velocity(years * u), Velocity(years * pulled_back(u, v, affine=affine))
    fields = {"truth": expv(truth, affine=affine)}
    for variant in VARIANTS:
        if variant == "conjugation":
            fields[variant] = conjugate(expv(u, affine=affine), v, affine=affine)
        else:
            along_it, how = (Velocity(-v), "half") if variant == "wrong" else (v, variant)
            fields[variant] = expv(transport(u, along_it, affine=affine, variant=how), affine=affine)
    return {name: (field, jacobian_determinant(field, affine=affine)) for name, field in fields.items()}


def pulled_back(change: Velocity, along: Velocity, *, affine: np.ndarray) -> Velocity:
    """The change as the person shows it: (Dψ)⁻¹ · u(ψ(x)) with ψ = exp(along), (B, 3, X, Y, Z).

    Its flow is exp(−along) ∘ exp(change) ∘ exp(along), and of transport in full this is the exact value.
    """
    way = expv(along, affine=affine)
    columns = []
    for axis in torch.eye(3, dtype=way.dtype, device=way.device):
        direction = axis.view(1, 3, 1, 1, 1).expand_as(way)
        columns.append(directional_derivative(way, direction, affine=affine) + direction)
    matrix = torch.stack(columns, dim=-1).movedim(1, -2)
    there = warp(change, way, affine=affine, padding="border").movedim(1, -1)
    return Velocity(torch.linalg.solve(matrix, there).movedim(-1, 1))


def _regions(labels: Volume, names: Mapping[int, str]) -> dict[str, torch.Tensor]:
    """Voxels (X, Y, Z) of the brain and of every structure, by name; structures without a voxel are left out."""
    codes: dict[str, list[int]] = {"brain": list(names)}
    for code, name in names.items():
        codes.setdefault(structure(name), []).append(code)
    masks = {name: torch.isin(labels.data[0].long(), torch.tensor(some)) for name, some in codes.items()}
    return {name: mask for name, mask in masks.items() if mask.any()}


def _errors(
    found: tuple[torch.Tensor, torch.Tensor], truth: tuple[torch.Tensor, torch.Tensor], inside: torch.Tensor
) -> dict[str, float]:
    (field, growth), (true_field, true_growth) = ((f[0][:, inside], g[0][inside]) for f, g in (found, truth))
    return {
        "field_error": float((field - true_field).norm() / true_field.norm()),
        "growth_error": float((growth.log() - true_growth.log()).norm() / true_growth.log().norm()),
        "growth_pct": float(100 * (growth.mean() - 1)), "true_growth_pct": float(100 * (true_growth.mean() - 1)),
    }
