"""How much darker each region of a slice gets between two ages: age bins, a table of ratios, and what breaks it.

Ravi et al., "Degenerative Adversarial NeuroImage Nets" (MICCAI 2019), sections 2.2 to 2.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from nbkit.core.checks import known, require

History = tuple[Sequence[float], np.ndarray, int]
"""One person: ages in years (n,), slices (n, S, S) in [0, 1], code of the diagnosis."""

_ROUNDING = 1e-5


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
        place = (_finite(age, "AgeBins.index") - self.low) / (self.high - self.low) * self.count
        return int(np.clip(np.floor(place), 0, self.count - 1))

    def mixture(self, age: float) -> tuple[int, float]:
        """Lower of the two bins whose centres are nearest, and its weight α (Eq. 5); the next bin has 1 − α.

        The paper leaves open which bin α belongs to. Here it is how close the age is to the lower centre: 1 at that
        centre, 0 at the next. Up to the first centre and from the last on, one bin has all the weight.
        """
        age, centres = _finite(age, "AgeBins.mixture"), self.centres
        lower = int(np.searchsorted(centres, age, side="right")) - 1
        if lower < 0 or lower >= self.count - 1:
            return int(np.clip(lower, 0, self.count - 1)), 1.0
        return lower, float((centres[lower + 1] - age) / (centres[lower + 1] - centres[lower]))

    def constants(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_constants(cls, constants: Mapping[str, float], *, where: str = "AgeBins") -> AgeBins:
        """Inverse of :meth:`constants`; a missing one is refused by name."""
        return cls(*(constants[known(name, constants, f"{where}: age bins")] for name in ("low", "high", "count")))


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

    def __post_init__(self) -> None:
        ages, regions = self.bins.count, len(self.masks)
        require(
            self.ratios.ndim == 4 and self.ratios.shape[1:] == (ages, ages, regions), "RegionalRates: ratios",
            expected=f"shape (D, {ages}, {ages}, {regions})", found=tuple(self.ratios.shape),
            remedy="Keep masks, ratios and bins of one fit together.",
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of it under flat names, for a checkpoint."""
        bins = torch.tensor([self.bins.low, self.bins.high, self.bins.count], dtype=torch.float64)
        return {"rates.masks": self.masks, "rates.ratios": self.ratios, "rates.bins": bins}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], *, where: str = "RegionalRates") -> RegionalRates:
        """Inverse of :meth:`tensors`; a missing one is refused by name, others are passed over."""
        names = (known(f"rates.{name}", tensors, f"{where}: regional rates") for name in ("masks", "ratios", "bins"))
        masks, ratios, bins = (tensors[name] for name in names)
        low, high, count = bins.tolist()
        return cls(masks, ratios, AgeBins(low, high, round(count)))


def monotone_violations(
    sequences: Sequence[History], *, brain: np.ndarray, tolerance: float = 0.05
) -> dict[str, np.ndarray]:
    """How often true pairs break what L_vox (Eq. 3) asks for: no pixel gets brighter with age.

    Parameters
    ----------
    sequences : sequence of (ages, images, diagnosis)
        As for :func:`fit_regional_rates`. People without scans at two ages are passed over.
    brain : numpy.ndarray
        (S, S) bool, the pixels that count.
    tolerance : float
        Change of intensity, in [0, 1], up to which a pixel counts as unchanged: what noise alone does.

    Returns
    -------
    dict of str to numpy.ndarray
        "people" (n,): index into `sequences`; "brighter", "darker" (n,): the share of brain pixels that change by more
        than `tolerance`, mean over all pairs of the person's scans. Noise alone gives both alike.
    """
    inside = np.asarray(brain, dtype=bool)
    require(
        bool(inside.any()), "monotone_violations: brain", expected="at least one pixel", found="an empty mask",
        remedy="Check that the mask belongs to these slices.",
    )
    found: list[tuple[int, float, float]] = []
    for who, (ages, images, _) in enumerate(sequences):
        younger, older = followed_pairs(ages, images, inside.shape, f"monotone_violations: person {who}")
        if len(younger):
            seen = np.asarray(images)[:, inside]
            change = seen[older] - seen[younger]
            found.append((who, float((change > tolerance).mean()), float((change < -tolerance).mean())))
    people, brighter, darker = np.array(found).reshape(-1, 3).T
    return {"people": people.astype(int), "brighter": brighter, "darker": darker}


def followed_pairs(
    ages: Sequence[float], images: np.ndarray, shape: tuple[int, ...], where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the younger and the older scan of every pair at different ages."""
    check_slices(np.asarray(images), shape, where)
    years = np.asarray(ages, dtype=np.float64)
    require(
        len(years) == len(images) and bool(np.isfinite(years).all()), where, expected=f"{len(images)} ages in years",
        found=years.tolist(), remedy="Give one age per slice.",
    )
    return np.nonzero(years[:, None] < years[None, :])


def check_slices(images: np.ndarray, shape: tuple[int, ...], where: str) -> None:
    """Refuse whatever is not (n, *shape) slices in [0, 1]."""
    require(
        images.ndim == 3 and len(images) > 0 and images.shape[1:] == shape, where,
        expected=f"slices (n, {', '.join(map(str, shape))})", found=images.shape,
        remedy="Cut all slices on one grid, that of the masks.",
    )
    low, high = float(images.min()), float(images.max())
    require(
        low >= -_ROUNDING and high <= 1 + _ROUNDING, where, expected="intensities from 0 to 1",
        found=f"{low:.4g} to {high:.4g}", remedy="Scale by the training images' maximum and clip.",
    )


def _finite(age: float, where: str) -> float:
    require(bool(np.isfinite(age)), f"{where}: age", expected="years", found=age, remedy="Give the age of the scan.")
    return float(age)
