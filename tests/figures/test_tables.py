"""Tables say in words what they say in colour, and give the same HTML for the same numbers."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from nbkit.core.checks import NbkitError
from nbkit.figures.tables import VERDICTS, show_table, verdict_css


def _luminance(colour: str) -> float:
    rgb = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_verdicts_are_readable_at_wcag_aaa(verdict):
    _, ink, ground = VERDICTS[verdict]
    assert (_luminance(ground) + 0.05) / (_luminance(ink) + 0.05) >= 7


@pytest.fixture
def frame():
    return pd.DataFrame({
        "claim": ["a < b", "<script>"], "n": [24, 3], "difference": [-0.036423, float("nan")],
        "p < 0.05": ["reproduced", "not run: no DIR"],
    })


def test_cells_are_formatted_escaped_and_coloured(frame):
    html = show_table(frame, "a & b").to_html()
    for text in ("a &amp; b", "p &lt; 0.05", "−0.0364", "✓ reproduced", "– not run: no DIR", "&lt;script&gt;", ">24<"):
        assert text in html
    assert "<script>" not in html and "nan" not in html.lower()
    assert VERDICTS["reproduced"][2] in html and VERDICTS["not run"][2] in html
    assert verdict_css("whatever") == ""


def test_equal_tables_give_equal_html_and_others_do_not_clash(frame):
    assert show_table(frame, "x").to_html() == show_table(frame.copy(), "x").to_html()
    assert show_table(frame, "x").uuid != show_table(frame.assign(n=[1, 2]), "x").uuid


def test_the_index_is_hidden_only_when_it_says_nothing(frame):
    assert "row_heading" not in show_table(frame, "x").to_html()
    assert "row_heading" in show_table(frame.set_index("claim"), "x").to_html()


def test_ours_is_bold_beneath_the_published_row_and_numbers_stand_right():
    index = pd.MultiIndex.from_tuples([("Average", "published"), ("Average", "ours, z²")])
    table = pd.DataFrame({"RF": ["983.22 (80.99)", "0.4 (1e-05)"], "note": ["two words", "–"]}, index=index)
    html = show_table(table, "Table 2.2a").to_html()
    bold = re.findall(r"#(\w+_row\d_\w+)(?=[^{}]*\{[^}]*font-weight: 600)", html)
    assert bold and all("_row1_" in b for b in bold)
    sides = ("left", "right")
    left, right = (re.findall(rf"_row0_col(\d)(?=[^{{}}]*\{{[^}}]*text-align: {s})", html) for s in sides)
    assert (left, right) == (["1"], ["0"])


def test_a_name_twice_is_refused(frame):
    with pytest.raises(NbkitError, match="rows and columns named once, found a name twice"):
        show_table(frame.set_axis(["a", "a", "b", "c"], axis="columns"), "x")


class Evil:
    """Not text, but says some."""

    def __str__(self) -> str:
        return "<script>alert(1)</script>"


def test_nothing_in_a_table_is_run():
    text = str(Evil())
    index = pd.MultiIndex.from_tuples([(text, "1"), ("k", text)], names=[text, "z"])
    frame = pd.DataFrame({(text, "a"): [text, 1.0], ("x", text): [Evil(), None]}, index=index)
    frame.columns.names = [text, None]
    shown = show_table(frame, text).to_html()
    assert "<script" not in shown and shown.count("&lt;script&gt;") >= 6
