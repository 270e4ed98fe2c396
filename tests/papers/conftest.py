"""A tiny cohort whose target is a known, nonlinear function of its inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.core.windows import filter_separable, gaussian_kernel
from tests.figures.conftest import scan

__all__ = ["scan"]  # figures of papers are drawn from the same head
AFFINE = np.diag([0.9, 0.9, 3.0, 1.0])
SHAPE = (16, 15, 11)


def smooth(*name: object) -> torch.Tensor:
    """A smooth random field (1, X, Y, Z) of unit variance, the same for the same name."""
    noise = torch.randn(1, 1, *SHAPE, generator=torch_generator(11, *name), dtype=torch.float64)
    field = filter_separable(noise, (gaussian_kernel(1.2),) * 3)[0]
    return (field / field.std()).float()


def toy_scan(name: str) -> Scan:
    """T1w and T2w are independent; FLAIR bends with T2w and falls with T1w."""
    a, b = smooth(name, "T1w"), smooth(name, "T2w")
    images = {"T1w": 400 + 90 * a, "T2w": 700 + 200 * b, "FLAIR": 120 + 30 * torch.tanh(2 * b) - 10 * a}
    brain = torch.zeros(1, *SHAPE, dtype=torch.bool)
    brain[:, 2:-1, 1:-3, 1:-1] = True
    brain &= smooth(name, "brain") > -1.2
    return Scan(name, "1", None, {n: Volume(v, AFFINE) for n, v in images.items()}, {"brain": Volume(brain, AFFINE)})


@pytest.fixture(scope="session")
def toy_cohort() -> Cohort:
    """Four subjects, one scan each."""
    names = [f"sub-{i}" for i in range(4)]
    return Cohort("toy", tuple(Subject(n, None, "MS", (toy_scan(n),)) for n in names), "embedded")


def explained(model, subject: Subject) -> float:
    """Share of the variance of true FLAIR in the brain that a prediction explains."""
    scan = subject.baseline
    brain = scan.mask("brain").data
    truth = scan.image("FLAIR").data[brain]
    prediction = model.synthesize(scan.images, mask=scan.mask("brain")).data[brain]
    return 1 - float((prediction - truth).square().mean() / truth.var())
