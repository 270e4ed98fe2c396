"""A person's scan as a deformation says it will look: one warp of the one original, made when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nbkit.core.checks import closest, require
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.geometry.flow import Velocity, expv, inverse, jacobian_determinant
from nbkit.geometry.warp import Displacement, warp


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

    def growth(self) -> torch.Tensor:
        """Volume at each age per volume in the original, at every voxel of the original: (A, X, Y, Z), 1 for no change.

        The Jacobian determinant of the inverse displacement, which takes tissue to where it will be.
        """
        if self.velocities is None:
            onward = [inverse(Displacement(u), affine=self.affine) for u in self.displacements.split(1)]
        else:
            onward = [expv(Velocity(-v), affine=self.affine) for v in self.velocities.split(1)]
        found = torch.cat([jacobian_determinant(field, affine=self.affine) for field in onward])
        return found.to(self.image.data.device)

    def volumes(self) -> list[dict[str, float]]:
        """Volume of every region at each age in mm³, by name: what its voxels hold now, each times its growth.

        Changes far smaller than a voxel count in full. Counting moved labels goes in steps, and sums of linearly moved
        hard labels are off by a sixth of the change in a region eight voxels wide.
        """
        labels = self._labels()
        codes, names = labels.data[0].long().flatten().cpu(), self.scan.label_names
        size = int(max(codes.max(), *names)) + 1
        rows = [torch.bincount(codes, one.double().flatten().cpu(), minlength=size) for one in self.growth().split(1)]
        return [{name: float(row[code]) * labels.voxel_volume for code, name in names.items()} for row in rows]

    def _carried(self, volume: Volume, k: int, *, mode: str) -> Volume:
        field = self.displacements[k : k + 1]
        step = f"{self.made_by or 'moved'} to {self.ages[k]:g} years"
        if not field.any():
            return volume.with_data(volume.data, step)
        data = volume.data[None].to(field.device)
        data = data if data.is_floating_point() else data.float()
        moved = warp(data, Displacement(field), affine=self.affine, mode=mode)[0]
        return volume.with_data(moved.to(volume.data), step)

    def _labels(self) -> Volume:
        labels = self.scan.labels
        require(
            labels is not None, f"{self.scan.subject}/{self.scan.session}: labels", expected="a label map",
            found="none", remedy="Segment the scan first, or ask for images only.",
        )
        self.image.check_grid(labels, f"{self.scan.subject}/{self.scan.session}: {self.contrast} and labels")
        return labels
