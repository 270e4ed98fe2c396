"""Regions of the brain: simple shapes and nearest published centroids in MNI space, cut by the tissue maps.

They are approximations, good enough to give each structure its own rate of change; they are not an atlas.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from nbkit.core.checks import require
from nbkit.core.volume import Volume
from nbkit.geometry.warp import Displacement, warp, warp_each
from nbkit.phantom.acquisition import rigid
from nbkit.phantom.anatomy import Anatomy, Template, place_on_grid
from nbkit.phantom.parameters import Parameters

AGEING_PARAMETERS = Path(__file__).with_name("ageing_parameters.toml")
SIDES = ("left", "right")
FLUID = "csf"
"""The structure without a rate: fluid outside the lateral ventricles, which takes up what all others lose."""
TISSUES = ("gm", "wm", "csf")


def sided(structures: Iterable[str]) -> tuple[str, ...]:
    """Names of the regions of structures: each left, then right."""
    return tuple(f"{structure}_{side}" for structure in structures for side in SIDES)


def structure_of(region: str) -> str:
    """The structure of a region: its name without the side."""
    return region.removesuffix("_left").removesuffix("_right")


@dataclass(frozen=True, eq=False)
class Regions:
    """What share of every voxel each region fills.

    Parameters
    ----------
    names : tuple of str
        E.g. "hippocampus_left"; the part before the side names the structure.
    maps : Volume
        (R, X, Y, Z) float32, each in 0-1, with a sum of at most 1.
    """

    names: tuple[str, ...]
    maps: Volume

    @property
    def structures(self) -> tuple[str, ...]:
        """The structure of every region: its name without the side."""
        return tuple(map(structure_of, self.names))

    @property
    def volumes(self) -> dict[str, float]:
        """Volume of every region in mm³, partial voxels counted by their share."""
        return dict(zip(self.names, self.maps.totals, strict=True))

    def moved(self, displacement_mm: Displacement) -> Regions:
        """The regions pulled back through a displacement (1, 3, X, Y, Z) in mm on their own grid."""
        maps = warp_each(self.maps.data, displacement_mm, affine=self.maps.affine)
        return Regions(self.names, self.maps.with_data(maps, "moved"))


def from_labels(labels: Volume, codes: Mapping[str, Collection[int]]) -> Regions:
    """Regions of a label image, e.g. DLMUSE: each voxel wholly in one region, or in none.

    Parameters
    ----------
    labels : Volume
        One channel of whole numbers.
    codes : mapping of str to collection of int
        The codes of every region. Fluid inside the skull must be among them as "csf_left", "csf_right" or "csf".

    Raises
    ------
    NbkitError
        If a code belongs to two regions, or a region has no voxel.
    """
    seen = [code for group in codes.values() for code in group]
    twice = sorted({code for code in seen if seen.count(code) > 1})
    require(
        not twice, "from_labels: codes", expected="each code in one region", found=f"{twice} in several",
        remedy="Regions may not overlap: leave every code in one of them.",
    )
    maps = torch.stack([torch.isin(labels.data[0], torch.tensor(list(group))) for group in codes.values()])
    empty = [name for name, one in zip(codes, maps, strict=True) if not one.any()]
    require(
        not empty, "from_labels: labels", expected="voxels of every region", found=f"none of {', '.join(empty)}",
        remedy="Check the codes against the table of the atlas, and that the image covers the whole head.",
    )
    return Regions(tuple(codes), Volume(maps.float(), labels.affine, (*labels.history, "regions from labels")))


@lru_cache(maxsize=2)
def template_maps(template: Template, parameters: Parameters, *, spacing: int) -> tuple[Regions, Volume]:
    """Regions of the template and its tissues, averaged over voxels of `spacing` whole mm.

    Parameters
    ----------
    template : Template
    parameters : Parameters
        Of :data:`AGEING_PARAMETERS`.
    spacing : int

    Returns
    -------
    regions : Regions
        Every structure left (x < 0) and right (x > 0), in template world. The maps sum to the tissues.
    tissues : Volume
        (3, X, Y, Z): GM, WM, CSF.
    """
    fractions = template.fractions
    index = np.argwhere(fractions.data.sum(dim=0).numpy() > 0)
    shares = fractions.data.numpy()[(slice(None), *index.T)]
    world = index @ fractions.affine[:3, :3].T + fractions.affine[:3, 3]
    structures = (*parameters.groups("structure"), FLUID)
    parts = _structures_of(world, template.distance[tuple(index.T)], structures, parameters)
    # voxels on the midline go to the two sides in turn, or all of the fissure would lie on one
    right = np.where(world[:, 0] == 0, index.sum(axis=1) % 2 == 1, world[:, 0] > 0)
    codes = 2 * parts + right
    names = sided(structures)
    regions = Regions(names, _averaged(index, shares, codes, len(names), grid=fractions, factor=spacing))
    kinds = np.repeat(np.arange(len(TISSUES))[:, None], len(index), axis=1)
    return regions, _averaged(index, shares, kinds, len(TISSUES), grid=fractions, factor=spacing)


def _structures_of(
    world: np.ndarray, distance: np.ndarray, structures: tuple[str, ...], parameters: Parameters
) -> np.ndarray:
    """Structure (3, N), as a place in `structures`, that grey matter, white matter and fluid at N points belong to."""
    folded = np.abs(world) * [1, 0, 0] + world * [0, 1, 1]
    code = {name: place for place, name in enumerate(structures)}
    lobes = parameters.section("lobe")
    seeds = np.concatenate([np.array(s) for s in lobes.values()])
    lobe_of_seed = np.concatenate([np.full(len(s), code[name]) for name, s in lobes.items()])
    grey = lobe_of_seed[cKDTree(seeds).query(folded)[1]]
    white = np.where(grey == code["hindbrain"], code["hindbrain"], code["white_matter"])
    for name in reversed(parameters.groups("shape")):
        shape = parameters.section(f"shape.{name}")
        # turned about x, then z
        along = (folded - shape["centre"]) @ rigid((shape["turn"][0], 0, shape["turn"][1]), (0, 0, 0))[:3, :3]
        inside = ((along / shape["semi_axes"]) ** 2).sum(axis=1) <= 1
        for tissue in shape["tissues"]:
            {"gm": grey, "wm": white}[tissue][inside] = code[name]
    middle, low = parameters["ventricle.third"]
    third = (folded[:, 0] <= middle) & (folded[:, 2] < low)
    lateral = (distance <= parameters["ventricle.reach"]) & ~third
    return np.stack([grey, white, np.where(lateral, code["lateral_ventricle"], code[FLUID])])


def _averaged(
    index: np.ndarray, shares: np.ndarray, codes: np.ndarray, count: int, *, grid: Volume, factor: int
) -> Volume:
    """`count` maps on voxels `factor` times as wide: the `shares` (3, N) of the points, summed by `codes` (3, N)."""
    shape = tuple(-(-n // factor) for n in grid.shape)
    voxel = np.ravel_multi_index(tuple(index.T // factor), shape)
    size = int(np.prod(shape))
    totals = np.bincount((codes * size + voxel).ravel(), shares.ravel(), minlength=count * size)
    coarser = np.diag([factor, factor, factor, 1.0])
    coarser[:3, 3] = (factor - 1) / 2
    return Volume(torch.from_numpy(totals.reshape(count, *shape) / factor**3).float(), grid.affine @ coarser)


def fill_skull(regions: Regions, tissues: Volume) -> tuple[Regions, Volume]:
    """Regions and tissues with the inside of the skull cut at voxel faces: filled, or empty where less than half full.

    What is half outside would leave the skull by its soft edge when a flow moves the maps.
    """
    total = tissues.data.sum(dim=0)
    gain = torch.where(total > 0.5, 1 / total.clamp(min=0.5), torch.zeros(()))
    filled = regions.maps.with_data(regions.maps.data * gain, "skull filled")
    return Regions(regions.names, filled), tissues.with_data(tissues.data * gain, "skull filled")


def carried(regions: Regions, tissues: Volume, displacement_mm: Displacement) -> tuple[Regions, Volume]:
    """Regions and tissues pulled back through one displacement (1, 3, X, Y, Z) in mm, with the skull filled."""
    moved = warp(tissues.data[None], displacement_mm, affine=tissues.affine)[0]
    return fill_skull(regions.moved(displacement_mm), tissues.with_data(moved))


def refilled(moved: Volume, before: Volume) -> Volume:
    """Moved maps, scaled so that together they fill every voxel as `before` did: the skull neither moves nor leaks.

    Interpolation across its wall would let a little of what is inside out, more with every year.
    """
    full, now = before.data.sum(dim=0), moved.data.sum(dim=0)
    gain = torch.where(now > 0, full / now.clamp(min=torch.finfo(now.dtype).tiny), torch.zeros(()))
    return moved.with_data(moved.data * gain, "skull refilled")


def place(
    regions: Regions, tissues: Volume, anatomy: Anatomy, *, shape: tuple[int, int, int], affine: np.ndarray
) -> tuple[Regions, Volume]:
    """Regions and tissues of the template on a subject's grid, cropped alike to where the head can be.

    Parameters
    ----------
    regions, tissues
        As :func:`template_maps` gives them.
    anatomy : Anatomy
    shape, affine
        Grid in the subject's world, voxel-to-world in mm; of about the voxel size of the maps, which are
        interpolated.

    Returns
    -------
    regions, tissues
        With the skull filled (:func:`fill_skull`).
    """
    placed = place_on_grid(regions.maps, tissues, anatomy=anatomy, shape=shape, affine=affine)
    own, rest = (placed.with_data(part) for part in placed.data.tensor_split([len(regions.names)]))
    return fill_skull(Regions(regions.names, own), rest)
