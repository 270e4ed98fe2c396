"""Scores made by hand, and balls whose future is known on every course."""

from __future__ import annotations

import numpy as np
import torch

from nbkit.core.volume import Volume
from nbkit.geometry.futures import Futures
from nbkit.geometry.warp import Displacement, grid_positions
from nbkit.papers.inbrainsyn import Transition
from nbkit.papers.inbrainsyn.inbrainsyn import Config
from tests.papers.trajectories.ageing_balls import AFFINE, RATES, SHAPE, START

HEALTHY = ("CN", "SMC")
MODELS = {"inbrainsyn": 0.0, "no_pt": -0.2, "full": 0.01, "no_transport": 0.02, "wrong_sign": 0.03,
          "gan_templates": 0.04, "no_change": 0.1}
"""By model, what it is better by."""


class Turning:
    """Knows the truth of balls in the middle, on every course."""

    config = Config()

    def futures(self, scan, ages, course) -> Futures:
        turn = course.age if isinstance(course, Transition) else {"HC": np.inf, "AD": START}[course]
        first, *later = (self._radius(age, turn) for age in (scan.age, *ages))
        fields = torch.cat([(first / r - 1) * grid_positions(SHAPE, AFFINE) for r in later])
        return Futures(scan, tuple(ages), Displacement(fields))

    def _radius(self, age: float, turn: float) -> float:
        return 1 - RATES["HC"] * (min(age, turn) - START) - RATES["AD"] * max(age - turn, 0)

    def way(self, scan) -> Volume:
        return Volume(torch.full((3, *SHAPE), 0.5), AFFINE)
