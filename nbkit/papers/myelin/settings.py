"""What the thesis says of its settings, read from the systems that ran: networks as built, epochs as counted.

Nothing here is a constant of the paper: a run with other settings gives other numbers, at every profile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from torch import nn

from nbkit.core.protocols import Cohort
from nbkit.core.tidy import stacked, tidy
from nbkit.papers.myelin.inputs import POSES
from nbkit.papers.myelin.metrics import CONTROLS
from nbkit.papers.myelin.networks import FlexibleSelfAttention, SeededDropout
from nbkit.papers.myelin.tiles import corners


_TWO_WAYS = {"zscores": ("image", "brain"), "head": ("leaky", "linear"), "patch_loss": ("sum", "mean")}
"""Choices in which small profiles leave the thesis: the published way, and the other one."""


def other_ways(config: Any) -> dict[str, dict[str, str]]:
    """By name of a choice, the change that takes a :class:`~nbkit.papers.myelin.Config` from its way to the other."""
    return {name: {name: ways[getattr(config, name) == ways[0]]} for name, ways in _TWO_WAYS.items()}


def chapter_3(results: Mapping[str, Any], people: Cohort, splits: Sequence[Any]) -> pd.DataFrame:
    """Sections 3.2.4 to 3.3.2, of the systems "refiner" and "dnn" of the first fold.

    Parameters
    ----------
    results : mapping
        Of :func:`nbkit.training.crossval.cross_validate`.
    splits : sequence of folds
    """
    model, (net, dnn) = _model(results["refiner"], splits), (_net(results[n], splits) for n in ("refiner", "dnn"))
    layers = [m for m in dnn if isinstance(m, nn.Conv3d)]
    tested = [[people.subject(s).diagnosis in CONTROLS for s in fold.test_ids] for fold in splits]
    sizes, controls = [len(fold) for fold in tested], [sum(fold) for fold in tested]
    brain = people.subject(splits[0].test_ids[0]).baseline.mask("brain")
    return _frame("wei2019m", {
        **_training(results["refiner"], model), **_unet(net), "dnn.layers": len(layers) - 1,
        "dnn.maps": layers[0].out_channels, "dnn.kernel": layers[0].kernel_size[0], "folds": len(splits),
        "folds.least": min(sizes), "folds.most": max(sizes), "folds.controls.least": min(controls),
        "folds.controls.most": max(controls), **{f"image.{axis}": n for axis, n in zip("xyz", brain.shape)},
        "image.voxel": brain.spacing[0], "poses": len(_poses(model)) - 1,
    })


def chapter_4(results: Mapping[str, Any], people: Cohort, splits: Sequence[Any]) -> pd.DataFrame:
    """Sections 4.2.6 and 4.3.1, of "refiner_cfsagan" of the first fold; an overlap only where patches have one."""
    result = results["refiner_cfsagan"]
    model, net = _model(result, splits), _net(result, splits)
    c, poses = model.config, _poses(model)
    attention = next((m for m in net.modules() if isinstance(m, FlexibleSelfAttention)), None)
    found = {
        **_training(result, model), "folds": len(splits), "validation": c.validation, "kernel": _kernel(net.down),
        "maps": net.first[0].out_channels, "levels": len(net.down), "slope": _slope(net), "dropout": _dropout(net),
        "rotations": sum(pose.quarters > 0 for pose in poses), "scale.up": max(pose.zoom for pose in poses),
        "scale.down": min(pose.zoom for pose in poses), "smoothing": c.label_smoothing, "critic_steps": c.critic_steps,
        "voxel": people.subject(splits[0].test_ids[0]).baseline.mask("brain").spacing[0],
    }
    if attention is not None:
        found["attention.share"] = attention.key.in_channels / attention.key.out_channels
    if c.crop:
        found["patch"] = c.crop[0]
    if c.crop and c.crops == "grid":
        second = sorted({x for x, _, _ in corners([2 * n for n in c.crop], c.crop)})[1]
        found["overlap"] = 1 - second / c.crop[0]
    return _frame("wei2020", found)


def _frame(prefix: str, found: Mapping[str, float]) -> pd.DataFrame:
    return stacked(*(tidy(value, id=f"{prefix}.settings.{name}", metric=name) for name, value in found.items()))


def _model(result: Any, splits: Sequence[Any]) -> Any:
    return result.model_for(splits[0].test_ids[0])


def _net(result: Any, splits: Sequence[Any]) -> nn.Module:
    """The generator of the first stage."""
    return _model(result, splits).net.stages[0]


def _training(result: Any, model: Any) -> dict[str, float]:
    """Epochs that were counted, and learning rates."""
    told = next(iter(result.histories.values()))
    rates = {"sketcher": model.config.learning_rate, "refiner": model.config.refiner_learning_rate}
    epochs = {"epochs.sketcher": len(told["sketcher"]["loss"]), "epochs.refiner": len(told["refiner1"]["loss"])}
    return epochs | {f"learning_rate.{stage}": rate for stage, rate in rates.items()}


def _unet(net: nn.Module) -> dict[str, float]:
    maps = net.pairs[0][0][0].out_channels
    return {"maps": maps, "levels": len(net.down), "kernel": _kernel(net.pairs), "slope": _slope(net),
            "dropout": _dropout(net)}


def _kernel(part: nn.Module) -> int:
    """The largest edge of a kernel in a part of a network."""
    return max(m.kernel_size[0] for m in part.modules() if isinstance(m, nn.Conv3d))


def _slope(net: nn.Module) -> float:
    return next(m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU))


def _dropout(net: nn.Module) -> float:
    return max(m.rate for m in net.modules() if isinstance(m, SeededDropout))


def _poses(model: Any) -> Sequence[Any]:
    return POSES if model.config.augment else POSES[:1]
