"""Modality propagation: each voxel takes the FLAIR of the most similar patch seen in training.

Ye D.H. et al., "Modality propagation: coherent synthesis of subject-specific scans with data-driven regularization",
MICCAI 2013, as compared with in Wei's thesis, chapter 2 (3×3×3 patches).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from nbkit.core.device import pick_device
from nbkit.core.protocols import Cohort
from nbkit.papers.flair.nearest import nearest
from nbkit.papers.synthesis.patches import Contrasts, PatchSynthesizer
from nbkit.training.checkpoint import check_tensors


@dataclass(frozen=True)
class Config(Contrasts):
    """Settings; the thesis states the patch size and nothing else. Distances depend on how contrasts are normalised.

    Attributes
    ----------
    radius : int
        Of the patch: 1 is 3×3×3 over all inputs (thesis 2.2.3).
    database : int
        Patches kept of the training subjects, an equal share of each (our choice; the thesis does not say).
    device : str
        Where the search runs; the result is the same everywhere.
    """

    radius: int = 1
    database: int = 500_000
    device: str = "auto"
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"database": 2_000}, "laptop": {"database": 6_000},
        "overnight": {"database": 20_000},
    }


class ModalityPropagation(PatchSynthesizer):
    """A :class:`~nbkit.core.protocols.ModalitySynthesizer` that looks patches up.

    The reading taken: the nearest patch by the sum of squared differences of z-scored inputs, sought exactly among
    patches of all training subjects wherever they lie, gives the FLAIR at its own centre. Left out because the thesis
    names neither: Ye's search window around the same place (the scans share no space) and his regularisation.
    """

    settings = Config
    called = "modality propagation"

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        self.device = pick_device(self.config.device)
        self.patches = torch.empty(0, len(self.config.inputs) * (2 * self.config.radius + 1) ** 3)
        self.values = torch.empty(0)

    def _learn(self, cohort: Cohort) -> None:
        parts = zip(*self.reader.training(cohort, count=self.config.database, seed=self.config.seed))
        self.patches, self.values = (torch.cat(part) for part in parts)

    def _predict(self, rows: torch.Tensor) -> torch.Tensor:
        found, _ = nearest(rows.to(self.device), self.patches.to(self.device))
        return self.values[found.cpu()]

    def _tensors(self) -> Mapping[str, torch.Tensor]:
        return {"patches": self.patches, "values": self.values}

    def _take(self, tensors: dict[str, torch.Tensor], where: str) -> None:
        count = len(tensors.get("patches", ()))
        expected = {"patches": self.patches.new_empty(count, self.patches.shape[1]), "values": torch.empty(count)}
        check_tensors(tensors, expected, where)
        self.patches, self.values = tensors["patches"], tensors["values"]
