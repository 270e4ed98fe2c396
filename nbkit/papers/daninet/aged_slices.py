"""Slices as a network takes them: one grid, intensities from −1 to 1, each with its place among age bins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch

from nbkit.core.checks import check_finite, check_same_grid, known, require
from nbkit.core.protocols import Scan, age_of
from nbkit.core.volume import Volume
from nbkit.papers.daninet.regional_rates import AgeBins

_BRIGHT = 99.5
"""Percentile of the intensities above 0 that becomes 1."""
_DEVIATIONS = 3.0
"""z-scores from −3 to 3 become −1 to 1, what a network that ends in tanh can give."""
INTENSITIES = ("z-scores", "peak")


@dataclass(frozen=True, eq=False)
class SliceFrame:
    """Grid and intensity scale of skull-stripped slices: constants that a model of slices is saved with.

    Parameters
    ----------
    contrast : str
    shape, affine
        The one grid of all slices: (S, S, 1) and 4×4 voxel-to-world (mm).
    peak : float
        The scans' bright intensity, in their unit.
    intensities : {"peak", "z-scores"}
        What a network sees as −1 and 1, and as nothing beyond: 0 and the peak, one scale for everybody; or three
        standard deviations below and above the mean of a scan's own brain, background being −1.
    """

    contrast: str
    shape: tuple[int, int, int]
    affine: np.ndarray
    peak: float
    intensities: str = "peak"

    @classmethod
    def of(cls, scans: Sequence[Scan], *, contrast: str, size: int, intensities: str = "peak") -> Self:
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
        known(intensities, INTENSITIES, "SliceFrame: intensities")
        return cls(contrast, first.shape, first.affine, 1.0, intensities).peaking(scans)

    def peaking(self, scans: Sequence[Scan]) -> Self:
        """The same with the peak of these scans."""
        return replace(self, peak=float(np.median([self._top(scan) for scan in scans])))

    @classmethod
    def restore(cls, record: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`record`."""
        values = {field.name: record[field.name] for field in fields(cls)}
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**values | lists | {"affine": np.array(values["affine"])})

    def record(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return vars(self) | {"affine": self.affine.tolist()}

    def scaled(self, scan: Scan) -> torch.Tensor:
        """The slice as (S, S) float32 from −1 (background) to 1; another grid is refused."""
        low, span = self._span(scan)
        scaled = 2 * ((self._image(scan).float() - low) / span).clamp(0, 1) - 1
        return scaled if self.intensities == "peak" else torch.where(self.inside(scan), scaled, -1.0)

    def restored(self, images: torch.Tensor, scan: Scan) -> torch.Tensor:
        """Inverse of :meth:`scaled`, for any shape, by the scale of `scan`: in the scans' unit, never below 0."""
        low, span = self._span(scan)
        return ((images + 1) / 2 * span + low).clamp(min=0)

    def _span(self, scan: Scan) -> tuple[float, float]:
        """What becomes −1, and how far above it lies what becomes 1, in the scans' unit."""
        if self.intensities == "peak":
            return 0.0, self.peak
        seen = self._image(scan)[self.inside(scan)].float()
        deviation = max(float(seen.std(correction=0)), 1e-6)
        return float(seen.mean()) - _DEVIATIONS * deviation, 2 * _DEVIATIONS * deviation

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

    def in_own_bins(self) -> Self:
        """Each at the middle of its own bin, whatever its age."""
        return replace(self, lower=self.own, alpha=torch.ones_like(self.alpha))

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
