"""People whose bright voxels dim with age, faster in the ill; dark ones stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
PACE = {"CN": 0.01, "AD": 0.05}


def brain(shape: Sequence[int]) -> torch.Tensor:
    """(1, X, Y, Z): a box that leaves two voxels free, and everything along an axis of one."""
    inside = torch.zeros(1, *shape, dtype=torch.bool)
    inside[0][tuple(slice(2, -2) if n > 1 else slice(None) for n in shape)] = True
    return inside


def person(
    name: str, diagnosis: str, visits: int = 3, *, shape: Sequence[int] = (24, 24, 1), gain: float = 1.0,
    faster: float = 1.0,
) -> Subject:
    """Scanned every second year; each visit is `gain` times as bright as the one before."""
    rng = torch.Generator().manual_seed(sum(map(ord, name)))
    first, inside = torch.rand(1, *shape, generator=rng), brain(shape)
    scans = []
    for k in range(visits):
        image = (first - faster * PACE[diagnosis] * 2 * k * (first > 0.5)) * inside
        scans.append(Scan(name, f"M{k}", 70.0 + 2 * k, {"T1w": Volume(gain**k * image, AFFINE)},
                          {"brain": Volume(inside, AFFINE)}))
    return Subject(name, None, diagnosis, tuple(scans))


def school(**options: object) -> Cohort:
    """Four people of each diagnosis."""
    people = [person(f"{d}{k}", d, **options) for d in PACE for k in range(4)]
    return Cohort("dimming", tuple(people), "embedded", {"data_hash": "d"})
