"""The house measures (CONTRIBUTING.md): sizes, docstrings, no print, no work at import."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator

import pytest

from tests.sources import Source, sources

FILE_LINES, LINE_LENGTH, FUNCTION_LINES, TRAINING_LOOP_LINES, MEDIAN_LINES = 400, 120, 60, 90, 12
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: Source) -> list[ast.FunctionDef]:
    """Every function and method, nested ones included."""
    return [node for node in ast.walk(source.tree) if isinstance(node, Function)]


def length(function: ast.FunctionDef) -> int:
    """Lines from ``def`` to the end; the docstring is not counted, so that explaining costs nothing."""
    total = function.end_lineno - function.lineno + 1
    first = function.body[0]
    return total - (first.end_lineno - first.lineno + 1 if ast.get_docstring(function) else 0)


def size_faults(source: Source) -> Iterator[str]:
    """Files, lines and functions that are too long."""
    lines = source.text.splitlines()
    if len(lines) > FILE_LINES:
        yield f"{source.path}: {len(lines)} lines, at most {FILE_LINES}"
    for i, line in enumerate(lines, 1):
        if len(line) > LINE_LENGTH:
            yield f"{source.path}:{i}: {len(line)} characters, at most {LINE_LENGTH}"
    limit = TRAINING_LOOP_LINES if source.path == "nbkit/training/loop.py" else FUNCTION_LINES
    for f in functions(source):
        if length(f) > limit:
            yield f"{source.path}:{f.lineno}: {f.name} has {length(f)} lines, at most {limit}"


def public(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Public classes, functions, methods and properties, by dotted name."""
    for child in node.body:
        if isinstance(child, (*Function.__args__, ast.ClassDef)) and not child.name.startswith("_"):
            yield prefix + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{prefix}{child.name}.")


def docstring_faults(source: Source) -> Iterator[str]:
    """Public names without a docstring."""
    if not ast.get_docstring(source.tree):
        yield f"{source.path}: the module has no docstring"
    for name, node in public(source.tree):
        if not ast.get_docstring(node):
            yield f"{source.path}:{node.lineno}: {name} has no docstring"


def print_faults(source: Source) -> Iterator[str]:
    """Calls of print: the library logs."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            yield f"{source.path}:{node.lineno}: print"


def import_time_faults(source: Source) -> Iterator[str]:
    """Module-level statements that do work: loops, contexts, calls whose value nobody keeps."""
    for node in source.tree.body:
        call = node.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
        registers = getattr(getattr(call, "func", None), "attr", "") == "add_typer"
        if isinstance(node, ast.For | ast.While | ast.With) or (call and not registers):
            yield f"{source.path}:{node.lineno}: work at import"


@pytest.mark.parametrize("source", [*sources(), *sources("tests")], ids=lambda s: s.path)
def test_sizes(source):
    assert list(size_faults(source)) == []


@pytest.mark.parametrize("source", sources(), ids=lambda s: s.path)
@pytest.mark.parametrize("check", [docstring_faults, print_faults, import_time_faults])
def test_library_code(source, check):
    assert list(check(source)) == []


def test_functions_stay_short_on_the_whole():
    assert statistics.median(length(f) for source in sources() for f in functions(source)) <= MEDIAN_LINES


BAD = {
    "a long file": (size_faults, "\n" * (FILE_LINES + 1), "at most 400"),
    "a long line": (size_faults, "x = '" + "a" * LINE_LENGTH + "'", "at most 120"),
    "a long function": (size_faults, "def f():\n" + "    x = 1\n" * FUNCTION_LINES, "f has 61 lines"),
    "no module docstring": (docstring_faults, "x = 1", "the module has no docstring"),
    "no docstring": (docstring_faults, "'Doc.'\nclass A:\n  'Doc.'\n  def f(self): pass", "A.f has no docstring"),
    "print": (print_faults, "def f():\n    print(1)", "print"),
    "a loop": (import_time_faults, "for i in range(3): x = i", "work at import"),
    "a call": (import_time_faults, "import torch\ntorch.manual_seed(0)", "work at import"),
}


@pytest.mark.parametrize(("check", "text", "fault"), BAD.values(), ids=BAD)
def test_bad_code_is_found(check, text, fault):
    found = list(check(Source("nbkit/core/x.py", text)))
    assert len(found) == 1 and fault in found[0]


def test_a_docstring_does_not_count_as_length():
    text = "def f():\n    '''Doc.\n" + "\n" * FUNCTION_LINES + "    '''\n    return 1\n"
    assert list(size_faults(Source("nbkit/core/x.py", text))) == []
