"""Tables that a run wrote, as cells of a page."""

from __future__ import annotations

import pandas as pd

from nbkit.runner.grid import read_grid


def test_a_column_with_an_empty_cell_keeps_its_numbers_short_and_on_the_right(tmp_path):
    rows = {"structure": ["thalamus", "frontal"], "reach": [1.902602128960142, None], "why": ["", "too few"]}
    pd.DataFrame(rows).set_index("structure").to_csv(tmp_path / "a.csv")
    found = read_grid(tmp_path / "a.csv", header=1, index=1)
    (first, side), (empty, _) = (row["cells"][0] for row in found["rows"])
    assert (first, side, empty) == ("1.903", "", "–")
    assert [row["cells"][1] for row in found["rows"]] == [("", "words"), ("too few", "words")]


def test_names_of_code_are_said_in_words(tmp_path):
    pd.DataFrame({"mrextrap_bayes": [1.0]}, index=["lateral_ventricle"]).to_csv(tmp_path / "a.csv")
    found = read_grid(tmp_path / "a.csv", header=1, index=1)
    assert found["head"] == [[("", 1), ("MRExtrap, posterior", 1)]]
    assert found["rows"][0]["heads"] == [("lateral ventricle", 1)]
