"""Whether a forecast is as uncertain as it says: intervals made from draws, and how often they hold the truth."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from nbkit.core.checks import closest, require
from nbkit.core.stats import bootstrap_mean

LEVELS = (0.5, 0.8, 0.95)
"""Nominal coverages looked at unless others are asked for."""
COLUMNS = ("subject", "true", "mean", "sd", "count")
"""What a table of forecasts must have: whose, what came true, and mean, SD (n − 1) and number of the draws."""

Table = Mapping[str, Sequence[Any]]
Values = np.ndarray | Sequence[float] | float


def central_interval(mean: Values, sd: Values, *, count: Values, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the central interval that holds one more draw with probability `level`.

    mean ± t · sd · √(1 + 1/count) with Student's t of count − 1 degrees of freedom: exact for normal draws however
    few, where centiles of a dozen draws could not reach 95 %.

    Parameters
    ----------
    mean, sd : float or array
        Of the draws; sd with n − 1.
    count : int or array
        Draws behind them, at least two.
    level : float
        Nominal coverage, in (0, 1).

    Raises
    ------
    NbkitError
        For a level outside (0, 1), or fewer than two draws.
    """
    _check_level(level)
    count = np.asarray(count)
    require(
        bool((count > 1).all()), "central_interval: count", expected="two draws or more", found=count.min(),
        remedy="Draw more futures.",
    )
    half = stats.t.ppf((1 + level) / 2, count - 1) * np.asarray(sd) * np.sqrt(1 + 1 / count)
    return np.asarray(mean) - half, np.asarray(mean) + half


def interval_score(low: Values, high: Values, truth: Values, *, level: float) -> np.ndarray:
    """Width of a central interval, and 2 / (1 − level) times by how much it misses: small is good, in the truth's unit.

    A proper score (Gneiting & Raftery, J Am Stat Assoc 102:359, 2007, Eq. 43): neither too wide nor too narrow an
    interval pays.
    """
    _check_level(level)
    low, high, truth = (np.asarray(x, dtype=np.float64) for x in (low, high, truth))
    return high - low + 2 / (1 - level) * (np.maximum(low - truth, 0) + np.maximum(truth - high, 0))


def coverage(forecasts: Table, *, level: float) -> dict[str, float]:
    """Subject -> share of the forecasts whose central interval of `level` holds the truth; ready to record.

    Parameters
    ----------
    forecasts : mapping of str to sequence, or DataFrame
        Columns "subject" and "true", and of the draws "mean", "sd" (n − 1) and "count"; one entry per forecast.
    level : float

    Raises
    ------
    NbkitError
        For a missing column, or a level outside (0, 1).
    """
    return _by_subject(forecasts, _ends(forecasts, level)[2])


def calibration(
    forecasts: Table, *, levels: Sequence[float] = LEVELS, seed: int = 0
) -> list[dict[str, float]]:
    """One row per level, people counting alike however often they are seen.

    Parameters
    ----------
    forecasts : mapping of str to sequence, or DataFrame
        As for :func:`coverage`.
    levels : sequence of float
    seed : int
        Of the bootstrap over subjects.

    Returns
    -------
    list of dict
        "level", "coverage" with its bootstrap 95 % interval "low" and "high", "people", "forecasts", and mean "width"
        and "score" (:func:`interval_score`) over forecasts.
    """
    rows = []
    for level in levels:
        low, high, inside = _ends(forecasts, level)
        mean = bootstrap_mean([*_by_subject(forecasts, inside).values()], seed=seed)
        score = interval_score(low, high, np.asarray(forecasts["true"]), level=level)
        rows.append({
            "level": level, "coverage": mean.value, "low": mean.low, "high": mean.high, "people": mean.n,
            "forecasts": inside.size, "width": float((high - low).mean()), "score": float(score.mean()),
        })
    return rows


