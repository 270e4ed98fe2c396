"""The three numbers of the TADPOLE challenge for forecasts with a central 50 % interval.

Marinescu et al., TADPOLE Challenge: accurate Alzheimer's disease prediction through crowdsourced forecasting of future
data, PRIME 2019, LNCS 11843:1-10, and arXiv:2002.03419. Small is good of all three.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbkit.core.checks import require

LEVEL = 0.5
Values = np.ndarray | Sequence[float]


def mean_absolute_error(value: Values, truth: Values) -> float:
    """Mean of |forecast − truth|, in their unit; every forecast counts alike."""
    value, truth = _alike(value=value, truth=truth)
    return float(np.abs(value - truth).mean())


def weighted_error_score(value: Values, lower: Values, upper: Values, truth: Values) -> float:
    """Mean of |forecast − truth| weighted by one over the width of the interval: to be sure and wrong costs most.

    Raises
    ------
    NbkitError
        For an interval without width.
    """
    value, lower, upper, truth = _alike(value=value, lower=lower, upper=upper, truth=truth)
    require(
        bool((upper > lower).all()), "weighted_error_score: upper", expected="upper ends above lower ones",
        found=f"{int((upper <= lower).sum())} intervals without width", remedy="Widen them, or leave intervals out.",
    )
    return float(np.average(np.abs(value - truth), weights=1 / (upper - lower)))


def coverage_probability_accuracy(lower: Values, upper: Values, truth: Values, *, level: float = LEVEL) -> float:
    """|share of intervals that hold the truth − `level`|, ends included."""
    lower, upper, truth = _alike(lower=lower, upper=upper, truth=truth)
    return float(abs(((lower <= truth) & (truth <= upper)).mean() - level))


def _alike(**values: Values) -> list[np.ndarray]:
    """One-dimensional float arrays of one length, finite."""
    arrays = {name: np.asarray(x, dtype=np.float64).ravel() for name, x in values.items()}
    sizes = {name: x.size for name, x in arrays.items()}
    finite = all(np.isfinite(x).all() for x in arrays.values())
    require(
        len(set(sizes.values())) == 1 and min(sizes.values()) > 0 and finite, "tadpole",
        found=f"{sizes}, finite: {finite}", expected="finite values, as many forecasts as truths",
        remedy="Leave out forecasts without a truth.",
    )
    return list(arrays.values())
