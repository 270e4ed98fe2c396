"""Age, sex and diagnosis as CounterSynth's networks are told of them.

The public code conditions on age and sex. It computes the change of age and says that this is what the generator is
given, of sex the one aimed at; then it passes both as aimed at. Here the generator is given the changes of age and of
sex, zero where a person keeps theirs, so that a scan's own sex need not be known to age it; and the diagnosis aimed at,
which every trajectory system of a comparison is told and which the paper does not have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from nbkit.core.checks import known
from nbkit.core.protocols import Cohort, age_of

SEXES: Mapping[str | None, float] = {"F": 0.0, "M": 1.0, None: 0.5}
"""Codes; half way is not known, and not learned from."""


@dataclass(frozen=True)
class Conditions:
    """The scale of ages (years) and the diagnoses met in training.

    Attributes
    ----------
    mean, sd : float
        Of the ages of the training scans.
    youngest, oldest : float
    diagnoses : tuple of str
    """

    mean: float
    sd: float
    youngest: float
    oldest: float
    diagnoses: tuple[str, ...]

    @classmethod
    def of(cls, cohort: Cohort) -> Self:
        """Learned from a cohort; a scan without age is refused by name."""
        ages = np.array([age_of(scan) for subject in cohort for scan in subject.scans])
        found = tuple(sorted({subject.diagnosis for subject in cohort}))
        return cls(float(ages.mean()), float(ages.std()) or 1.0, float(ages.min()), float(ages.max()), found)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from ``dataclasses.asdict``, also after JSON."""
        return cls(**{**values, "diagnoses": tuple(values["diagnoses"])})

    @property
    def size(self) -> int:
        """Numbers that the generator is told."""
        return 2 + len(self.diagnoses)

    def labels(self, age: float, sex: str | None, diagnosis: str) -> torch.Tensor:
        """(2 + D,): age in standard deviations from the mean, the code of the sex, one diagnosis of D."""
        return torch.tensor([(age - self.mean) / self.sd, SEXES[sex], *self._one(diagnosis)], dtype=torch.float32)

    def told(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """What turns labels (..., 2 + D) into others: the changes of age and sex, and the diagnosis aimed at."""
        known_sex = ((source[..., 1:2] - 0.5) * (target[..., 1:2] - 0.5)) != 0
        sex = torch.where(known_sex, target[..., 1:2] - source[..., 1:2], 0.0)
        return torch.cat([target[..., :1] - source[..., :1], sex, target[..., 2:]], dim=-1)

    def ageing(self, years: float, diagnosis: str) -> torch.Tensor:
        """(2 + D,): so many years more under a diagnosis, the sex kept; an unknown diagnosis is refused by name."""
        return torch.tensor([years / self.sd, 0.0, *self._one(diagnosis)], dtype=torch.float32)

    def kept(self, labels: torch.Tensor) -> torch.Tensor:
        """What the generator is told when labels (..., 2 + D) stay as they are."""
        return self.told(labels, labels)

    def _one(self, diagnosis: str) -> Sequence[float]:
        known(diagnosis, self.diagnoses, "CounterSynth: diagnosis")
        return [float(diagnosis == name) for name in self.diagnoses]
