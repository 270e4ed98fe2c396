"""Age, sex, diagnosis and regional volumes as the vector of numbers that a network is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from nbkit.core.checks import known, require
from nbkit.training.checkpoint import Constants

STAGES: Mapping[str, str] = {"CN": "CN", "SMC": "CN", "EMCI": "MCI", "MCI": "MCI", "LMCI": "MCI", "AD": "AD"}
"""The stage that each diagnosis counts as, where a paper knows three."""
STAGE_CODES: Mapping[str, float] = {"CN": 0.0, "MCI": 0.5, "AD": 1.0}
SEX_CODES: Mapping[str, float] = {"F": 0.0, "M": 1.0, "unknown": 0.5}

CORTEX = ("frontal", "parietal", "temporal", "occipital", "limbic")
"""The structures that "cortex" is the sum of."""


def stage(diagnosis: str) -> str:
    """CN, MCI or AD for any diagnosis; an unknown one is refused with the nearest valid name."""
    return STAGES[known(diagnosis, STAGES, "stage: diagnosis")]


def chosen_volumes(volumes: Mapping[str, float], regions: Sequence[str], *, where: str) -> np.ndarray:
    """mm³ (R,) of `regions`, each a structure of `volumes` or "cortex"; one that is missing is refused by name."""
    parts = [CORTEX if name == "cortex" else (name,) for name in regions]
    return np.array([sum(volumes[known(part, volumes, f"{where}: region")] for part in names) for names in parts])


@dataclass(frozen=True, eq=False)
class Covariates:
    """Context vectors as BrLP's (age / 100, sex, diagnosis, volumes each from 0 to 1 over the training scans).

    Parameters
    ----------
    regions : tuple of str
    low, high : numpy.ndarray
        Smallest and largest volume (mm³) of each region in training, (R,); later volumes may lie beyond.
    """

    regions: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def learned(cls, regions: tuple[str, ...], volumes: np.ndarray) -> Self:
        """From the volumes (N, R) of training scans, in mm³."""
        return cls(tuple(regions), volumes.min(axis=0), volumes.max(axis=0))

    def vector(self, *, age: float, sex: str | None, diagnosis: str, volumes: np.ndarray) -> torch.Tensor:
        """(K,) float32; a sex that is not known (None) is coded half way.

        Raises
        ------
        NbkitError
            For an unknown diagnosis or sex, or another number of volumes.
        """
        require(
            np.shape(volumes) == self.low.shape, "Covariates.vector: volumes", expected=f"one per {self.regions}",
            found=f"shape {np.shape(volumes)}", remedy="Measure the regions that were used in training.",
        )
        told = SEX_CODES[known(sex or "unknown", SEX_CODES, "Covariates.vector: sex")]
        shares = (volumes - self.low) / np.maximum(self.high - self.low, 1e-9)
        return torch.tensor([age / 100, told, STAGE_CODES[stage(diagnosis)], *shares], dtype=torch.float32)

    def constants(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"regions": list(self.regions), "low": self.low.tolist(), "high": self.high.tolist()}

    @classmethod
    def from_constants(cls, constants: Mapping[str, Any], *, where: str) -> Self:
        """Inverse of :meth:`constants`; a missing one is refused by name."""
        kept = Constants(constants, f"{where}: covariates")
        return cls(tuple(kept["regions"]), np.array(kept["low"]), np.array(kept["high"]))
