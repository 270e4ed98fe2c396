"""Labels of the MUSE atlas (DLMUSE) merged to the structures that the simulator knows."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch

from nbkit.core.checks import check_keys, known, require
from nbkit.core.volume import Volume
from nbkit.phantom.parameters import Parameters
from nbkit.phantom.regions import SIDES

_SINGLE = 300
"""From this index on, the table lists sums of regions."""
_MIDDLE = "middle"
Codes = Mapping[str, Mapping[str, Collection[int]]]


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
    with table.open(encoding="utf-8", newline="") as stream:
        codes = {row["Name"]: int(row["Index"]) for row in csv.DictReader(stream) if int(row["Index"]) < _SINGLE}
    home = {name: structure for structure, names in parameters.section("muse").items() for name in names}
    check_keys(home, {_sided(name)[0] for name in codes}, f"{table.name}: region")
    merged = {structure: {side: [] for side in (*SIDES, _MIDDLE)} for structure in parameters.section("muse")}
    for name, code in codes.items():
        region, side = _sided(name)
        merged[home[known(region, home, f"{table.name}: region without a structure")]][side].append(code)
    for structure, unnamed in parameters.section("unnamed").items():
        merged[structure][_MIDDLE] += unnamed
    return merged


def _sided(name: str) -> tuple[str, str]:
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
