"""Scans of a group with their ages, and what every template over age that is learned from them has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch

from nbkit.core.checks import check_finite, check_same_grid, known, require
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.core.windows import filter_separable, gaussian_kernel
from nbkit.data.splits import subject_hash
from nbkit.training.checkpoint import Saved

CONTRAST = "T1w"
SCALINGS = ("bright", "minmax")
BRIGHT = 0.99
"""Quantile of intensity inside the brain that becomes 1."""


@dataclass(frozen=True)
class GroupFrame:
    """Grid, intensity scale and ages of a group of skull-stripped T1w scans: constants that a template is saved with.

    Attributes
    ----------
    shape, affine
        The one grid of all scans; `affine` as nested tuples.
    scale : float
        Intensity, in the scans' unit, that becomes 1. Of "bright": the mean over persons of their first scan's 99th
        percentile inside the brain mask. Of "minmax", the mean of their maxima, for what is made.
    youngest, oldest : float
        Ages in years.
    persons : int
    subjects : str
        Hash of the ids.
    scaling : {"bright", "minmax"}
        One factor for all scans; or every scan by itself from its minimum to its maximum, as the code of the article
        on InBrainSyn does.
    """

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    scale: float
    youngest: float
    oldest: float
    persons: int
    subjects: str
    scaling: str = "bright"

    @classmethod
    def of(cls, scans: Sequence[Scan], where: str, *, scaling: str = "bright") -> Self:
        """Learn the constants of `scans`.

        Raises
        ------
        NbkitError
            For no scans, an unknown or impossible age, another grid, or an image without contrast, by name.
        """
        require(
            len(scans) > 0, f"{where}: scans", expected="at least one scan", found="none",
            remedy="Look at the diagnoses of the cohort: nobody is in this group.",
        )
        for scan in scans:
            require(
                scan.age is not None and 1.2 < scan.age <= 120, f"{where}: {scan.subject}/{scan.session}",
                expected="an age in years", found=scan.age, remedy="Add the age to the table, or leave the scan out.",
            )
        first, ages = scans[0].image(CONTRAST), [float(s.age) for s in scans]
        people = persons(scans)
        top = {"bright": _bright, "minmax": _top}[known(scaling, SCALINGS, f"{where}: scaling")]
        scale = float(np.mean([top(visits[0]) for visits in people.values()]))
        affine = tuple(tuple(map(float, row)) for row in first.affine)
        return cls(first.shape, affine, scale, min(ages), max(ages), len(people), subject_hash(people),
                   scaling)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from ``dataclasses.asdict``, also after JSON."""
        return cls(**{**values, "shape": tuple(values["shape"]), "affine": tuple(map(tuple, values["affine"]))})

    @property
    def matrix(self) -> np.ndarray:
        """4×4 voxel-to-world (mm)."""
        return np.array(self.affine)

    def read(self, scan: Scan) -> torch.Tensor:
        """The T1w image of a scan as (1, 1, X, Y, Z) float32, 1 being bright; another grid is refused."""
        image, where = scan.image(CONTRAST), f"{scan.subject}/{scan.session}: {CONTRAST}"
        check_same_grid(self.shape, self.matrix, image.shape, image.affine, where)
        require(
            image.data.shape[0] == 1, where, expected="one channel", found=f"{image.data.shape[0]} channels",
            remedy="Give one T1w image per scan.",
        )
        check_finite(image.data, where)
        data = image.data.float()[None]
        low, high = (data.min(), data.max()) if self.scaling == "minmax" else (0.0, self.scale)
        return (data - low) / (high - low)

    def volume(self, image: torch.Tensor, step: str) -> Volume:
        """An image (1, 1, X, Y, Z) of :meth:`read`'s scale as a Volume in the scans' unit, never below 0."""
        return Volume(image[0].detach().float().cpu().clamp(min=0) * self.scale, self.matrix, (step,))

    def check_age(self, age: float, where: str, *, beyond: float) -> float:
        """Refuse an age that is more than `beyond` years outside the ages of the group."""
        low, high = self.youngest - beyond, self.oldest + beyond
        require(
            np.isfinite(age) and low <= age <= high, f"{where}: age",
            expected=f"{low:.1f} to {high:.1f} years (the group's {self.youngest:.1f} to {self.oldest:.1f}, and "
            f"{beyond:g} beyond)", found=age,
            remedy="Ask for an age that the group has, or fit with scans of that age.",
        )
        return float(age)


class AgedTemplate(Saved):
    """A :class:`~nbkit.core.protocols.TemplateModel` on the grid of the scans and within their ages.

    A subclass learns in ``fit(scans)`` and makes the image of an age in ``_made(age)``.
    """

    title: ClassVar[str]
    frame: GroupFrame | None = None

    def _made(self, age: float) -> torch.Tensor:
        """(1, 1, X, Y, Z), in the scale of :meth:`GroupFrame.read`."""
        raise NotImplementedError

    @torch.no_grad()
    def template(self, age: float) -> Volume:
        """The template of `age` (years), on the grid of the scans, in their intensity unit; 0 outside the brain.

        Raises
        ------
        NbkitError
            If the model is not fitted, or `age` lies farther from the group's ages than the Config allows.
        """
        name = type(self).__name__
        require(
            self.frame is not None, f"{name}.template", expected="a fitted model", found="an unfitted one",
            remedy=f"Call fit(scans) or {name}.load(path) first.",
        )
        age = self.frame.check_age(age, f"{name}.template", beyond=self.config.beyond_years)
        return self.frame.volume(self._made(age), f"{self.title} of age {age:g}")

    def _learn_from(self, scans: Sequence[Scan], *, scaling: str = "bright") -> GroupFrame:
        self.frame = GroupFrame.of(scans, f"{type(self).__name__}.fit", scaling=scaling)
        self.trained_on = self.frame.subjects
        return self.frame


def smoothed(scan: Scan, contrast: str, sigma_mm: float) -> Scan:
    """The scan with one image smoothed by a Gaussian of standard deviation `sigma_mm`; itself for 0."""
    if not sigma_mm:
        return scan
    image = scan.image(contrast)
    kernels = tuple(gaussian_kernel(sigma_mm / spacing) for spacing in image.spacing)
    soft = filter_separable(image.data[None].float(), kernels)[0]
    return replace(scan, images={**scan.images, contrast: image.with_data(soft, f"smoothed, {sigma_mm:g} mm")})


def persons(scans: Sequence[Scan]) -> dict[str, list[Scan]]:
    """Scans by subject id, each person's in order of age, persons in the order met."""
    people: dict[str, list[Scan]] = {}
    for scan in scans:
        people.setdefault(scan.subject, []).append(scan)
    return {name: sorted(visits, key=lambda s: s.age) for name, visits in people.items()}


def _top(scan: Scan) -> float:
    _bright(scan)
    return float(scan.image(CONTRAST).data.max())


def _bright(scan: Scan) -> float:
    image, brain = scan.image(CONTRAST), scan.mask("brain")
    image.check_grid(brain, f"{scan.subject}/{scan.session}: brain mask")
    inside = image.data[brain.data.bool()].float()
    require(
        inside.numel() > 0 and bool(inside.max() > 0), f"{scan.subject}/{scan.session}: brain mask",
        expected="bright voxels inside it", found="none", remedy="Look at the mask and the image in the QC page.",
    )
    return float(np.quantile(inside.numpy(), BRIGHT))
