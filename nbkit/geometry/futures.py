"""A person's scan as a deformation says it will look: one warp of the one original, made when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nbkit.core.checks import closest, require
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.geometry.flow import Velocity
from nbkit.geometry.warp import Displacement, warp

_MAPS_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Futures:
    """The same scan at other ages, as fields; images, labels and volumes come from the original, interpolated once.

    Parameters
    ----------
    scan : Scan
        The original.
    ages : tuple of float
        Years, in the order asked for.
    displacements : torch.Tensor
        (A, 3, X, Y, Z) mm, one per age, on the grid of the scan; each pulls the original back.
    contrast : str
        The image of the scan that is moved, and whose grid the fields are on.
    velocities : torch.Tensor, optional
        (A, 3, X, Y, Z) mm, where each displacement is the flow of one velocity field; None where it is not.
    made_by : str
        Goes into the history of what is made.

    Raises
    ------
    NbkitError
        If there is not one field per age on the grid of the image.
    """

    scan: Scan
    ages: tuple[float, ...]
    displacements: Displacement
    contrast: str = "T1w"
    velocities: Velocity | None = None
    made_by: str = ""

    def __post_init__(self) -> None:
        shape = (len(self.ages), 3, *self.image.shape)
        require(
            tuple(self.displacements.shape) == shape, "Futures: displacements", expected=f"shape {shape}",
            found=tuple(self.displacements.shape), remedy="Give one field per age, on the grid of the scan.",
        )

    @property
    def image(self) -> Volume:
        """The original."""
        return self.scan.image(self.contrast)

    @property
    def affine(self) -> np.ndarray:
        """4×4 voxel-to-world (mm) of the grid."""
        return self.image.affine

    def at(self, age: float) -> Displacement:
        """The displacement (1, 3, X, Y, Z) of one of the ages; another one is refused."""
        require(
            age in self.ages, "Futures.at: age", expected=f"one of {', '.join(f'{a:g}' for a in self.ages)}",
            found=age, remedy=f"{closest(str(age), map(str, self.ages))}Ask the model for this age.",
        )
        k = self.ages.index(age)
        return Displacement(self.displacements[k : k + 1])

    def images(self) -> list[Volume]:
        """The image at each age (linear interpolation)."""
        return [self._carried(self.image, k, mode="linear") for k in range(len(self.ages))]

    def labels(self) -> list[Volume]:
        """The label map at each age (nearest neighbour), in the type of the original's."""
        return [self._carried(self._labels(), k, mode="nearest") for k in range(len(self.ages))]

    def masks(self, name: str = "brain") -> list[Volume]:
        """A mask of the scan at each age (nearest neighbour)."""
        return [self._carried(self.scan.mask(name), k, mode="nearest") for k in range(len(self.ages))]

    def volumes(self) -> list[dict[str, float]]:
        """Volume of every region at each age in mm³, by name.

        Every region is moved as a map of its own with linear interpolation, so that a change smaller than a voxel
        is seen; a region that does not move keeps the volume of its voxels.
        """
        labels, names = self._labels(), self.scan.label_names
        codes = torch.tensor(list(names), dtype=torch.long, device=labels.data.device)
        totals = torch.cat([self._totals(labels, some) for some in codes.split(_MAPS_AT_ONCE)], dim=1)
        return [dict(zip(names.values(), row, strict=True)) for row in (totals * labels.voxel_volume).tolist()]

    def _totals(self, labels: Volume, codes: torch.Tensor) -> torch.Tensor:
        """Voxels (A, R) that the regions of `codes` fill."""
        maps = (labels.data.long() == codes.view(-1, 1, 1, 1)).float()[None]
        rows = [
            warp(maps, Displacement(field), affine=self.affine, padding="border").sum(dim=(0, 2, 3, 4)).double()
            for field in self._fields(maps)
        ]
        return torch.stack(rows)

    def _carried(self, volume: Volume, k: int, *, mode: str) -> Volume:
        field = self._fields(volume.data)[k]
        step = f"{self.made_by or 'moved'} to {self.ages[k]:g} years"
        if not field.any():
            return volume.with_data(volume.data, step)
        floating = volume.data.is_floating_point()
        data = volume.data[None] if floating else volume.data[None].float()
        moved = warp(data, Displacement(field), affine=self.affine, mode=mode)[0]
        return volume.with_data(moved.to(volume.data.dtype), step)

    def _fields(self, like: torch.Tensor) -> Sequence[torch.Tensor]:
        return self.displacements.to(like.device).split(1)

    def _labels(self) -> Volume:
        labels = self.scan.labels
        require(
            labels is not None, f"{self.scan.subject}/{self.scan.session}: labels", expected="a label map",
            found="none", remedy="Segment the scan first, or ask for images only.",
        )
        self.image.check_grid(labels, f"{self.scan.subject}/{self.scan.session}: {self.contrast} and labels")
        return labels
