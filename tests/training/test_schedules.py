"""The learning rate over a training, in closed form."""

import pytest

from nbkit.core.checks import NbkitError
from nbkit.training.schedules import rate_share


def test_rates_stay_fall_in_a_line_or_along_half_a_cosine():
    assert [rate_share("constant", k, 4) for k in (1, 4)] == [1, 1]
    assert [rate_share("linear", k, 4) for k in (1, 2, 3, 4)] == [1, 0.75, 0.5, 0.25]
    assert [rate_share("cosine", k, 4) for k in (1, 3)] == pytest.approx([1, 0.5])
    assert rate_share("cosine", 2, 4) - rate_share("cosine", 3, 4) == pytest.approx(2**-0.5 / 2)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_rate_rises_first_and_is_whole_when_it_has_risen(schedule):
    assert [rate_share(schedule, k, 11, warm_up=3) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1]
    assert rate_share("linear", 8, 11, warm_up=3) == 0.5


def test_an_unknown_schedule_is_refused_with_the_nearest():
    with pytest.raises(NbkitError, match="cosine"):
        rate_share("cosin", 1, 2)
