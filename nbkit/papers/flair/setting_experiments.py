"""What ran beside what was published: the people, the settings of each model, and the choices that the paper leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from nbkit.core.protocols import Cohort, Subject
from nbkit.core.tidy import stacked, tidy
from nbkit.papers.flair.conv_synthesis import Config
from nbkit.papers.flair.experiments import TITLES, gain_table
from nbkit.training.crossval import FoldLike, Result

OTHER = {"image": "brain", "brain": "image"}
VOXELS = {"image": "all of the image, as the paper did", "brain": "those of the brain"}


def one_by_one(**settings: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Settings changed alone, by name and value: ``width=(32, 96)`` gives "width32" and "width96"."""
    return {f"{name}{value}": {name: value} for name, values in settings.items() for value in values}


def ran(cohort: Cohort, results: Mapping[str, Result], folds: Sequence[FoldLike]) -> pd.DataFrame:
    """:func:`cohort_numbers` and :func:`settings`."""
    return stacked(cohort_numbers(cohort), settings(results, folds, cohort.subjects[0].id))


def split_sizes(folds: Sequence[Any], systems: int) -> list[str]:
    """Who trains and who is tested, fold by fold, as sentences."""
    sizes = [f"{f.name}: {len(f.train_ids)} train, {len(f.test_ids)} are tested" for f in folds]
    return [f"{folds[0].kind}; {systems} systems", *sizes]


def cohort_numbers(cohort: Cohort) -> pd.DataFrame:
    """Section 2.2.3, who was scanned: people, women, ages and grid, as they stand in `cohort`."""
    kinds = {"patient": "MS", "control": "HC"}
    groups = {group: [s for s in cohort if s.diagnosis == kind] for group, kind in kinds.items()}
    grid = cohort.subjects[0].baseline.mask("brain")
    found = {"subjects": len(cohort), **{f"{group}s": len(people) for group, people in groups.items()}}
    for group, people in groups.items():
        found |= _group(group, people)
    found |= dict(zip(("size_x", "size_y", "size_z"), grid.shape))
    found |= {"spacing_xy": grid.spacing[0], "spacing_z": grid.spacing[2]}
    units = {"subjects": "people", "patients": "people", "controls": "people"}
    return _numbers("data", found, units)


def _group(group: str, people: Sequence[Subject]) -> dict[str, float]:
    ages, sexes = [s.baseline.age for s in people if s.baseline.age is not None], [s.sex for s in people if s.sex]
    women = {f"{group}_women": sexes.count("F")} if sexes else {}
    return women | ({f"{group}_age": np.mean(ages), f"{group}_age_sd": np.std(ages, ddof=1)} if len(ages) > 1 else {})


def settings(results: Mapping[str, Result], folds: Sequence[FoldLike], subject: str) -> pd.DataFrame:
    """Section 2.2.3, what was set: read from the networks and forests that were fitted, not from what was asked for.

    `subject` is anybody of the cohort: the models are those that predicted them.
    """
    fcn, rf, mp, mlp, unet = (results[name].model_for(subject) for name in ("fcn", "rf", "mp", "mlp", "unet"))
    hidden, neurons = (_convolutions(model.net)[:-1] for model in (fcn, mlp))
    down, up = (list(_named(unet.net, part)) for part in ("down", "up"))
    sizes, c = sorted(len(fold.test_ids) for fold in folds), fcn.config
    return _numbers("settings", {
        "layers": len(hidden), "kernel": hidden[0].kernel_size[0], "filters": hidden[0].out_channels,
        "learning_rate": c.learning_rate, "momentum": c.momentum, "batch": c.batch, "strip": c.strip,
        "patience": c.patience, "folds": len(folds), "largest_fold": sizes[-1], "smallest_fold": sizes[0],
        "rf_trees": len(rf.trees["counts"]), "rf_patch": 2 * rf.config.radius + 1, "mp_patch": 2 * mp.config.radius + 1,
        "mlp_layers": len(neurons), "mlp_neurons": neurons[0].out_channels, "unet_blocks": len(down),
        "unet_first": _convolutions(down[0])[0].out_channels, "unet_up_convs": len(_convolutions(up[0])),
        "unet_bottleneck": _convolutions(next(_named(unet.net, "bottleneck")))[0].out_channels,
    }, {})


def _convolutions(net: nn.Module) -> list[nn.Conv3d]:
    return [module for module in net.modules() if isinstance(module, nn.Conv3d)]


def _named(net: nn.Module, part: str):
    found = next(module for name, module in net.named_modules() if name.split(".")[-1] == part)
    return iter(found) if isinstance(found, nn.ModuleList) else iter((found,))


def _numbers(place: str, found: Mapping[str, float], units: Mapping[str, str]) -> pd.DataFrame:
    return stacked(*[
        tidy(value, id=f"wei2019.{place}.{name}", metric=name, unit=units.get(name, ""))
        for name, value in found.items()
    ])


