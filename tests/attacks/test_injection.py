"""Where else names of strangers come out: the explorer's page, pictures and tables of a notebook, and PNG files.

The report, the page and the table of `data check`, and CSV are tried in tests/core/test_page.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct

import pandas as pd
import pytest
from matplotlib.figure import Figure

from nbkit.claims.observe import Run
from nbkit.figures.tables import show_table
from nbkit.widgets.explorer import Explorer
from nbkit.widgets.explorer_page import write_explorer
from tests.core.test_page import EVIL, Seen
from tests.widgets.fading import Fading, somebody, unchanged


_TABLE = ("table", "caption", "thead", "tbody", "tr", "th", "td")


@pytest.mark.parametrize("evil", EVIL)
def test_the_explorers_page_runs_its_own_script_alone(tmp_path, evil):
    """Systems, courses and structures are named by whoever brings them."""
    explorer = Explorer(
        [somebody(f"sub-{evil}")], {evil: Fading(), "no change": unchanged}, courses=["HC"], structures=["hippocampus"],
        horizon=4.0, trained=(55.0, 78.0),
    )
    page = write_explorer(explorer, tmp_path, years=(0.0, 4.0), source=evil).read_text(encoding="utf-8")
    seen, scripts = Seen(page), re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    allowed = {f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts}
    assert set(re.search(r"script-src ([^;]*)", seen.policy)[1].split()) == allowed
    assert seen.tags.count("script") == len(scripts) + 1 == 2 and not {"iframe", "object"} & set(seen.tags)
    assert not [a for a in seen.attributes if a.startswith("on")]
    data = re.search(r'application/json" id="data">(.*?)</script>', page, re.DOTALL)[1]
    assert "<" not in data and json.dumps(evil)[1:-1] in json.dumps(json.loads(data))


@pytest.mark.parametrize("evil", EVIL)
def test_pictures_and_tables_of_a_notebook_hold_text(tmp_path, evil):
    run = Run(tmp_path, notebook="01_a", cohort="embedded", profile="smoke", seed=7)
    drawn = Figure()
    drawn.suptitle("x")
    shown = run.figure("f", drawn, caption=evil)._repr_html_()
    table = show_table(pd.DataFrame({evil: [evil]}, index=pd.Index([evil], name=evil)).rename_axis(columns=evil), evil)
    for page in (shown, table.to_html()):
        seen = Seen(page)
        assert set(seen.tags) <= {"figure", "img", "figcaption", "style", *_TABLE}
        assert not [a for a in seen.attributes if a.startswith("on")]


def test_a_png_says_nothing_but_its_picture(tmp_path):
    """No program, date, path or caption in its chunks."""
    run = Run(tmp_path, notebook="01_a", cohort="embedded", profile="smoke", seed=7)
    drawn = Figure()
    drawn.subplots().plot([1, 2])
    run.figure("f", drawn, caption="P0417 of /data/ward")
    raw, place, kinds = (tmp_path / "figures" / "f.png").read_bytes(), 8, []
    while place < len(raw):
        length, kind = struct.unpack(">I4s", raw[place : place + 8])
        kinds.append(kind)
        place += 12 + length
    assert set(kinds) <= {b"IHDR", b"PLTE", b"tRNS", b"pHYs", b"IDAT", b"IEND"}
