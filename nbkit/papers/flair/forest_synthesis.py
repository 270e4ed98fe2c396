"""FLAIR synthesis by a random forest on small patches.

Jog A. et al., "Random forest FLAIR reconstruction from T1, T2, and PD-weighted MRI", ISBI 2014, as compared with in
Wei's thesis, chapter 2: 60 trees, 3×3×3 patches of all inputs, regressing the FLAIR of the centre voxel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.tree._tree import NODE_DTYPE, Tree

from nbkit.core.checks import require
from nbkit.core.protocols import Cohort
from nbkit.core.seeds import derive
from nbkit.papers.synthesis.patches import Contrasts, PatchSynthesizer
from nbkit.training.checkpoint import check_tensors

_DAMAGED = "The file is damaged or was saved with other inputs: save the model again."


@dataclass(frozen=True)
class Config(Contrasts):
    """Settings; the thesis states the number of trees and the patch size. Trees do not notice how inputs are scaled.

    Attributes
    ----------
    trees : int
        60 (thesis 2.2.3).
    radius : int
        Of the patch: 1 is 3×3×3 over all inputs (thesis 2.2.3).
    min_samples_leaf : int
        Fewest training voxels in a leaf. Our choice; the thesis does not say.
    max_features : float
        Share of the features tried at each split. Our choice, Breiman's for regression.
    train_voxels : int
        Training voxels, an equal share of each scan. Our choice; the thesis does not say.
    n_jobs : int or None
        Trees grown at a time; None leaves it to joblib. Changes no number.
    """

    trees: int = 60
    radius: int = 1
    min_samples_leaf: int = 5
    max_features: float = 1 / 3
    train_voxels: int = 1_000_000
    n_jobs: int | None = None
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"train_voxels": 1_000}, "laptop": {"train_voxels": 5_000},
        "overnight": {"train_voxels": 20_000},
    }


def flattened(forest: RandomForestRegressor) -> dict[str, torch.Tensor]:
    """The trees of a fitted scikit-learn forest as plain arrays, laid end to end.

    Returns
    -------
    dict of str to torch.Tensor
        "counts" (trees,) int64, nodes of each tree; "left" and "right" (nodes,) int64, child for values up to the
        threshold and for larger ones, counted within the tree, −1 at leaves; "feature" (nodes,) int64, the one
        compared, −2 at leaves; "threshold" and "value" (nodes,) float64, the value counting at leaves.
    """
    trees = [estimator.tree_ for estimator in forest.estimators_]
    parts = {
        "counts": [[tree.node_count for tree in trees]], "left": [tree.children_left for tree in trees],
        "right": [tree.children_right for tree in trees], "feature": [tree.feature for tree in trees],
        "threshold": [tree.threshold for tree in trees], "value": [tree.value[:, 0, 0] for tree in trees],
    }
    return {name: torch.from_numpy(np.concatenate(part)) for name, part in parts.items()}


def rebuilt(trees: Mapping[str, torch.Tensor], features: int) -> list[Tree]:
    """Inverse of :func:`flattened`: trees that scikit-learn walks, for rows of `features` values."""
    nodes, values = np.zeros(len(trees["value"]), dtype=NODE_DTYPE), trees["value"].numpy()
    names = {"left_child": "left", "right_child": "right", "feature": "feature", "threshold": "threshold"}
    for theirs, ours in names.items():
        nodes[theirs] = trees[ours].numpy()
    ends = trees["counts"].cumsum(0).tolist()
    spans = [slice(end - count, end) for end, count in zip(ends, trees["counts"].tolist())]
    return [_tree(nodes[span], values[span], features) for span in spans]


def _tree(nodes: np.ndarray, values: np.ndarray, features: int) -> Tree:
    tree = Tree(features, np.ones(1, dtype=np.intp), 1)
    tree.__setstate__({
        "max_depth": 0, "node_count": len(nodes), "nodes": nodes, "values": np.ascontiguousarray(values)[:, None, None],
    })
    return tree


class ForestSynthesizer(PatchSynthesizer):
    """A :class:`~nbkit.core.protocols.ModalitySynthesizer` around a random forest."""

    settings = Config
    called = "random forest synthesis"
    trees: Mapping[str, torch.Tensor]
    _walkers: list[Tree]

    def _learn(self, cohort: Cohort) -> None:
        c = self.config
        parts = zip(*self.reader.training(cohort, count=c.train_voxels, seed=c.seed))
        rows, values = (torch.cat(part).numpy() for part in parts)
        forest = RandomForestRegressor(
            c.trees, min_samples_leaf=c.min_samples_leaf, max_features=c.max_features, n_jobs=c.n_jobs,
            random_state=derive(c.seed, "forest") % 2**32,
        )
        self._keep(flattened(forest.fit(rows, values)))

    def _keep(self, trees: Mapping[str, torch.Tensor]) -> None:
        self.trees, self._walkers = trees, rebuilt(trees, _features(self.config))

    def _predict(self, rows: torch.Tensor) -> torch.Tensor:
        values = rows.numpy()
        return torch.from_numpy(sum(tree.predict(values)[:, 0] for tree in self._walkers) / len(self._walkers))

    def _tensors(self) -> Mapping[str, torch.Tensor]:
        return self.trees

    def _take(self, tensors: dict[str, torch.Tensor], where: str) -> None:
        _check_fit(tensors, self.config, where)
        self._keep(tensors)


def _features(config: Config) -> int:
    return len(config.inputs) * (2 * config.radius + 1) ** 3


def _check_fit(tensors: Mapping[str, torch.Tensor], config: Config, where: str) -> None:
    """Refuse tensors that are not trees of `config`: scikit-learn follows node numbers unchecked."""
    nodes = len(tensors.get("value", ()))
    shapes = dict.fromkeys(("left", "right", "feature", "threshold", "value"), torch.empty(nodes))
    check_tensors(tensors, {"counts": torch.empty(config.trees), **shapes}, where)
    counts, leaf = tensors["counts"], tensors["left"] == -1
    require(
        int(counts.min()) > 0 and int(counts.sum()) == nodes, f"{where}: weights counts",
        expected=f"trees of {nodes} nodes together", found=int(counts.sum()), remedy=_DAMAGED,
    )
    ends = counts.repeat_interleave(counts)
    itself = torch.arange(nodes) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    ranges = {"left": (itself + 1, ends), "right": (itself + 1, ends), "feature": (0, _features(config))}
    for name, (low, high) in ranges.items():
        inside = (tensors[name] >= low) & (tensors[name] < high)
        require(
            bool((inside | leaf).all()), f"{where}: weights {name}", expected="numbers of nodes below and of features",
            found="numbers out of range", remedy=_DAMAGED,
        )
