"""What stands beside the errors of systems: means of the ends, named for readers."""

from __future__ import annotations

import pandas as pd
import pytest

from nbkit.papers.trajectories.limits import limits, rows_of

ROOM = pd.DataFrame({
    "structure": ["hippocampus"] * 6 + ["grey_matter"], "subject": ["a", "b", "a", "a", "a", "a", "a"],
    "system": ["floor", "floor", "reach", "diagnosis_slope", "person", "no_change", "reach"],
    "value": [1.0, 3.0, 4.0, 5.0, 0.5, 9.0, 7.0],
})


def test_lines_are_means_over_people():
    assert limits(ROOM) == {
        "hippocampus": {"floor": 2.0, "reach": 4.0, "population slope": 5.0},
        "grey_matter": {"reach": 7.0},
    }


def test_rows_leave_out_what_stands_there_already():
    rows = rows_of(ROOM)
    assert rows["hippocampus"].to_dict() == {
        "floor": 2.0, "reach": 4.0, "diagnosis slope": 5.0, "best control, own scale": 0.5}
    assert rows["grey_matter"].to_dict() == {"reach": 7.0}


@pytest.mark.parametrize("give", [limits, rows_of])
def test_nothing_is_known_without_a_room(give):
    assert len(give(None)) == 0
