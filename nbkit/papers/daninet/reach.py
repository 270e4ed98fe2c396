"""What could be won at all on slices: the mean of others, a strong ready-made learner, the truth without noise.

None of them is the paper's. Beside the two trivial controls (the input repeated, and with the mean change of the
training people) they give the two ends of each error that notebook 04 prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingRegressor

from nbkit.core.checks import require
from nbkit.core.protocols import Cohort, Scan, age_of
from nbkit.core.seeds import numpy_generator
from nbkit.core.tidy import where
from nbkit.core.volume import Volume
from nbkit.data.slices import cut, diagnosis_code
from nbkit.metrics.level import own_level
from nbkit.papers.daninet.experiments import MEASURES
from nbkit.papers.trajectories.controls import NoChange
from nbkit.papers.trajectories.pixel_regression import Config, PixelRegression

ROLES = {
    "mean": "mean", "copy": "control", "mean_change": "control", "reach": "reach", "floor": "floor", "person": "person",
}
"""Of the systems that are no DaniNet."""
NAMES = {
    "ssim": "SSIM of slices over the brain's box", "ssim_brain": "SSIM of slices inside the brain",
    "psnr": "PSNR of slices inside the brain, dB", "mae": "MAE of slices inside the brain, share of the peak",
}
_SMOOTHINGS = (1.0, 2.0, 4.0)
"""Standard deviations, pixels."""
_ROUNDS = 200


class MeanSlice:
    """The mean slice of the training people, whoever is asked about."""

    def __init__(self, train: Cohort) -> None:
        slices = [scan.image("T1w").data.float() for person in train for scan in person.scans]
        self.mean = torch.stack(slices).mean(dim=0)

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """The mean slice once per age."""
        return [history[-1].image("T1w").with_data(self.mean.clone(), "mean of the training slices") for _ in ages]


class NoiseFree:
    """The true follow-up without noise: nobody can be nearer to the noisy one, but by luck.

    Parameters
    ----------
    people : Cohort
        Of slices.
    volumes : mapping of (str, str) to Volume
        By subject and session.
    where
        ``level_mm``, ``size`` and ``spacing_mm``, as for :func:`nbkit.data.slices.sliced`.
    """

    def __init__(self, people: Cohort, volumes: Mapping[tuple[str, str], Volume], **where: Any) -> None:
        self.people, self.volumes, self.where = people, volumes, where

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """The slice of the visit nearest to each age."""
        visits = self.people.subject(history[-1].subject).scans
        nearest = [min(visits, key=lambda scan: abs(age_of(scan) - age)) for age in ages]
        return [cut(self.volumes[scan.subject, scan.session], **self.where) for scan in nearest]


class OwnScale:
    """A model's prediction after the scale and offset that bring it nearest to the true follow-up inside the brain."""

    def __init__(self, model: Any, people: Cohort) -> None:
        self.model, self.people = model, people

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """One slice per age."""
        visits, brain = self.people.subject(history[-1].subject).scans, history[-1].mask("brain")
        images = self.model.predict(history, ages, diagnosis)
        nearest = [min(visits, key=lambda scan: abs(age_of(scan) - age)) for age in ages]
        return [own_level(image, scan.image("T1w"), brain) for image, scan in zip(images, nearest, strict=True)]


