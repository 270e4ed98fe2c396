"""The site as it is built from a small run: pages, links, what is refused, and how it looks in a browser."""

from __future__ import annotations

import json
import re

import nbformat
import pytest

from nbkit.claims.observe import Run
from nbkit.claims.reference import write_reference
from nbkit.claims.tables import BENCHMARK, BENCHMARK_PAGE
from nbkit.core.checks import NbkitError
from nbkit.runner.execute import finish
from nbkit.runner.folder import Stamp, write_stamp
from nbkit.runner.times import SECONDS
from nbkit.site import build
from nbkit.site.build import MARK, build_site
from nbkit.site.links import faults
from tests.browser.jupyter import find_browser, opened
from tests.runner.test_report import Picture

BROWSER = find_browser()
pytestmark = pytest.mark.slow
SOME = ("nbkit.papers.flair", "nbkit.session", "index")
WIDE = "<table><tr>" + "".join(f"<td>column{k}</td>" for k in range(60)) + "</tr></table>"


def a_run(folder, *, profile: str, fcn: float) -> None:
    run = Run(folder, notebook="01_flair_synthesis", cohort="embedded", profile=profile, seed=7, paper="wei2019_flair")
    for method, value in (("fcn", fcn), ("rf", 2.0)):
        run.number(f"wei2019.table2_2a.mse.{method}", {f"s{i}": value * (1 + 0.01 * i) for i in range(8)}, unit="z²")
    run.figure("fig2_4", Picture(), caption=f"FLAIR by each method, {profile}.")
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# 01 · FLAIR's synthesis & more"),
        nbformat.v4.new_code_cell("show()", outputs=[nbformat.v4.new_output("display_data", {"text/html": WIDE})]),
        nbformat.v4.new_markdown_cell("## Results\n\nSee [the comparison](08_head_to_head.ipynb)."),
    ])
    nbformat.write(notebook, folder / "01_flair_synthesis.ipynb")
    write_stamp(folder, Stamp("01_flair_synthesis", "k", "done", seconds=90.0, peak_bytes=10**9))
    finish(folder, profile=profile, cohort="embedded", seed=7)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Built from a smoke run and a laptop reference in which the claim goes the other way."""
    root = tmp_path_factory.mktemp("built")
    a_run(root / "laptop", profile="laptop", fcn=3.0)
    write_reference(root / "laptop", root / "reference" / "laptop-embedded")
    (root / "reference" / "laptop-embedded" / SECONDS).write_text('{"01_flair_synthesis": 744.0}', encoding="utf-8")
    reference = root / "reference/laptop-embedded"
    (reference / BENCHMARK_PAGE).write_text("<!DOCTYPE html><title>B</title>", encoding="utf-8")
    (reference / BENCHMARK).write_text(
        "metric,measure,title,kind,mean,beats,of\nv,error,mine,entrant,5,1,2\n", encoding="utf-8")
    a_run(root / "smoke-embedded", profile="smoke", fcn=1.0)
    (root / "smoke-embedded" / "explorer.html").write_text("<!DOCTYPE html><title>Explorer</title>", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        every = build.api_pages
        patch.setattr(build, "api_pages", lambda package: [p for p in every(package) if p[0] in SOME])
        return build_site(root / "smoke-embedded", root / "site", reference=root / "reference").parent


def test_the_first_page_tells_verdicts_at_the_largest_profile(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    assert "62 claims of 1 papers, judged at the <b>laptop</b> profile" in text
    assert '<div class="tile contradicted"><b>1</b>' in text and '<div class="tile reproduced"><b>0</b>' in text
    words = re.sub(r"<[^>]+>", "", text)
    assert "FLAIR by each method, laptop." in words and "make reproduce" in words and "nbkit data check" in words


def test_every_part_is_there_and_no_link_is_broken(site):
    for name in ("papers/wei2019_flair", "notebooks/01_flair_synthesis", "gallery", "explore", "run", "own_data",
                 "enter", "add_a_paper", "api/nbkit.papers.flair", "report/index", "report/explorer",
                 "report/benchmark", "search"):
        assert (site / f"{name}.html").is_file(), name
    assert faults(site) == []
    notebook = (site / "notebooks/01_flair_synthesis.html").read_text(encoding="utf-8")
    assert "smoke profile, embedded data, seed 7" in notebook and "../papers/wei2019_flair.html" in notebook
    assert "ConvSynthesizer" in (site / "api/nbkit.papers.flair.html").read_text(encoding="utf-8")
    enter = (site / "enter.html").read_text(encoding="utf-8")
    assert "mine is better than 1 of 2" in enter and 'href="report/benchmark.html"' in enter
    paper = (site / "papers/wei2019_flair.html").read_text(encoding="utf-8")
    assert "It keeps the contrast of lesions" in paper and 'id="figure-fig2_4"' in paper
    costs = re.sub(r"<[^>]+>", " ", (site / "run.html").read_text(encoding="utf-8"))
    assert "1.5" in costs and "Minutes, laptop profile, embedded data" in costs and "12.4" in costs


def test_no_number_of_the_smoke_run_stands_for_the_reference(site):
    told = json.loads((site.parent / "reference/laptop-embedded/scorecard.json").read_text(encoding="utf-8"))
    assert any(c["verdict"] == "contradicted" for c in told["claims"])
    page = (site / "papers/wei2019_flair.html").read_text(encoding="utf-8")
    assert "1 contradicted" in page and "1 reproduced" not in page


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: install chromium, or set NBKIT_BROWSER")
@pytest.mark.parametrize("name", ["index", "papers/wei2019_flair", "notebooks/01_flair_synthesis", "gallery", "run"])
def test_pages_fit_a_phone_and_ask_nobody_for_anything(site, tmp_path, name):
    address = (site / f"{name}.html").as_uri()
    with opened(address, browser=BROWSER, screenshot=tmp_path / "page.png") as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("requestfailed", lambda request: asked.append(f"failed: {request.url}"))
        page.set_viewport_size({"width": 390, "height": 844})
        page.reload()
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        assert asked and all(url.startswith(("file:", "data:")) for url in asked)
        ground = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(ground)
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        assert page.evaluate(ground) != light


@pytest.fixture
def run(tmp_path):
    a_run(tmp_path / "results", profile="smoke", fcn=1.0)
    return tmp_path / "results"


def drawn(text: str):
    """In the place of Sphinx: one page."""
    return lambda stage, part: (part.mkdir(), (part / "index.html").write_text(text, encoding="utf-8"))


def test_a_broken_link_keeps_the_site_that_was_there(run, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_sphinx", drawn("<p>first</p>"))
    page = build_site(run, tmp_path / "site", reference=tmp_path)
    monkeypatch.setattr(build, "_sphinx", drawn('<a href="gone.html">x</a>'))
    with pytest.raises(NbkitError, match="index.html: gone.html leads nowhere"):
        build_site(run, tmp_path / "site", reference=tmp_path)
    assert page.read_text(encoding="utf-8") == "<p>first</p>" and (tmp_path / "site" / MARK).exists()


def test_a_folder_of_other_files_is_left_alone(run, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").touch()
    with pytest.raises(NbkitError, match="site: home.*other files.*--to"):
        build_site(run, tmp_path / "home")
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["thesis.tex"]


def test_restricted_data_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(NbkitError, match="site: nothing.*provenance.json.*make reproduce"):
        build_site(tmp_path / "nothing", tmp_path / "site")
    a_run(tmp_path / "restricted-smoke-own-study", profile="smoke", fcn=1.0)
    with pytest.raises(NbkitError, match="restricted data"):
        build_site(tmp_path / "restricted-smoke-own-study", tmp_path / "site")
    a_run(tmp_path / "moved", profile="smoke", fcn=1.0)
    lines = (tmp_path / "moved" / "observations.jsonl").read_text(encoding="utf-8")
    marked = lines.replace('"level": "embedded"', '"level": "restricted"')
    (tmp_path / "moved" / "observations.jsonl").write_text(marked, encoding="utf-8")
    with pytest.raises(NbkitError, match="restricted data"):
        build_site(tmp_path / "moved", tmp_path / "site")


def test_without_sphinx_or_the_clone_the_remedy_is_told(run, tmp_path, monkeypatch):
    with pytest.raises(NbkitError, match="Clone the repository"):
        build_site(run, tmp_path / "site", docs=tmp_path / "docs")
    monkeypatch.setattr(build, "PACKAGES", ("no_such_package",))
    with pytest.raises(NbkitError, match="no no_such_package.*make env"):
        build_site(run, tmp_path / "site")
