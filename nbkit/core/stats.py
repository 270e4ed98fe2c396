"""Statistics over subjects: means, intervals, paired tests. Made once, used by metrics and verdicts alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nbkit.core.checks import require

ALPHA = 0.05
MIN_SUBJECTS = 6
"""With five subjects the smallest two-sided p that any sign pattern can give is 2/2⁵ = 0.06."""

@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval and the number of subjects behind it."""

    value: float
    low: float
    high: float
    n: int


def _finite(values: Sequence[float], where: str) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64).ravel()
    require(
        x.size > 0 and np.isfinite(x).all(), where, expected="finite values, at least one",
        found=f"{x.size} values, {int((~np.isfinite(x)).sum())} not finite",
        remedy="Leave out subjects without a value before taking statistics.",
    )
    return x


def bootstrap_mean(values: Sequence[float], *, seed: int = 0, draws: int = 10_000) -> Interval:
    """Mean with the percentile bootstrap 95 % interval over subjects (Efron 1979).

    One value gives an interval of zero width: nothing is known about its spread.
    """
    x = _finite(values, "bootstrap_mean: values")
    rows = np.random.default_rng(seed).integers(0, x.size, size=(draws, x.size))
    low, high = np.percentile(x[rows].mean(axis=1), [2.5, 97.5])
    return Interval(float(x.mean()), float(low), float(high), x.size)


def paired_difference(a: Sequence[float], b: Sequence[float], *, seed: int = 0) -> Interval:
    """Mean of a − b over the same subjects, with its bootstrap 95 % interval."""
    x, y = _finite(a, "paired_difference: a"), _finite(b, "paired_difference: b")
    require(
        x.size == y.size, "paired_difference: b", expected=f"{x.size} values, one per subject", found=y.size,
        remedy="Compare two systems on the same subjects in the same order.",
    )
    return bootstrap_mean(x - y, seed=seed)


def paired_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of the paired t-test (the test the papers use); 1.0 for fewer than two subjects or no spread."""
    d = _finite(a, "paired_p: a") - _finite(b, "paired_p: b")
    if d.size < 2 or np.ptp(d) == 0:
        return 1.0 if d.size < 2 or d[0] == 0 else 0.0
    return float(stats.ttest_1samp(d, 0.0).pvalue)


def bootstrap_p(a: Sequence[float], b: Sequence[float], *, seed: int = 0, draws: int = 10_000) -> float:
    """Two-sided bootstrap p of a mean paired difference of zero, never below 1/draws."""
    d = _finite(a, "bootstrap_p: a") - _finite(b, "bootstrap_p: b")
    rows = np.random.default_rng(seed).integers(0, d.size, size=(draws, d.size))
    means = d[rows].mean(axis=1)
    tail = min((means <= 0).mean(), (means >= 0).mean())
    return float(min(1.0, max(2 * tail, 1 / draws)))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjusted p-values (Holm 1979), in the order given."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    steps = (p.size - np.arange(p.size)) * p[order]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
