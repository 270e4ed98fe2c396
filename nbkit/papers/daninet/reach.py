"""What could be won at all on slices: the mean of others, a strong ready-made learner, the truth without noise.

None of them is the paper's. Beside the two trivial controls (the input repeated, and with the mean change of the
training people) they give the two ends of each error that notebook 04 prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from nbkit.core.protocols import Cohort
from nbkit.core.tidy import where
from nbkit.core.volume import Volume
from nbkit.data.slices import cut
from nbkit.papers.daninet.experiments import MEASURES
from nbkit.papers.trajectories.controls import Hindsight, NoChange
from nbkit.papers.trajectories.image_room import MeanScan, OwnLevel, VoxelBoosting
from nbkit.papers.trajectories.pixel_regression import Config, PixelRegression

ROLES = {
    "mean": "mean", "copy": "control", "mean_change": "control", "reach": "reach", "floor": "floor", "person": "person",
}
"""Of the systems that are no DaniNet."""
NAMES = {
    "ssim": "SSIM of slices over the brain's box", "ssim_brain": "SSIM of slices inside the brain",
    "ssim_changed": "SSIM of slices where most has changed",
    "psnr": "PSNR of slices inside the brain, dB", "mae": "MAE of slices inside the brain, share of the peak",
}


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
    visits = [(scan.subject, scan.session) for person in people for scan in person.scans]
    floor = {"floor": Hindsight(people, {visit: cut(free[visit], **where) for visit in visits})} if free else {}
    reach = VoxelBoosting(seed=seed).fit(train)
    return {"mean": MeanScan(train), "person": OwnLevel(best, people), **floor, "reach": reach}


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
