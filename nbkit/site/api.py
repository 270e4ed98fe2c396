"""Pages of the API reference: a page a package, papers first, written for Sphinx's autodoc."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SHARED = (
    "session", "systems", "benchmark", "cohorts", "core", "geometry", "metrics", "losses", "nets", "training", "data",
    "phantom", "figures", "claims", "widgets", "export",
)
"""What a user of nbkit may want next to the papers; the command line is told by ``nbkit --help``."""


def api_pages(root: Path) -> Iterator[tuple[str, str]]:
    """Name and text (reStructuredText) of each page, and of ``index`` last.

    Parameters
    ----------
    root : path
        Of the package ``nbkit``.
    """
    papers = sorted(p.parent for p in (root / "papers").glob("*/__init__.py"))
    shared = [p for name in SHARED if (p := root / name).is_dir() or (p := root / f"{name}.py").is_file()]
    told = {"Papers": papers, "What papers share": shared}
    for path in (*papers, *shared):
        yield dotted(path, root), _page(path, root)
    yield "index", _index({title: [(dotted(p, root), summary(p)) for p in some] for title, some in told.items()})


def dotted(path: Path, root: Path) -> str:
    """``nbkit.papers.daninet`` for its folder, ``nbkit.session`` for its file."""
    return ".".join(path.with_suffix("").relative_to(root.parent).parts)


def summary(path: Path) -> str:
    """The first line of the docstring of a module or package."""
    return (ast.get_docstring(_parsed(path)) or "").partition("\n")[0]


def _parsed(path: Path) -> ast.Module:
    file = path / "__init__.py" if path.is_dir() else path
    return ast.parse(file.read_text(encoding="utf-8"))


def _public(path: Path) -> list[str]:
    """Names in ``__all__``, without those of modules."""
    assigned = (node for node in _parsed(path).body if isinstance(node, ast.Assign))
    named = next((ast.literal_eval(n.value) for n in assigned if getattr(n.targets[0], "id", "") == "__all__"), ())
    return [name for name in named if not (path / f"{name}.py").exists()]


def _page(path: Path, root: Path) -> str:
    """The docstring, the public names in a table and in full, then module by module what else there is."""
    name, public = dotted(path, root), _public(path)
    modules = sorted(m for m in path.glob("*.py") if m.name != "__init__.py") if path.is_dir() else []
    table = [".. autosummary::", "", *(f"   {one}" for one in public), ""] if public else []
    lines = [name, "=" * len(name), "", f".. automodule:: {name}", "   :members:", "", *table]
    for module in modules:
        lines += [module.stem, "-" * len(module.stem), "", f".. automodule:: {name}.{module.stem}", "   :members:"]
        lines += [f"   :exclude-members: {', '.join(public)}"] * bool(public) + [""]
    return "\n".join(lines)


def _index(groups: dict[str, list[tuple[str, str]]]) -> str:
    lines = ["API reference", "=============", "", "Public names with shapes, units, ranges, errors and sources.", ""]
    for title, pages in groups.items():
        lines += [title, "-" * len(title), "", *(f":doc:`{name}`\n   {words}\n" for name, words in pages)]
        lines += [".. toctree::", "   :hidden:", "", *(f"   {name}" for name, _ in pages), ""]
    return "\n".join(lines) + "\n"
