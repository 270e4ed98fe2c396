"""Files that appear whole or not at all, and the cache of finished work."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from nbkit.core.checks import NbkitError
from nbkit.core.config import digest

log = logging.getLogger(__name__)
T = TypeVar("T")


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Whatever the system refuses is said by the folder's name."""
    try:
        yield
    except OSError as error:
        raise NbkitError(
            f"{folder}", expected="a folder that can be written to", found=error.strerror or str(error),
            remedy="Choose another output folder, or change its permissions.",
        ) from error


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path` (a file or a folder) in one step.

    Raises
    ------
    NbkitError
        If the folder cannot be written to.
    """
    path = Path(path)
    with _named(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield holder / path.name
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(holder / path.name, path)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_text(path: Path | str, text: str) -> Path:
    """Write `text` (UTF-8) atomically."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: Path | str, value: Any) -> Path:
    """Write `value` as indented JSON, atomically; keys keep their order."""
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


# what a spreadsheet takes for a formula; numbers may have a sign, and a unit or a spread after them
_FORMULA = re.compile(r"[=@\t\r\n]|[+-](?!\d[\d.,]*(e[+-]?\d+)?(\s[^()|!=]*|\s[±(][\d\s.,±–-]*\)?)?$)")


def plain_cell(value: Any) -> Any:
    """A cell of a CSV that no spreadsheet runs: text like ``=cmd()`` is marked as text by an apostrophe."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")  # pandas quotes no carriage return: a row would end there
    return f"'{text}" if _FORMULA.match(text) else text


@contextmanager
def sole(lock: Path | str) -> Iterator[None]:
    """Wait until no other process holds `lock`, a file that is made for this and removed afterwards.

    The system frees it when its holder dies.
    """
    lock = Path(lock)
    while True:
        with _named(lock.parent):
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = open(lock, "a")  # noqa: SIM115 - closed below
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process: %s", lock.name)
            fcntl.flock(handle, fcntl.LOCK_EX)
        if lock.exists() and os.path.samestat(os.fstat(handle.fileno()), lock.stat()):
            break
        handle.close()
    with handle:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def source_digest(root: Path) -> str:
    """Twelve hex digits of the Python and TOML sources below `root`."""
    root, total = Path(root), hashlib.sha256()
    for file in sorted(f for f in root.rglob("*") if f.suffix in (".py", ".toml", ".tsv")):
        total.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()[:12]


def cache_folder() -> Path:
    """Where finished work is kept: NBKIT_CACHE, else the user's cache folder."""
    base = os.environ.get("NBKIT_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nbkit"
    return Path(base).expanduser()


class Cache:
    """Finished work on disk, one folder per key.

    An entry is made in a temporary folder and moved into place when it is complete, so a killed
    run leaves nothing half-written; entries are folders that `make` fills and `load` reads.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root) if root else cache_folder()

    def holds(self, kind: str, key: Any) -> bool:
        """Whether the entry (`kind`, `key`) is there."""
        return (self.root / kind / digest(key) / "key.json").exists()

    def get(self, kind: str, key: Any, make: Callable[[Path], None], load: Callable[[Path], T]) -> T:
        """Load the entry (`kind`, `key`), making it first if it is not there. `key` must be JSON-able."""
        entry = self.root / kind / digest(key)
        if not self.holds(kind, key):
            log.info("making %s %s", kind, entry.name)
            with atomic(entry) as part:
                part.mkdir()
                make(part)
                write_json(part / "key.json", key)
        return load(entry)
