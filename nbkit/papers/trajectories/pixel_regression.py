"""The control of latent regression: the same straight lines drawn through voxels, without a latent space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch

from nbkit.core.checks import check_same_grid, known, require
from nbkit.core.config import Settings
from nbkit.core.protocols import Cohort, Scan, age_of
from nbkit.core.volume import Volume
from nbkit.data.splits import subject_hash
from nbkit.training.checkpoint import Constants, Saved, check_tensors
from nbkit.papers.trajectories.slopes import Line, fit_line, line_at

ESTIMATORS = ("ols", "population")


@dataclass(frozen=True)
class Config(Settings):
    """Settings; nothing is published of this control, and no profile changes it.

    Attributes
    ----------
    contrast : str
    estimator : {"ols", "population"}
        Least squares through each voxel of a person's scans (two ages at least), or the mean slope image of the
        training subjects of a diagnosis, added to the mean of the person's scans.
    """

    contrast: str = "T1w"
    estimator: str = "ols"

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __post_init__(self) -> None:
        known(self.estimator, ESTIMATORS, "Config: estimator")


class PixelRegression(Saved):
    """A :class:`~nbkit.core.protocols.TrajectoryModel` of one straight line per voxel; no value falls below 0."""

    settings = Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.slopes: dict[str, torch.Tensor] = {}
        self.affine = np.eye(4)

    def fit(self, cohort: Cohort) -> Self:
        """Learn the mean slope image (1, X, Y, Z) of each diagnosis, people weighted by the spread of their ages.

        Raises
        ------
        NbkitError
            If nobody was scanned at two ages, or scans lie on different grids.
        """
        first = cohort.subjects[0].baseline.image(self.config.contrast)
        self.affine, self.trained_on = first.affine, subject_hash(cohort.ids)
        weighted: dict[str, torch.Tensor] = {}
        spread: dict[str, float] = {}
        for subject in cohort:
            for scan in subject.scans:
                first.check_grid(scan.image(self.config.contrast), f"{scan.subject}/{scan.session}")
            line = self._line(subject.scans)
            if line.spread > 0:
                group = subject.diagnosis
                weighted[group] = weighted.get(group, 0) + line.spread * line.slope
                spread[group] = spread.get(group, 0.0) + line.spread
        require(
            bool(spread), f"PixelRegression.fit: cohort {cohort.name}", expected="people scanned at two ages or more",
            found="none", remedy="Train on people with follow-up scans.",
        )
        self.slopes = {group: weighted[group] / spread[group] for group in sorted(spread)}
        return self

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """One image per age (years), given the scans seen so far."""
        require(
            bool(self.slopes), "PixelRegression", expected="a fitted model", found="an unfitted one",
            remedy="Call fit(cohort) or PixelRegression.load(path) first.",
        )
        slope = self.slopes[known(diagnosis, self.slopes, "PixelRegression: diagnosis")]
        require(len(history) > 0, "PixelRegression: history", expected="a scan", found="none", remedy="Give one.")
        image = history[-1].image(self.config.contrast)
        check_same_grid(slope.shape[1:], self.affine, image.shape, image.affine, "PixelRegression: history")
        line = self._line(history)
        if self.config.estimator == "ols":
            require(
                line.spread > 0, "PixelRegression: history", expected="scans at two ages or more for 'ols'",
                found=f"{line.count} at one age", remedy="Give earlier scans too, or use estimator='population'.",
            )
            slope = line.slope
        note = f"pixel regression {self.config.estimator}"
        return [
            image.with_data(line_at(line, line.value, slope, age=age).clamp(min=0), f"{note} at {age:g} years")
            for age in ages
        ]

    def _line(self, scans: Sequence[Scan]) -> Line:
        images = torch.stack([scan.image(self.config.contrast).data.float() for scan in scans])
        return fit_line([age_of(scan) for scan in scans], images)

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {f"slope.{group}": slope for group, slope in self.slopes.items()}

    def _constants(self) -> dict[str, Any]:
        shape = list(next(iter(self.slopes.values())).shape)
        return {"groups": list(self.slopes), "shape": shape, "affine": self.affine.tolist()}

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        expected = {f"slope.{group}": torch.empty(constants["shape"]) for group in constants["groups"]}
        check_tensors(tensors, expected, where)
        self.slopes = {group: tensors[f"slope.{group}"] for group in constants["groups"]}
        self.affine = np.array(constants["affine"])


def average_images(first: Volume, second: Volume, alpha: float) -> Volume:
    """α x1 + (1 − α) x2 on one grid: the control of the claim that volumes follow a latent interpolation linearly.

    Soft volumes of averaged images are linear in α by themselves, without any latent space.
    """
    first.check_grid(second, "average_images: first and second")
    mixed = alpha * first.data.float() + (1 - alpha) * second.data.float()
    return first.with_data(mixed, f"image average, alpha {alpha:g}")
