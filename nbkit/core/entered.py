"""Where somebody's own class is: ``my_model.py:MyModel``, or the name under which an installed package offers it."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from nbkit.core.checks import NbkitError, closest, require

GROUP = "nbkit.models"
"""Entry points of this group are models: name and ``package.module:Class``."""
WHERE = "MODEL"
_HOW = "Write MODEL=my_model.py:MyModel, a file and a class in it; several with commas between them."


def addresses(text: str) -> list[str]:
    """The addresses in a parameter: separated by commas, none in an empty one."""
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def absolute(text: str) -> str:
    """The same addresses with whole paths, because notebooks run from a folder of their own."""
    return ",".join(f"{file.resolve()}:{name}" if file else name for file, name in map(_split, addresses(text)))


def offered() -> dict[str, EntryPoint]:
    """What installed packages offer, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def load(address: str) -> type:
    """The class at an address; its file's folder may hold modules that it imports.

    Raises
    ------
    NbkitError
        For a file, class or name that is not there, or a file that cannot be imported.
    """
    file, name = _split(address)
    try:
        found = _from_file(file, name) if file else _offered(name).load()
    except NbkitError:
        raise
    except (Exception, SystemExit) as error:
        raise NbkitError(
            f"{WHERE}: {address}", expected="a module that can be imported", found=f"{type(error).__name__}: {error}",
            remedy=f"Mend {_place(error)}, or install what it needs.",
        ) from error
    require(isinstance(found, type), f"{WHERE}: {address}", expected="a class", found=type(found).__name__, remedy=_HOW)
    return found


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"line {error.lineno} of {Path(error.filename or '').name}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    return f"line {frames[-1].lineno} of {Path(frames[-1].filename).name}"


def source_digest(address: str) -> str:
    """Twelve hex digits of what a class is made of: its file and the modules beside it that it imports.

    Of an installed package, all Python sources of the package.
    """
    file, name = _split(address)
    if file is None:
        top = _offered(name).module.partition(".")[0]
        places = importlib.util.find_spec(top).submodule_search_locations or []
        files = sorted(p for place in places for p in Path(place).rglob("*.py"))
        files = files or [Path(importlib.util.find_spec(top).origin)]
    else:
        files = sorted(_with_neighbours(_there(file)))
    total = hashlib.sha256(name.encode())
    for path in files:
        total.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:12]


def _split(address: str) -> tuple[Path | None, str]:
    """File and class; no file where an installed package offers the name."""
    file, colon, name = address.rpartition(":")
    require(
        bool(name) and (not colon or file.endswith(".py")), WHERE, expected="FILE.py:CLASS, or the name of an offer",
        found=repr(address), remedy=_HOW,
    )
    return (Path(file).expanduser() if colon else None), name


def _there(file: Path) -> Path:
    near = closest(file.name, (p.name for p in file.parent.glob("*.py")))
    require(
        file.is_file(), f"{WHERE}: {file}", expected="a file", found="no such file",
        remedy=f"{near}Paths count from the folder where the command is given; in JupyterLab from notebooks/.",
    )
    return file.resolve()


def _offered(name: str) -> EntryPoint:
    there = offered()
    require(
        name in there, f"{WHERE}: {name}", expected=f"one of {', '.join(sorted(there)) or '(none)'}", found=repr(name),
        remedy=f"{closest(name, there)}Install the package that offers it, or {_HOW[0].lower()}{_HOW[1:]}",
    )
    return there[name]


def _from_file(file: Path, name: str) -> type:
    file = _there(file)
    module = f"entered_{file.stem}_{source_digest(f'{file}:{name}')}"
    if module not in sys.modules:
        if str(file.parent) not in sys.path:
            sys.path.append(str(file.parent))
        spec = importlib.util.spec_from_file_location(module, file)
        sys.modules[module] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[module])
        except BaseException:
            del sys.modules[module]
            raise
    there = vars(sys.modules[module])
    classes = [n for n, value in there.items() if isinstance(value, type) and value.__module__ == module]
    require(
        name in there, f"{WHERE}: {file.name}", expected=f"a class {name}", found=f"{', '.join(classes) or 'no class'}",
        remedy=f"{closest(name, classes)}{_HOW}",
    )
    return there[name]


def _with_neighbours(file: Path) -> set[Path]:
    """A file and what it imports from its own folder, directly or not."""
    todo, seen = [file], set()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo.extend(_imported(path, file.parent))
    return seen


def _imported(path: Path, folder: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:  # told when it is loaded
        return
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for place in (folder.joinpath(*name.split(".")) for name in names if name):
            yield from (p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file())
