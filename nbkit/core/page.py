"""Every page that is written: what came from data stays text, and nothing runs but what the page brings."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

LOOK = Path(__file__).with_name("page.css")
"""Colours (light and dark), type and controls that pages share."""


def page(
    template: Path, *, scripts: Mapping[str, str] | None = None, sources: Mapping[str, str] | None = None,
    filters: Mapping[str, Callable[..., Any]] | None = None, **values: Any,
) -> str:
    """Fill a template with everything escaped, and put a content-security policy first in its head.

    Parameters
    ----------
    template : path
        With ``<head>`` on a line of its own.
    scripts : mapping of str to str, optional
        Our own scripts by the names that stand for them in the template: ``<script>{{ name | safe }}</script>``. They
        alone may run, by their hash; data go beside them as
        ``<script type="application/json">{{ values | tojson }}</script>``.
    sources : mapping of str to str, optional
        More that the policy allows, as ``{"worker-src": "blob:"}``.
    filters : mapping, optional
    """
    text = filled(template, filters=filters, **values, **dict(scripts or {}))
    before, head, after = text.partition("<head>\n")
    if not head:
        raise ValueError(f"{template.name}: no line <head>")
    return f'{before}{head}<meta http-equiv="Content-Security-Policy" content="{policy(scripts, sources)}">\n{after}'


def filled(
    template: Path, *, beside: Sequence[Path] = (), filters: Mapping[str, Callable[..., Any]] | None = None,
    **values: Any,
) -> str:
    """Fill a template with everything escaped; it may take macros from its folder and from those `beside`."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=jinja2.FileSystemLoader([template.parent, *beside]),
    )
    environment.filters |= filters or {}
    return environment.get_template(template.name).render(**values)


def policy(scripts: Mapping[str, str] | None = None, sources: Mapping[str, str] | None = None) -> str:
    """A policy under which a page shows its own pictures and styles and runs `scripts` alone, by their hash."""
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in (scripts or {}).values()]
    allowed = {
        "default-src": "'none'", "img-src": "data:", "style-src": "'unsafe-inline'", "base-uri": "'none'",
        "form-action": "'none'",
    } | ({"script-src": " ".join(f"'sha256-{h}'" for h in hashes)} if hashes else {})
    return "; ".join(f"{kind} {place}" for kind, place in (allowed | dict(sources or {})).items())


def look(template: Path) -> str:
    """The styles of a template, for ``<style>{{ styles | safe }}</style>``: :data:`LOOK`, and ``report.css`` for
    ``report.html.j2``.
    """
    own = template.with_name(template.name.replace(".html.j2", ".css"))
    return LOOK.read_text(encoding="utf-8") + own.read_text(encoding="utf-8")
