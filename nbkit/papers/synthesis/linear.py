"""Controls without a model of anatomy: ordinary least squares on single voxels, and the training mean.

Not in the thesis. A method of chapter 2 says something only as far as it beats these: T2-weighted scaled to FLAIR
(inputs ``("T2w",)``), a weighted sum of all inputs, and one number for the whole brain (inputs ``()``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from nbkit.core.protocols import Cohort
from nbkit.papers.synthesis.patches import Contrasts, PatchSynthesizer
from nbkit.training.checkpoint import check_tensors


@dataclass(frozen=True)
class Config(Contrasts):
    """Settings; the same in every profile, the fit takes seconds. No inputs give the target's mean in the brain."""

    fewest: ClassVar[int] = 0
    radius: ClassVar[int] = 0


class LinearSynthesizer(PatchSynthesizer):
    """A :class:`~nbkit.core.protocols.ModalitySynthesizer`: target = weights · inputs + intercept, voxel by voxel.

    Least squares over all brain voxels of all scans; among equal inputs the shortest weights.
    """

    settings = Config
    called = "linear synthesis"

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        self.weights = torch.zeros(len(self.config.inputs) + 1, dtype=torch.float64)

    def _learn(self, cohort: Cohort) -> None:
        products = sum(_products(rows, values) for rows, values in self.reader.training(cohort))
        self.weights = torch.linalg.pinv(products[:-1, :-1], hermitian=True) @ products[:-1, -1]

    def _predict(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.double() @ self.weights[:-1] + self.weights[-1]

    def _tensors(self) -> Mapping[str, torch.Tensor]:
        return {"weights": self.weights}

    def _take(self, tensors: dict[str, torch.Tensor], where: str) -> None:
        check_tensors(tensors, {"weights": self.weights}, where)
        self.weights = tensors["weights"]


def _products(rows: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Sums of products of [inputs, 1, target] over voxels, float64."""
    table = torch.cat([rows, torch.ones(len(rows), 1), values[:, None]], 1).double()
    return table.T @ table
