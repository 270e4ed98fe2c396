"""What is wrong with a folder of pages: links that lead nowhere, and anything that is fetched from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = dict.fromkeys(("script", "img", "iframe", "source", "video", "audio", "embed"), "src") | {
    "object": "data", "link": "href",
}
"""Attributes by which a tag brings something into a page; what only links is an ``a``."""
TOLD = ("canonical", "next", "prev", "search", "index", "author", "license", "copyright", "alternate")
"""Relations of a ``link`` that bring nothing."""
_CSS = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")


class Page(HTMLParser):
    """The addresses and the anchors of a page.

    Attributes
    ----------
    links, loads : list of str
        Where one can go, and what is brought in.
    anchors : set of str
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self._style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what the tag names."""
        has = {key: value or "" for key, value in attrs}
        self._style = tag == "style"
        self.anchors |= {has[key] for key in ("id", "name") if has.get(key)}
        self.loads += _addresses(has.get("style", ""))
        if tag in ("a", "area") and "href" in has:
            self.links.append(has["href"])
        brings = tag in LOADS and not set(has.get("rel", "").split()) & set(TOLD)
        if brings and has.get(LOADS[tag]):
            self.loads.append(has[LOADS[tag]])

    def handle_endtag(self, tag: str) -> None:
        """Styles end."""
        self._style = self._style and tag != "style"

    def handle_data(self, data: str) -> None:
        """Keep the addresses of styles."""
        if self._style:
            self.loads += _addresses(data)


def _addresses(css: str) -> list[str]:
    return [url or named for url, named in _CSS.findall(css)]


def faults(folder: Path | str) -> list[str]:
    """Broken links inside a folder of pages, and what they or its styles fetch from other hosts.

    Empty when all is well. Every ``.html`` and ``.css`` file is read. A link to a place on a page needs that place; a
    link to a folder leads nowhere, because only a server makes a page of it. Links to other hosts are not followed.
    """
    folder = Path(folder).resolve()
    pages = {p: Page(p.read_text(encoding="utf-8")) for p in sorted(folder.rglob("*.html"))}
    return [f"{path.relative_to(folder).as_posix()}: {fault}" for path, fault in _found(folder, pages)]


def _found(folder: Path, pages: dict[Path, Page]) -> Iterator[tuple[Path, str]]:
    for path, page in pages.items():
        yield from ((path, f"{a} is brought from elsewhere") for a in page.loads if _elsewhere(a))
        for address in dict.fromkeys((*page.links, *page.loads)):
            if fault := _broken(address, path, folder, pages):
                yield path, f"{address} {fault}"
    for path in sorted(folder.rglob("*.css")):
        for address in _addresses(path.read_text(encoding="utf-8")):
            if _elsewhere(address):
                yield path, f"{address} is brought from elsewhere"
            elif fault := _broken(address, path, folder, pages):
                yield path, f"{address} {fault}"


def _elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in ("http", "https", "ftp") or (not parts.scheme and bool(parts.netloc))


def _broken(address: str, page: Path, folder: Path, pages: dict[Path, Page]) -> str:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return ""
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_file() or not target.is_relative_to(folder):
        return "leads nowhere"
    missing = parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors
    return "names a place that the page lacks" if missing else ""
