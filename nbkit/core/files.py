"""Files that appear whole or not at all, and the cache of finished work."""

from __future__ import annotations

import hashlib
import json
import logging
import os
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
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path` (a file or a folder) in one step.

    Raises
    ------
    NbkitError
        If the folder cannot be written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise NbkitError(
            f"{path.parent}", expected="a folder that can be written to", found=error.strerror or str(error),
            remedy="Choose another output folder, or change its permissions.",
        ) from error
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
