"""Slices of simple heads whose parietal uptake falls with the stage, for tests of generators and classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from nbkit.core.seeds import numpy_generator, torch_generator
from nbkit.data.pet_slices import SUVR_MAX, Slices, levels_of
from nbkit.papers.pet_dcgan.pet_volumes import Volumes

UPTAKE = {"CN": 1.0, "MCI": 0.75, "AD": 0.4}
WIDTHS = {"axial": (0.72, 0.88), "coronal": (0.72, 0.66), "sagittal": (0.88, 0.66), "volume": (0.8, 0.8)}


def head(subject: str, stage: str, view: str, size: int, *, spread: float = 0.03, dims: int = 2) -> torch.Tensor:
    """(size,) * dims in [−1, 1]: a bright rim, a pale middle, and a patch at the back that the stage dims."""
    rng = numpy_generator(5, subject)
    uptake, scale, shift = UPTAKE[stage] + spread * rng.normal(), 1 + 0.03 * rng.normal(), 0.02 * rng.normal(size=2)
    at = np.meshgrid(*[np.linspace(-1, 1, size)] * dims, indexing="ij")
    a, b = (w * scale for w in WIDTHS[view])
    radius = np.sqrt(((at[0] - shift[0]) / a) ** 2 + ((at[1] - shift[1]) / b) ** 2 + sum(x**2 / b**2 for x in at[2:]))
    image = 1.5 * np.exp(-(((radius - 0.8) / 0.2) ** 2)) + 0.4 * (radius < 0.9)
    patch = np.exp(-((at[0] ** 2 + (at[1] + 0.6 * b) ** 2) / 0.15))
    image = image * (1 - (1 - uptake) * patch) + 0.05 * rng.normal(size=(size,) * dims)
    return torch.tensor(np.clip(image / SUVR_MAX, 0, 1) * 2 - 1, dtype=torch.float32)


def people(count: int, stages: Sequence[str]) -> list[tuple[str, str]]:
    """Subject and stage of `count` of each."""
    return [(f"{stage.lower()}{i:03d}", stage) for stage in stages for i in range(count)]


def head_slices(
    count: int, *, size: int = 16, stages: Sequence[str] = ("CN", "MCI", "AD"), views: Sequence[str] = ("axial",),
    per_view: int = 1, spread: float = 0.03,
) -> Slices:
    """`count` people of each stage."""
    rows = [
        (who, stage, view, level) for who, stage in people(count, stages) for view in views
        for level in levels_of(view, per_view)
    ]
    images = torch.stack([head(who, stage, view, size, spread=spread)[None] for who, stage, view, _ in rows])
    return Slices(images, *map(tuple, zip(*rows, strict=True)))


def patterns(count: int, *, size: int = 16) -> Slices:
    """Smooth patterns that have nothing in common, as slices of `count` people."""
    noise = torch.randn(count, 1, size + 8, size + 8, generator=torch_generator(3))
    smooth = F.avg_pool2d(F.avg_pool2d(noise, 5, 1), 5, 1)
    names = tuple(f"ad{i:03d}" for i in range(count))
    return Slices((smooth / smooth.std()).tanh(), names, ("AD",) * count, ("axial",) * count, (20.0,) * count)


def head_volumes(count: int, *, size: int = 16, stages: Sequence[str] = ("CN", "AD")) -> Volumes:
    """`count` people of each stage."""
    rows = people(count, stages)
    images = torch.stack([head(who, stage, "volume", size, dims=3)[None] for who, stage in rows])
    return Volumes(images, *map(tuple, zip(*rows, strict=True)))
