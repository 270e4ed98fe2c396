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
_NO_PART = ("nbkit/core/shelf.py", "nbkit/figures")
"""What only keeps and clears finished work, and what only draws it: no result can depend on it."""
_PARSING = threading.Lock()
"""CPython 3.11 counts the depth of syntax trees for all threads together: two parsing at once can get SystemError."""


@lru_cache
def module_digest(*modules: str) -> str:
    """Twelve hex digits of the code of imported `modules` and of all they import from nbkit, directly or not.

    Part of every cache key, so that changed code makes its work again; unrelated code, comments, docstrings and
    layout do not. Read once per process: what runs is the code that was imported, not what was edited since.
    """
    todo, seen = [Path(sys.modules[m].__file__) for m in modules], {}
    while todo:
        path = todo.pop()
        if path not in seen and not any(path.is_relative_to(ROOT / name) for name in _NO_PART):
            seen[path], imported = _parsed(path.read_bytes())
            todo.extend(imported)
    total = hashlib.sha256()
    for name, code in sorted((path.as_posix().removeprefix(ROOT.as_posix()), code) for path, code in seen.items()):
        total.update(f"{name}\0{code}\0".encode())
    return total.hexdigest()[:12]


@lru_cache(maxsize=None)
def _parsed(text: bytes) -> tuple[str, tuple[Path, ...]]:
    """What a source does, without what it says of itself, and the files of nbkit that it imports."""
    with _PARSING:
        tree = ast.parse(text)
    imported = tuple(_files(tree))
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [step for step in body if not _is_text(step)]
    return ast.dump(tree), imported


def _is_text(step: ast.stmt) -> bool:
    return isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant) and isinstance(step.value.value, str)


def _files(tree: ast.AST) -> Iterator[Path]:
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        within = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        for name in (within, *(f"{within}.{n}".strip(".") for n in names)):
            if name.startswith("nbkit."):
                place = ROOT.joinpath(*name.split("."))
                yield from (p for p in (place.with_suffix(".py"), place / "__init__.py") if p.exists())