class PixelBoosting:
    """Gradient boosting on what one slice tells of a pixel: its change from the input to a later visit.

    Inputs are the pixel, three smoothings of the slice, the distance from the edge of the brain, its place, the age,
    the years to go and the diagnosis; scikit-learn's histogram gradient boosting with its own settings and 200 trees.

    Parameters
    ----------
    pixels : int
        Drawn from all pairs of scans of a person, of all brains.
    """

    def __init__(self, *, pixels: int = 300_000, seed: int = 7) -> None:
        self.pixels, self.seed = pixels, seed
        self.trees: HistGradientBoostingRegressor | None = None

    def fit(self, cohort: Cohort) -> Self:
        """Learn from every pair of a person's scans, the first being the input."""
        pairs = [(p, a, b) for p in cohort for k, a in enumerate(p.scans) for b in p.scans[k + 1 :]]
        require(
            len(pairs) > 0, "PixelBoosting.fit: cohort", expected="people scanned twice", found="nobody",
            remedy="Train on people with follow-up scans.",
        )
        each, rng, told, change = max(self.pixels // len(pairs), 1), numpy_generator(self.seed, "boosting"), [], []
        for person, first, later in pairs:
            inside = first.mask("brain").data[0, ..., 0].numpy()
            drawn = rng.permutation(int(inside.sum()))[:each]
            told.append(_inputs(first, age_of(later), person.diagnosis)[drawn])
            before, after = (scan.image("T1w").data[0, ..., 0].numpy()[inside][drawn] for scan in (first, later))
            change.append(after - before)
        codes = np.arange(told[0].shape[1]) == told[0].shape[1] - 1
        self.trees = HistGradientBoostingRegressor(
            max_iter=_ROUNDS, early_stopping=False, categorical_features=codes, random_state=self.seed,
        ).fit(np.concatenate(told), np.concatenate(change))
        return self

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """One slice per age, from the last of the scans seen."""
        scan, made = history[-1], []
        image, brain = scan.image("T1w"), scan.mask("brain").data.bool()
        for age in ages:
            change = torch.from_numpy(self.trees.predict(_inputs(scan, age, diagnosis))).float()
            data = image.data.float().clone()
            data[brain] = (data[brain] + change).clamp(min=0)
            made.append(image.with_data(data, f"pixel boosting at {age:g} years"))
        return made


def controls(train: Cohort) -> dict[str, Any]:
    """The input repeated, and with the mean change of the training people of a diagnosis."""
    return {"copy": NoChange(), "mean_change": PixelRegression(Config(estimator="population")).fit(train)}


def bounds(
    train: Cohort, people: Cohort, *, best: Any, free: Mapping[tuple[str, str], Volume], seed: int, **where: Any
) -> dict[str, Any]:
    """The systems between which all others lie, by name: those of :data:`ROLES` that are no control.

    Parameters
    ----------
    train, people : Cohort
        Of slices; `people` are predicted.
    best
        The best control, for "person".
    free : mapping of (str, str) to Volume
        Follow-ups without noise; empty: no "floor".
    where
        ``level_mm``, ``size`` and ``spacing_mm`` of the slices.
    """
    floor = {"floor": NoiseFree(people, free, **where)} if free else {}
    reach = PixelBoosting(seed=seed).fit(train)
    return {"mean": MeanSlice(train), "person": OwnScale(best, people), **floor, "reach": reach}


def with_roles(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of one metric of :func:`nbkit.papers.daninet.experiments.table1`, with their role in a room."""
    rows = where(frame, metric=metric)
    return rows.assign(role=rows["system"].map(ROLES).fillna(""))


def measured(metric: str) -> dict[str, str]:
    """How a metric of slices is called in a room: ``run.room(frame, **measured("ssim"))``."""
    return {"of": MEASURES[metric][0], "measure": NAMES[metric], "better": "lower" if metric == "mae" else "higher"}


def dots(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`with_roles` that a chart shows person by person; the others bound it."""
    return frame[~frame["role"].isin(["floor", "reach", "person"])]


def ends(frame: pd.DataFrame, names: Sequence[str] = ("floor", "reach")) -> dict[str, float]:
    """Means over people of the systems that bound a chart, of those that are there."""
    means = frame.groupby("system")["value"].mean()
    return {name: float(means[name]) for name in names if name in means}


def _inputs(scan: Scan, age: float, diagnosis: str) -> np.ndarray:
    """What is told of every pixel of the brain, (pixels, inputs), the diagnosis last."""
    image, inside = (x.data[0, ..., 0].numpy() for x in (scan.image("T1w"), scan.mask("brain")))
    image, inside = image.astype(np.float32), inside.astype(bool)
    smooth = [ndimage.gaussian_filter(image, sigma) for sigma in _SMOOTHINGS]
    maps = [image, *smooth, ndimage.distance_transform_edt(inside), *np.indices(image.shape)]
    told = [age_of(scan), age - age_of(scan), diagnosis_code(diagnosis)]
    return np.column_stack([*(m[inside] for m in maps), np.tile(told, (int(inside.sum()), 1))]).astype(np.float32)
