"""Pages of the API reference, from the package's own sources."""

from __future__ import annotations

from nbkit.site.api import SHARED, api_pages
from tests.sources import ROOT


def test_every_paper_has_a_page_and_papers_come_first():
    pages = dict(api_pages(ROOT / "nbkit"))
    papers = sorted(p.name for p in (ROOT / "nbkit/papers").iterdir() if (p / "__init__.py").exists())
    assert list(pages)[: len(papers)] == [f"nbkit.papers.{name}" for name in papers]
    assert set(pages) == {f"nbkit.papers.{name}" for name in papers} | {f"nbkit.{name}" for name in SHARED} | {"index"}
    assert pages["index"].index("nbkit.papers.brlp") < pages["index"].index("nbkit.session")
    assert "DaniNet (Ravì, Alexander and Oxtoby, MICCAI 2019)" in pages["index"]


def test_public_names_stand_first_and_once(tmp_path):
    root = tmp_path / "kit"
    (root / "papers" / "one").mkdir(parents=True)
    for name, text in {
        "__init__.py": '"""One paper.\n\nMore."""\n__all__ = ["System", "more"]\n', "system.py": '"""S."""',
        "more.py": '""""""',
    }.items():
        (root / "papers" / "one" / name).write_text(text, encoding="utf-8")
    (root / "session.py").write_text('"""A session."""', encoding="utf-8")
    pages = dict(api_pages(root))
    assert list(pages) == ["kit.papers.one", "kit.session", "index"]
    assert pages["kit.papers.one"] == """kit.papers.one
==============

.. automodule:: kit.papers.one
   :members:

.. autosummary::

   System

more
----

.. automodule:: kit.papers.one.more
   :members:
   :exclude-members: System

system
------

.. automodule:: kit.papers.one.system
   :members:
   :exclude-members: System
"""
    assert ":doc:`kit.papers.one`\n   One paper." in pages["index"]
