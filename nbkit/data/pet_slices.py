"""PET volumes as square slices in three views, each with its subject, stage and place: what networks learn on.

Pixels are cut in MNI space, where the scans are expected to be, over 192 mm around the middle of the brain. The two
axes of an image are those of the world in order: axial x, y; coronal x, z; sagittal y, z, each rising to the right, to
the front or upwards.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Self

import numpy as np
import torch

from nbkit.core.checks import check_keys, known, require
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.grids import block_mean
from nbkit.geometry.warp import resample

CONTRAST = "FDG"
STAGES = ("CN", "MCI", "AD")
STAGE_OF: Mapping[str, str] = MappingProxyType(
    {"CN": "CN", "MCI": "MCI", "EMCI": "MCI", "LMCI": "MCI", "AD": "AD"}
)
"""Stage of a diagnosis: early and late impairment are one (ADNI 1 tells none apart)."""
VIEWS = ("axial", "coronal", "sagittal")
SUVR_MAX = 2.0
"""Uptake ratio that becomes 1, as does whatever is brighter; 0 becomes −1. Assumption: at 8 mm hardly any voxel is."""
FIELD_MM = 192.0
CENTRE_MM = (0.0, -17.0, 5.0)
"""Middle of the MNI brain, x, y, z."""
_ACROSS: Mapping[str, int] = MappingProxyType({"axial": 2, "coronal": 1, "sagittal": 0})
_LEVELS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"axial": (-10.0, 50.0), "coronal": (-65.0, 15.0), "sagittal": (-46.0, 38.0)}
)
"""First and last level of a view, mm: temporal lobes to centrum semiovale, precuneus to striatum, left to right."""
SMALLEST = 16
_NUDGE = 1e-3


@dataclass(frozen=True, eq=False)
class Slices:
    """Slices of several people.

    Parameters
    ----------
    images : torch.Tensor
        (N, 1, S, S) float32 in [−1, 1]: −1 is an uptake ratio of 0, 1 of `suvr_max` and above.
    subject, stage, view : tuple of str
        Of every slice; stages are those of :data:`STAGES`, views those of :data:`VIEWS`.
    level_mm : tuple of float
        World coordinate of the plane: z of axial, y of coronal, x of sagittal slices.
    suvr_max : float

    Raises
    ------
    NbkitError
        For images of another shape, more or fewer labels than images, or an unknown stage or view.
    """

    images: torch.Tensor
    subject: tuple[str, ...]
    stage: tuple[str, ...]
    view: tuple[str, ...]
    level_mm: tuple[float, ...]
    suvr_max: float = SUVR_MAX

    def __post_init__(self) -> None:
        shape = tuple(self.images.shape)
        require(
            len(shape) == 4 and shape[1] == 1 and shape[2] == shape[3], "Slices: images", expected="shape (N, 1, S, S)",
            found=shape, remedy="Stack one-channel square images; channels are repeated where a network wants three.",
        )
        counts = {name: len(getattr(self, name)) for name in ("subject", "stage", "view", "level_mm")}
        require(
            set(counts.values()) == {shape[0]}, "Slices: labels", expected=f"{shape[0]} of each, one per image",
            found=", ".join(f"{n} {name}" for name, n in counts.items()), remedy="Give one label per image.",
        )
        check_keys(dict.fromkeys(self.stage), STAGES, "Slices: stage")
        check_keys(dict.fromkeys(self.view), VIEWS, "Slices: view")

    def __len__(self) -> int:
        return len(self.subject)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Every person once, in the order of the slices."""
        return tuple(dict.fromkeys(self.subject))

    @property
    def stage_of(self) -> dict[str, str]:
        """Stage by subject."""
        return dict(zip(self.subject, self.stage, strict=True))

    def select(
        self, *, subjects: Collection[str] | None = None, stages: str | Collection[str] | None = None,
        view: str | None = None,
    ) -> Self:
        """The slices of some people, stages or one view, in their order; None means all.

        Raises
        ------
        NbkitError
            For a subject, stage or view that is not in the table, with the nearest name, or when nothing is left.
        """
        people, stages = _names(subjects, self.subjects), _names(stages, STAGES)
        check_keys(people, set(self.subject), "Slices.select: subjects")
        check_keys(stages, STAGES, "Slices.select: stages")
        views = VIEWS if view is None else (known(view, VIEWS, "Slices.select: view"),)
        rows = zip(self.subject, self.stage, self.view, strict=True)
        kept = [i for i, (s, d, v) in enumerate(rows) if s in people and d in stages and v in views]
        require(
            bool(kept), "Slices.select", expected="at least one slice",
            found=f"none of {len(people)} people, stages {', '.join(sorted(stages))}, views {', '.join(views)}",
            remedy="Ask for a combination that the table has.",
        )
        return self.at(kept)

    def at(self, indices: Sequence[int]) -> Self:
        """The slices at `indices`, in that order."""
        labels = {n: tuple(getattr(self, n)[i] for i in indices) for n in ("subject", "stage", "view", "level_mm")}
        return replace(self, images=self.images[torch.as_tensor(indices, dtype=torch.long)], **labels)

    def suvr(self, images: torch.Tensor) -> torch.Tensor:
        """Images in [−1, 1], of any shape, as uptake ratios from 0 to `suvr_max`."""
        return (images + 1) / 2 * self.suvr_max


