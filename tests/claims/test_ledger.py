"""The ledgers: transcription checked against the papers' own sums, and faulty files refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nbkit.claims.ledger import PAPERS, claimed, load_paper, papers, read_ledger
from nbkit.core.checks import NbkitError
from tests.sources import ROOT

WEI = load_paper("wei2019_flair")
AVERAGES = [n for n in WEI.number if n.row == "Average" and n.value is not None]
# printed averages that do not follow from the printed folds by more than half a unit of the last digit
MISPRINTED = {
    "wei2019.table2_2a.mse.unet", "wei2019.table2_4a.mse.no_t1", "wei2019.table2_4a.mse.no_t1se",
    "wei2019.table2_4c.mse.t1_dir",
}


@pytest.mark.parametrize("name", papers())
def test_every_ledger_is_whole(name):
    paper = load_paper(name)
    assert paper.name == name and paper.claim and paper.number
    assert all(i in paper.ids for c in paper.claim for i in c.ids)


def test_all_cells_of_the_tables_are_there():
    printed = {w: sum(n.value is not None for n in WEI.at(w)) for w in WEI.places}
    counts = {"2.1": 9, "2.2a": 30, "2.2b": 30, "2.3": 12, "2.4a": 30, "2.4b": 24, "2.4c": 30}
    assert {f"Table {k}": v for k, v in counts.items()}.items() <= printed.items()
    assert len(AVERAGES) == 24


@pytest.mark.parametrize("average", AVERAGES, ids=lambda n: n.id)
def test_averages_follow_from_their_folds_or_say_that_they_do_not(average):
    folds = [WEI.ids[f"{average.id}.fold{k}"] for k in range(1, 6)]
    half_unit = 0.0005 if "ssim" in average.id else 0.005
    off = [
        abs(sum(f.value for f in folds) / 5 - average.value) > half_unit + 1e-9,
        abs(sum(f.spread for f in folds) / 5 - average.spread) > half_unit + 1e-9,
    ]
    assert any(off) == (average.id in MISPRINTED) == ("The folds" in average.note)


def test_known_cells():
    assert (WEI.ids["wei2019.table2_2a.mse.fcn"].value, WEI.ids["wei2019.table2_2a.mse.fcn"].spread) == (918.07, 41.7)
    assert WEI.ids["wei2019.table2_3.ratio2.truth"].value == 1.33
    assert WEI.ids["wei2019.table2_4b.mse.unet.fold5"].value == 1003.54
    assert WEI.ids["wei2019.fig2_5.dice.lesions"].value == 0.73
    assert WEI.ids["wei2019.table2_2a.mse.linear"].value is None


@pytest.mark.parametrize(
    "claim", [c for c in WEI.claim if None not in [WEI.ids[i].value for i in c.ids]], ids=lambda c: c.id,
)
def test_claims_hold_for_the_numbers_as_printed(claim):
    values = [WEI.ids[i].value for i in claim.ids]
    if claim.kind == "equivalence":
        assert abs(values[0] - values[1]) <= claim.margin * values[1]
    elif claim.margin:  # no worse than that
        sign = -1 if claim.direction == "less" else 1
        assert sign * (values[0] - values[1]) + claim.margin * values[1] > 0
    else:
        rising = claim.direction in ("ascending", "less")
        assert all((a < b) == rising and a != b for a, b in zip(values, values[1:], strict=False))


def test_unknown_paper_and_place_get_the_nearest_name():
    with pytest.raises(NbkitError, match="Did you mean 'wei2019_flair'"):
        load_paper("wei2019_flare")
    with pytest.raises(NbkitError, match="Did you mean 'Table 2.4c'"):
        WEI.at("Tab 2.4c")


HEAD = """
paper = { name = "x", prefix = "x", title = "T", authors = "A", year = 2000, source = "S", comparable = true }
number = [ { id = "x.a", where = "Table 1", value = 1.0 }, { id = "x.b", where = "Table 1" } ]
"""
CLAIM = '\n[[claim]]\nid = "x.c"\nwhere = "Table 1"\nstatement = "s"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CLAIM + 'kind = "difference"\nids = ["x.a", "x.bb"]\ndirection = "less"', "'x.bb'. Did you mean 'x.b'"),
        (CLAIM.replace("x.c", "x.a") + 'kind = "sign"\nids = ["x.a"]\ndirection = "less"', "each id once, found x.a"),
        (CLAIM.replace("x.c", "y.c") + 'kind = "sign"\nids = ["x.a"]\ndirection = "less"', "start with x., found y.c"),
        (CLAIM + 'kind = "difference"\nids = ["x.a"]\ndirection = "less"', "compares 2 to 2 ids"),
        (CLAIM + 'kind = "order"\nids = ["x.a", "x.b"]\ndirection = "less"', "ascending"),
        (CLAIM + 'kind = "equivalence"\nids = ["x.a", "x.b"]', "needs a margin"),
        (CLAIM + 'kind = "equivalence"\nids = ["x.a", "x.b"]\nmargin = 0.1', "margin_reason"),
        (CLAIM + 'kind = "resemblance"\nids = ["x.a", "x.b"]', "claim.0.kind"),
        (CLAIM + 'kind = "sign"\nids = ["x.a"]\ndirection = "less"\nstatment = "s"', "statment"),
    ],
)
def test_faulty_ledgers_are_refused_by_file_and_field(tmp_path, text, message):
    file = tmp_path / "x.toml"
    file.write_text(HEAD + text, encoding="utf-8")
    with pytest.raises(NbkitError) as caught:
        read_ledger(file)
    assert "x.toml" in str(caught.value) and message in str(caught.value)


def package_of(name: str) -> Path:
    """The folder of a ledger."""
    return next(f for f in PAPERS.glob("*/published*.toml") if read_ledger(f).name == name).parent


@pytest.mark.parametrize("name", papers())
def test_a_paper_is_introduced(name):
    """Two sentences of its package's docstring, three numbers, and pictures that its notebook records."""
    source = load_paper(name).paper
    assert 1 <= len(re.findall(r"[.?](?: |$)", claimed(name))) <= 3 and claimed(name)[0].isupper()
    notebook = json.loads((ROOT / "notebooks" / f"{source.notebook}.ipynb").read_text(encoding="utf-8"))
    drawn = [f.read_text(encoding="utf-8") for f in package_of(name).glob("*figures.py")]
    text = "\n".join(["".join(cell["source"]) for cell in notebook["cells"]] + drawn)
    found = re.findall(r'(?:run\.figure\(\s*|yield )f?"([^"]+)"', text)
    names = [re.sub(r"\\{[^}]*\\}", ".+", re.escape(n)) for n in found]
    assert len(source.key) == 3 and source.short
    for picture in (source.method, source.hero):
        assert any(re.fullmatch(pattern, picture) for pattern in names), picture


def test_papers_of_one_package_say_different_things():
    assert claimed("wei2019_myelin").startswith("A generator refined by a second one (Sketcher-Refiner)")
    assert claimed("wei2020_cfsagan").startswith("A refined generator with attention and residual blocks")


def test_a_key_number_that_is_none_is_refused(tmp_path):
    text = (PAPERS / "daninet" / "published.toml").read_text(encoding="utf-8")
    text = text.replace('"daninet.table1.gain.t"]', '"daninet.table1.gain.tt"]')
    (tmp_path / "p.toml").write_text(text, encoding="utf-8")
    with pytest.raises(NbkitError, match="paper.key.*daninet.table1.gain.tt"):
        read_ledger(tmp_path / "p.toml")
