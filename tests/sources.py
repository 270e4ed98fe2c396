"""The project's own Python sources, parsed once, for the tests that look at code."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Import:
    """One import: the dotted name it asks for, its line, and whether it stands inside a function."""

    name: str
    line: int
    in_function: bool = False
    relative: bool = False

    @property
    def top(self) -> str:
        """The distribution's top-level name, e.g. ``matplotlib``."""
        return self.name.split(".")[0]

    @property
    def third_party(self) -> bool:
        """Neither nbkit, nor its tests, nor the standard library."""
        return self.top not in ("nbkit", "tests") and self.top not in sys.stdlib_module_names


@dataclass(frozen=True)
class Source:
    """One file: its path below the repository, its text and syntax tree."""

    path: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, self.path)

    @property
    def module(self) -> str:
        """The dotted name, e.g. ``nbkit.core.checks``."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def is_package(self) -> bool:
        """Whether this is an ``__init__.py``."""
        return self.path.endswith("__init__.py")

    @functools.cached_property
    def imports(self) -> tuple[Import, ...]:
        """Every import, those inside functions and strings given to an import function included."""
        return tuple(_imports(self.tree, False))


def _imports(node: ast.AST, in_function: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inside = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            # `from nbkit import data` asks for nbkit.data: the name is part of what is imported
            base = f"{child.module or ''}."
            names = (f"{base}{alias.name}" for alias in child.names)
            yield from (Import(name, child.lineno, inside, child.level > 0) for name in names)
        elif isinstance(child, ast.Call) and _called(child) in ("import_module", "__import__"):
            first = child.args[0] if child.args else None
            name = first.value if isinstance(first, ast.Constant) else "nbkit.(computed)"
            yield Import(str(name), child.lineno, True, str(name).startswith("."))
        yield from _imports(child, inside)


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


@functools.cache
def sources(folder: str = "nbkit") -> tuple[Source, ...]:
    """Every Python file below `folder` of the repository."""
    files = sorted((ROOT / folder).rglob("*.py"))
    return tuple(Source(f.relative_to(ROOT).as_posix(), f.read_text(encoding="utf-8")) for f in files)
