"""PET volumes as square slices in three views, each with its subject, stage and place: what networks learn on.

Pixels are cut in MNI space, where the scans are expected to be, over 192 mm around the middle of the brain. The two
axes of an image are those of the world in order: axial x, y; coronal x, z; sagittal y, z, each rising to the right, to
the front or upwards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Self

import numpy as np
import torch

from nbkit.core.checks import check_keys, known, require
from nbkit.core.protocols import Cohort
from nbkit.data.slices import ACROSS, CENTRE_MM, cut

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
_LEVELS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"axial": (-10.0, 50.0), "coronal": (-65.0, 15.0), "sagittal": (-46.0, 38.0)}
)
"""First and last level of a view, mm: temporal lobes to centrum semiovale, precuneus to striatum, left to right."""
_LABELS = ("subject", "stage", "view", "level_mm")


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
        count, *shape = self.images.shape
        labels = {name: len(getattr(self, name)) for name in _LABELS}
        square = len(shape) == 3 and shape[0] == 1 and shape[1] == shape[2]
        require(
            square and set(labels.values()) == {count}, "Slices",
            expected=f"images of shape (N, 1, S, S) and {count} of each label",
            found=f"{tuple(self.images.shape)} and {labels}", remedy="Stack one-channel images, with a label for each.",
        )
        check_keys(set(self.stage), STAGES, "Slices: stage")
        check_keys(set(self.view), VIEWS, "Slices: view")

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
        people = set(self.subjects if subjects is None else subjects)
        stages = STAGES if stages is None else (stages,) if isinstance(stages, str) else tuple(stages)
        views = VIEWS if view is None else (view,)
        check_keys(people, self.subjects, "Slices.select: subjects")
        check_keys(stages, STAGES, "Slices.select: stages")
        check_keys(views, VIEWS, "Slices.select: view")
        rows = zip(self.subject, self.stage, self.view, strict=True)
        kept = [i for i, (s, d, v) in enumerate(rows) if s in people and d in stages and v in views]
        require(
            bool(kept), "Slices.select", expected="at least one slice",
            found=f"none of {len(people)} people, stages {', '.join(stages)}, views {', '.join(views)}",
            remedy="Ask for a combination that the table has.",
        )
        return self.at(kept)

    def at(self, indices: Sequence[int]) -> Self:
        """The slices at `indices`, in that order."""
        labels = {name: tuple(getattr(self, name)[i] for i in indices) for name in _LABELS}
        return replace(self, images=self.images[torch.as_tensor(indices, dtype=torch.long)], **labels)

    def suvr(self, images: torch.Tensor) -> torch.Tensor:
        """Images in [−1, 1], of any shape, as uptake ratios from 0 to `suvr_max`."""
        return (images + 1) / 2 * self.suvr_max


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


def slice_table(cohort: Cohort, *, views: Sequence[str] = VIEWS, per_view: int = 5, size: int = 64) -> Slices:
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

    Raises
    ------
    NbkitError
        For an unknown view, a diagnosis that is no stage (by subject), a scan without the contrast, a plane outside
        the image, or a size below 16.
    """
    check_keys(views, VIEWS, "slice_table: views")
    images, rows = [], []
    for subject in cohort:
        scan = subject.baseline
        stage = stage_of(scan.diagnosis or subject.diagnosis, f"{subject.id}: diagnosis")
        volume, where = scan.image(CONTRAST), f"{scan.subject}/{scan.session}"
        for view in views:
            for level in levels_of(view, per_view):
                plane = cut(volume, level, size=size, spacing_mm=FIELD_MM / size, view=view, where=f"{where}: {view}")
                images.append(plane.data[0].squeeze(ACROSS[view]))
                rows.append((subject.id, stage, view, level))
    scaled = 2 * (torch.stack(images) / SUVR_MAX).clamp(0, 1) - 1
    return Slices(scaled[:, None], *(tuple(column) for column in zip(*rows, strict=True)))
