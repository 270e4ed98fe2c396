"""Slices as a network takes them: one grid, intensities from −1 to 1, each with its place among age bins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch

from nbkit.core.checks import check_finite, check_same_grid, require
from nbkit.core.protocols import Scan, age_of
from nbkit.core.volume import Volume
from nbkit.papers.daninet.regional_rates import AgeBins

_BRIGHT = 99.5
"""Percentile of the intensities above 0 that becomes 1."""


@dataclass(frozen=True, eq=False)
class SliceFrame:
    """Grid and intensity scale of skull-stripped slices: constants that a model of slices is saved with.

    Parameters
    ----------
    contrast : str
    shape, affine
        The one grid of all slices: (S, S, 1) and 4×4 voxel-to-world (mm).
    peak : float
        Intensity, in the scans' unit, that becomes 1, as does whatever is brighter; 0 becomes −1.
    """

    contrast: str
    shape: tuple[int, int, int]
    affine: np.ndarray
    peak: float

    @classmethod
    def of(cls, scans: Sequence[Scan], *, contrast: str, size: int) -> Self:
        """Learn the constants: the median over scans of the 99.5th percentile of intensity where there is any.

        Raises
        ------
        NbkitError
            For no scans, slices of another size than `size`, on different grids, or empty ones, by name.
        """
        require(
            len(scans) > 0, "SliceFrame: scans", expected="at least one", found="none", remedy="Look at the cohort.",
        )
        first = scans[0].image(contrast)
        require(
            first.shape == (size, size, 1), f"{_name(scans[0])}: {contrast}", expected=f"a slice {size}×{size}×1",
            found="×".join(map(str, first.shape)),
            remedy="Cut the cohort with nbkit.data.slices.sliced(cohort, size=...), or change Config.size.",
        )
        bare = cls(contrast, first.shape, first.affine, 1.0)
        return cls(contrast, first.shape, first.affine, float(np.median([bare._top(scan) for scan in scans])))

    def scaled(self, scan: Scan) -> torch.Tensor:
        """The slice as (S, S) float32 from −1 (background) to 1; another grid is refused."""
        return 2 * (self._image(scan).float() / self.peak).clamp(0, 1) - 1

    def restored(self, images: torch.Tensor) -> torch.Tensor:
        """Inverse of :meth:`scaled`, for any shape: in the scans' unit, never below 0."""
        return ((images + 1) / 2 * self.peak).clamp(min=0)

    def inside(self, scan: Scan) -> torch.Tensor:
        """(S, S) bool: the scan's mask "brain" or, where it has none, wherever there is any intensity."""
        if "brain" not in scan.masks:
            return self._image(scan) > 0
        mask = scan.mask("brain")
        check_same_grid(self.shape, self.affine, mask.shape, mask.affine, f"{_name(scan)}: brain mask")
        return mask.data[0, ..., 0].bool()

    def volume(self, image: torch.Tensor, step: str) -> Volume:
        """An image (S, S) in the scans' unit as a Volume on the grid of the scans."""
        return Volume(image.detach().float().cpu()[None, ..., None], self.affine, (step,))

    def _image(self, scan: Scan) -> torch.Tensor:
        image, where = scan.image(self.contrast), f"{_name(scan)}: {self.contrast}"
        check_same_grid(self.shape, self.affine, image.shape, image.affine, where)
        check_finite(image.data, where)
        return image.data[0, ..., 0]

    def _top(self, scan: Scan) -> float:
        image = self._image(scan)
        require(
            bool((image > 0).any()), _name(scan), expected="intensities above 0", found="none",
            remedy="The network knows 0 as background: shift the intensities, or leave this scan out.",
        )
        return float(np.percentile(image[image > 0].float().numpy(), _BRIGHT))


@dataclass(frozen=True, eq=False)
class AgedSlices:
    """Slices with their labels.

    Parameters
    ----------
    image : torch.Tensor
        (N, S, S) from −1 to 1, see :class:`SliceFrame`.
    inside : torch.Tensor
        (N, S, S) bool: the brain.
    own, lower : torch.Tensor
        Whole numbers (N,): the bin of the age, and the lower of the two bins next to it.
    alpha : torch.Tensor
        (N,): weight of `lower`; the next bin has 1 − α.
    diagnosis : torch.Tensor
        Whole numbers (N,).
    """

    image: torch.Tensor
    inside: torch.Tensor
    own: torch.Tensor
    lower: torch.Tensor
    alpha: torch.Tensor
    diagnosis: torch.Tensor

    @classmethod
    def of(cls, scans: Sequence[Scan], codes: Sequence[int], *, frame: SliceFrame, bins: AgeBins) -> Self:
        """From scans with ages and the code of each one's diagnosis."""
        years = [age_of(scan) for scan in scans]
        lower, alpha = zip(*map(bins.mixture, years), strict=True)
        return cls(
            torch.stack([frame.scaled(scan) for scan in scans]), torch.stack([frame.inside(scan) for scan in scans]),
            torch.tensor([bins.index(age) for age in years]), torch.tensor(lower),
            torch.tensor(alpha, dtype=torch.float32), torch.tensor(codes),
        )

    def __len__(self) -> int:
        return len(self.image)

    def named(self) -> dict[str, torch.Tensor]:
        """The tensors by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def rows(self, chosen: torch.Tensor) -> Self:
        """Some of them."""
        return type(self)(*(value[chosen] for value in self.named().values()))

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(*(value.to(device) for value in self.named().values()))

    def shuffled(self, size: int, *, batches: int | None, generator: torch.Generator) -> Iterator[Self]:
        """Batches of `size` slices, all of them if there are fewer; nobody comes again before everybody came.

        None: as many batches as are full after one pass.
        """
        count, size = len(self), min(size, len(self))
        batches = batches or count // size
        passes = [torch.randperm(count, generator=generator) for _ in range(-(-batches * size // count))]
        for chosen in torch.cat(passes)[: batches * size].split(size):
            yield self.rows(chosen)


def _name(scan: Scan) -> str:
    return f"{scan.subject}/{scan.session}"
