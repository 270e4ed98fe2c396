"""Heads that are balls: templates and people whose true change is known in closed form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume

SHAPE, SPACING = (18, 19, 17), 4.0
AFFINE = np.diag([SPACING] * 3 + [1.0])
AFFINE[:3, 3] = -SPACING * (np.array(SHAPE) - 1) / 2
RADIUS, START = 24.0, 60.0
RATES = {"HC": 0.006, "AD": 0.02}
"""Loss of radius per year, over that at START."""
NAMES = {1: "hippocampus_left", 2: "white_matter_left"}


def distance(centre: Sequence[float]) -> np.ndarray:
    """Distance of every voxel from `centre` in mm."""
    places = np.tensordot(AFFINE[:3, :3], np.indices(SHAPE), axes=1) + AFFINE[:3, 3].reshape(3, 1, 1, 1)
    return np.linalg.norm(places - np.reshape(centre, (3, 1, 1, 1)), axis=0)


def picture(relative: np.ndarray) -> torch.Tensor:
    """Intensity (1, X, Y, Z) at distances over the radius: bright and dark shells, 0 outside."""
    edge = 1 / (1 + np.exp((relative - 1) * 16))
    return torch.from_numpy((edge * (0.7 + 0.3 * np.cos(9 * relative))).clip(0.02) - 0.02).float()[None]


class BallTemplate:
    """A :class:`~nbkit.core.protocols.TemplateModel` that knows the truth of its group."""

    config = None

    def __init__(self, rate: float) -> None:
        self.rate, self.seen = rate, 0

    def fit(self, scans: Sequence[Scan]) -> Self:
        self.seen = len(scans)
        return self

    def template(self, age: float) -> Volume:
        radius = RADIUS * (1 - self.rate * (age - START))
        return Volume(picture(distance((0, 0, 0)) / radius), AFFINE)

    def save(self, path: Path) -> None:
        path.mkdir()
        (path / "ball.json").write_text(json.dumps({"rate": self.rate, "seen": self.seen}))

    @classmethod
    def load(cls, path: Path) -> Self:
        values = json.loads((path / "ball.json").read_text())
        return cls(values["rate"]).fit([None] * values["seen"])


def visit(name: str, age: float, radius: float, centre: Sequence[float]) -> Scan:
    """A scan of a ball: the inner half is the hippocampus, the rest white matter."""
    relative = distance(centre) / radius
    labels = torch.from_numpy(np.select([relative < 0.5, relative < 1], [1, 2], 0)).to(torch.int16)[None]
    brain = Volume(labels > 0, AFFINE)
    return Scan(
        name, f"{age:g}", age, {"T1w": Volume(picture(relative) * brain.data, AFFINE)}, {"brain": brain},
        Volume(labels, AFFINE), NAMES,
    )


def person(name: str, group: str, *, ages: Sequence[float], size: float, centre: Sequence[float]) -> Subject:
    """A ball of its own size and place that shrinks as its group does."""
    radii = [RADIUS * size * (1 - RATES[group] * (age - START)) for age in ages]
    scans = tuple(visit(name, a, r, centre) for a, r in zip(ages, radii, strict=True))
    return Subject(name, None, {"HC": "CN", "AD": "AD"}[group], scans)


def people(count: int, group: str, *, seed: int) -> list[Subject]:
    """Balls of different sizes and places, seen at 62-64 years and six to ten years later."""
    rng = np.random.default_rng(seed)
    return [
        person(
            f"{group}{k}", group, ages=(62 + rng.uniform(0, 2), 70 + rng.uniform(0, 2)),
            size=rng.uniform(0.92, 1.08), centre=rng.uniform(-4, 4, 3),
        )
        for k in range(count)
    ]


def cohort(subjects: Sequence[Subject]) -> Cohort:
    """A cohort of balls."""
    return Cohort("balls", tuple(subjects), "embedded")
