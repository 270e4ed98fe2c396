"""How well scores tell two classes apart, as one value per subject."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbkit.core.checks import require


def placements(scores: Sequence[float], positive: Sequence[bool]) -> np.ndarray:
    """Each subject's share of the subjects of the other class on the right side of its score; ties count half.

    The mean over positive subjects, that over negative ones and that over all are the area under the ROC curve
    (Hanley and Hajian-Tilaki 1997; DeLong et al. 1988), so that intervals and paired comparisons of areas are those of
    means over subjects.

    Parameters
    ----------
    scores : sequence of float
        (N,), higher for the positive class.
    positive : sequence of bool
        (N,).

    Returns
    -------
    numpy.ndarray
        (N,) in [0, 1]; NaN throughout when one class is missing.

    Raises
    ------
    NbkitError
        If lengths differ or a score is not finite.
    """
    s, is_positive = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    require(
        s.ndim == 1 and s.shape == is_positive.shape and bool(np.isfinite(s).all()), "placements: scores",
        expected="one finite score per subject", found=f"{s.shape} scores of {is_positive.shape} subjects",
        remedy="Give scores and classes in the same order.",
    )
    if not 0 < is_positive.sum() < s.size:
        return np.full(s.size, np.nan)
    above = (s[:, None] > s[None]) + 0.5 * (s[:, None] == s[None])
    return np.where(is_positive, above[:, ~is_positive].mean(axis=1), above[is_positive].mean(axis=0))


def auc(scores: Sequence[float], positive: Sequence[bool]) -> float:
    """Area under the ROC curve, the mean of :func:`placements`; NaN when one class is missing."""
    return float(placements(scores, positive).mean())
