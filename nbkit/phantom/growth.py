"""Growth as asked: the flow in the skull that changes the volume of every region by a given share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy import ndimage

from nbkit.core.checks import NbkitError, check_keys, require
from nbkit.core.volume import Volume
from nbkit.geometry.flow import Velocity, expv
from nbkit.geometry.warp import Displacement
from nbkit.phantom.poisson import at_centres, fluxes, solve_potential
from nbkit.phantom.regions import FLUID, Regions, refilled

TOLERANCE = 0.05
"""Largest relative error of a region's realised change."""
_NEGLIGIBLE = 1e-4
"""A change too small to ask for a relative error: 0.01 %."""
_ROUNDS = 8


def velocity_for(regions: Regions, change: Mapping[str, float], *, tolerance: float = TOLERANCE) -> Velocity:
    """Velocity field whose flow over one unit of time changes every region's volume as asked.

    Tissue moves with a velocity w of prescribed divergence: constant in each region, the opposite of all of it
    spread over the fluid ("csf"), so that the whole keeps its volume; w = ∇φ has no flow through the skull. The
    field returned is −w: warps pull back, so ``warp(maps, expv(velocity))`` is one unit later. The divergences
    are corrected by Broyden's method, which starts from the matrix of overlaps as derivative, until the volume
    of every region, measured on warped maps, changes as asked.

    Parameters
    ----------
    regions : Regions
        On any grid with perpendicular axes; together they fill the skull.
    change : mapping of str to float
        Change of volume over volume now (1), for every structure but the fluid; yearly rates make the year
        the unit of time.
    tolerance : float
        Largest relative error of a region's change.

    Returns
    -------
    torch.Tensor
        (1, 3, X, Y, Z) mm per unit of time, world components, pulling back.

    Raises
    ------
    NbkitError
        If a structure has no voxel of its own or no change above -1, there is no fluid, axes are not
        perpendicular, or the changes cannot be brought about to `tolerance`.

    References
    ----------
    Khanal et al., Front Neurosci 11:132, 2017 (prescribed loss, fluid that absorbs it), here with a potential flow.
    """
    wanted = _wanted(regions, change)
    inside = _cavity(regions)
    patterns, response = _patterns(regions, inside)
    potential = None

    def flow(used: np.ndarray) -> Velocity:
        nonlocal potential
        velocity, potential = _flow(used @ patterns, inside, regions.maps, potential)
        return velocity

    return _corrected(regions, wanted, response, flow, tolerance)


def velocities_for(
    regions: Regions, changes: Sequence[Mapping[str, float]], *, tolerance: float = TOLERANCE
) -> list[Velocity]:
    """:func:`velocity_for` of several changes of one anatomy, where it takes less work.

    Velocity is linear in divergence: Poisson's equation is solved once for every region.
    """
    wanted = [_wanted(regions, change) for change in changes]
    inside = _cavity(regions)
    patterns, response = _patterns(regions, inside)
    each = torch.cat([_flow(pattern, inside, regions.maps, None)[0] for pattern in patterns])

    def flow(used: np.ndarray) -> Velocity:
        return Velocity(torch.einsum("k,kixyz->ixyz", torch.as_tensor(used).to(each), each)[None])

    return [_corrected(regions, one, response, flow, tolerance) for one in wanted]


def _corrected(
    regions: Regions, wanted: np.ndarray, response: np.ndarray, flow: Callable[[np.ndarray], Velocity],
    tolerance: float,
) -> Velocity:
    """Broyden's method of :func:`velocity_for`; `flow` gives the velocity of the regions' divergences (K)."""
    require(
        np.linalg.matrix_rank(response) == len(wanted), "velocity_for: regions",
        expected="regions with voxels of their own", found="regions that share all of theirs",
        remedy="Merge regions that the grid cannot tell apart, or use a finer grid.",
    )
    rated, used, before = _rated(regions), np.zeros_like(wanted), np.zeros_like(wanted)
    for _ in range(_ROUNDS):
        step = np.linalg.solve(response, wanted - before)
        used = used + step
        velocity = flow(used)
        change = realised_change(regions, velocity)
        found = np.array([change[name] for name in rated])
        if (np.abs(wanted - found) <= np.maximum(tolerance * np.abs(wanted), _NEGLIGIBLE)).all():
            return velocity
        response = response + np.outer(found - before - response @ step, step / (step @ step))
        before = found
    worst = int(np.argmax(np.abs(wanted - found)))
    raise NbkitError(
        "velocity_for: change", expected=f"changes that a flow can bring about to {tolerance:.0%}",
        found=f"{(wanted - found)[worst]:+.2%} missing in {rated[worst]}",
        remedy="Ask for slower change, or give the region more voxels (a finer grid).",
    )


