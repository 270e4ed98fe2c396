"""What a notebook lets its user set: its parameters cell, read without running it, and values checked against it."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.core.checks import NbkitError, closest, require

PLAIN = (str, int, float, bool, list, type(None))


@dataclass(frozen=True)
class Parameter:
    """One assignment of the parameters cell; `inert` says why it changes no result, and is empty if it may."""

    name: str
    default: Any
    inert: str = ""


def declared(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook, from its one cell tagged ``parameters``.

    Raises
    ------
    NbkitError
        If there is not exactly one such cell, or it holds anything but names set to plain literals.
    """
    cells = _cells(notebook)
    tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    require(
        len(tagged) == 1, f"{notebook.name}: parameters cell", expected="exactly one", found=len(tagged),
        remedy="Tag one cell `parameters`.",
    )
    source = "".join(tagged[0]["source"])
    try:
        found = [_parameter(node, source) for node in ast.parse(source).body]
    except (ValueError, SyntaxError) as error:
        raise NbkitError(
            f"{notebook.name}: parameters cell", expected="lines `name = plain literal`", found=str(error),
            remedy="Use only str, int, float, bool, list or None.",
        ) from error
    return {p.name: p for p in found}


def source_of(notebook: Path) -> list[Any]:
    """Type, tags and source of every cell: what a run depends on, without outputs and view settings."""
    return [[c["cell_type"], c.get("metadata", {}).get("tags", []), "".join(c["source"])] for c in _cells(notebook)]


def reads_results(notebook: Path) -> bool:
    """Whether a notebook works on what the others left in the results folder: one of its cells is tagged so."""
    return any("reads-results" in c.get("metadata", {}).get("tags", []) for c in _cells(notebook))


def _cells(notebook: Path) -> list[dict[str, Any]]:
    try:
        return json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    except (ValueError, KeyError) as error:
        raise NbkitError(
            str(notebook), expected="a notebook (version 4 JSON)", found=str(error),
            remedy="Open and save it in JupyterLab, or restore it from git.",
        ) from error


def _parameter(node: ast.stmt, source: str) -> Parameter:
    target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
    target = node.target if isinstance(node, ast.AnnAssign) and node.value else target
    if not isinstance(target, ast.Name):
        raise ValueError(f"line {node.lineno}: {ast.unparse(node)}")
    value = ast.literal_eval(node.value)
    if not isinstance(value, PLAIN):
        raise ValueError(f"line {node.lineno}: a {type(value).__name__}")
    line = source.splitlines()[node.end_lineno - 1]
    return Parameter(target.id, value, line.partition("# inert:")[2].strip())


def bind(notebook: Path, standard: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Values for one notebook: of `standard` and `chosen`, those it declares, each of the declared type.

    Raises
    ------
    NbkitError
        For a value whose type is not that of its default.
    """
    known = declared(notebook)
    values = {k: v for k, v in {**standard, **chosen}.items() if k in known}
    for name, value in values.items():
        _check_type(f"{notebook.name}: {name}", value, known[name].default)
    return values


def check_names(notebooks: Iterable[Path], chosen: Iterable[str]) -> None:
    """Refuse a parameter that none of the notebooks declares, with the nearest name."""
    notebooks = list(notebooks)
    names = {name for n in notebooks for name in declared(n)}
    for name in chosen:
        require(
            name in names, "parameter", expected=f"one of {', '.join(sorted(names))}", found=repr(name),
            remedy=f"{closest(name, names)}These are the parameters of {', '.join(n.stem for n in notebooks)}.",
        )


def from_text(notebooks: Iterable[Path], pairs: Iterable[str]) -> dict[str, Any]:
    """Parse ``name=value`` texts; a value is read as the type that the notebooks declare for its name.

    Raises
    ------
    NbkitError
        For a text without "=", or a name that no notebook declares.
    """
    notebooks = list(notebooks)
    split = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        require(bool(equals), "parameter", expected="name=value", found=repr(pair), remedy="Write -p name=value.")
        split[name.strip()] = text
    check_names(notebooks, split)
    defaults = {name: p.default for n in notebooks for name, p in declared(n).items()}
    return {name: _read(text, defaults[name]) for name, text in split.items()}


def _read(text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    spoken = {"true": True, "false": False, "none": None}
    try:
        return spoken[text.lower()] if text.lower() in spoken else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _check_type(where: str, value: Any, default: Any) -> None:
    wanted = (int, float) if type(default) is float else PLAIN if default is None else (type(default),)
    fits = isinstance(value, wanted) and (isinstance(value, bool) <= (bool in wanted))
    fits = fits and (not isinstance(value, list) or all(isinstance(v, (str, int, float, bool)) for v in value))
    require(
        fits, where, expected=" or ".join(t.__name__ for t in wanted), found=f"{value!r} ({type(value).__name__})",
        remedy=f"Its default is {default!r}: give a value of the same kind.",
    )
