"""Who learns and who is asked, and the networks of Table 1: of the notebook and of the weights that come with it."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd

from nbkit.core.protocols import Cohort
from nbkit.core.tidy import tidy
from nbkit.data.slices import PROFILE_SLICES, sliced
from nbkit.data.splits import folds
from nbkit.papers.daninet.config import VARIANTS, Config
from nbkit.papers.daninet.daninet import DaniNet
from nbkit.training.fitted import fitted, is_fitted

NETWORKS = tuple(name for name in VARIANTS if "T" not in name)
"""Columns of Table 1 that are trained; the others tune one of them to the person."""


def in_slices(people: Cohort, *, profile: str, seed: int) -> tuple[Cohort, Cohort, Cohort]:
    """Volumes as slices of the profile: everybody, those who learn, and the rest, one split by subject."""
    slices = sliced(people, **PROFILE_SLICES[profile])
    split = folds(slices, 2 if profile == "smoke" else 3, seed=seed)[0]
    return slices, slices.subset(split.train_ids), slices.subset(split.test_ids)


def network(name: str, profile: str, **options: Any) -> DaniNet:
    """One of :data:`NETWORKS` before it learns; `options` are seed and device."""
    return DaniNet(Config.variant(name, profile, **options).changed(transfer=False))


def configurations(train: Cohort, *, profile: str, **options: Any) -> tuple[dict[str, DaniNet], pd.DataFrame]:
    """The eight columns of Table 1, fitted, and the mean seconds a network took, no row where one was there before."""
    nets = {name: network(name, profile, **options) for name in NETWORKS}
    read, began = any(is_fitted(net, train) for net in nets.values()), time.perf_counter()
    nets = {name: fitted(net, train) for name, net in nets.items()}
    spent = tidy((time.perf_counter() - began) / len(nets), id="daninet.seconds.training", unit="s")
    kinds = {name: Config.variant(name, profile) for name in VARIANTS}
    by_parts = {(net.config.progression, net.config.clinical): net for net in nets.values()}
    models = {
        name: by_parts[kind.progression, kind.clinical].transferring(kind.transfer) for name, kind in kinds.items()
    }
    return models, spent.iloc[: 0 if read else None]
