"""Pages of one file: escaped, and closed to whatever the project did not write."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest

from nbkit.core.page import LOOK, write_page

NASTY = "</script><script>alert(1)</script>\"'&"


@pytest.fixture
def page(tmp_path) -> str:
    template = tmp_path / "a.html.j2"
    template.write_text(
        '<meta content="{{ policy }}"><style>{{ styles }}</style><p title="{{ said }}">{{ said }}</p>'
        '<script type="application/json">{{ {"said": said} | json }}</script><script>{{ script }}</script>', encoding="utf-8")
    (tmp_path / "a.css").write_text("p { color: red; }", encoding="utf-8")
    (tmp_path / "a.js").write_text("if (1 < 2) { say('&'); }", encoding="utf-8")
    return write_page(tmp_path / "a.html", template, script=tmp_path / "a.js", said=NASTY).read_text(encoding="utf-8")


def test_what_callers_hand_in_is_text(page):
    assert page.count("<script") == page.count("</script>") == 2 and "alert(1)<" not in page.replace("&lt;", "")
    data = re.search(r'application/json">(.*?)</script>', page)[1]
    assert json.loads(data) == {"said": NASTY}


def test_the_policy_names_the_styles_and_the_script(page):
    for kind, pattern in (("style-src", "<style>(.*?)</style>"), ("script-src", "<script>(.*?)</script>")):
        inside = re.search(pattern, page, re.DOTALL)[1]
        told = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind} &#39;sha256-{told}&#39;" in page
    assert LOOK.read_text(encoding="utf-8") in page and "if (1 < 2) { say('&'); }" in page
