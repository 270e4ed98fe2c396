"""Overviews show every number, verdict and cell they were given, and say what has no place on them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from nbkit.core.checks import NbkitError
from nbkit.figures.overview import TILES, claim_tiles, published_scatter, region_heatmap


def test_every_number_lies_at_its_size_hollow_where_signs_differ_and_zeros_are_counted():
    rows = [("A", 10.0, 20.0), ("A", -3.0, 4.0), ("B", 0.5, 0.25), ("B", 0.0, 1.0), ("B", 7.0, np.nan)]
    axes = published_scatter(pd.DataFrame(rows, columns=["paper", "published", "ours"])).axes[0]
    drawn = {tuple(np.ravel(line.get_xydata())): to_hex(line.get_markerfacecolor(), keep_alpha=True)
             for line in axes.lines if len(line.get_xdata()) == 1}
    assert set(drawn) == {(10, 20), (3, 4), (0.5, 0.25)}
    assert drawn[3, 4].endswith("00") and not drawn[10, 20].endswith("00")
    assert axes.get_xlabel().endswith("1 of 4 numbers are 0 on one side and not drawn")
    assert axes.get_xscale() == axes.get_yscale() == "log" and axes.get_xlim() == axes.get_ylim()


def claims() -> pd.DataFrame:
    said = {"c1": ("inconclusive", "reproduced"), "c2": ("reproduced", "not run: no DIR"), "c3": ("contradicted", None)}
    rows = [("Paper A", claim, cohort, verdict) for claim, verdicts in said.items()
            for cohort, verdict in zip(("embedded", "open"), verdicts, strict=True) if verdict]
    return pd.DataFrame(rows, columns=["paper", "claim", "cohort", "verdict"])


def test_claims_are_tiles_in_the_order_of_the_first_cohorts_verdicts_and_a_missing_one_leaves_a_gap():
    axes = claim_tiles(claims()).axes[0]
    tiles = sorted((p for p in axes.patches if type(p) is Rectangle), key=lambda p: (-p.get_y(), p.get_x()))
    names = {to_hex(colour): verdict for verdict, colour in TILES.items()}
    assert [names[to_hex(t.get_facecolor())] for t in tiles] == [
        "reproduced", "contradicted", "inconclusive", "not run", "reproduced"]
    assert tiles[3].get_x() == tiles[0].get_x() and tiles[4].get_x() == tiles[2].get_x()
    assert [t.get_text() for t in axes.texts] == [
        "Paper A", "embedded", "✓ 1  ✗ 1  ? 1", "open", "✓ 1  – 1"]


def test_a_cell_of_the_heatmap_is_the_mean_over_people_of_its_region_and_system():
    rows = [("hippocampus_left", "brlp", "a", 2.0), ("hippocampus_left", "brlp", "b", 4.0),
            ("temporal", "brlp", "a", 1.0), ("hippocampus_left", "no_change", "a", 9.0),
            ("temporal", "no_change", "b", 12.0)]
    table = pd.DataFrame(rows, columns=["structure", "system", "subject", "value"])
    axes, bar = region_heatmap(table, "absolute error (%)").axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["Left hippocampus", "Temporal cortex"]
    assert [t.get_text().replace("\n", " ") for t in axes.get_xticklabels()] == ["BrLP", "no change"]
    assert [t.get_text() for t in axes.texts] == ["3.0", "9.0", "1.0", "12"]
    assert axes.get_title(loc="left") == "mean over 2 people" and "absolute error" in bar.get_ylabel()


def test_frames_without_a_column_are_refused():
    with pytest.raises(NbkitError, match="published_scatter"):
        published_scatter(pd.DataFrame({"paper": ["a"], "publishd": [1.0], "ours": [1.0]}))
    with pytest.raises(NbkitError, match="claim_tiles"):
        claim_tiles(claims().drop(columns="cohort"))
