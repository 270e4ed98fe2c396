"""The star table of InBrainSyn's article with ours beside: ranks of sharpness, accuracy and speed, and stars by a rule.

The article gives stars to BrLP and CounterSynth (sharpness, anatomical accuracy, computational speed) and says of none
how it came about. The rule, fixed before any result, for means over people from one scan:

- **Sharpness.** Gradient energy over that of the true visit, or its inverse where there is more than the truth has:
  grain is not detail. Five times that, rounded up.
- **Accuracy.** The share of the error of no change that a system takes away, of what reading the true visit by the same
  segmenter would take away; mean of lateral ventricles and hippocampus. Five times that, rounded up, at least one.
- **Speed.** Seconds per predicted scan in the same run: five stars for the fastest, one less for every full factor of
  ten, at least one.

Ranks go by the same numbers. Controls have neither, nor has BrLP's single sample.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from nbkit.core.checks import require
from nbkit.core.tidy import stacked, tidy, where
from nbkit.papers.trajectories.head_to_head import CONTROLS, PLACES
from nbkit.papers.trajectories.ranking import NO_FORECAST

MOST = 5
_NO_STARS = (*CONTROLS, *NO_FORECAST, "brlp_one_sample")


def stars(scored: pd.DataFrame, seconds: pd.DataFrame) -> pd.DataFrame:
    """Quality (0 to 1; of speed the factor to the fastest, inverted), rank and stars of every system from one scan.

    Parameters
    ----------
    scored : DataFrame
        Tidy, as :func:`~nbkit.papers.trajectories.head_to_head.tidy_scores` gives it.
    seconds : DataFrame
        Tidy, with the metric "seconds" (:func:`~nbkit.papers.trajectories.head_to_head.cost_scores`).

    Returns
    -------
    DataFrame
        Tidy, "metric" the quality ("sharpness", "accuracy", "speed"; one that was not measured is left out) and "value"
        the stars, with the columns "quality", "measured" (the ratio of gradient energies, the mean error in %, the
        seconds) and "rank" (1 the best).
    """
    one = where(scored, setting="one")
    measured = {
        "sharpness": _means(where(one, metric="sharpness")), "accuracy": _error(one),
        "speed": _means(where(seconds, metric="seconds", setting="one")),
    }
    return stacked(*(_starred(name, values) for name, values in measured.items() if len(values)))


def _means(rows: pd.DataFrame) -> pd.Series:
    return rows.groupby("system", sort=False)["value"].mean()


def _error(one: pd.DataFrame) -> pd.Series:
    """Mean error of the two structures (%), read alike."""
    rows = one[one["metric"].isin(PLACES) & (one["reading"] == "alike") & one["unit"].str.startswith("% of the true")]
    return rows.groupby(["system", "metric"], sort=False)["value"].mean().groupby("system", sort=False).mean()


def _starred(name: str, measured: pd.Series) -> pd.DataFrame:
    quality = _quality(name, measured)
    quality = quality.drop(index=list(_NO_STARS), errors="ignore")
    frames = [
        tidy(
            _stars(name, value), id=f"inbrainsyn.stars.{name}.{system}", unit="stars", system=system, metric=name,
            quality=value, measured=measured[system],
        ) for system, value in quality.items()
    ]
    return stacked(*frames).assign(rank=quality.rank(ascending=False, method="min").astype(int).to_numpy())


def _quality(name: str, measured: pd.Series) -> pd.Series:
    if name == "sharpness":
        return np.minimum(measured, 1 / measured)
    if name == "speed":
        forecasts = measured.drop(index=list(_NO_STARS), errors="ignore")
        return forecasts.min() / forecasts
    ends = {"no_change", "hindsight"}
    require(
        ends <= set(measured.index), "stars: accuracy", expected="errors of no_change and of hindsight",
        found=sorted(measured.index), remedy="Compare both controls on the same people.",
    )
    return (measured["no_change"] - measured) / (measured["no_change"] - measured["hindsight"])


def _stars(name: str, quality: float) -> int:
    found = MOST - np.floor(-np.log10(quality) + 1e-9) if name == "speed" else np.ceil(MOST * quality - 1e-9)
    return int(np.clip(found, 1, MOST))
