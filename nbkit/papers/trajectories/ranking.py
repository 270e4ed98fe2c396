"""Who stands where: systems ranked on the same people, and what the ranking cannot tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from nbkit.core.checks import known, require
from nbkit.core.stats import ALPHA, MIN_SUBJECTS, bootstrap_mean, bootstrap_p, holm, paired_difference

BETTER: Mapping[str, str] = {"ssim": "greater", "psnr": "greater"}
"""Of metrics of which more is better; of all others, less is."""
NO_FORECAST = ("hindsight", "floor", "reach", "reach_tenfold")
"""The true follow-up, the same without noise, and what volumes tell a strong learner of their growth."""


def complete(scores: pd.DataFrame) -> pd.DataFrame:
    """People as rows and systems as columns: each person's mean value, of people whom every system has.

    Raises
    ------
    NbkitError
        If there is nobody.
    """
    means = scores.dropna(subset=["value"]).groupby(["subject", "system"], sort=False)["value"].mean().unstack()
    found = means.dropna()
    require(
        len(found) > 0, "standings: scores", expected="a person whom every system has", found="none",
        remedy=f"Leave out the system with the fewest values: {means.notna().sum().idxmin()}.",
    )
    return found


def standings(scores: pd.DataFrame, *, control: str, seed: int = 0) -> pd.DataFrame:
    """Systems by their mean over people, best first, and what paired differences say of it.

    A difference counts as told apart when its bootstrap 95 % interval over people excludes zero and its p after Holm's
    correction over the systems is below 0.05, with six people or more: the rule of the verdicts.

    Parameters
    ----------
    scores : DataFrame
        Columns "setting", "metric", "subject", "system" and "value"; NO_FORECAST are left out. A person counts once, by
        the mean over his rows with a value, and only if every system has one. More is better of :data:`BETTER`.
    control : str
        The system that the others owe a difference from.
    seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        One row per setting, metric and system, best first: "mean", "low", "high", "people"; "gain", "gain_low",
        "gain_high" and "p": how much better than the control (negative: worse); "against control" ("better", "worse"
        or "not told apart"; the control itself "–"); "tied": not told apart from the first.

    Raises
    ------
    NbkitError
        For an unknown control, or no person whom all systems have.
    """
    known(control, scores["system"].unique(), "standings: control")
    forecasts = scores[~scores["system"].isin(NO_FORECAST)]
    tables = [
        _standing(complete(part), metric, control, seed).assign(setting=setting, metric=metric)
        for (setting, metric), part in forecasts.groupby(["setting", "metric"], sort=False)
    ]
    return pd.concat(tables, ignore_index=True)


def beaten(scores: pd.DataFrame, entrants: Sequence[str], systems: Sequence[str], *, seed: int = 0) -> pd.DataFrame:
    """How many of `systems` each entrant is better than, told apart by the rule of :func:`standings`.

    Holm's correction is over all pairs of an entrant and a system on a measure.

    Returns
    -------
    DataFrame
        Columns metric, system (the entrant), beats, and of (systems that have this measure).
    """
    rows = []
    for metric, part in scores.groupby("metric", sort=False):
        sign = 1.0 if BETTER.get(metric) == "greater" else -1.0
        values = sign * complete(part[part["system"].isin([*entrants, *systems])])
        pairs = [(one, other) for one in entrants for other in systems if {one, other} <= set(values)]
        gains = [paired_difference(values[one], values[other], seed=seed) for one, other in pairs]
        chance = holm([bootstrap_p(values[one], values[other], seed=seed) for one, other in pairs])
        better = [one for (one, _), gain, p in zip(pairs, gains, chance, strict=True)
                  if p < ALPHA and gain.low > 0 and gain.n >= MIN_SUBJECTS]
        met = [one for one, _ in pairs]
        rows += [(metric, one, better.count(one), met.count(one)) for one in dict.fromkeys(met)]
    return pd.DataFrame(rows, columns=["metric", "system", "beats", "of"])


def _standing(values: pd.DataFrame, metric: str, control: str, seed: int) -> pd.DataFrame:
    sign = 1.0 if BETTER.get(metric) == "greater" else -1.0
    order = (sign * values.mean()).sort_values(ascending=False, kind="stable").index
    values = values[order]
    means = pd.DataFrame([bootstrap_mean(values[system], seed=seed) for system in order])
    means = means.rename(columns={"value": "mean", "n": "people"})
    gains = _differences(sign * values, control, seed)
    words = np.where(gains["apart"], np.where(gains["gain"] > 0, "better", "worse"), "not told apart")
    said = {"against control": np.where(order == control, "–", words)}
    tied = ~_differences(sign * values, order[0], seed)["apart"]
    return pd.concat([means, gains.drop(columns="apart")], axis=1).assign(system=order, tied=tied, **said)


def _differences(values: pd.DataFrame, reference: str, seed: int) -> pd.DataFrame:
    """Gain of each system over the reference with its interval, p after Holm, and whether it is told apart."""
    against = values[reference]
    rows = pd.DataFrame([paired_difference(values[system], against, seed=seed) for system in values])
    rows = rows.drop(columns="n").set_axis(["gain", "gain_low", "gain_high"], axis=1)
    others = values.columns != reference
    rows["p"] = 1.0
    rows.loc[others, "p"] = holm([bootstrap_p(values[system], against, seed=seed) for system in values.columns[others]])
    outside = (rows["gain_low"] > 0) | (rows["gain_high"] < 0)
    return rows.assign(apart=others & outside & (rows["p"] < ALPHA) & (len(values) >= MIN_SUBJECTS))
