"""Contrast sets with gaps: a missing contrast is replaced by its mean, and a channel says whether it is there.

Wei thesis 4.4 names it as a limit that subjects with an incomplete set had to be left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch

from nbkit.core.checks import require
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.data.intensity import Standardiser
from nbkit.data.synthesis import brain_channels, on_grid


def available_standardiser(scans: Sequence[Scan], contrasts: Sequence[str]) -> Standardiser:
    """z-score constants of each contrast from the scans that have it, inside their masks "brain".

    Raises
    ------
    NbkitError
        If no scan has one of the contrasts.
    """
    parts = []
    for name in contrasts:
        # where nobody has it, the first scan refuses by name
        having = [scan for scan in scans if name in scan.images] or scans[:1]
        parts.append(Standardiser.fit({name: [s.image(name) for s in having]}, [s.mask("brain") for s in having]))
    mean, sd = ({name: value for part in parts for name, value in getattr(part, k).items()} for k in ("mean", "sd"))
    return Standardiser(mean, sd)


def available_channels(
    contrasts: Mapping[str, Volume], names: Sequence[str], *, mask: Volume, standardiser: Standardiser
) -> torch.Tensor:
    """Contrasts as z-scores in the brain's box, then as many channels of 1 (there) or 0 (missing); (2 C, x, y, z).

    Raises
    ------
    NbkitError
        If none of `names` is among the contrasts.
    """
    there = [name for name in names if name in contrasts]
    require(
        bool(there), "available_channels: contrasts", expected=f"at least one of {', '.join(names)}",
        found=", ".join(contrasts) or "none", remedy="Add a contrast the model was trained with.",
    )
    maps = dict(zip(there, brain_channels(contrasts, there, mask=mask, standardiser=standardiser)))
    empty = torch.zeros_like(maps[there[0]])
    values = [maps.get(name, empty) for name in names]
    return torch.stack([*values, *(empty + float(name in maps) for name in names)])


def drop_contrasts(channels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A copy of (2 C, x, y, z) channels in which each contrast is missing with probability one half, but not all.

    A contrast that is missing already stays so; the last one that would go is kept.
    """
    count = len(channels) // 2
    there = channels[count:].flatten(1).amax(1) > 0
    order = torch.rand(count, generator=generator)
    keep = there & (order < 0.5)
    if not bool(keep.any()):
        keep[torch.where(there, order, torch.inf).argmin()] = True
    return channels * keep.repeat(2)[:, None, None, None]


@dataclass(frozen=True)
class ContrastReader:
    """Scans as tensors in the brain's box, z-scored by constants of training scans.

    Parameters
    ----------
    inputs : tuple of str
    target : str
    incomplete : bool
        Whether inputs may be missing; then there are channels that say which are there.
    standardiser : Standardiser
        Over brain voxels.
    """

    inputs: tuple[str, ...]
    target: str
    incomplete: bool
    standardiser: Standardiser

    @classmethod
    def fit(cls, scans: Sequence[Scan], inputs: tuple[str, ...], target: str, *, incomplete: bool) -> Self:
        """Learn the constants; a missing contrast is refused by name unless `incomplete`."""
        names = (*inputs, target)
        for scan, name in ((s, n) for s in scans for n in names if not incomplete):
            scan.image(name)
        return cls(inputs, target, incomplete, available_standardiser(scans, names))

    @property
    def width(self) -> int:
        """Number of channels."""
        return len(self.inputs) * (1 + self.incomplete)

    def channels(self, contrasts: Mapping[str, Volume], mask: Volume) -> torch.Tensor:
        """Inputs (channels, x, y, z), 0 outside the mask; a missing one is refused by name unless `incomplete`."""
        read = available_channels if self.incomplete else brain_channels
        return read(contrasts, self.inputs, mask=mask, standardiser=self.standardiser)

    def wanted(self, scan: Scan) -> torch.Tensor:
        """The target (1, x, y, z) of a scan."""
        image = {self.target: scan.image(self.target)}
        return brain_channels(image, (self.target,), mask=scan.mask("brain"), standardiser=self.standardiser)

    def image(self, values: torch.Tensor, mask: Volume, step: str) -> Volume:
        """z-scores (x, y, z) of the target as an image in its own unit, 0 outside the mask."""
        s = self.standardiser
        return on_grid(values * s.sd[self.target] + s.mean[self.target], mask=mask, step=step)
