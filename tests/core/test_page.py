"""What came from data does nothing in a page or a table that is written."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pandas as pd
import pytest

from nbkit.claims.observe import Run
from nbkit.claims.verdicts import judge_folder
from nbkit.core.files import plain_cell
from nbkit.core.page import LOOK, look, page
from nbkit.runner import report
from nbkit.runner.provenance import collect
from nbkit.runner.qc import QcPage
from nbkit.runner.report import write_report

EVIL = (
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "' onmouseover='alert(1)",
    "</style><svg onload=a()>",
    "=cmd|' /C calc'!A0", "{{ 7 * 7 }}{% raw %}", "javascript:alert(1)", "a\nb\r\nc", "]]><!--",
)


class Seen(HTMLParser):
    """Tags and attributes of a page, as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.links, self.policy, self.text = [], set(), [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name in ("href", "src")]
        if ("http-equiv", "Content-Security-Policy") in attrs:
            assert self.tags == ["html", "head", "meta"], "the policy comes before anything it governs"
            self.policy = dict(attrs)["content"]

    def handle_data(self, data):
        self.text += data


def check_harmless(text: str) -> Seen:
    seen = Seen(text)
    assert not {"script", "iframe", "object"} & set(seen.tags)
    assert not [a for a in seen.attributes if a.startswith("on")]
    assert all(link.startswith(("#", "data:image/")) for link in seen.links)
    assert "default-src 'none'" in seen.policy and "script-src" not in seen.policy
    return seen


@pytest.mark.parametrize("evil", EVIL)
def test_a_report_shows_what_it_is_given_as_text(tmp_path, evil):
    run = Run(tmp_path, notebook="01_a", cohort="embedded", profile="smoke", seed=7)
    run.table("t", pd.DataFrame({evil: [evil, "x"]}, index=[evil, "b"]), caption=evil)
    run.not_run("a.b", evil)
    stamp = {
        "notebook": "01_a", "status": "failed", "error": evil, "parameters": {evil: evil}, "code": "", "seconds": 1.0,
        "peak_bytes": 1,
    }
    about = {"profile": "smoke", "cohort": evil, "seed": 7}
    record = {"run": about, "system": collect(), "written": "", "notebooks": [stamp]}
    write_report(tmp_path, judge_folder(tmp_path), record)
    seen = check_harmless((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert seen.text.count(evil.splitlines()[0]) >= 3


@dataclass
class Fault:
    subject: str
    where: str
    expected: str = "<b>"
    found: str = "<i>"
    remedy: str = "<u>"
    refused: bool = True


@dataclass
class Verdict:
    subject: str
    findings: list = field(default_factory=list)
    scans: int = 1
    passed: bool = False
    refused: bool = True
    state: str = "refused"


@dataclass
class Look:
    subject: str
    session: str
    contrast: str
    diagnosis: str
    path: str
    age: float | None = None
    image: None = None
    mask: None = None
    facts: dict = field(default_factory=dict)
    findings: tuple = ()


@pytest.mark.parametrize("evil", EVIL)
def test_the_page_and_the_table_of_data_check_do(tmp_path, evil):
    qc, fault = QcPage(evil), Fault(evil, evil, evil, evil, evil)
    qc.add(Look(evil, evil, evil, evil, evil))
    text = qc.write(tmp_path, [Verdict(evil, [fault])], [fault]).read_text(encoding="utf-8")
    assert evil.splitlines()[0] in check_harmless(text).text
    rows = list(csv.reader(io.StringIO((tmp_path / "findings.csv").read_text(encoding="utf-8"))))
    assert not [cell for row in rows for cell in row if cell[:1] in "=+-@\t\r" and cell]


def test_our_own_script_runs_by_its_hash_and_no_other(tmp_path):
    template, script = tmp_path / "a.html.j2", "start(JSON.parse('[1]') && 2 < 3)"
    template.write_text('<html>\n<head>\n<script>{{ ours | safe }}</script></head>\n<p>{{ name }}</p></html>\n')
    text = page(template, scripts={"ours": script}, sources={"worker-src": "blob:"}, name="<script>evil()</script>")
    seen = Seen(text)
    assert seen.tags.count("script") == 1 and f"<script>{script}</script>" in text
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{hashed}'" in seen.policy and "worker-src blob:" in seen.policy


def test_a_page_has_the_styles_that_all_share_and_its_own():
    styles = look(report.TEMPLATE)
    own = report.TEMPLATE.with_name("report.css").read_text(encoding="utf-8")
    assert styles == LOOK.read_text(encoding="utf-8") + own and "</style" not in styles


def test_every_page_goes_by_the_policy():
    folder = report.TEMPLATE.parents[1]
    writers = [f for f in folder.rglob("*.py") if "jinja2" in f.read_text(encoding="utf-8")]
    assert [f.name for f in writers] == ["page.py"]


@pytest.mark.parametrize(
    "text",
    ["=cmd()", "@SUM(1)", "+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "\t=1", "\r=1", "-HYPERLINK(1)", "+1 (=1)"],
)
def test_formulas_are_marked_as_text(text, tmp_path):
    marked = "'" + text.replace("\r", "\n")
    assert plain_cell(text) == marked
    run = Run(tmp_path, notebook="01_a", cohort="embedded", profile="smoke", seed=7)
    index = pd.MultiIndex.from_tuples([(text, "i"), ("k", text)], names=["n", text])
    path = run.table("t", pd.DataFrame({("a", text): [text, 1.5]}, index=index), caption="c")
    cells = [c for row in csv.reader(io.StringIO(path.read_bytes().decode(), newline="")) for c in row]
    assert cells.count(marked) >= 3 and not [c for c in cells if c[:1] in "=+-@" and c]


@pytest.mark.parametrize(
    "value", ["-0.31", "-0.31 ± 0.2", "+1.5 mL", "-1.2e-5", "-3 (0.4)", "a=b", "", -1.5, None, "−0.3", "–"],
)
def test_numbers_and_words_stay_as_they_are(value):
    assert plain_cell(value) is value
