"""Real heads as donors of the FDG phantom: label maps, laid on the template rigidly by the centres of structures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from nbkit.core.checks import require
from nbkit.core.volume import Volume, bounding_box
from nbkit.phantom.fdg import Donor, fdg_grid, growth_fields
from nbkit.phantom.muse import Codes, laid_on, regions_of
from nbkit.phantom.regions import SIDES, Regions

_FLOWS = "smoke"
"""Profile whose grid has the voxels on which flows are made."""


def label_donor(name: str, age: float, labels: Volume, codes: Codes, *, profile: str, template: Regions) -> Donor:
    """A donor from a MUSE label map, which fills the skull, fluid included.

    Parameters
    ----------
    name : str
    age : float
        Years.
    labels : Volume
        MUSE codes, any orientation, in the world of the scan.
    codes : mapping
        Of :func:`nbkit.phantom.muse.merge_codes`, for the structures of the FDG phantom.
    profile : {"smoke", "laptop", "overnight", "paper"}
        Whose grid the maps lie on.
    template : Regions
        Of the template: where the structures belong.

    Raises
    ------
    NbkitError
        For a code of no structure, a structure without voxels, or a head that leaves the grid.
    """
    labels = labels.crop(bounding_box(labels.data[0] > 0))
    matrix = rigid_between(centres_of(template), _label_centres(labels, codes))
    sharp = regions_of(labels, codes, matrix)
    regions = {
        p: laid_on(fdg_grid(p), sharp, matrix, where=f"label_donor: {name}", least=0.98) for p in {profile, _FLOWS}
    }
    return Donor(name, age, regions[profile], growth_fields(regions[_FLOWS]))


def centres_of(regions: Regions) -> dict[str, np.ndarray]:
    """Centre of gravity of every region in world mm."""
    maps, affine, means = regions.maps.data.double(), regions.maps.affine, []
    for others in ((2, 3), (1, 3), (1, 2)):
        profile = maps.sum(dim=others)
        means.append((profile @ torch.arange(profile.shape[1]).double() / profile.sum(dim=1)).numpy())
    world = np.stack(means, axis=1) @ affine[:3, :3].T + affine[:3, 3]
    return dict(zip(regions.names, world, strict=True))


def _label_centres(labels: Volume, codes: Codes) -> dict[str, np.ndarray]:
    """Centre of every region that the label map tells the side of, in world mm of the labels."""
    values = labels.data[0].numpy()
    places = np.argwhere(values > 0)
    at = values[tuple(places.T)]
    size = int(at.max()) + 1
    count = np.bincount(at, minlength=size)
    sums = np.stack([np.bincount(at, weights=column, minlength=size) for column in places.T], axis=1)
    pairs = ((structure, side) for structure in codes for side in SIDES)
    own = {f"{name}_{side}": [c for c in codes[name][side] if c < size] for name, side in pairs}
    voxels = {name: sums[o].sum(axis=0) / count[o].sum() for name, o in own.items() if count[o].sum()}
    return {name: labels.affine[:3, :3] @ voxel + labels.affine[:3, 3] for name, voxel in voxels.items()}


def rigid_between(fixed: Mapping[str, np.ndarray], moving: Mapping[str, np.ndarray]) -> np.ndarray:
    """4×4 rotation and shift that take places named in `fixed` to those of the same name in `moving`, least squares.

    Raises
    ------
    NbkitError
        For fewer than three shared names.

    References
    ----------
    Kabsch, Acta Cryst. A32:922-923, 1976.
    """
    shared = [name for name in fixed if name in moving]
    require(
        len(shared) >= 3, "rigid_between", expected="three places or more with one name", found=len(shared),
        remedy="Check that the label map has sides, and the codes of the atlas.",
    )
    x, y = (np.array([places[name] for name in shared]) for places in (fixed, moving))
    u, _, vt = np.linalg.svd((y - y.mean(axis=0)).T @ (x - x.mean(axis=0)))
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = y.mean(axis=0) - turn @ x.mean(axis=0)
    return matrix
