"""Report and explorer as somebody opens them: a real browser, the keyboard, a phone, light and dark."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from nbkit.claims.observe import Run
from nbkit.runner.execute import finish
from nbkit.widgets.explorer import Explorer
from nbkit.widgets.explorer_page import write_explorer
from tests.browser.jupyter import find_browser, opened
from tests.runner.test_report import Picture
from tests.widgets.fading import Fading, somebody, unchanged

BROWSER = find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: install chromium, or set NBKIT_BROWSER"),
]
PHONE, WIDE = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture
def explorer() -> Explorer:
    return Explorer(
        [somebody(), somebody("sub-02", 66.0)], {"fading": Fading(), "no change": unchanged},
        courses=["HC", "AD", "HC→AD"], structures=["hippocampus"], horizon=10.0, trained=(55.0, 76.0),
    )


@pytest.fixture
def report(tmp_path) -> Path:
    where = {"notebook": "01_flair_synthesis", "cohort": "embedded", "profile": "laptop"}
    run = Run(tmp_path, **where, seed=7, paper="wei2019_flair")
    for method, shift in (("fcn", 1.0), ("rf", 2.0), ("mlp", 0.5)):
        run.number(f"wei2019.table2_2a.mse.{method}", {f"s{i}": shift * (1 + 0.01 * i) for i in range(8)}, unit="z²")
    run.figure("fig2_4", Picture(), caption="FLAIR by each method.")
    finish(tmp_path, profile="laptop", cohort="embedded", seed=7)
    return tmp_path / "index.html"


def kept(folder: Path, name: str) -> Path:
    """Where a screenshot goes: NBKIT_ARTEFACTS, else the test's own folder."""
    folder = Path(os.environ.get("NBKIT_ARTEFACTS") or folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def shown(page: Page) -> str:
    """What the pictures show, once they are drawn: the words of the readout go before them."""
    page.wait_for_function("document.body.dataset.shown && JSON.parse(document.body.dataset.shown).age "
                           "=== Number(document.getElementById('age').value)")
    return page.locator("#said").inner_text()


def heard(page: Page) -> list[str]:
    """What the page complains of from here on, when it is loaded again: a broken policy among it."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text))
    page.on("pageerror", lambda error: found.append(str(error)))
    page.reload()
    return found


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_arrow_keys_move_the_age_and_with_it_picture_chart_and_words(explorer, tmp_path):
    """At every place the page says what the widget says."""
    address = write_explorer(explorer, tmp_path, years=(0, 4, 10)).as_uri()
    with opened(address, browser=BROWSER, screenshot=kept(tmp_path, "explorer_page.png")) as page:
        complaints = heard(page)
        state = explorer.start
        assert shown(page) == explorer.readout(state)
        dot = page.locator("#chart circle.dot")
        picture, before = page.locator("#pictures figure").nth(1).locator("canvas").first, dot.get_attribute("cx")
        seen = picture.evaluate("canvas => canvas.toDataURL()")
        page.keyboard.press("ArrowRight")
        state = replace(state, age=state.age + 0.5)
        assert shown(page) == explorer.readout(state)
        assert float(dot.get_attribute("cx")) > float(before)
        assert picture.evaluate("canvas => canvas.toDataURL()") != seen
        page.locator("#age").focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        state = replace(state, age=state.age + 1.5)
        assert shown(page) == explorer.readout(state) and "outside the ages learned from (55 to 76)" in shown(page)
        page.locator("#beside").select_option("no change")
        page.locator("#course").select_option("AD")
        assert shown(page) == explorer.readout(replace(state, beside="no change", course="AD"))
        expect(page.locator("#pictures figcaption")).to_have_count(4)
        page.locator("#course").select_option("HC→AD")
        assert shown(page) == explorer.readout(replace(state, beside="no change", course="HC→AD"))
        page.locator("#person").select_option("person 2")
        assert "71.0 years" in shown(page) and complaints == []


def test_what_is_drawn_is_what_was_predicted(explorer, tmp_path):
    """Half-way between two places the grey in the middle of a uniform head is half-way between theirs."""
    person = somebody()
    flat = replace(person, baseline=person.baseline.with_data(person.baseline.data * 0 + 0.5))
    seen = {"courses": ["AD"], "structures": ["hippocampus"], "horizon": 10.0, "trained": (1, 99)}
    one = Explorer([flat], {"fading": Fading()}, **seen)
    address = write_explorer(one, tmp_path, years=(0, 10), start=replace(one.start, age=75.0)).as_uri()
    with opened(address, browser=BROWSER, screenshot=kept(tmp_path, "explorer_flat.png")) as page:
        shown(page)
        middle = "c => [...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data]"
        drawn = page.locator("#pictures figure").nth(1).locator("canvas")
        grey = drawn.first.evaluate(middle)[:3]
        assert grey == pytest.approx([255 * 0.9 / 0.95] * 3, abs=2)
        red, _, blue = drawn.nth(1).evaluate(middle)[:3]
        assert blue > red + 20, "darker than at the start"


@pytest.mark.parametrize("look", ["light", "dark"])
def test_the_pages_fit_a_phone_and_follow_the_switch(explorer, report, tmp_path, look):
    write_explorer(explorer, tmp_path, years=(0, 4, 10))
    for name in ("index.html", "index.html#wei2019_flair", "index.html#system", "explorer.html"):
        where = re.sub(r"\W", "_", name)
        address = f"{tmp_path.as_uri()}/{name}"
        with opened(address, browser=BROWSER, screenshot=kept(tmp_path, f"phone_{look}_{where}.png")) as page:
            page.set_viewport_size(PHONE)
            complaints = heard(page)
            if "explorer" in name:
                shown(page)
            page.locator("details").evaluate_all("all => all.forEach(d => { d.open = true; })")
            assert overflow(page) == 0
            page.locator(f"label:has(#look-{look})").click()
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 600) == (look == "light")
            assert complaints == []


def test_each_paper_has_its_page_and_the_keyboard_gets_there(report, tmp_path):
    with opened(report.as_uri(), browser=BROWSER, screenshot=kept(tmp_path, "report.png")) as page:
        page.set_viewport_size(WIDE)
        complaints = heard(page)
        expect(page.locator("#home")).to_be_visible()
        expect(page.locator("#wei2019_flair")).to_be_hidden()
        page.locator(".card a").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#wei2019_flair h1")).to_be_in_viewport()
        expect(page.locator("#home")).to_be_hidden()
        claims = page.locator("#wei2019_flair details", has_text="Table 2.2a").first
        expect(claims.locator("table")).to_be_hidden()
        claims.locator("summary").focus()
        page.keyboard.press("Enter")
        expect(claims.locator("table")).to_be_visible()
        expect(claims).to_contain_text("Our Method − Random Forest 60")
        page.go_back()
        expect(page.locator("#home")).to_be_visible()
        assert complaints == []
