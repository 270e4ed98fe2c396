"""How much darker each region of a slice gets between two ages: age bins, true ratios, and a table of expected ones.

Ravi et al., "Degenerative Adversarial NeuroImage Nets" (MICCAI 2019), sections 2.2 to 2.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nbkit.core.checks import require

History = tuple[Sequence[float], np.ndarray, int]
"""One person: ages in years (n,), slices (n, S, S) in [0, 1], code of the diagnosis."""

EPSILON = 0.1
"""Of Eq. 4: added to every sum of a region's pixels."""


@dataclass(frozen=True)
class AgeBins:
    """`count` age bins of one width from `low` to `high` (years); ages outside belong to the bin at that end.

    Raises
    ------
    NbkitError
        For fewer than two bins, or a range that is empty or not finite.
    """

    low: float
    high: float
    count: int = 10

    def __post_init__(self) -> None:
        require(
            bool(np.isfinite([self.low, self.high]).all()) and self.low < self.high, "AgeBins: low, high",
            expected="two ages in years, the lower first", found=f"{self.low}, {self.high}",
            remedy="Give the youngest and the oldest age of the training scans.",
        )
        require(self.count >= 2, "AgeBins: count", expected="at least 2", found=self.count, remedy="Use more bins.")

    @property
    def centres(self) -> np.ndarray:
        """Middle of every bin in years, (count,)."""
        return self.low + (np.arange(self.count) + 0.5) * (self.high - self.low) / self.count

    def index(self, age: float) -> int:
        """The bin of an age."""
        place = (age - self.low) / (self.high - self.low) * self.count
        return int(np.clip(np.floor(place), 0, self.count - 1))

    def mixture(self, age: float) -> tuple[int, float]:
        """Lower of the two bins whose centres are nearest, and its weight α (Eq. 5); the next bin has 1 − α.

        The paper leaves open which bin α belongs to. Here it is how close the age is to the lower centre: 1 at that
        centre, 0 at the next. Up to the first centre and from the last on, one bin has all the weight.
        """
        require(
            bool(np.isfinite(age)), "AgeBins.mixture: age", expected="years", found=age, remedy="Give the scan's age.",
        )
        centres = self.centres
        lower = int(np.searchsorted(centres, age, side="right")) - 1
        if lower < 0 or lower >= self.count - 1:
            return int(np.clip(lower, 0, self.count - 1)), 1.0
        return lower, float((centres[lower + 1] - age) / (centres[lower + 1] - centres[lower]))


@dataclass(frozen=True, eq=False)
class RegionalRates:
    """What the regressors say of every region, tabulated at the centres of age bins.

    Parameters
    ----------
    masks : torch.Tensor
        Regions (R, S, S), float32, 1 inside.
    ratios : torch.Tensor
        (D, A, A, R) float32: for a diagnosis, a younger and an older bin, the region's sum of intensities at the older
        age over that at the younger. 1 where the second bin is not older than the first.
    bins : AgeBins
    """

    masks: torch.Tensor
    ratios: torch.Tensor
    bins: AgeBins

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of it under flat names, for a checkpoint."""
        bins = torch.tensor([self.bins.low, self.bins.high, self.bins.count], dtype=torch.float64)
        return {"rates.masks": self.masks, "rates.ratios": self.ratios, "rates.bins": bins}


def followed_pairs(ages: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the younger and the older scan of every pair of one person's scans at different ages."""
    years = np.asarray(ages, dtype=np.float64)
    return np.nonzero(years[:, None] < years[None, :])


def true_ratios(
    ages: Sequence[float], images: np.ndarray, masks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What regions of one person did: the ratio of Eq. 4 for every pair of scans at different ages.

    Parameters
    ----------
    ages : sequence of float
        Years (n,).
    images : numpy.ndarray
        (n, S, S) in [0, 1].
    masks : numpy.ndarray
        (R, S, S).

    Returns
    -------
    tuple of numpy.ndarray
        Years at the younger and the older scan (pairs, 2), and (Σ older + ε) / (Σ younger + ε) (pairs, R).
    """
    younger, older = followed_pairs(ages)
    sums = np.reshape(images, (len(images), -1)) @ np.reshape(masks, (len(masks), -1)).T.astype(np.float64) + EPSILON
    return np.asarray(ages, dtype=np.float64)[np.column_stack([younger, older])], sums[older] / sums[younger]
