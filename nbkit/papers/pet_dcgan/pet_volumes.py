"""PET volumes as cubes over the field of view of :mod:`nbkit.data.pet_slices`, and planes cut from them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F

from nbkit.core.checks import check_keys, known, require
from nbkit.core.protocols import Cohort, Scan
from nbkit.core.volume import Volume
from nbkit.data.grids import block_mean
from nbkit.data.pet_slices import CENTRE_MM, CONTRAST, FIELD_MM, STAGES, SUVR_MAX, VIEWS, Slices, levels_of, stage_of
from nbkit.geometry.warp import resample

ACROSS = {"axial": 2, "coronal": 1, "sagittal": 0}
"""World axis that a view's planes stand on."""
VOLUME = "volume"
SMALLEST = 16
_NUDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Volumes:
    """Volumes of several people, labelled as slices are, so that what learns on slices learns on these too.

    Parameters
    ----------
    images : torch.Tensor
        (N, 1, S, S, S) float32 in [−1, 1], axes x, y, z of the world; intensities as in
        :class:`~nbkit.data.pet_slices.Slices`.
    subject, stage : tuple of str
        Of every volume.
    suvr_max : float
        Uptake ratio that is 1.

    Raises
    ------
    NbkitError
        For images of another shape, labels that are not one per image, or an unknown stage.
    """

    images: torch.Tensor
    subject: tuple[str, ...]
    stage: tuple[str, ...]
    suvr_max: float = SUVR_MAX

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        require(
            len(shape) == 5 and shape[1] == 1 and len(set(shape[2:])) == 1, "Volumes: images",
            expected="shape (N, 1, S, S, S)", found=shape, remedy="Make them with volume_table.",
        )
        require(
            len(self.subject) == len(self.stage) == shape[0], "Volumes: labels", expected=f"{shape[0]} of each",
            found=f"{len(self.subject)} subject, {len(self.stage)} stage", remedy="Give one label per image.",
        )
        check_keys(dict.fromkeys(self.stage), STAGES, "Volumes: stage")

    def __len__(self) -> int:
        return len(self.subject)

    @property
    def view(self) -> tuple[str, ...]:
        """"volume" for every one: a volume is no view."""
        return (VOLUME,) * len(self)

    def select(
        self, *, subjects: Collection[str] | None = None, stages: str | Collection[str] | None = None
    ) -> Self:
        """The volumes of some people or stages, in their order; unknown names and an empty choice are refused."""
        people = set(self.subject if subjects is None else subjects)
        wanted = set(STAGES if stages is None else [stages] if isinstance(stages, str) else stages)
        check_keys(people, set(self.subject), "Volumes.select: subjects")
        check_keys(wanted, STAGES, "Volumes.select: stages")
        kept = [i for i, (s, d) in enumerate(zip(self.subject, self.stage)) if s in people and d in wanted]
        require(
            bool(kept), "Volumes.select", expected="at least one volume", found="none",
            remedy="Ask for a combination that the table has.",
        )
        labels = {name: tuple(getattr(self, name)[i] for i in kept) for name in ("subject", "stage")}
        return replace(self, images=self.images[kept], **labels)

    def slices(self, *, views: Collection[str] = VIEWS, per_view: int = 1, size: int = 64) -> Slices:
        """Their planes at the levels of :func:`~nbkit.data.pet_slices.levels_of`, as a table of slices."""
        places = [(view, level) for view in views for level in levels_of(view, per_view)]
        cut = torch.cat([planes(self.images, *place, size=size) for place in places])
        labels = ([column[i] for _ in places for i in range(len(self))] for column in (self.subject, self.stage))
        where = ([place[k] for place in places for _ in range(len(self))] for k in (0, 1))
        return Slices(cut, *map(tuple, labels), *map(tuple, where), self.suvr_max)


def field_grid(size: int, *, view: str | None = None) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape and 4×4 affine of a cube of `size` voxels an edge over the field of view, or of one view's middle plane.

    Parameters
    ----------
    size : int
        32 voxels are 6 mm, 64 are 3 mm.
    view : {"axial", "coronal", "sagittal"}, optional
        The plane at the middle of the view's levels, one voxel thick.
    """
    spacing = FIELD_MM / size
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = [centre - spacing * (size - 1) / 2 for centre in CENTRE_MM]
    if view is None:
        return (size, size, size), affine
    across = ACROSS[known(view, VIEWS, "field_grid: view")]
    affine[across, 3] = levels_of(view, 1)[0]
    return tuple(1 if axis == across else size for axis in range(3)), affine


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
    require(
        size >= SMALLEST, "volume_table: size", expected=f"{SMALLEST} voxels or more", found=size,
        remedy="Use 32 voxels of 6 mm.",
    )
    require(
        math.isfinite(suvr_max) and suvr_max > 0, "volume_table: suvr_max", expected="a positive uptake ratio",
        found=suvr_max, remedy=f"Use {SUVR_MAX:g}.",
    )
    told = (s.baseline.diagnosis or s.diagnosis for s in cohort)
    stages = tuple(stage_of(d, f"{s.id}: diagnosis") for s, d in zip(cohort, told))
    cubes = torch.stack([_cube(s.baseline, size) for s in cohort])
    return Volumes(2 * (cubes / suvr_max).clamp(0, 1) - 1, cohort.ids, stages, suvr_max)


def _cube(scan: Scan, size: int) -> torch.Tensor:
    """(1, size, size, size) uptake ratios."""
    volume = scan.image(CONTRAST)
    parts = max(1, math.ceil(FIELD_MM / size / min(volume.spacing) - _NUDGE))
    shape, affine = field_grid(size * parts)
    fine: Volume = resample(volume.with_data(volume.data.float()), shape, affine)
    return block_mean(fine, (parts,) * 3).data


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
