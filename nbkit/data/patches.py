"""Images as rows of small patches, one row per brain voxel: for models that predict one voxel at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from nbkit.core.protocols import Cohort, Scan
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.data.intensity import Standardiser
from nbkit.data.synthesis import brain_box, brain_channels, on_grid

_ROWS = 1 << 16  # patches held in memory at a time while predicting


def patch_rows(channels: torch.Tensor, places: torch.Tensor, *, radius: int) -> torch.Tensor:
    """Cubic patches as rows.

    Parameters
    ----------
    channels : torch.Tensor
        (C, X, Y, Z).
    places : torch.Tensor
        (N, 3) voxel indices of the centres.
    radius : int
        Voxels to each side of the centre: 1 gives 3×3×3, 0 the voxel alone. Beyond the border there are zeros.

    Returns
    -------
    torch.Tensor
        (N, C·(2·radius+1)³), a row ordered by channel, then x, y, z offset.
    """
    width = 2 * radius + 1
    windows = F.pad(channels, (radius,) * 6)
    for axis in (1, 2, 3):
        windows = windows.unfold(axis, width, 1)
    x, y, z = places.T
    return windows[:, x, y, z].transpose(0, 1).reshape(len(places), -1)


@dataclass(frozen=True)
class PatchReader:
    """Patches of z-scored inputs, and the z-scored target at their centres.

    Parameters
    ----------
    inputs : tuple of str
        Contrasts, in the order of the channels.
    target : str
    standardiser : Standardiser
        Constants of the inputs and the target, from training subjects.
    radius : int
        Of the patch, see :func:`patch_rows`.
    """

    inputs: tuple[str, ...]
    target: str
    standardiser: Standardiser
    radius: int

    def training(
        self, cohort: Cohort, *, count: int | None = None, seed: int = 0
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Per scan of `cohort`: patches (n, D) and the target at their centres (n,), both z-scored.

        All brain voxels, or with `count` about that many over the cohort, an equal share of each scan. A draw
        depends on the seed, subject and session alone.
        """
        scans = [scan for subject in cohort for scan in subject.scans]
        for scan in scans:
            share = None if count is None else max(1, count // len(scans))
            yield self._sample(scan, share, seed)

    def _sample(self, scan: Scan, share: int | None, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        mask = scan.mask("brain")
        names = (*self.inputs, self.target)
        channels = brain_channels(scan.images, names, mask=mask, standardiser=self.standardiser)
        places = _places(mask)
        if share is not None:
            order = torch.randperm(len(places), generator=torch_generator(seed, "patches", scan.subject, scan.session))
            places = places[order[:share].sort().values]
        x, y, z = places.T
        return patch_rows(channels[:-1], places, radius=self.radius), channels[-1, x, y, z]

    def synthesize(
        self, contrasts: Mapping[str, Volume], predict: Callable[[torch.Tensor], torch.Tensor], *, mask: Volume,
        step: str,
    ) -> Volume:
        """Predict every voxel inside `mask` from its patch; 0 outside.

        Parameters
        ----------
        contrasts : mapping of str to Volume
            At least the inputs, on the grid of `mask`.
        predict : callable
            Patches (n, D) -> z-scored target (n,).
        step : str
            Goes into the history of the result.

        Returns
        -------
        Volume
            float32, in the unit of the training images.
        """
        channels = brain_channels(contrasts, self.inputs, mask=mask, standardiser=self.standardiser)
        places = _places(mask)
        values = torch.cat([
            predict(patch_rows(channels, some, radius=self.radius)).cpu().float() for some in places.split(_ROWS)
        ])
        image = torch.zeros(channels.shape[1:])
        image[tuple(places.T)] = values
        raw = image * self.standardiser.sd[self.target] + self.standardiser.mean[self.target]
        return on_grid(raw, mask=mask, step=step)


def _places(mask: Volume) -> torch.Tensor:
    """Brain voxels (N, 3), counted within the brain's box."""
    return mask.data[0].bool()[brain_box(mask)].nonzero()
