"""A group whose anatomy is known: balls that shrink with age, each person's by a factor of their own."""

from __future__ import annotations

import numpy as np
import torch

from nbkit.core.protocols import Scan
from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume

SHAPE, MM = (16, 16, 16), 4.5
AFFINE = np.diag([MM, MM, MM, 1.0])
AFFINE[:3, 3] = -33.75
SHEET_MM, BRIGHT = 30.0, 240.0


def radius(age: float) -> float:
    """True mean radius in mm: 20 at 60 years, a quarter of a millimetre less every year."""
    return 20 - 0.25 * (age - 60)


def _distance() -> tuple[np.ndarray, np.ndarray]:
    axes = [MM * np.arange(n) + AFFINE[0, 3] for n in SHAPE]
    world = np.stack(np.meshgrid(*axes, indexing="ij"))
    return world, np.sqrt(np.square(world).sum(axis=0))


INNER = torch.from_numpy(_distance()[1] < 25)


def ball(mm: float) -> torch.Tensor:
    """A dark ball of a radius (mm) in a bright sphere, both with a texture that stretches along, on background 0."""
    world, r = _distance()
    # where the ball's edge is at 20 mm, this place would lie at the distance:
    source = np.interp(r, [0, mm, SHEET_MM], [0, 20, SHEET_MM])
    texture = sum(np.cos(w * source / r / 2.5 + phase) for w, phase in zip(world, (0.3, 1.1, 2.0))) / 3
    inside = np.clip((20 - source) / 3 + 0.5, 0, 1)
    return torch.from_numpy(BRIGHT * (0.85 - 0.5 * inside + 0.15 * texture) * (r < SHEET_MM)).float()


def measured(image: Volume) -> float:
    """Radius in mm of the dark ball, from its volume within 25 mm of the centre."""
    share = (0.85 - image.data[0] / BRIGHT) / 0.5
    return float((share[INNER].sum() * MM**3 / (4 / 3 * np.pi)) ** (1 / 3))


def scan(person: str, session: str, age: float, *, factor: float = 1.0) -> Scan:
    """One visit; the person's radius is `factor` times the mean."""
    image = Volume(ball(factor * radius(age)), AFFINE)
    return Scan(person, session, age, {"T1w": image}, {"brain": image.with_data(image.data > 0)})


def group(persons: int = 8, visits: int = 2, *, spread: float = 0.08) -> list[Scan]:
    """People of 60 to 82 years at their first visit, with `visits` visits three years apart."""
    rng = numpy_generator(7, "balls")
    factors = 1 + spread * rng.permutation(np.linspace(-1, 1, persons))
    ages = np.linspace(60, 82, persons)
    return [
        scan(f"p{i}", f"v{k}", float(ages[i] + 3 * k), factor=factors[i])
        for i in range(persons) for k in range(visits)
    ]
