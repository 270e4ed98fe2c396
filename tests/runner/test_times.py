"""A run says how long it takes by what is known here, or else from the reference."""

from __future__ import annotations

from datetime import datetime

import pytest

from nbkit.core.files import write_json
from nbkit.runner import times


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(times, "FILES", tmp_path)
    (tmp_path / "cache").mkdir()
    return tmp_path


NOON = datetime(2026, 1, 1, 12)


def test_nothing_is_foretold_that_is_not_known():
    assert "1 notebook: none has run" in times.foretold("smoke-embedded", ["01_a"])


def test_the_longest_run_here_counts_and_the_reference_fills_in(places):
    for seconds in (600.0, 20.0):
        times.note("laptop-embedded", "01_a", seconds)
    times.note("laptop-open", "02_b", 9999.0)
    write_json(places / "reference" / "laptop-embedded" / times.SECONDS, {"01_a": 50.0, "02_b": 300.0})
    said = times.foretold("laptop-embedded", ["01_a", "02_b", "03_c"], now=NOON)
    assert said.startswith("3 notebooks: about 15 min, until 12:15 (1 by earlier runs here, 1 by the reference, 1 nev")


def test_a_reference_is_told_the_longest_run_and_keeps_what_it_knew_of_others(places):
    times.note("laptop-embedded", "01_a", 600.0)
    write_json(places / times.SECONDS, {"01_a": 900.0, "02_b": 300.0})
    found = times.longest("laptop-embedded", {"01_a": 20.0, "03_c": 5.0}, reference=places)
    assert found == {"01_a": 600.0, "02_b": 300.0, "03_c": 5.0}
    assert times.longest("laptop-open", {"01_a": 20.0}, reference=places / "none") == {"01_a": 20.0}


@pytest.mark.parametrize("text", ["", "[]", '{"laptop-embedded/01_a": "soon"}', "{"])
def test_a_damaged_note_says_nothing_and_is_written_anew(places, text):
    (places / "cache" / times.SECONDS).write_text(text)
    assert "not known" in times.foretold("laptop-embedded", ["01_a"])
    times.note("laptop-embedded", "01_a", 60.0)
    assert "about 60 s" in times.foretold("laptop-embedded", ["01_a"], now=NOON)
    assert "side by side, 4 at a time)" in times.foretold("laptop-embedded", ["01_a"], at_once=4, now=NOON)


@pytest.mark.parametrize("seconds, said", [(89, "89 s"), (600, "10 min"), (7200, "2.0 h")])
def test_times_are_said_in_their_unit(seconds, said):
    times.note("x", "01_a", float(seconds))
    assert f"about {said}," in times.foretold("x", ["01_a"], now=NOON)
