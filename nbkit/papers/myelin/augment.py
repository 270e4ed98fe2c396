"""Poses for augmentation: quarter turns and two scales. A pose is drawn first and then applied, always the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from nbkit.core.checks import require


@dataclass(frozen=True)
class Pose:
    """A turn in the axial plane, then a scaling about the centre.

    Parameters
    ----------
    quarters : int
        Turns of 90° from the first towards the second axis.
    zoom : float
        Above 1 enlarges.
    """

    quarters: int = 0
    zoom: float = 1.0

    def __post_init__(self) -> None:
        require(self.zoom > 0, "Pose: zoom", expected="above 0", found=self.zoom, remedy="1 keeps the size.")


POSES = (Pose(), Pose(1), Pose(2), Pose(3), Pose(zoom=1.25), Pose(zoom=0.75))
"""The image itself and the five of Wei thesis 4.3.1; the axis of its turns is not stated, axial is assumed."""


def draw_poses(count: int, generator: torch.Generator, *, among: Sequence[Pose] = POSES) -> list[Pose]:
    """`count` poses, each equally likely."""
    return [among[i] for i in torch.randint(len(among), (count,), generator=generator).tolist()]


def posed(image: torch.Tensor, pose: Pose) -> torch.Tensor:
    """`image` in another pose.

    Parameters
    ----------
    image : torch.Tensor
        (C, X, Y, Z); whole numbers and bool take the nearest voxel when scaled, fractions are interpolated linearly.

    Returns
    -------
    torch.Tensor
        Same dtype, and same shape up to X and Y exchanged by an odd number of quarters. What a scaling uncovers is 0.
    """
    turned = torch.rot90(image, pose.quarters, dims=(1, 2))
    if pose.zoom == 1:
        return turned
    size = [max(1, round(n * pose.zoom)) for n in turned.shape[1:]]
    mode = {"mode": "trilinear", "align_corners": False} if image.is_floating_point() else {"mode": "nearest-exact"}
    scaled = F.interpolate(turned[None].float(), size=size, **mode)[0].to(image.dtype)
    return _centred(scaled, turned.shape[1:])


def posed_batch(images: torch.Tensor, poses: Sequence[Pose]) -> torch.Tensor:
    """:func:`posed` of every subject of (B, C, X, Y, Z), one pose each."""
    return torch.stack([posed(image, pose) for image, pose in zip(images, poses, strict=True)])


def _centred(image: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Cropped or padded with zeros about the centre to `shape`."""
    spare = [n - m for n, m in zip(shape, image.shape[1:])]
    return F.pad(image, [side for s in reversed(spare) for side in (s // 2, s - s // 2)])
