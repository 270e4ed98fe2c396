"""What stands beside the errors of systems: means of the ends, named for readers."""

from __future__ import annotations

import pandas as pd
import pytest

from nbkit.papers.trajectories.experiments import volumes_at_visits
from nbkit.papers.trajectories.limits import below, last_visit, limits, rows_of
from tests.papers.trajectories.ageing_balls import cohort, person

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


def test_ends_stand_below_the_systems():
    table = pd.DataFrame({"grey_matter": [1.0], "hippocampus": [2.0]}, index=["MRExtrap"])
    both = below(table, ROOM)
    assert list(both.columns) == ["grey_matter", "hippocampus"] and both.index[0] == "MRExtrap"
    assert both.loc["reach"].tolist() == [7.0, 4.0] and both.loc["floor", "hippocampus"] == 2.0


def test_the_last_visit_is_asked_about_from_all_but_two():
    times = {"a": (60.0, 62.0, 64.0, 68.0), "b": (60.0, 62.0), "c": (61.0, 64.0, 66.0, 67.0), "d": (60.0, 63.0, 65.0)}
    asked = [person(name, "HC", ages=ages, size=1.0, centre=(0, 0, 0)) for name, ages in times.items()]
    found = last_visit(cohort(asked[2:]), cohort(asked[:2]), structures=("hippocampus",))
    assert set(found["subject"]) == {"a"}, "two visits are too few"
    still = found[found["system"] == "no_change"]["value"].item()
    counts = [volumes["hippocampus"] for volumes in volumes_at_visits(cohort(asked[:1]))["a"]]
    assert still == pytest.approx(100 * abs(counts[1] / counts[3] - 1))


@pytest.mark.parametrize("give", [limits, rows_of])
def test_nothing_is_known_without_a_room(give):
    assert len(give(None)) == 0
