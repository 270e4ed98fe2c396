"""How fast and how steadily networks converge, from the errors recorded while they trained (Wei thesis 4.3.3).

Two rules, fixed before any curve was looked at. Speed: the share of all epochs until the error on the people kept for
validation has done nine tenths of its fall from the untrained network to its lowest. Steadiness: the sum of all rises
from one look to the next, over that fall.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nbkit.core.tidy import stacked, tidy

LOSSES = ("l1", "wl1", "nwl1")
DONE = 0.9


def fall(epochs: Sequence[int], errors: Sequence[float]) -> tuple[float, float]:
    """(share of the epochs until nine tenths of the fall, sum of the rises over the fall); NaN where nothing falls.

    `errors` were seen at `epochs`, the first of them before training.
    """
    e = np.asarray(errors, dtype=float)
    whole = e[0] - e.min() if len(e) > 1 else 0.0
    if whole <= 0:
        return np.nan, np.nan
    first = int(np.flatnonzero(e <= e[0] - DONE * whole)[0])
    return epochs[first] / epochs[-1], float(np.diff(e).clip(min=0).sum() / whole)


def curves(results: Mapping[str, Any], networks: Sequence[str] = ("unet", "cgan", "cfsagan")) -> pd.DataFrame:
    """Validation error of every network under each loss, by fold: columns network, setting (loss), fold, epoch, value.

    Parameters
    ----------
    results : mapping
        Of :func:`nbkit.training.crossval.cross_validate`: "unet" (L1), "unet_wl1", "unet_nwl1" and so on.
    """
    rows = [
        (network, loss, fold, epoch, error) for network in networks for loss in LOSSES
        for fold, told in results[network if loss == "l1" else f"{network}_{loss}"].histories.items()
        for epoch, error in zip(told["sketcher"]["epochs"], told["sketcher"]["validation"], strict=True)
    ]
    return pd.DataFrame(rows, columns=["network", "setting", "fold", "epoch", "value"])


def convergence(seen: pd.DataFrame) -> pd.DataFrame:
    """Both rules on every curve of :func:`curves`; the "subject" is a network in a fold."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for (loss, network, fold), rows in seen.groupby(["setting", "network", "fold"], sort=False):
        for metric, value in zip(("epochs", "rises"), fall(list(rows["epoch"]), list(rows["value"])), strict=True):
            found.setdefault((metric, loss), {})[f"{network}, {fold}"] = value
    return stacked(*(
        tidy(values, id=f"wei2020.curves.{metric}.{loss}", unit="fraction", metric=metric, setting=loss)
        for (metric, loss), values in found.items()
    )).dropna(subset="value")
