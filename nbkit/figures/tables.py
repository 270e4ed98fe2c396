"""Tables for notebooks: published beside ours, verdicts in words, sign and colour."""

from __future__ import annotations

import html
import numbers
import re

import pandas as pd
from pandas.io.formats.style import Styler

from nbkit.core.checks import require
from nbkit.core.config import digest
from nbkit.figures.charts import number

# verdict: sign, ink, ground; the words stay, so that colour is never needed to read a verdict
VERDICTS = {
    "reproduced": ("✓", "#12532F", "#DDF1E4"),
    "within tolerance": ("✓", "#12532F", "#DDF1E4"),
    "inconclusive": ("?", "#5F4300", "#FBF0CF"),
    "contradicted": ("✗", "#7F1710", "#FADFDB"),
    "outside tolerance": ("✗", "#7F1710", "#FADFDB"),
    "not comparable": ("–", "#444444", "#ECECEC"),
    "no room": ("=", "#1F3F66", "#E3EBF5"),
    "not run": ("–", "#444444", "#ECECEC"),
}
CSS = [
    {"selector": "", "props": "border-collapse: collapse; margin: .4em 0 1.2em; font-variant-numeric: tabular-nums;"},
    {"selector": "caption", "props": "caption-side: top; text-align: left; font-weight: 600; padding: 0 0 .5em 0; "
                                    "min-width: 22em;"},
    {"selector": "th, td", "props": "padding: .25em .8em; border: 0;"},
    {"selector": "thead th", "props": "border-bottom: 1.5px solid #888;"},
    {"selector": "tbody th", "props": "text-align: left; font-weight: 500;"},
    {"selector": "tbody tr", "props": "border-bottom: 1px solid #ddd;"},
]


def _family(verdict: str) -> str | None:
    return next((name for name in VERDICTS if str(verdict).startswith(name)), None)


def verdict_text(verdict: str) -> str:
    """The verdict with its sign: ``"✓ reproduced"``; other text is left alone."""
    family = _family(verdict)
    return f"{VERDICTS[family][0]} {verdict}" if family else str(verdict)


def verdict_css(verdict: str) -> str:
    """Ink and ground of a verdict's cell; nothing for other text."""
    family = _family(verdict)
    return f"color: {VERDICTS[family][1]}; background-color: {VERDICTS[family][2]};" if family else ""


def show_table(frame: pd.DataFrame, caption: str, *, digits: int = 3) -> Styler:
    """A table that a notebook displays and ``.to_html()`` writes; equal tables give equal HTML.

    Numbers have at least `digits` significant digits and stand right, text stands left; missing values are a dash.
    Cells that begin with a verdict ("reproduced", "not run: ...") get its sign and colours; rows labelled
    "ours" are bold, to stand out from the published rows above them.

    Parameters
    ----------
    frame : DataFrame
        Any; a plain 0..n−1 index is hidden.
    caption : str
        What the table shows, with cohort and units.

    Raises
    ------
    NbkitError
        For two rows or two columns of one name.
    """
    require(
        frame.index.is_unique and frame.columns.is_unique, "show_table: frame", expected="rows and columns named once",
        found="a name twice", remedy="Rename them, or call reset_index() first.",
    )
    # the identity of the HTML follows from the content, so a rerun changes no byte of the executed notebook
    identity = digest([caption, frame.astype(str).to_dict("split")])
    # pandas escapes what tables hold, not what their axes are called
    frame = frame.rename_axis(columns=[n if n is None else html.escape(str(n)) for n in frame.columns.names])
    styler = frame.style.set_uuid(identity).set_caption(html.escape(caption)).set_table_styles(CSS)
    styler = styler.format(lambda v: _cell(v, digits), escape="html").format_index(escape="html", axis="columns")
    styler = styler.format_index(escape="html", axis="index")
    sides = ["left" if any(map(_is_words, frame.iloc[:, i])) else "right" for i in range(frame.shape[1])]
    for position, side in enumerate(sides):
        styler = styler.set_properties(subset=frame.columns[[position]], **{"text-align": side})
    styler = styler.apply(lambda row: ["font-weight: 600;" * _is_ours(row.name)] * row.size, axis="columns")
    styler = styler.apply_index(lambda labels: [f"text-align: {side};" for side in sides], axis="columns")
    styler = styler.map(lambda v: verdict_css(v) if isinstance(v, str) else "")
    styler = styler.hide(axis="index", names=True)
    return styler.hide(axis="index") if isinstance(frame.index, pd.RangeIndex) else styler


def _is_words(value: object) -> bool:
    return isinstance(value, str) and re.search(r"[^\W\d_]{2}", value) is not None


def _is_ours(label: object) -> bool:
    return any(str(part).startswith("ours") for part in (label if isinstance(label, tuple) else (label,)))


def _cell(value: object, digits: int) -> str:
    if isinstance(value, str):
        return verdict_text(value)
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return "–"
    if isinstance(value, (bool, numbers.Integral)) or not isinstance(value, numbers.Real):
        return html.escape(str(value))
    return number(float(value), digits)