def beside(frame: pd.DataFrame, ledger: Mapping[str, Any]) -> pd.DataFrame:
    """What is printed beside what `frame` has, and what we make of it.

    `ledger` gives each id a record with row, value, unit and note (``run.paper.ids``).
    """
    rows = [(ledger[id].row, ledger[id].value, value, ledger[id].unit, ledger[id].note)
            for id, value in zip(frame["id"], frame["value"], strict=True)]
    return pd.DataFrame(rows, columns=["", "printed", "this run", "unit", "note"]).set_index("")


LONGER = {"slim": 1, "epochs": 60, "crops_per_epoch": 80}
"""The published width and about five times as many updates as at laptop: half an hour for five folds on one core."""
LONG = {"longer": LONGER, "longer_own": {**LONGER, "normalise": "subject"}}
"""Trained so, and so with every image scaled by itself."""
LONGER_FOR = (("ms_phantom", "laptop"),)
"""Cohorts and profiles of which such weights come with the project."""


def alternatives(fcn: Config, cohort: str = "", profile: str = "") -> dict[str, dict[str, Any]]:
    """The other way at each open point, one setting changed each; :func:`choices` says what it is.

    Those of :data:`LONG` change several at once, where weights of a cohort and a profile come with the project.
    """
    return (LONG if (cohort, profile) in LONGER_FOR else {}) | {
        "own_scale": {"normalise": "subject"}, "scale_over": {"over": OTHER[fcn.over]},
        "loss_over": {"loss_over": OTHER[fcn.loss_over]}, "relu": {"output": "relu"}, "last": {"keep": "last"},
    }


def choices(fcn: Config, cohort: str = "", profile: str = "") -> pd.DataFrame:
    """What this run chose where the paper is open or was left, by name of the variant that takes the other way."""
    watched = f"{fcn.validation_fraction:.0%} of the training subjects, taken out of the four folds"
    rows = {
        "watch_test": ("whom early stopping watches", watched, "the test fold, as the paper did"),
        "own_scale": ("z-scores of what", "all training images of a sequence", "each image by itself"),
        "scale_over": ("voxels of the z-scores", VOXELS[fcn.over], VOXELS[OTHER[fcn.over]]),
        "loss_over": ("voxels seen and in the loss", VOXELS[fcn.loss_over], VOXELS[OTHER[fcn.loss_over]]),
        "relu": (
            "ReLU after the output layer (Sec. 2.2.1)", "no: half of the z-scores are negative",
            "yes, as the text reads",
        ),
        "last": ("weights kept", "of the lowest validation error", "of the last epoch"),
    }
    if (cohort, profile) in LONGER_FOR:
        ours, other = (_size(c) for c in (fcn, fcn.changed(**LONGER)))
        told = [f"{size['feature maps of a hidden layer']} maps, {size['most epochs']} epochs of {size['an epoch']}"
                for size in (ours, other)]
        rows["longer"] = ("width and training", *told)
        rows["longer_own"] = (*rows["longer"][:2], f"{told[1]}; z-scores of each image by itself")
    return pd.DataFrame(rows, index=["choice", "this run", "the other way"]).T


def sizes(fcn: Config) -> pd.DataFrame:
    """How large the network is and how long it trains: as published, and in this run."""
    return pd.DataFrame({"published": _size(Config()), "this run": _size(fcn)}).T


def _size(c: Config) -> dict[str, Any]:
    crops = f"{c.crops_per_epoch} crops of {'×'.join(map(str, c.crop))}" if c.crop else "every image"
    return {
        "feature maps of a hidden layer": c.width // c.slim, "most epochs": c.epochs, "an epoch": crops,
        "learning rate": c.learning_rate,
    }


def about_gain(scores: pd.DataFrame) -> list[str]:
    """What the errors say about each person's own level, the room that is left, and training, as sentences."""
    rows = gain_table(scores)
    said = rows.map("{:.3f}".format)
    (fcn, fcn_own), (forest, forest_own), (line, line_own) = said.loc[["fcn", "rf", "linear"]].to_numpy()
    own, own_own = said.loc[TITLES["own_scale"]]
    reach = rows.index.intersection([TITLES["reach"], TITLES["reach_tenfold"]])
    best = said.loc[rows.loc[reach].iloc[:, 0].idxmin()].iloc[0]
    noise_free = said.reindex([TITLES["floor"]]).iloc[:, 0].dropna()
    floor = [f"The noise-free truth itself has {error}." for error in noise_free]
    return [
        f"Scaled over the cohort, the FCN's error is {fcn} z², the forest's {forest}, linear regression's {line}.",
        f"With each person's own scale and offset taken out they are {fcn_own}, {forest_own} and {line_own}: the rest "
        "is a level that no input carries, gain above all.",
        f"The FCN on images scaled by themselves has {own}, and {own_own} with the level taken out.",
        f"Boosting on the voxel, its surroundings and its place reaches {best}.", *floor,
        "A network that loses to linear regression is short of training, or has learned the levels of its few people.",
    ]
