"""The room of a contrast that is predicted: how far any system could get from the trivial controls.

The ends beside which every error is read (no paper prints them): the training people's *mean*; *linear* regression on
the voxel; the *person's* part, what disappears of the latter with each test person's own scale and offset, which no
input can have told; the *reach* of a strong ready-made learner, histogram gradient boosting on the voxel, what lies
around it and its place; and the *floor*, the noise-free truth itself as the prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingRegressor

from nbkit.core.checks import check_disjoint, known, require
from nbkit.core.device import one_thread, side_by_side
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import derive, torch_generator
from nbkit.core.tidy import COLUMNS, stacked
from nbkit.core.volume import Volume
from nbkit.core.windows import filter_separable, gaussian_kernel
from nbkit.data.intensity import Standardiser
from nbkit.data.synthesis import brain_box, brain_channels, on_grid
from nbkit.metrics.level import own_level
from nbkit.papers.synthesis import linear
from nbkit.papers.synthesis.patches import Contrasts
from nbkit.training.crossval import FoldLike
from nbkit.training.kept import kept_tables

ROLES = {
    "mean": "mean", "linear": "control", "person": "person", "reach": "reach", "reach_tenfold": "reach",
    "floor": "floor",
}
"""What each system of a room stands for."""
Score = Callable[[Subject, Volume], Mapping[str, float]]
Predict = Callable[[Scan], Volume]
Maker = Callable[[Cohort], Predict]


@dataclass(frozen=True)
class Config(Contrasts):
    """Settings of the reach; ours, the same for every measure, fixed before any result.

    Attributes
    ----------
    scales : tuple of float
        Gaussian smoothings of each contrast inside the brain, SD in mm: the neighbours, and the tissue around.
    voxels : int
        Training voxels in all, an equal share of each scan.
    trees, leaves, leaf_voxels : int
        Boosted trees, leaves of each, and training voxels in a leaf at least.
    """

    scales: tuple[float, ...] = (2.0, 6.0)
    voxels: int = 200_000
    trees: int = 200
    leaves: int = 31
    leaf_voxels: int = 50
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"voxels": 20_000, "trees": 60}}


class Reach:
    """Gradient boosting on the voxel's contrasts, smoothings of each, its place in the brain's box and its depth."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.standardiser: Standardiser | None = None
        self.learner = HistGradientBoostingRegressor(
            max_iter=config.trees, max_leaf_nodes=config.leaves, min_samples_leaf=config.leaf_voxels,
            early_stopping=False, random_state=derive(config.seed, "reach") % 2**32,
        )

    def fit(self, cohort: Cohort) -> Self:
        """Learn from voxels of every scan of `cohort`; a draw depends on the seed, subject and session alone."""
        c = self.config
        self.standardiser = c.standardiser(cohort)
        scans = [scan for subject in cohort for scan in subject.scans]
        parts = side_by_side(lambda scan: self._drawn(scan, max(1, c.voxels // len(scans))), scans)
        rows, values = (np.concatenate(part) for part in zip(*parts))
        self.learner.fit(rows, values)
        return self

    def _drawn(self, scan: Scan, share: int) -> tuple[np.ndarray, np.ndarray]:
        c, mask = self.config, scan.mask("brain")
        (target,) = brain_channels(scan.images, (c.target,), mask=mask, standardiser=self.standardiser)
        values = target[mask.data[0].bool()[brain_box(mask)]].numpy()
        order = torch.randperm(len(values), generator=torch_generator(c.seed, "reach", scan.subject, scan.session))
        chosen = order[:share].sort().values.numpy()
        return self._rows(scan.images, mask)[chosen], values[chosen]

    def synthesize(self, contrasts: Mapping[str, Volume], *, mask: Volume) -> Volume:
        """Predict the target inside `mask`, in the target's own intensity unit; 0 outside."""
        inside = mask.data[0].bool()[brain_box(mask)]
        image = torch.zeros(inside.shape)
        image[inside] = torch.from_numpy(self.learner.predict(self._rows(contrasts, mask))).float()
        raw = self.standardiser.invert(self.config.target, mask.crop(brain_box(mask)).with_data(image[None]))
        return on_grid(raw.data[0], mask=mask, step=f"reach of {self.config.target}")

    def _rows(self, contrasts: Mapping[str, Volume], mask: Volume) -> np.ndarray:
        """What the learner is told of each brain voxel, (N, features) float32, in the order of the mask."""
        channels = brain_channels(contrasts, self.config.inputs, mask=mask, standardiser=self.standardiser)
        inside = mask.data[0].bool()[brain_box(mask)]
        blurred = [smoothed(channels, inside, [s / size for size in mask.spacing]) for s in self.config.scales]
        everything = torch.cat([channels, *blurred, places(inside, mask.spacing)])
        return everything[:, inside].T.contiguous().numpy()


def smoothed(channels: torch.Tensor, inside: torch.Tensor, sigmas: Sequence[float]) -> torch.Tensor:
    """Gaussian means over the voxels of a mask only, (C, X, Y, Z), 0 outside it.

    Parameters
    ----------
    channels : torch.Tensor
        (C, X, Y, Z), 0 outside the mask.
    inside : torch.Tensor
        (X, Y, Z) bool.
    sigmas : sequence of float
        SD in voxels along X, Y, Z.
    """
    kernels = tuple(gaussian_kernel(sigma) for sigma in sigmas)
    weight = filter_separable(inside.float()[None, None], kernels)[0]
    return filter_separable((channels * inside)[None], kernels)[0] / weight.clamp(min=1e-6) * inside


def places(inside: torch.Tensor, spacing: Sequence[float]) -> torch.Tensor:
    """Share of the way through the brain's box along X, Y, Z, and distance to the mask's edge in mm, (4, X, Y, Z)."""
    shares = torch.meshgrid(*(torch.linspace(0, 1, n) for n in inside.shape), indexing="ij")
    depth = ndimage.distance_transform_edt(np.pad(inside.numpy(), 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    return torch.stack([*shares, torch.from_numpy(depth).float()])


def room(
    cohort: Cohort, folds: Sequence[FoldLike], *, config: Config, score: Score, strangers: Cohort | None = None,
    noise_free: Mapping[tuple[str, str], Volume] | None = None, only: Sequence[str] = tuple(ROLES), n_jobs: int = 1,
    cache: Cache | None = None,
) -> pd.DataFrame:
    """What each end of the room scores on everybody, by models that never saw them.

    Parameters
    ----------
    cohort : Cohort
    folds : sequence of folds
        The experiment's own: ``name``, ``train_ids``, ``test_ids``. One for a single split.
    config : Config
    score : callable
        The experiment's own: ``score(subject, prediction) -> {metric: value}``, of the first scan.
    strangers : Cohort, optional
        Other simulated people of the same design, more of them: a second reach, fitted once for all folds.
    noise_free : mapping of (subject, session) to Volume, optional
        The target without noise; without it there is no floor.
    only : sequence of str
        Systems of :data:`ROLES`, where not all are asked for.
    n_jobs : int
        Folds worked on side by side; changes no digit.
    cache : Cache, optional

    Returns
    -------
    DataFrame
        Tidy (ids and units left empty), with columns fold and role (:data:`ROLES`); undefined scores are left out.
    """
    for fold in folds:
        check_disjoint(fold.train_ids, fold.test_ids, where=f"room: {fold.name}")
    for name in only:
        known(name, ROLES, "room: only")
    who = [[fold.name, list(fold.train_ids), list(fold.test_ids)] for fold in folds]
    told = None if strangers is None else [strangers.provenance.get("data_hash"), *strangers.ids]
    key = {"config": config.as_dict(), "folds": who, "score": score.__qualname__, "strangers": told, "only": list(only)}
    work = {"cohort": cohort, "folds": folds, "score": score, "n_jobs": n_jobs}
    parts = [kept_tables(
        "room", lambda: {"room": _scores(_makers(config, strangers, only), **work)}, models={}, cohort=cohort, key=key,
        sources=(__name__, score.__module__), cache=cache,
    )["room"]]
    if noise_free and "floor" in only:
        parts.append(_scores({"floor": lambda _: _given(noise_free)}, **work))
    found = stacked(*parts).assign(id="", unit="")
    return found.assign(role=found["system"].map(ROLES))[[*COLUMNS, "fold", "role"]]


def _makers(config: Config, strangers: Cohort | None, only: Sequence[str]) -> dict[str, Maker]:
    c = linear.Config(inputs=config.inputs, target=config.target, normalise=config.normalise, over=config.over)

    def fitted(model: Callable[[], Any]) -> Maker:
        return lambda people: _predictor(model().fit(people))

    line = fitted(lambda: linear.LinearSynthesizer(c))
    makers = {
        "mean": fitted(lambda: linear.LinearSynthesizer(c.changed(inputs=()))), "linear": line,
        "person": lambda people: _levelled(line(people), config.target), "reach": fitted(lambda: Reach(config)),
    }
    if strangers is not None and "reach_tenfold" in only:
        more = makers["reach"](strangers)
        makers["reach_tenfold"] = lambda people: more
    return {name: make for name, make in makers.items() if name in only}


def _predictor(model: Any) -> Predict:
    return lambda scan: model.synthesize(scan.images, mask=scan.mask("brain"))


def _levelled(predict: Predict, target: str) -> Predict:
    return lambda scan: own_level(predict(scan), scan.image(target), scan.mask("brain"))


def _given(images: Mapping[tuple[str, str], Volume]) -> Predict:
    def predict(scan: Scan) -> Volume:
        who = scan.subject, scan.session
        require(
            who in images, "room: noise_free", expected=f"the noise-free image of {'/'.join(who)}", found="none",
            remedy="Give it for every test person.",
        )
        return images[who].with_data(images[who].data * scan.mask("brain").data.bool())

    return predict


def _scores(
    makers: Mapping[str, Maker], cohort: Cohort, folds: Sequence[FoldLike], score: Score, n_jobs: int
) -> pd.DataFrame:
    def of_fold(name: str, fold: FoldLike) -> list[tuple[str, str, str, float, str]]:
        with one_thread():
            predict = makers[name](cohort.subset(fold.train_ids))
            found = {s.id: score(s, predict(s.baseline)) for s in cohort.subset(fold.test_ids)}
        return [(s, name, metric, v, fold.name) for s, values in found.items() for metric, v in values.items()]

    parts = Parallel(n_jobs=n_jobs, prefer="threads")(delayed(of_fold)(n, fold) for n in makers for fold in folds)
    frame = pd.DataFrame(chain(*parts), columns=["subject", "system", "metric", "value", "fold"])
    return frame.dropna(subset="value").reset_index(drop=True)