def realised_change(regions: Regions, velocity: Velocity) -> dict[str, float]:
    """Change of every region's volume over one unit of time along `velocity`, over its volume now."""
    before, after = regions.volumes, aged(regions, expv(velocity, affine=regions.maps.affine)).volumes
    return {name: after[name] / before[name] - 1 for name in regions.names}


def aged(regions: Regions, displacement_mm: Displacement) -> Regions:
    """Regions after a flow, filling the skull as before it."""
    return Regions(regions.names, refilled(regions.moved(displacement_mm).maps, regions.maps))


def _rated(regions: Regions) -> list[str]:
    """Names of the regions that have a rate: all but the fluid."""
    return [n for n, s in zip(regions.names, regions.structures, strict=True) if s != FLUID]


def _wanted(regions: Regions, change: Mapping[str, float]) -> np.ndarray:
    """Change asked of :func:`_rated` regions, after checks."""
    empty = [name for name, volume in regions.volumes.items() if not volume > 0]
    require(
        not empty, "velocity_for: regions", expected=f"voxels of {', '.join(empty)}", found="none",
        remedy="Check that the grid covers the whole head, or leave the region out.",
    )
    require(
        FLUID in regions.structures, "velocity_for: regions", expected=f"fluid ({FLUID!r}) that takes up what is lost",
        found=", ".join(regions.names), remedy="Add the fluid between brain and skull as a region.",
    )
    rated = [structure for structure in regions.structures if structure != FLUID]
    check_keys(rated, change, "velocity_for: change")
    wanted = np.array([change[structure] for structure in rated], dtype=np.float64)
    require(
        bool((np.isfinite(wanted) & (wanted > -1)).all()), "velocity_for: change",
        expected="finite changes above -1 (all of the volume)", found=dict(change),
        remedy="Give changes as fractions of the volume: -0.01 for 1 % less.",
    )
    return wanted


def _cavity(regions: Regions) -> np.ndarray:
    """Inside of the skull: where regions fill more than half a voxel, the largest piece connected through faces."""
    pieces, _ = ndimage.label(regions.maps.data.sum(dim=0).numpy() > 0.5)
    return pieces == int(np.argmax(np.bincount(pieces.ravel())[1:])) + 1


def _patterns(regions: Regions, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Balanced divergence (K, N) of each rated region at rate 1, and the rate (K, K) that each gives to each."""
    sources = regions.maps.data.numpy().astype(np.float64)[:, inside]
    fluid = np.array([s == FLUID for s in regions.structures])
    absorber = sources[fluid].sum(axis=0)
    rated = sources[~fluid]
    patterns = rated - rated.sum(axis=1, keepdims=True) * (absorber / absorber.sum())
    return patterns, rated @ patterns.T / rated.sum(axis=1, keepdims=True)


def _flow(
    divergence: np.ndarray, inside: np.ndarray, maps: Volume, start: np.ndarray | None
) -> tuple[Velocity, np.ndarray]:
    """Pull-back velocity and potential of a divergence (N) given inside the cavity."""
    axes = maps.affine[:3, :3] / np.array(maps.spacing)
    require(
        np.allclose(axes.T @ axes, np.eye(3), atol=1e-4), "velocity_for: regions", expected="perpendicular grid axes",
        found="a sheared affine", remedy="Resample onto a grid without shear (nbkit.geometry.warp.resample).",
    )
    box = np.zeros(inside.shape)
    box[inside] = divergence
    potential = solve_potential(box, inside, spacing=maps.spacing, start=start)
    centred = at_centres(fluxes(potential, inside, spacing=maps.spacing), inside)
    world = np.einsum("ij,jxyz->ixyz", axes, centred)
    return Velocity(-torch.from_numpy(world[None]).to(maps.data)), potential