def conformal_factor(forecasts: Table, *, level: float) -> float:
    """Factor on the spread with which intervals of `level` hold this share of truths like these.

    Split conformal prediction with |truth − mean| over the interval's half-width as the score: the factor is the
    (n + 1) · level-th smallest score, the largest where n is too small for the level. Learned on people whom neither
    the forecaster has learned from nor the intervals are judged on, it mends the interval of each level by itself, and
    no outlier decides. The k-th smallest of n holds a new truth with probability k / (n + 1); between two, the factor
    is interpolated, so that the share is met on average and not, as in the reference, from above.

    Parameters
    ----------
    forecasts : mapping of str to sequence, or DataFrame
        As for :func:`coverage`.
    level : float

    References
    ----------
    Lei et al., J Am Stat Assoc 113:1094, 2018 (split conformal; section 5.2, locally weighted).
    """
    low, high, _ = _ends(forecasts, level)
    half = (high - low) / 2
    require(
        bool((half > 0).all()), "conformal_factor: sd", expected="draws that differ", found="a spread of zero",
        remedy="A forecast without uncertainty cannot be mended by a factor.",
    )
    scores = np.abs(np.asarray(forecasts["true"]) - (low + high) / 2) / half
    return float(np.quantile(scores, level, method="weibull"))


def cross_conformal(forecasts: Table, parts: Sequence[Collection[str]], *, level: float) -> np.ndarray:
    """Factor on the spread of every forecast, from :func:`conformal_factor` over the people of the other parts.

    Parameters
    ----------
    forecasts : mapping of str to sequence, or DataFrame
        As for :func:`coverage`, and a column "structure", each mended by itself; of people whom the forecaster has not
        learned from.
    parts : sequence of collection of str
        Subjects, everybody in one part.
    level : float

    Raises
    ------
    NbkitError
        If a subject is in no part, or its structure in no other part.

    References
    ----------
    Vovk, Ann Math Artif Intell 74:9, 2015.
    """
    _check_columns(forecasts)
    columns = {name: np.asarray(forecasts[name]) for name in (*COLUMNS, "structure")}
    subjects, structures = (columns[name].astype(str) for name in ("subject", "structure"))
    factor = np.full(subjects.size, np.nan)
    for part in parts:
        inside = np.isin(subjects, [*part])
        for structure in np.unique(structures[inside]):
            here = structures == structure
            others = {name: values[here & ~inside] for name, values in columns.items()}
            factor[here & inside] = conformal_factor(others, level=level) if others["true"].size else np.nan
    lost = np.unique(subjects[np.isnan(factor)]).tolist()
    require(
        not lost, "cross_conformal: parts", expected="everybody in one of two parts or more",
        found=f"nobody to learn from for {', '.join(lost[:3])}",
        remedy="Take the test_ids of nbkit.data.splits.folds over these people.",
    )
    return factor


def _ends(forecasts: Table, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Low and high ends, and whether (1.0 or 0.0) the truth lies between them, one per forecast."""
    _check_columns(forecasts)
    true, mean, sd, count = (np.asarray(forecasts[name]) for name in COLUMNS[1:])
    low, high = central_interval(mean, sd, count=count, level=level)
    return low, high, ((low <= true) & (true <= high)).astype(float)


def _by_subject(forecasts: Table, values: np.ndarray) -> dict[str, float]:
    subjects = np.asarray(forecasts["subject"]).astype(str)
    return {s: float(values[subjects == s].mean()) for s in dict.fromkeys(subjects.tolist())}


def _check_columns(forecasts: Table) -> None:
    for name in COLUMNS:
        require(
            name in forecasts and len(forecasts[name]) > 0, "forecasts",
            expected=f"rows with {', '.join(COLUMNS)}", found=f"no {name}",
            remedy=f"{closest(name, forecasts)}Rename or add the column.",
        )


def _check_level(level: float) -> None:
    require(
        0 < level < 1, "level", expected="a nominal coverage between 0 and 1", found=level,
        remedy="Use for example 0.8.",
    )
