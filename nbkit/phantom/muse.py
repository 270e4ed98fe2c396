"""Labels of the MUSE atlas (DLMUSE) merged to the structures that the simulator knows."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch

from nbkit.core.checks import check_keys, known, require
from nbkit.core.volume import Volume
from nbkit.data.manifest import Manifest
from nbkit.data.participants import all_files, sexes_and_ages
from nbkit.geometry.placement import place
from nbkit.phantom.acquisition import Box
from nbkit.phantom.parameters import Parameters
from nbkit.phantom.regions import SIDES, Regions, fill_skull, from_labels, sided

PEOPLE = "sample_datasets/demo_dataset_IXI/participants/participants.csv"
ATLAS = "resources/lists/MUSE/MUSE_listROIs.csv"
"""Tables of the manifests of real heads: ages and sexes, and the regions of the atlas."""
_SINGLE = 300
"""From this index on, the table lists sums of regions."""
_MIDDLE = "middle"
Codes = Mapping[str, Mapping[str, Collection[int]]]


def people_of(manifest: Manifest) -> dict[str, tuple[str, float]]:
    """Sex and age (years) of everybody who has files in a manifest."""
    return sexes_and_ages(all_files(manifest, [PEOPLE])[PEOPLE], manifest.subjects())


def codes_of(manifest: Manifest, parameters: Parameters) -> dict[str, dict[str, list[int]]]:
    """:func:`merge_codes` of the table of a manifest."""
    return merge_codes(all_files(manifest, [ATLAS])[ATLAS], parameters)


def read_atlas(table: Path) -> dict[str, int]:
    """Code of every single region by its name."""
    with table.open(encoding="utf-8", newline="") as stream:
        return {row["Name"]: int(row["Index"]) for row in csv.DictReader(stream) if int(row["Index"]) < _SINGLE}


def merge_codes(table: Path, parameters: Parameters) -> dict[str, dict[str, list[int]]]:
    """By structure: the MUSE codes on the "left", on the "right" and of neither side ("middle").

    Parameters
    ----------
    table : path
        ``MUSE_listROIs.csv``: columns Index and Name; names end in _L or _R where the region has a side.
    parameters : Parameters
        ``muse.<structure>``: names without side; ``unnamed.<structure>``: codes that the table lacks.

    Raises
    ------
    NbkitError
        If a region of the table stands in no structure, or a name in `parameters` is not in the table.
    """
    codes = read_atlas(table)
    home = {name: structure for structure, names in parameters.section("muse").items() for name in names}
    check_keys(home, {region_and_side(name)[0] for name in codes}, f"{table.name}: region")
    merged = {structure: {side: [] for side in (*SIDES, _MIDDLE)} for structure in parameters.section("muse")}
    for name, code in codes.items():
        region, side = region_and_side(name)
        merged[home[known(region, home, f"{table.name}: region without a structure")]][side].append(code)
    for structure, unnamed in parameters.section("unnamed").items():
        merged[structure][_MIDDLE] += unnamed
    return merged


def region_and_side(name: str) -> tuple[str, str]:
    """Name of an atlas region without its side, and "left", "right" or "middle"."""
    side = {"_L": "left", "_R": "right"}.get(name[-2:], _MIDDLE)
    return (name if side == _MIDDLE else name[:-2]), side


def merge_labels(labels: Volume, codes: Codes, matrix: np.ndarray) -> Volume:
    """Codes 1, 2, 3, ... for the first structure's left and right, the second's left, and so on; 0 stays 0.

    A region without a side is parted at x = 0 of the template's world.

    Parameters
    ----------
    labels : Volume
        MUSE codes.
    codes : mapping
        Of :func:`merge_codes`.
    matrix : numpy.ndarray
        4×4, world of the template to world of the labels (mm).

    Raises
    ------
    NbkitError
        For a code that belongs to no structure.
    """
    values = labels.data[0].numpy()
    row = (np.linalg.inv(matrix) @ labels.affine)[0]
    i, j, k = np.ogrid[tuple(slice(n) for n in labels.shape)]
    right = row[0] * i + row[1] * j + row[2] * k + row[3] > 0
    table = np.zeros((len(SIDES), int(values.max()) + 1), np.int32)
    for place, structure in enumerate(codes.values()):
        for here in range(len(SIDES)):
            middle, of_side = 2 * place + 1 + here, [2 * place + 1, 2 * place + 2]
            for group, code in ((_MIDDLE, middle), *zip(SIDES, of_side, strict=True)):
                table[here, [c for c in structure[group] if c < table.shape[1]]] = code
    merged = np.where(right, table[1][values], table[0][values])
    lost = np.unique(values[(merged == 0) & (values != 0)]).tolist()
    require(
        not lost, f"merge_labels: {labels.history[0] if labels.history else 'labels'}", expected="codes of the atlas",
        found=f"{lost} as well", remedy="Add them to [unnamed] of the parameters, under the structure they belong to.",
    )
    return labels.with_data(torch.from_numpy(merged)[None], "merged to structures")


def regions_of(labels: Volume, codes: Codes, matrix: np.ndarray) -> Regions:
    """Regions of the structures, each voxel in one, from MUSE labels; `codes` and `matrix` as in :func:`merge_labels`.

    Raises
    ------
    NbkitError
        For a code of no structure, or a structure without voxels.
    """
    return from_labels(merge_labels(labels, codes, matrix), {n: (k,) for k, n in enumerate(sided(codes), start=1)})


def laid_on(box: Box, sharp: Regions, matrix: np.ndarray, *, where: str, least: float) -> Regions:
    """Regions of a label map on a grid of the template's world, by one interpolation, with the skull filled.

    Parameters
    ----------
    box : (shape, affine)
    sharp : Regions
        In the world of the labels.
    matrix : numpy.ndarray
        4×4, world of the template to world of the labels (mm).
    where : str
        Whose head it is, for the error.
    least : float
        Share of the head that must lie inside the grid.
    """
    maps = place(sharp.maps, matrix, shape=box[0], affine=box[1])
    share = float(maps.data.sum(dtype=torch.float64)) * maps.voxel_volume / sum(sharp.volumes.values())
    require(
        share > least, where, expected="a head inside the grid", found=f"{share:.1%} of it",
        remedy="Look at the scan and its labels: the alignment to the template failed, or a structure carries "
        "another's code.",
    )
    return fill_skull(Regions(sharp.names, maps), maps.with_data(maps.data.sum(dim=0, keepdim=True)))[0]
