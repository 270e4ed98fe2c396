"""The explorer as somebody uses it: JupyterLab in a real browser, Run All, the slider moved by keyboard."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Page, expect

from tests.browser.jupyter import find_browser, jupyterlab, opened
from tests.notebooks import contract

pytestmark = pytest.mark.slow

BROWSER = find_browser()
NOTEBOOK = contract.ROOT / "notebooks" / "09_explore_trajectories.ipynb"
MINUTES = 60_000
"""In the browser's milliseconds."""


@pytest.fixture
def served(tmp_path) -> Path:
    """A copy of the notebook at smoke size, in a folder to be served."""
    notebook = contract.read(NOTEBOOK)
    parameters = contract.parameters_cell(notebook)
    for line in ('profile = "smoke"', 'device = "cpu"', 'out_dir = "results"'):
        name = line.partition(" ")[0]
        parameters.source = re.sub(rf"^{name} = .*$", line, parameters.source, flags=re.MULTILINE)
    nbformat.write(notebook, tmp_path / NOTEBOOK.name)
    return tmp_path


def screenshot(folder: Path) -> Path:
    """Where the picture of the page is kept: NBKIT_ARTEFACTS, else the test's own folder."""
    kept = Path(os.environ.get("NBKIT_ARTEFACTS") or folder)
    kept.mkdir(parents=True, exist_ok=True)
    return kept / "explorer.png"


def run_all(page: Page) -> None:
    """Choose Run All Cells from the menu, once the kernel is there, and wait for the last cell."""
    idle = page.get_by_text("Python 3 (ipykernel) | Idle")
    expect(idle).to_be_visible(timeout=2 * MINUTES)
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
    expect(page.locator("img.widget-image")).to_be_visible(timeout=5 * MINUTES)
    expect(idle).to_be_visible(timeout=MINUTES)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: install chromium, or set NBKIT_BROWSER")
def test_the_slider_moves_the_picture(served, tmp_path, record_property):
    kept = screenshot(tmp_path)
    record_property("screenshot", str(kept))
    with jupyterlab(served, tmp_path / "settings") as address:
        with opened(address.format(path=NOTEBOOK.name), browser=BROWSER, screenshot=kept) as page:
            run_all(page)
            picture, said = page.locator("img.widget-image"), page.locator("span[role=status]")
            picture.scroll_into_view_if_needed()
            expect(said).to_contain_text("years", timeout=MINUTES)
            before, words = picture.get_attribute("src"), said.inner_text()
            seen = picture.screenshot()
            page.locator(".noUi-handle").focus()
            cell = page.get_by_text(re.compile(r"^Cell \d+/\d+$")).inner_text()
            page.keyboard.press("ArrowRight")
            expect(picture).not_to_have_attribute("src", before, timeout=MINUTES)
            expect(said).not_to_have_text(words, timeout=MINUTES)
            assert picture.screenshot() != seen
            assert _years(said.inner_text()) == pytest.approx(_years(words) + 0.5)
            page.locator(".widget-dropdown select").nth(1).focus()
            page.keyboard.press("ArrowDown")
            expect(said).to_contain_text("MRExtrap, anchored", timeout=MINUTES)
            page.keyboard.press("Tab")
            page.keyboard.press("ArrowDown")  # beside: the first system
            expect(said).to_contain_text("; InBrainSyn", timeout=MINUTES)
            assert cell == page.get_by_text(re.compile(r"^Cell \d+/\d+$")).inner_text()
            assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
    assert kept.stat().st_size > 10_000


def _years(text: str) -> float:
    return float(re.search(r"([\d.]+) years", text)[1])
