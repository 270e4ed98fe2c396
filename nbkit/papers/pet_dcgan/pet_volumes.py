"""PET volumes as cubes over the field of view of :mod:`nbkit.data.pet_slices`, and planes cut from them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from nbkit.core.checks import known, require
from nbkit.core.protocols import Cohort
from nbkit.data.pet_slices import (
    ACROSS, CENTRE_MM, FIELD_MM, SUVR_MAX, VIEWS, Slices, check_scale, field_of_view, levels_of, person_stage,
    scaled,
)

VOLUME = "volume"


@dataclass(frozen=True, eq=False)
class Volumes(Slices):
    """Volumes of several people, labelled as slices are, so that what learns on slices learns on these too.

    Parameters
    ----------
    images : torch.Tensor
        (N, 1, S, S, S) float32 in [−1, 1], axes x, y, z of the world; intensities as those of slices.
    subject, stage : tuple of str
        Of every volume; `view` is "volume" for every one.
    suvr_max : float
        Uptake ratio that is 1.

    Raises
    ------
    NbkitError
        For images of another shape, labels that are not one per image, or an unknown stage.
    """

    view: tuple[str, ...] = ()
    level_mm: tuple[float, ...] = ()
    dims: ClassVar[int] = 3
    views: ClassVar[tuple[str, ...]] = (VOLUME,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "view", (VOLUME,) * len(self.images))
        object.__setattr__(self, "level_mm", (0.0,) * len(self.images))
        super().__post_init__()

    def slices(self, *, views: Collection[str] = VIEWS, per_view: int = 1, size: int = 64) -> Slices:
        """Their planes at the levels of :func:`~nbkit.data.pet_slices.levels_of`, as a table of slices."""
        places = [(view, level) for view in views for level in levels_of(view, per_view)]
        cut = torch.cat([planes(self.images, *place, size=size) for place in places])
        where = (tuple(place[k] for place in places for _ in range(len(self))) for k in (0, 1))
        return Slices(cut, self.subject * len(places), self.stage * len(places), *where, self.suvr_max)


def volume_table(cohort: Cohort, *, size: int = 32, suvr_max: float = SUVR_MAX) -> Volumes:
    """The first scan of everybody as a cube of `size` voxels an edge; voxels larger than the scan's are averages.

    Parameters
    ----------
    cohort : Cohort
        As for :func:`~nbkit.data.pet_slices.slice_table`.
    size : int
        At least 16.
    suvr_max : float
        Uptake ratio that becomes 1.

    Raises
    ------
    NbkitError
        For a diagnosis that is no stage (by subject), a scan without the contrast, or a size below 16.
    """
    check_scale(size, suvr_max, "volume_table")
    cubes = torch.stack([field_of_view(s.baseline, size) for s in cohort])
    return Volumes(scaled(cubes, suvr_max), cohort.ids, tuple(map(person_stage, cohort)), suvr_max=suvr_max)


def planes(images: torch.Tensor, view: str, level_mm: float, *, size: int) -> torch.Tensor:
    """One plane of cubes over the field of view, linear between voxels.

    Parameters
    ----------
    images : torch.Tensor
        (N, 1, S, S, S).
    view : {"axial", "coronal", "sagittal"}
    level_mm : float
        World coordinate of the plane, inside the cube.
    size : int
        Pixels along an edge of the result.

    Returns
    -------
    torch.Tensor
        (N, 1, size, size), over the same field of view.
    """
    across, count = ACROSS[known(view, VIEWS, "planes: view")], images.shape[-1]
    at = (level_mm - CENTRE_MM[across]) / (FIELD_MM / count) + (count - 1) / 2
    require(
        0 <= at <= count - 1, "planes: level_mm", found=f"{level_mm:g}", expected="a level inside the field of view",
        remedy="Use a level of nbkit.data.pet_slices.levels_of.",
    )
    lower = min(int(at), count - 2)
    pair = images.narrow(2 + across, lower, 2).movedim(2 + across, 0)
    return F.interpolate(torch.lerp(pair[0], pair[1], at - lower), size=(size, size), mode="bilinear")
