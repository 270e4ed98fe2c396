"""Pages of one file: styles and script inside, nothing fetched, nothing run that this project did not write."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from nbkit.core.files import write_text

LOOK = Path(__file__).with_name("page.css")
"""Colours (light and dark), type and controls that all pages share."""


def write_page(
    path: Path | str, template: Path, *, script: Path | None = None, filters: Mapping[str, Callable] | None = None,
    **values: Any,
) -> Path:
    """Write the page that a jinja2 template makes of `values`, which are escaped.

    The styles are :data:`LOOK` and the template's own (``report.html.j2``: ``report.css``). A content-security policy
    lets in these, `script`, and pictures inside the page (``data:``); nothing else runs or is fetched, whatever a caption
    or a file name holds.

    Parameters
    ----------
    path, template : path
    script : path, optional
        JavaScript.
    filters : mapping of str to callable, optional
    values
        What the template asks for; besides, it has `styles`, `script` and `policy`, and the filter ``json``.
    """
    sheet = template.with_name(template.name.replace(".html.j2", ".css"))
    styles = "\n".join(p.read_text(encoding="utf-8") for p in (LOOK, sheet))
    code = script.read_text(encoding="utf-8") if script else ""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )
    environment.filters |= {"json": _json, **(filters or {})}
    page = environment.from_string(template.read_text(encoding="utf-8")).render(
        styles=jinja2.utils.markupsafe.Markup(styles), script=jinja2.utils.markupsafe.Markup(code),
        policy=policy(styles, code), **values,
    )
    return write_text(path, page)


def policy(styles: str, script: str = "") -> str:
    """The content-security policy of a page with these styles and this script."""
    code = f"'sha256-{_sha256(script)}'" if script else "'none'"
    return (f"default-src 'none'; img-src data:; style-src 'sha256-{_sha256(styles)}'; script-src {code}; "
            "base-uri 'none'; form-action 'none'")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _json(value: Any) -> Any:
    """JSON for a ``<script type="application/json">``: no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return jinja2.utils.markupsafe.Markup(text.replace("<", "\\u003c"))
