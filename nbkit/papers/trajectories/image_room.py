"""What could be won at all on images: the mean of others, what a voxel tells a ready-made learner, one's own level.

None of them is a paper's. They serve volumes and, of one level, slices alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingRegressor

from nbkit.core.checks import require
from nbkit.core.protocols import Cohort, Scan, TrajectoryModel, age_of
from nbkit.core.seeds import numpy_generator
from nbkit.core.tidy import stacked, where
from nbkit.core.volume import Volume
from nbkit.data.slices import diagnosis_code
from nbkit.metrics.level import own_level
from nbkit.papers.trajectories.controls import Hindsight, NoChange
from nbkit.papers.trajectories.experiments import by_person, score_trajectories
from nbkit.papers.trajectories.pixel_regression import Config, PixelRegression
from nbkit.papers.trajectories.slopes import fit_line

METRICS: Mapping[str, tuple[str, str, str]] = {
    "ssim": ("SSIM", "higher", "SSIM"), "psnr": ("PSNR, dB", "higher", "dB"),
    "mae": ("MAE, share of the peak", "lower", "share of peak"),
}
"""Inside the brain: how a room calls it, which way is better, and its unit."""
ROLES: Mapping[str, str] = {
    "mean": "mean", "no_change": "control", "pixel_population": "control", "reach": "reach", "floor": "floor",
    "person": "person",
}
_SMOOTHINGS = (1.0, 2.0, 4.0)
"""Standard deviations, voxels."""
_ROUNDS = 200


class MeanScan:
    """The mean of all training scans, whoever is asked about."""

    def __init__(self, train: Cohort) -> None:
        scans = [scan for person in train for scan in person.scans]
        self.mean = sum(scan.image("T1w").data.float() for scan in scans) / len(scans)

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """The mean once per age."""
        return [history[-1].image("T1w").with_data(self.mean.clone(), "mean of the training scans") for _ in ages]


class OwnLevel:
    """A model's prediction after the scale and offset that bring it nearest to the true follow-up inside the brain."""

    def __init__(self, model: TrajectoryModel, people: Cohort) -> None:
        self.model, self.truth = model, Hindsight(people)

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """One image per age."""
        made, brain = self.model.predict(history, ages, diagnosis), history[-1].mask("brain")
        truth = self.truth.predict(history, ages, diagnosis)
        return [own_level(image, scan, brain) for image, scan in zip(made, truth, strict=True)]


