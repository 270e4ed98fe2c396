"""PET volumes as square slices in three views, each with its subject, stage and place: what networks learn on.

Pixels are cut in MNI space, where the scans are expected to be, over 192 mm around the middle of the brain. The two
axes of an image are those of the world in order: axial x, y; coronal x, z; sagittal y, z, each rising to the right, to
the front or upwards.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, Self

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
ACROSS: Mapping[str, int] = MappingProxyType({"axial": 2, "coronal": 1, "sagittal": 0})
"""World axis that a view's planes stand on."""
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

    dims: ClassVar[int] = 2
    views: ClassVar[tuple[str, ...]] = VIEWS

    def __post_init__(self) -> None:
        shape, name = tuple(self.images.shape), type(self).__name__
        require(
            len(shape) == 2 + self.dims and shape[1] == 1 and len(set(shape[2:])) == 1, f"{name}: images", found=shape,
            expected=f"shape (N, 1{', S' * self.dims})",
            remedy="Stack one-channel images of one edge; channels are repeated where a network wants three.",
        )
        counts = {label: len(getattr(self, label)) for label in ("subject", "stage", "view", "level_mm")}
        require(
            set(counts.values()) == {shape[0]}, f"{name}: labels", expected=f"{shape[0]} of each, one per image",
            found=", ".join(f"{n} {label}" for label, n in counts.items()), remedy="Give one label per image.",
        )
        check_keys(dict.fromkeys(self.stage), STAGES, f"{name}: stage")
        check_keys(dict.fromkeys(self.view), self.views, f"{name}: view")

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

    @property
    def digest(self) -> str:
        """Hex digits that change with any pixel or label."""
        labels = repr((self.subject, self.stage, self.view, self.level_mm)).encode()
        return hashlib.blake2b(self.images.contiguous().numpy().tobytes() + labels, digest_size=16).hexdigest()

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
        views = self.views if view is None else (known(view, self.views, "Slices.select: view"),)
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

    def of_people(self, person_of: Mapping[str, str]) -> Self:
        """The same slices by person, where several subjects are made from one: people count, and people split."""
        return replace(self, subject=tuple(person_of[name] for name in self.subject))

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
    check_scale(size, suvr_max, "slice_table")
    planes = [(view, level) for view in views for level in levels_of(view, per_view)]
    stages = {s.id: person_stage(s) for s in cohort}
    images = torch.stack([_image(s.baseline, *plane, size=size) for s in cohort for plane in planes])
    rows = [(s.id, stages[s.id], *plane) for s in cohort for plane in planes]
    return Slices(scaled(images, suvr_max), *(tuple(column) for column in zip(*rows, strict=True)), suvr_max)


def check_scale(size: int, suvr_max: float, where: str) -> None:
    """Refuse images below 16 pixels, and a scale of uptake that ends nowhere."""
    require(
        size >= SMALLEST, f"{where}: size", expected=f"{SMALLEST} pixels or more", found=size,
        remedy="Use 64 of 3 mm, or 128 of 1.5 mm as published; 32 of 6 mm for volumes.",
    )
    require(
        math.isfinite(suvr_max) and suvr_max > 0, f"{where}: suvr_max", expected="a positive uptake ratio",
        found=suvr_max, remedy=f"Use {SUVR_MAX:g}.",
    )


def scaled(uptake: torch.Tensor, suvr_max: float) -> torch.Tensor:
    """Uptake ratios from 0 to `suvr_max` as −1 to 1, whatever is beyond at the ends."""
    return 2 * (uptake / suvr_max).clamp(0, 1) - 1


def person_stage(subject: Subject) -> str:
    """The stage at the first scan; a diagnosis that is none is refused, by subject."""
    return stage_of(subject.baseline.diagnosis or subject.diagnosis, f"{subject.id}: diagnosis")


def field_grid(size: int, *, plane: tuple[str, float] | None = None) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape and 4×4 affine of a cube of `size` voxels an edge over the field of view, or of one plane through it.

    Parameters
    ----------
    size : int
        32 voxels are 6 mm, 64 are 3 mm.
    plane : (view, level in mm), optional
        One voxel thick.
    """
    spacing, shape = FIELD_MM / size, [size] * 3
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = [centre - spacing * (size - 1) / 2 for centre in CENTRE_MM]
    if plane is not None:
        across = ACROSS[known(plane[0], VIEWS, "field_grid: view")]
        shape[across], affine[across, 3] = 1, plane[1]
    return tuple(shape), affine


def field_of_view(scan: Scan, size: int, *, plane: tuple[str, float] | None = None) -> torch.Tensor:
    """Uptake ratios of a scan, (1, ...) on :func:`field_grid`; voxels larger than the scan's are averages."""
    volume = scan.image(CONTRAST)
    parts = max(1, math.ceil(FIELD_MM / size / min(volume.spacing) - _NUDGE))
    shape, affine = field_grid(size * parts, plane=plane)
    fine = resample(volume.with_data(volume.data.float()), shape, affine)
    return block_mean(fine, tuple(1 if n == 1 else parts for n in shape)).data


def _image(scan: Scan, view: str, level_mm: float, *, size: int) -> torch.Tensor:
    """(1, size, size) uptake ratios in one plane."""
    _check_plane(scan.image(CONTRAST), ACROSS[view], level_mm, f"{scan.subject}/{scan.session}: {view}")
    return field_of_view(scan, size, plane=(view, level_mm)).squeeze(1 + ACROSS[view])


def _check_plane(volume: Volume, across: int, level_mm: float, where: str) -> None:
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * (np.array(volume.shape) - 1)
    places = corners @ volume.affine[across, :3] + volume.affine[across, 3]
    low, high = float(places.min()), float(places.max())
    require(
        low - _NUDGE <= level_mm <= high + _NUDGE, where, expected=f"a level from {low:.1f} to {high:.1f} mm",
        found=f"{level_mm:g} mm", remedy="Align the scan to MNI space (Clinica's pet-linear does), or cover the brain.",
    )
