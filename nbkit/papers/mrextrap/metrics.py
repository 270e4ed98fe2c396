"""How straight volumes run, how forecasts meet the truth, and how much of an image its latents explain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from nbkit.core.checks import require
from nbkit.core.protocols import Scan


def straightness(interpolated: pd.DataFrame) -> pd.DataFrame:
    """How straight volumes are along each interpolation, one row per person, way and structure.

    Returns
    -------
    DataFrame
        "subject", "way", "structure"; "middle_mm3", the volume half-way, and what it should be: "mean_mm3" of the two
        ends of the interpolation, "chord_mm3" of the two real scans; "bend_pct", the largest distance from the line
        between the ends in % of their mean; "change_pct", from end to end; "r2", the share of the variation along α
        that this line explains (NaN for no variation).
    """
    rows = []
    for (subject, way, structure), line in interpolated.groupby(["subject", "way", "structure"], sort=False):
        alpha, volume = line["alpha"].to_numpy(), line["mm3"].to_numpy()
        chord, mean = volume[0] + alpha * (volume[-1] - volume[0]), (volume[0] + volume[-1]) / 2
        off, varied = volume - chord, np.square(volume - volume.mean()).sum()
        rows.append({
            "subject": subject, "way": way, "structure": structure, "mean_mm3": mean,
            "middle_mm3": float(np.interp(0.5, alpha, volume)),
            "chord_mm3": float(np.interp(0.5, alpha, line["chord_mm3"].to_numpy())),
            "bend_pct": 100 * np.abs(off).max() / mean,
            "change_pct": 100 * (volume[-1] / volume[0] - 1),
            "r2": 1 - np.square(off).sum() / varied if varied > 0 else np.nan,
        })
    return pd.DataFrame(rows)


def agreement(rows: pd.DataFrame) -> pd.DataFrame:
    """How predicted changes meet the true ones, by structure and model, over rows of :func:`forecast_volumes`.

    Returns
    -------
    DataFrame
        "miss (%)", mean absolute and "bias (%)", mean error of the volume; "correlation" of predicted with true change
        over people; "pace", slope of predicted on true change: 1 is right, below it change is damped; "people".
    """
    found = {}
    for key, part in rows.groupby(["structure", "model"], sort=False):
        change = part[["change_pct", "true_change_pct"]].to_numpy().T
        spread = np.cov(change) if len(part) > 1 else np.full((2, 2), np.nan)
        scale = np.sqrt(spread[0, 0] * spread[1, 1])
        found[key] = {
            "miss (%)": part["miss"].mean(), "bias (%)": part["error_pct"].mean(),
            "correlation": spread[0, 1] / scale if scale > 0 else np.nan, "pace": spread[0, 1] / spread[1, 1],
            "people": part["subject"].nunique(),
        }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(["structure", "model"])


def explained_by_latents(model: Any, scan: Scan, *, shift: int = 0) -> float:
    """Share of the variance of the image, averaged over latent cells in the brain, that is linear in the latents.

    Parameters
    ----------
    shift : int
        Cells along the second axis by which latents are moved first: a control in the wrong place.
    """
    z, brain = model.encode(scan), scan.mask("brain").data.float()
    factor = model.space.net.factor
    pad = [side for n in reversed(brain.shape[1:]) for side in (0, -n % factor)]
    image, inside = (
        F.avg_pool3d(F.pad(x.float(), pad)[None], factor)[0, 0]
        for x in (scan.image(model.config.contrast).data, brain)
    )
    where = inside > 0.5
    cells = torch.roll(z, shift, dims=2)[:, where].double().T
    values = image[where].double()
    design = torch.cat([cells, torch.ones(len(cells), 1, dtype=torch.float64)], dim=1)
    left = values - design @ torch.linalg.lstsq(design, values[:, None]).solution[:, 0]
    require(
        bool(values.std() > 0), "explained_by_latents: scan", expected="an image with contrast", found="a constant one",
        remedy="Leave this scan out.",
    )
    share = 1 - left.square().sum() / (values - values.mean()).square().sum()
    return round(float(share), 12)  # the last bits of least squares depend on where in memory the numbers lie
