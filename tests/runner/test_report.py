"""The report page, the names of results folders, and provenance."""

from __future__ import annotations

import base64
import html
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pandas as pd
import pytest

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Run
from nbkit.claims.tables import NOBODY_ENTERED
from nbkit.core.checks import NbkitError
from nbkit.runner import report
from nbkit.runner.execute import finish
from nbkit.runner.folder import Stamp, results_folder, write_stamp
from nbkit.runner.provenance import collect
from nbkit.runner.report import write_again

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


class Picture:
    def savefig(self, path, **options):
        path.write_bytes(PIXEL)


class Page(HTMLParser):
    """Tags with attributes, and whether every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def page(tmp_path) -> str:
    run = Run(tmp_path, notebook="01_a", cohort="embedded", profile="smoke", seed=7, paper="wei2019_flair")
    for method, shift in (("fcn", 1.0), ("rf", 2.0), ("mlp", 0.5)):
        run.number(f"wei2019.table2_2a.mse.{method}", {f"s{i}": shift * (1 + 0.01 * i) for i in range(8)}, unit="z²")
    run.number("wei2019.table2_1.parameters.width64", value=231_745, unit="parameters")
    run.not_run("wei2019.table2_4b", "the cohort has no DIR")
    run.table("choices", pd.DataFrame({"choice": ["<b>bold</b>"], "moves": [0.123456]}), caption="Choices & effects.")
    columns = pd.MultiIndex.from_tuples([("MSE", "published"), ("MSE", "ours")])
    run.table("wide", pd.DataFrame([["1", "2"]], index=["Fold 1"], columns=columns), caption="Wide.")
    run.figure("curve", Picture(), caption="Learning curves.")
    write_stamp(tmp_path, Stamp("01_a", "k", "done", seconds=12.0, peak_bytes=10**9, parameters={"seed": 7}))
    write_stamp(tmp_path, Stamp("02_b", "k", "failed", error="cell 3: KeyError: 'DIR'"))
    finish(tmp_path, profile="smoke", cohort="embedded", seed=7)
    return (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_reads_nothing_from_elsewhere(page):
    parsed = Page(page)
    assert parsed.open == []
    kinds = [tag for tag, _ in parsed.tags]
    assert not {"script", "link", "iframe"} & set(kinds)
    addresses = [a[k] for _, a in parsed.tags for k in ("src", "href") if k in a]
    assert addresses and all(x.startswith(("#", "data:")) for x in addresses)
    anchors = {a["id"] for _, a in parsed.tags if "id" in a}
    assert {x[1:] for x in addresses if x.startswith("#")} <= anchors


def test_the_page_is_accessible(page):
    parsed = Page(page)
    assert all(a.get("alt") == "Learning curves." for tag, a in parsed.tags if tag == "img")
    assert all("scope" in a for tag, a in parsed.tags if tag == "th")
    assert ("html", {"lang": "en"}) in parsed.tags


def test_the_page_says_what_matters(page):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for words in (
        "1 ✓ reproduced", "1 ✗ contradicted", "FLAIR synthesis", "It keeps the contrast of lesions",
        "918.07 (41.70)", "ours, z²", "213,700", "231,745", "outside tolerance",
        "the cohort has no DIR", "b failed: cell 3: KeyError", "&lt;b&gt;bold&lt;/b&gt;", "Choices &amp; effects.",
        "0.1235", "embedded, embedded data, smoke profile", "torch threads", "Our Method − Random Forest 60",
        "Of 62 claims 1 hold and 1 are contradicted, most clearly “",
    ):
        assert words in text, words
    assert "wei2019." not in text


def test_a_tile_for_every_claim_and_a_page_for_every_paper(page):
    tiles = re.findall(r'<i class="([a-z-]+)" title="([^"]+)">', page)
    claims = load_paper("wei2019_flair").claim
    assert len(tiles) == len(claims) and [kind for kind, _ in tiles][:2] == ["reproduced", "contradicted"]
    assert {c.statement for c in claims} == {html.unescape(words).partition(": ")[2] for _, words in tiles}
    pages = [a["id"] for tag, a in Page(page).tags if a.get("class") == "page"]
    assert pages == ["home", "wei2019_flair", "more", "system"]


def test_the_three_numbers_that_matter_stand_beside_the_published_ones(page):
    keys = page[page.index('<div class="keys">') : page.index("standard deviation over people")]
    keys = re.sub(r"<[^>]+>", " ", keys)
    assert "0.86 ± 0.031" in keys and keys.count("not run here") == 3 and "Table 2.2b, SSIM" in keys


def test_a_finished_run_is_shown_again_without_running(page, tmp_path):
    before = (tmp_path / "provenance.json").read_bytes()
    (tmp_path / "index.html").unlink()
    assert write_again(tmp_path).read_text(encoding="utf-8") == page
    assert (tmp_path / "provenance.json").read_bytes() == before
    with pytest.raises(NbkitError, match="a results folder with provenance.json"):
        write_again(tmp_path / "tables")


def test_the_explorer_is_linked_where_it_is(page, tmp_path):
    assert "explorer.html" not in page
    (tmp_path / "explorer.html").touch()
    assert 'href="explorer.html"' in write_again(tmp_path).read_text(encoding="utf-8")


def test_spanning_headers_cover_the_columns(page):
    wide = page[page.index("Wide.") :]
    table = wide[wide.index("<thead>") : wide.index("</table>")]
    assert 'colspan="2"' in table and "Fold 1" in table and "Unnamed" not in table


def test_an_empty_run_has_a_page(tmp_path):
    finish(tmp_path, profile="smoke", cohort="embedded", seed=7)
    assert "No notebook of this run" in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("cohort", "name"), [
    ("embedded", "laptop-embedded"), ("open", "laptop-open"), ("ms_phantom", "laptop-ms_phantom"),
])
def test_results_folders(tmp_path, cohort, name):
    assert results_folder(tmp_path, "laptop", cohort) == tmp_path / name


def test_own_data_go_to_a_restricted_folder(tmp_path):
    (tmp_path / "my ms.csv").touch()
    folder = results_folder(tmp_path, "laptop", str(tmp_path / "my ms.csv"))
    assert folder.name == "restricted-laptop-own-my-ms"


def test_provenance_names_code_machine_and_packages_but_no_place():
    record = collect()
    assert re.fullmatch(r"[0-9a-f]{12}", record["source"])
    assert record["packages"]["torch"].startswith("2.") and record["memory_gb"] > 0.1 and record["cpus"] >= 1
    assert not re.search(r"'/[a-z]+/", str(record))


@pytest.mark.parametrize("caption, said", [(NOBODY_ENTERED, ""), ("", ""), ("A stranger wins.", "A stranger wins.")])
def test_the_first_page_speaks_of_strangers_where_any_was_judged(caption, said):
    assert report._said_of_strangers(SimpleNamespace(caption=lambda name: caption)) == said
