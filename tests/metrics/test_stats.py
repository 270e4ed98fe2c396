"""Agreement and tests over subjects against numpy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nbkit.core.checks import NbkitError
from nbkit.metrics.stats import bland_altman, two_sample_p

def test_bland_altman_of_a_known_shift():
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    measured = truth + 0.5 + np.array([-1.0, 1.0, -1.0, 1.0])
    agreement = bland_altman(measured, truth)
    half = 1.96 * math.sqrt(4 / 3)
    assert (agreement.bias, agreement.lower, agreement.upper) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    back = bland_altman(truth, measured)
    assert (back.bias, back.lower) == pytest.approx((-agreement.bias, -agreement.upper))


def test_two_groups_by_hand():
    """t = −3 / √(2/3) with four degrees of freedom: p = 1 − I(t² / (t² + 4)) at ½ and 2."""
    share = 13.5 / 17.5
    p = 1 - (1.5 * np.sqrt(share) - 0.5 * share**1.5)
    assert two_sample_p([0.0, 1, 2], [3.0, 4, 5]) == pytest.approx(p)
    assert two_sample_p([3.0, 4, 5], [0.0, 1, 2]) == pytest.approx(p)
    assert math.isnan(two_sample_p([1.0], [0.0, 2.0]))


@pytest.mark.parametrize(
    "act",
    [
        lambda: two_sample_p([1.0, math.nan], [0.0, 2.0]),
        lambda: bland_altman([1.0], [2.0]),
        lambda: bland_altman([1.0, 2.0], [1.0]), lambda: bland_altman([1.0, math.nan], [1.0, 2.0]),
    ],
)
def test_bad_input_is_refused(act):
    with pytest.raises(NbkitError, match="expected finite values"):
        act()
