"""People of a few voxels and systems whose answers are known, for tests of the explorer."""

from __future__ import annotations

import numpy as np
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.papers.trajectories.outlook import Outlook
from nbkit.widgets.explorer import Person

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0]) + np.array([[0, 0, 0, -40.0], [0, 0, 0, -60.0], [0, 0, 0, -40.0], [0, 0, 0, 0]])


def somebody(name: str = "sub-01", age: float = 70.0) -> Person:
    """Noise for a head, a hippocampus of 7 mL at the last scan seen and of 6.8 mL three years later."""
    image = Volume(torch.rand(20, 24, 20, generator=torch.Generator().manual_seed(3)), AFFINE)
    return Person(
        name, image, age, {age: {"hippocampus": 7000.0}}, {age + 3: {"hippocampus": 6800.0}}, {age + 3: image},
    )


class Fading:
    """A system that darkens the baseline by 1 % a year (2 % with AD), counts its calls, and knows no turn."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, person: Person, age: float, course: str) -> Outlook:
        self.calls += 1
        if "→" in course:
            raise NbkitError("Fading: course", expected="HC or AD", found=repr(course), remedy="Ask for one of them.")
        left = 1 - 0.01 * (age - person.age) * (2 if course == "AD" else 1)
        image = person.baseline.with_data(person.baseline.data * left, f"aged to {age}")
        return Outlook(image, {"hippocampus": 7000 * left}, {"hippocampus": 10 * (age - person.age)})


def unchanged(person: Person, age: float, course: str) -> Outlook:
    """The last scan and its hippocampus again, on every course."""
    return Outlook(person.baseline, {"hippocampus": 7000.0})
