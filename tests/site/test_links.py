"""Links that lead nowhere, and what would be fetched from elsewhere."""

from __future__ import annotations

import pytest

from nbkit.site.links import faults


def put(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_html", ".html").replace("_css", ".css")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return faults(folder)


def test_a_whole_site_has_no_fault(tmp_path):
    page = """<link rel="stylesheet" href="look.css?digest=1"><link rel="canonical" href="https://x.org/">
    <a href="sub/other.html#a%20b">in</a><a href="#here">down</a><a href="https://doi.org/10">out</a><p id="here">
    <a href="mailto:a@b.c">m</a><img src="data:image/png;base64,AA=="><a href="#">top</a>"""
    found = put(tmp_path, index_html=page, sub__other_html='<h2 id="a b">x</h2><a href="../index.html">up</a>',
                look_css="p { background: url(data:image/png;base64,AA==) } @font-face { src: url('f.woff2') }")
    assert found == ["look.css: f.woff2 leads nowhere"]
    (tmp_path / "f.woff2").touch()
    assert faults(tmp_path) == []


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<a href="gone.html">x</a>', "gone.html leads nowhere"),
        ('<a href="index.html#gone">x</a>', "index.html#gone names a place that the page lacks"),
        ('<a href="sub">x</a>', "sub leads nowhere"),
        ('<a href="../outside.html">x</a>', "../outside.html leads nowhere"),
        ('<img src="gone.png">', "gone.png leads nowhere"),
        ('<script src="https://cdn.org/a.js"></script>', "https://cdn.org/a.js is brought from elsewhere"),
        ('<img src="//cdn.org/a.png">', "//cdn.org/a.png is brought from elsewhere"),
        ('<link rel="stylesheet" href="http://fonts.org/f.css">', "http://fonts.org/f.css is brought from elsewhere"),
        ('<link rel="preload" href="https://f.org/f.woff">', "https://f.org/f.woff is brought from elsewhere"),
        ("<style>@import 'https://f.org/f.css';</style>", "https://f.org/f.css is brought from elsewhere"),
        ('<p style="background: url(https://f.org/a.png)">', "https://f.org/a.png is brought from elsewhere"),
        ('<iframe src="https://f.org/"></iframe>', "https://f.org/ is brought from elsewhere"),
    ],
)
def test_each_fault_is_told_with_its_page(tmp_path, page, fault):
    (tmp_path.parent / "outside.html").touch()
    assert put(tmp_path, index_html=page, sub__other_html="") == [f"index.html: {fault}"]


def test_styles_of_other_hosts_are_found(tmp_path):
    assert put(tmp_path, look_css="@import url('https://f.org/f.css');") == [
        "look.css: https://f.org/f.css is brought from elsewhere"]
