"""From one value per subject to the numbers a table prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nbkit.core.checks import require
from nbkit.core.stats import bootstrap_mean

LIMITS_OF_AGREEMENT = 1.96


@dataclass(frozen=True)
class Summary:
    """A metric over subjects.

    Attributes
    ----------
    mean, sd : float
        Over the subjects that have a value; sd with n − 1, NaN for a single subject.
    low, high : float
        Bootstrap 95 % interval of the mean, by subject.
    n, undefined : int
        Subjects with a value, and subjects for whom the metric is undefined (NaN; a control has no lesion Dice).
    """

    mean: float
    sd: float
    low: float
    high: float
    n: int
    undefined: int


def summarise(values: Sequence[float], *, seed: int = 0) -> Summary:
    """Mean, sd and bootstrap interval of one value per subject.

    Raises
    ------
    NbkitError
        If no subject has a value, or a value is infinite.
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    kept = x[~np.isnan(x)]
    interval = bootstrap_mean(kept, seed=seed)
    sd = float(kept.std(ddof=1)) if kept.size > 1 else np.nan
    return Summary(interval.value, sd, interval.low, interval.high, interval.n, x.size - kept.size)


@dataclass(frozen=True)
class Agreement:
    """Bias of a − b with its 95 % limits of agreement, over n subjects."""

    bias: float
    lower: float
    upper: float
    n: int


def bland_altman(a: Sequence[float], b: Sequence[float]) -> Agreement:
    """Bias and limits of agreement, mean ± 1.96 sd of a − b (Bland and Altman 1986); at least two subjects.

    Raises
    ------
    NbkitError
        If lengths differ, a value is not finite, or there are fewer than two subjects.
    """
    x, y = (np.asarray(v, dtype=np.float64).ravel() for v in (a, b))
    require(
        x.size == y.size > 1 and bool(np.isfinite(x).all() and np.isfinite(y).all()), "bland_altman: a and b",
        expected="finite values of the same two or more subjects", found=f"{x.size} and {y.size} values",
        remedy="Leave out subjects that lack one of the two values.",
    )
    difference = x - y
    bias, spread = float(difference.mean()), LIMITS_OF_AGREEMENT * float(difference.std(ddof=1))
    return Agreement(bias, bias - spread, bias + spread, x.size)


def two_sample_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of Student's t-test of two groups of subjects (equal variances); NaN for fewer than two in one.

    Raises
    ------
    NbkitError
        For a value that is not finite.
    """
    x, y = (np.asarray(v, dtype=np.float64).ravel() for v in (a, b))
    require(
        bool(np.isfinite(x).all() and np.isfinite(y).all()), "two_sample_p: a and b", expected="finite values",
        found="NaN or infinite ones", remedy="Leave out subjects without a value.",
    )
    return float(stats.ttest_ind(x, y).pvalue) if min(x.size, y.size) > 1 else float("nan")
