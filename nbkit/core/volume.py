"""Volume: an image with its place in the world and the record of what was done to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from nbkit.core.checks import check_same_grid, require


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image, possibly with several channels.

    Parameters
    ----------
    data : torch.Tensor
        Shape (C, X, Y, Z), any dtype; a (X, Y, Z) tensor is given one channel.
    affine : numpy.ndarray
        4×4, voxel index to world RAS coordinates in mm.
    history : tuple of str
        What was done to the image, oldest first.

    Raises
    ------
    NbkitError
        If `data` is not 3D or 4D, or `affine` is not an invertible finite 4×4 matrix.
    """

    data: torch.Tensor
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    history: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        data = torch.as_tensor(self.data)
        data = data[None] if data.ndim == 3 else data
        affine = np.array(self.affine, dtype=np.float64)
        require(
            data.ndim == 4, "Volume: data", expected="shape (C, X, Y, Z) or (X, Y, Z)", found=tuple(data.shape),
            remedy="Pass one subject's image, without a batch axis.",
        )
        good = affine.shape == (4, 4) and np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9
        require(
            good, "Volume: affine", expected="an invertible, finite 4×4 matrix", found=affine.tolist(),
            remedy="Read the image with nbkit.data.nifti.read_image, or pass the affine of its header.",
        )
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Spatial shape (X, Y, Z)."""
        return tuple(self.data.shape[1:])

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along X, Y, Z in mm."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def totals(self) -> list[float]:
        """By channel, the sum over voxels times the volume of one: mm³, where a channel holds shares of voxels."""
        # one at a time: torch writes out in double precision whatever it is to add up in it
        return [float(channel.sum(dtype=torch.float64)) * self.voxel_volume for channel in self.data]

    def with_data(self, data: torch.Tensor, step: str = "") -> Volume:
        """Return a Volume on the same grid with other `data`; `step` is added to the history."""
        new = replace(self, data=data, history=self.history + ((step,) if step else ()))
        require(
            new.shape == self.shape, "Volume.with_data: data", expected=f"spatial shape {self.shape}",
            found=new.shape, remedy="Build a new Volume with its own affine when the grid changes.",
        )
        return new

    def check_grid(self, other: Volume, where: str) -> None:
        """Raise NbkitError unless `other` lies on the same grid."""
        check_same_grid(self.shape, self.affine, other.shape, other.affine, where)

    def crop(self, box: tuple[slice, slice, slice]) -> Volume:
        """Return the sub-volume of `box` (slices with explicit start and stop), affine moved along."""
        start = np.array([s.start for s in box] + [1.0])
        affine = self.affine.copy()
        affine[:, 3] = self.affine @ start
        return Volume(self.data[(slice(None), *box)], affine, self.history + (f"crop {_describe(box)}",))

    def numpy(self) -> np.ndarray:
        """The single channel as a (X, Y, Z) array; all channels as (C, X, Y, Z) when there are several."""
        data = self.data.detach().cpu()
        return (data[0] if data.shape[0] == 1 else data).numpy()


def _describe(box: tuple[slice, ...]) -> str:
    return "×".join(f"{s.start}:{s.stop}" for s in box)


def bounding_box(mask: torch.Tensor, *, margin: int = 0) -> tuple[slice, slice, slice]:
    """Smallest box around the true voxels of `mask` (X, Y, Z), grown by `margin` voxels inside the grid.

    Raises
    ------
    NbkitError
        If the mask is empty.
    """
    require(
        bool(mask.any()), "bounding_box: mask", expected="at least one voxel", found="an empty mask",
        remedy="Check that the mask belongs to this image.",
    )
    box = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        inside = mask.bool().amax(dim=others).nonzero().flatten()
        box.append(slice(max(int(inside[0]) - margin, 0), min(int(inside[-1]) + 1 + margin, mask.shape[axis])))
    return tuple(box)
