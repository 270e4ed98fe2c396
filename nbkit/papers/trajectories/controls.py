"""The control that every trajectory model must beat, tomorrow looks like today, and one that none can: hindsight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch

from nbkit.core.config import Settings
from nbkit.core.protocols import Cohort, Scan
from nbkit.core.volume import Volume
from nbkit.data.splits import subject_hash
from nbkit.geometry.futures import Futures
from nbkit.geometry.warp import Displacement
from nbkit.training.checkpoint import Constants, Saved, check_tensors


@dataclass(frozen=True)
class Config(Settings):
    """Settings; the same in every profile, there is nothing to learn.

    Attributes
    ----------
    contrast : str
        The image that is repeated.
    """

    contrast: str = "T1w"


class NoChange(Saved):
    """A :class:`~nbkit.core.protocols.TrajectoryModel` that gives the last scan seen, whatever the age.

    Over a year or two a head changes less than its scans differ by noise, so images alone make this control hard to
    beat; regional volumes tell more.
    """

    settings = Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()

    def fit(self, cohort: Cohort) -> Self:
        """Learn nothing; remember whom it was shown."""
        self.trained_on = subject_hash(cohort.ids)
        return self

    def futures(self, scan: Scan, ages: Sequence[float], course: object = None) -> Futures:
        """Fields of zeros, one per age; any course."""
        image = scan.image(self.config.contrast)
        still = Displacement(torch.zeros(1, 3, *image.shape).expand(len(ages), -1, -1, -1, -1))
        return Futures(scan, tuple(map(float, ages)), still, self.config.contrast, made_by="no change")

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """The last scan of `history`, once per age."""
        return self.futures(history[-1], ages, diagnosis).images()

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {}

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        check_tensors(tensors, {}, where)


class Hindsight:
    """Not a forecast: the true scan nearest in age, of people it was given.

    Scored through a segmenter it shows what reading a volume from an image costs when the image is right.

    Parameters
    ----------
    cohort : Cohort
    images : mapping of (str, str) to Volume, optional
        By subject and session, what to give in place of the T1w scans: the same without noise, where that is known.
    """

    config = None

    def __init__(self, cohort: Cohort, images: Mapping[tuple[str, str], Volume] | None = None) -> None:
        self.cohort, self.trained_on, self.images = cohort, subject_hash(cohort.ids), images

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """The person's own image nearest to each age; a person who was not given is refused by name."""
        visits = self.cohort.subject(history[0].subject).scans
        nearest = [min(visits, key=lambda scan: abs(scan.age - age)) for age in ages]
        if self.images is None:
            return [scan.image("T1w") for scan in nearest]
        return [self.images[scan.subject, scan.session] for scan in nearest]
