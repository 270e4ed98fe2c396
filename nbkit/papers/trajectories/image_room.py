"""What could be won at all in predicted images: the two ends, as systems that any scorer of trajectories takes.

``MeanImage().fit(train)`` (mean), ``VoxelReach().fit(train)`` (reach) and ``WithoutNoise(test,
run.noise_free("T1w"))`` (floor) stand beside the systems judged; :func:`nbkit.papers.trajectories.room.with_role` gives
their rows a role.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor

from nbkit.core.checks import require
from nbkit.core.config import Settings
from nbkit.core.protocols import Cohort, Scan, Subject, age_of
from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume
from nbkit.core.windows import filter_separable, gaussian_kernel
from nbkit.data.splits import subject_hash


class MeanImage:
    """The mean of all scans of the training people, whoever is asked about: the worst that anyone should do."""

    config = None

    def fit(self, cohort: Cohort) -> Self:
        """Scans with T1w on one grid."""
        images = [scan.image("T1w") for subject in cohort for scan in subject.scans]
        self.image = images[0].with_data(sum(image.data.float() for image in images) / len(images), "mean of training")
        self.trained_on = subject_hash(cohort.ids)
        return self

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """The same image for every age."""
        self.image.check_grid(history[-1].image("T1w"), "MeanImage: history")
        return [self.image for _ in ages]


class WithoutNoise:
    """Not a forecast: the visits that came true, without the noise of their scans, of simulated people given."""

    config = None

    def __init__(self, cohort: Cohort, noise_free: Mapping[tuple[str, str], Volume]) -> None:
        self.cohort, self.noise_free, self.trained_on = cohort, noise_free, subject_hash(cohort.ids)

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """The visit nearest to each age."""
        visits = self.cohort.subject(history[0].subject).scans
        nearest = [min(visits, key=lambda scan: abs(age_of(scan) - age)) for age in ages]
        return [self.noise_free[scan.subject, scan.session] for scan in nearest]


@dataclass(frozen=True)
class Config(Settings):
    """Settings of :class:`VoxelReach`.

    Attributes
    ----------
    scales : tuple of float
        Standard deviations (voxels) of the smoothings seen beside the voxel itself.
    voxels : int
        Drawn from the brain for every pair of scans.
    trees, rate, leaves : int, float, int
        Of boosting.
    """

    scales: tuple[float, ...] = (1.0, 2.5)
    voxels: int = 1500
    trees: int = 150
    rate: float = 0.1
    leaves: int = 31
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"voxels": 300, "trees": 30}}


class VoxelReach:
    """Gradient boosting of a voxel's yearly change on what the history shows there.

    Seen are the voxel and its smoothings in the last scan, the change per year between first and last scan (0 from
    one), the place, age, years ahead and diagnosis. All pairs of a first and a later scan of the training people teach.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()

    def fit(self, cohort: Cohort) -> Self:
        """Learn from people with two scans or more, all on one grid.

        Raises
        ------
        NbkitError
            If nobody has two scans.
        """
        self.diagnoses = sorted({subject.diagnosis for subject in cohort})
        parts = [part for subject in cohort for part in self._lessons(subject)]
        require(
            len(parts) > 0, f"VoxelReach.fit: cohort {cohort.name}", expected="people scanned at two ages or more",
            found="none", remedy="Train on people with follow-up scans.",
        )
        c = self.config
        learner = HistGradientBoostingRegressor(
            learning_rate=c.rate, max_iter=c.trees, max_leaf_nodes=c.leaves, random_state=c.seed)
        inputs, change, years = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        self.learned = learner.fit(inputs, change / years, sample_weight=years**2)
        self.trained_on = subject_hash(cohort.ids)
        return self

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """The last scan with the change that is expected inside its brain; no value falls below 0."""
        last, brain = history[-1].image("T1w"), history[-1].mask("brain").data[0]
        seen, images = self._seen(history, diagnosis), []
        for age in ages:
            years, data = age - age_of(history[-1]), last.data.float().clone()
            at = brain.reshape(-1).numpy()
            change = years * self.learned.predict(np.column_stack([seen[at], np.full(at.sum(), years)]))
            data[0][brain] += torch.from_numpy(change).to(data)
            images.append(last.with_data(data.clamp(min=0), f"boosted voxels at {age:g} years"))
        return images

    def _lessons(self, subject: Subject) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Inputs, change and years of voxels of every pair; from two scans on, histories of several too."""
        scans, rng = subject.scans, numpy_generator(self.config.seed, "voxels", subject.id)
        for stop in range(1, len(scans)):
            history, seen = scans[:stop], None
            for later in scans[stop:] if stop == 1 else scans[stop : stop + 1]:
                seen = self._seen(history, subject.diagnosis) if seen is None else seen
                inside = np.flatnonzero(history[-1].mask("brain").data.reshape(-1).numpy())
                at = rng.choice(inside, min(self.config.voxels, len(inside)), replace=False)
                years = np.full(len(at), age_of(later) - age_of(history[-1]))
                images = (scan.image("T1w").data.reshape(-1).numpy()[at] for scan in (later, history[-1]))
                yield np.column_stack([seen[at], years]), np.subtract(*images).astype(np.float64), years

    def _seen(self, history: Sequence[Scan], diagnosis: str) -> np.ndarray:
        """(voxels, features) of a history."""
        first, last = (history[k].image("T1w").data.float() for k in (0, -1))
        span = age_of(history[-1]) - age_of(history[0])
        slope = (last - first) / span if span > 0 else torch.zeros_like(last)
        maps = [last, *self._smoothed(last), *self._smoothed(slope)]
        columns = [one.reshape(-1).numpy() for one in maps] + [axis.reshape(-1) for axis in np.indices(last.shape[1:])]
        told = [age_of(history[-1]), float(len(history) > 1), *(float(diagnosis == d) for d in self.diagnoses)]
        return np.column_stack([*columns, *(np.full(columns[0].size, value) for value in told)]).astype(np.float32)

    def _smoothed(self, image: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for scale in self.config.scales:
            kernels = tuple(gaussian_kernel(0.0 if n == 1 else scale) for n in image.shape[1:])
            found.append(filter_separable(image[None].double(), kernels).float()[0])
        return found
