"""Agreement of two measurements, and the difference of two groups, over subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nbkit.core.checks import require

LIMITS_OF_AGREEMENT = 1.96


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
