"""A small cohort in which DVR follows from four noisy contrasts of one latent map of myelin."""

from __future__ import annotations

import numpy as np
import torch

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.core.windows import filter_separable, gaussian_kernel

SHAPE, AFFINE = (22, 21, 20), np.diag([2.0, 2.0, 2.0, 1.0])
INPUTS = ("MTR", "FA", "RD", "AD")


def smooth(*name: object, sigma: float = 1.5) -> torch.Tensor:
    """A smooth random field (1, X, Y, Z) of unit variance, the same for the same name."""
    noise = torch.randn(1, 1, *SHAPE, generator=torch_generator(3, *name), dtype=torch.float64)
    field = filter_separable(noise, (gaussian_kernel(sigma),) * 3)[0]
    return (field / field.std()).float()


def toy_scan(name: str, *, lesions: bool) -> Scan:
    """White matter where the latent field is high; lesions in it have half of the myelin."""
    field = smooth(name, "myelin")
    brain = torch.zeros(1, *SHAPE, dtype=torch.bool)
    brain[:, 3:-2, 2:-3, 3:-3] = True
    white = brain & (field > -0.2)
    damaged = white & (smooth(name, "lesions", sigma=1.0) > 1.5) & lesions
    myelin = torch.where(damaged, torch.tensor(0.35), 0.6 + 0.3 * torch.tanh(field))
    noise = {n: 0.04 * smooth(name, n, sigma=0.6) for n in INPUTS}
    images = {
        "MTR": 40 * (myelin + noise["MTR"]), "FA": 0.5 * myelin + noise["FA"], "RD": 1.2 - 0.6 * myelin + noise["RD"],
        "AD": 1.2 + noise["AD"], "DVR": 1.3 * myelin,
    }
    masks = {"brain": brain, "lesions": damaged, "nawm": white & ~damaged}
    return Scan(
        name, "t0", 30.0, {n: Volume(v * brain, AFFINE) for n, v in images.items()},
        {n: Volume(v, AFFINE) for n, v in masks.items()},
    )


def toy_cohort(count: int = 6) -> Cohort:
    """Every third subject is a control without lesions; the first is one."""
    people = [(f"s{i}", i % 3 > 0) for i in range(count)]
    subjects = tuple(Subject(n, "F", "MS" if ill else "HC", (toy_scan(n, lesions=ill),)) for n, ill in people)
    return Cohort("toy", subjects, "embedded", {"data_hash": "toy"})