def _names(given: str | Collection[str] | None, everything: Sequence[str]) -> set[str]:
    if given is None:
        return set(everything)
    return {given} if isinstance(given, str) else set(given)


def stage_of(diagnosis: str, where: str = "stage_of: diagnosis") -> str:
    """CN, MCI or AD; early and late impairment count as MCI, other diagnoses are refused with the nearest name."""
    return STAGE_OF[known(diagnosis, STAGE_OF, where)]


def levels_of(view: str, count: int) -> tuple[float, ...]:
    """`count` levels (mm) of a view, evenly from its first to its last; one alone lies in the middle.

    Raises
    ------
    NbkitError
        For an unknown view, or fewer than one level.
    """
    low, high = _LEVELS[known(view, VIEWS, "levels_of: view")]
    require(count >= 1, "levels_of: count", expected="1 or more", found=count, remedy="Ask for at least one slice.")
    return tuple(float(z) for z in np.linspace(low, high, count)) if count > 1 else ((low + high) / 2,)


def slice_table(
    cohort: Cohort, *, views: Sequence[str] = VIEWS, per_view: int = 5, size: int = 64, suvr_max: float = SUVR_MAX,
) -> Slices:
    """Slices of the first scan of everybody.

    Parameters
    ----------
    cohort : Cohort
        Scans with the contrast "FDG", an uptake ratio in a reference region, in MNI space.
    views : sequence of {"axial", "coronal", "sagittal"}
    per_view : int
        Levels per view: :func:`levels_of`.
    size : int
        Pixels along both sides of 192 mm: 64 of 3 mm, 128 (as published) of 1.5 mm. Pixels larger than voxels are
        averages over their square.
    suvr_max : float
        Uptake ratio that becomes 1.

    Raises
    ------
    NbkitError
        For an unknown view, a diagnosis that is no stage (by subject), a scan without the contrast, a plane outside
        the image, or a size below 16.
    """
    check_keys(views, VIEWS, "slice_table: views")
    require(
        size >= SMALLEST, "slice_table: size", expected=f"{SMALLEST} pixels or more", found=size,
        remedy="Use 64 pixels of 3 mm, or 128 of 1.5 mm as published.",
    )
    require(
        math.isfinite(suvr_max) and suvr_max > 0, "slice_table: suvr_max", expected="a positive uptake ratio",
        found=suvr_max, remedy=f"Use {SUVR_MAX:g}.",
    )
    planes = [(view, level) for view in views for level in levels_of(view, per_view)]
    stages = {s.id: _stage(s) for s in cohort}
    images = torch.stack([_image(s.baseline, *plane, size=size) for s in cohort for plane in planes])
    scaled = 2 * (images / suvr_max).clamp(0, 1) - 1
    rows = [(s.id, stages[s.id], *plane) for s in cohort for plane in planes]
    return Slices(scaled[:, None], *(tuple(column) for column in zip(*rows, strict=True)), suvr_max)


def _stage(subject: Subject) -> str:
    return stage_of(subject.baseline.diagnosis or subject.diagnosis, f"{subject.id}: diagnosis")


def _image(scan: Scan, view: str, level_mm: float, *, size: int) -> torch.Tensor:
    """(size, size) uptake ratios in one plane."""
    volume, across = scan.image(CONTRAST), _ACROSS[view]
    _check_plane(volume, across, level_mm, f"{scan.subject}/{scan.session}: {view}")
    spacing = FIELD_MM / size
    parts = max(1, math.ceil(spacing / min(volume.spacing) - _NUDGE))
    counts = [1 if axis == across else size * parts for axis in range(3)]
    affine = np.diag([spacing / parts] * 3 + [1.0])
    affine[:3, 3] = [c - spacing / parts * (n - 1) / 2 for c, n in zip(CENTRE_MM, counts, strict=True)]
    affine[across, 3] = level_mm
    fine = resample(volume.with_data(volume.data.float()), tuple(counts), affine)
    return block_mean(fine, tuple(1 if n == 1 else parts for n in counts)).data[0].squeeze(across)


def _check_plane(volume: Volume, across: int, level_mm: float, where: str) -> None:
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * (np.array(volume.shape) - 1)
    places = corners @ volume.affine[across, :3] + volume.affine[across, 3]
    low, high = float(places.min()), float(places.max())
    require(
        low - _NUDGE <= level_mm <= high + _NUDGE, where, expected=f"a level from {low:.1f} to {high:.1f} mm",
        found=f"{level_mm:g} mm", remedy="Align the scan to MNI space (Clinica's pet-linear does), or cover the brain.",
    )