class VoxelBoosting:
    """Gradient boosting on what the scans seen tell of a voxel: its change from the last of them to a later visit.

    Inputs are the voxel, three smoothings of the image, the distance from the edge of the brain, its place, the age,
    the years to go and the diagnosis; from two scans on also the line through the voxel (per year) and its smoothings.
    scikit-learn's histogram gradient boosting with its own settings and 200 trees.

    Parameters
    ----------
    seen : int
        Scans shown; more are passed over, the earliest first.
    voxels : int
        Drawn from all runs of so many scans of a person with a later one, of all brains.
    """

    def __init__(self, *, seen: int = 1, voxels: int = 300_000, seed: int = 7) -> None:
        self.seen, self.voxels, self.seed = seen, voxels, seed
        self.trees: HistGradientBoostingRegressor | None = None

    def fit(self, cohort: Cohort) -> Self:
        """Learn from every run of scans of a person and every later one."""
        lessons = [
            (p, p.scans[k - self.seen : k], later) for p in cohort for k in range(self.seen, len(p.scans))
            for later in p.scans[k:]
        ]
        require(
            len(lessons) > 0, "VoxelBoosting.fit: cohort", expected=f"people scanned {self.seen + 1} times or more",
            found="nobody", remedy="Train on people with follow-up scans.",
        )
        each, rng, told, change = max(self.voxels // len(lessons), 1), numpy_generator(self.seed, "boosting"), [], []
        for person, history, later in lessons:
            inside = history[-1].mask("brain").data[0].numpy().astype(bool)
            drawn = rng.permutation(int(inside.sum()))[:each]
            told.append(_inputs(history, [age_of(later)], person.diagnosis)[0][drawn])
            before, after = (scan.image("T1w").data[0].numpy()[inside][drawn] for scan in (history[-1], later))
            change.append(after - before)
        codes = np.arange(told[0].shape[1]) == told[0].shape[1] - 1
        self.trees = HistGradientBoostingRegressor(
            max_iter=_ROUNDS, early_stopping=False, categorical_features=codes, random_state=self.seed,
        ).fit(np.concatenate(told), np.concatenate(change))
        return self

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """One image per age."""
        scan, made = history[-1], []
        image, brain = scan.image("T1w"), scan.mask("brain").data.bool()
        for age, told in zip(ages, _inputs(history[-self.seen :], ages, diagnosis), strict=True):
            data = image.data.float().clone()
            data[brain] = (data[brain] + torch.from_numpy(self.trees.predict(told)).float()).clamp(min=0)
            made.append(image.with_data(data, f"voxel boosting at {age:g} years"))
        return made


def image_room(
    train: Cohort, people: Cohort, *, id: str, seen: int = 1, free: Mapping[tuple[str, str], Volume] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """SSIM, PSNR and MAE inside the brain of what could be won at all, at every later visit from the first `seen`.

    Parameters
    ----------
    train, people : Cohort
        Learned from, and predicted.
    id : str
        With the fields ``{metric}`` and ``{system}``: ``"inbrainsyn.table1.{metric}.{system}"``.
    free : mapping of (str, str) to Volume, optional
        Visits without noise, by subject and session; without them there is no "floor".

    Returns
    -------
    DataFrame
        Tidy, each person's mean over visits, with the column "role" by :data:`ROLES`; "person" is the better control
        (by SSIM) at each person's own level.
    """
    line = PixelRegression(Config(estimator="population")).fit(train)
    controls: dict[str, TrajectoryModel] = {"no_change": NoChange()}
    if all(person.diagnosis in line.slopes for person in people):
        controls["pixel_population"] = line
    own = {f"own {name}": OwnLevel(control, people) for name, control in controls.items()}
    systems = {"mean": MeanScan(train), **controls, **own}
    systems |= {"reach": VoxelBoosting(seen=seen, seed=seed).fit(train)}
    systems |= {"floor": Hindsight(people, free)} if free else {}
    visits = score_trajectories(systems, people, seen=seen, true_volumes=None, progress=False).visits
    best = visits.groupby("model")["ssim"].mean()[list(own)].idxmax()
    visits = visits[~visits["model"].isin(set(own) - {best})].replace({"model": {best: "person"}})
    rows = [by_person(visits, name, id=id, unit=unit) for name, (_, _, unit) in METRICS.items()]
    return stacked(*rows).assign(role=lambda frame: frame["system"].map(ROLES))


def image_rooms(found: pd.DataFrame, of: str) -> Iterator[dict[str, Any]]:
    """Arguments of ``Run.room`` for every metric of :func:`image_room`; `of` has the field ``{metric}``."""
    for metric, (said, better, _) in METRICS.items():
        yield {"frame": where(found, metric=metric), "of": of.format(metric=metric), "better": better,
               "measure": f"{said}, inside the brain"}


def _inputs(history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[np.ndarray]:
    """What is told of every voxel of the brain, (voxels, inputs) for each age, the diagnosis last."""
    scan, images = history[-1], [s.image("T1w").data[0].float() for s in history]
    inside = scan.mask("brain").data[0].numpy().astype(bool)
    maps = [images[-1].numpy()]
    if len(images) > 1:
        maps.append(fit_line([age_of(s) for s in history], torch.stack(images)).slope.numpy())
    smooth = [ndimage.gaussian_filter(image, sigma) for image in maps for sigma in _SMOOTHINGS]
    maps += [*smooth, ndimage.distance_transform_edt(inside), *np.indices(inside.shape)]
    told = np.column_stack([m[inside] for m in maps]).astype(np.float32)
    words = [[age_of(scan), age - age_of(scan), diagnosis_code(diagnosis)] for age in ages]
    return [np.column_stack([told, np.tile(row, (len(told), 1))]).astype(np.float32) for row in words]
