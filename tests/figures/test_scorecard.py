"""The scorecard: bars as long as their counts, in the colours of the tables, never by colour alone."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from nbkit.claims.verdicts import Scorecard
from nbkit.core.checks import NbkitError
from nbkit.figures.scorecard import CLAIM_VERDICTS, scorecard_chart
from nbkit.figures.tables import VERDICTS

CARDS = {"Wei et al. 2019": {"reproduced": 4, "contradicted": 1}, "Ravi et al. 2019": {"inconclusive": 2, "not run": 3}}


def test_bars_are_their_counts_end_to_end():
    bars = [(p.get_y() + p.get_height() / 2, p.get_x(), p.get_width(), to_hex(p.get_facecolor()))
            for p in scorecard_chart(CARDS).axes[0].patches if p.get_width()]
    expected = [(0, 0, 4, "reproduced"), (0, 4, 1, "contradicted"), (1, 0, 2, "inconclusive"), (1, 2, 3, "not run")]
    for (level, left, width, colour), (row, start, count, verdict) in zip(bars, expected, strict=True):
        assert np.isclose(level, row) and (left, width) == (start, count)
        assert colour == VERDICTS[verdict][2].lower()


def test_signs_and_counts_are_written_on_the_bars():
    axes = scorecard_chart(CARDS).axes[0]
    assert [t.get_text() for t in axes.texts] == ["✓ 4", "✗ 1", "? 2", "– 3"]
    assert [t.get_text() for t in axes.get_yticklabels()] == list(CARDS)


def test_counts_of_a_scorecard_are_taken_as_they_are():
    counts = Scorecard().counts()
    assert set(counts) == set(CLAIM_VERDICTS)
    assert not [p for p in scorecard_chart({"nothing": counts}).axes[0].patches if p.get_width()]


def test_unknown_verdicts_and_no_papers_are_refused():
    with pytest.raises(NbkitError, match="Did you mean 'reproduced'"):
        scorecard_chart({"Wei": {"reproducd": 1}})
    with pytest.raises(NbkitError, match="Run a notebook first"):
        scorecard_chart({})
