"""Which code a result depends on: a module and everything of nbkit that it imports."""

from __future__ import annotations

import ast
import hashlib
import sys
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PARSING = threading.Lock()
"""CPython 3.11 counts the depth of syntax trees for all threads together: two parsing at once can get SystemError."""


@lru_cache
def module_digest(*modules: str) -> str:
    """Twelve hex digits of the sources of imported `modules` and of all they import from nbkit, directly or not.

    Part of every cache key, so that changed code makes its work again and unrelated code does not. Read once per
    process: what runs is the code that was imported, not what was edited since.
    """
    todo, seen = [Path(sys.modules[m].__file__) for m in modules], {}
    while todo:
        path = todo.pop()
        if path not in seen:
            seen[path] = path.read_bytes()
            todo.extend(_imported(seen[path]))
    total = hashlib.sha256()
    for name, text in sorted((path.as_posix().removeprefix(ROOT.as_posix()), text) for path, text in seen.items()):
        total.update(name.encode() + b"\0" + text + b"\0")
    return total.hexdigest()[:12]


@lru_cache(maxsize=None)
def _imported(text: bytes) -> tuple[Path, ...]:
    with _PARSING:
        tree = ast.parse(text)
    return tuple(_files(tree))


def _files(tree: ast.AST) -> Iterator[Path]:
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        within = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        for name in (within, *(f"{within}.{n}".strip(".") for n in names)):
            if name.startswith("nbkit."):
                place = ROOT.joinpath(*name.split("."))
                yield from (p for p in (place.with_suffix(".py"), place / "__init__.py") if p.exists())
