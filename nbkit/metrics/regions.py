"""Regions of one subject: volumes in mm³ from hard or soft labels, and the two sides of a structure as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nbkit.core.checks import check_labels, require
from nbkit.core.volume import Volume
from nbkit.metrics.overlap import dice

SIDES = ("_left", "_right")


def structure(name: str) -> str:
    """The structure a region belongs to: "hippocampus" for "hippocampus_left"."""
    return next((name.removesuffix(side) for side in SIDES if name.endswith(side)), name)


def regional_volumes(labels: Volume, names: Mapping[int, str]) -> dict[str, float]:
    """Volume of each region of a label map in mm³, by name; 0 for one without a voxel.

    Parameters
    ----------
    labels : Volume
        (1, X, Y, Z) whole numbers.
    names : mapping of int to str
        Codes that count.

    Raises
    ------
    NbkitError
        For a map with fractions.
    """
    check_labels(labels.data, "regional_volumes: labels")
    codes, counts = labels.data.long().unique(return_counts=True)
    found = dict(zip(codes.tolist(), counts.tolist(), strict=True))
    return {name: found.get(code, 0) * labels.voxel_volume for code, name in names.items()}


def soft_volumes(maps: Volume, names: Sequence[str]) -> dict[str, float]:
    """Volume of each region in mm³ from maps (R, X, Y, Z) of the share of every voxel that it fills, by name."""
    require(
        len(names) == maps.data.shape[0], "soft_volumes: names", expected=f"{maps.data.shape[0]} names, one per map",
        found=len(names), remedy="Name the channels in their order.",
    )
    low, high = float(maps.data.min()), float(maps.data.max())
    require(
        low >= -1e-4 and high <= 1 + 1e-4, "soft_volumes: maps", expected="shares from 0 to 1",
        found=f"{low:.4g} to {high:.4g}", remedy="Apply the softmax first, or count labels with regional_volumes.",
    )
    return dict(zip(names, maps.totals, strict=True))


def by_structure(volumes: Mapping[str, float]) -> dict[str, float]:
    """Volumes with the left and the right region of a structure added up, in order of first appearance."""
    total: dict[str, float] = {}
    for name, value in volumes.items():
        total[structure(name)] = total.get(structure(name), 0.0) + value
    return total


def dice_by_structure(a: Volume, b: Volume, names: Mapping[int, str]) -> dict[str, float]:
    """Dice of each structure of two label maps on one grid; its two sides are told apart and averaged.

    NaN where neither map has a voxel of the structure on any side; a side that only both maps lack does not count.

    Raises
    ------
    NbkitError
        For maps on different grids, or with fractions.
    """
    a.check_grid(b, "dice_by_structure: a and b")
    check_labels(a.data, "dice_by_structure: a")
    check_labels(b.data, "dice_by_structure: b")
    found: dict[str, list[float]] = {}
    for code, name in names.items():
        found.setdefault(structure(name), []).append(float(dice((a.data == code)[None], (b.data == code)[None])))
    return {name: _mean([v for v in values if v == v]) for name, values in found.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
