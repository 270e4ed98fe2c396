"""Files that appear whole or not at all, and the cache of finished work."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from nbkit.core import shelf
from nbkit.core.checks import NbkitError
from nbkit.core.config import digest

log = logging.getLogger(__name__)
T = TypeVar("T")


ELSEWHERE = "Choose another output folder, or change its permissions."
ROOM = "Free some room on that disk, or choose another folder; the same command then goes on from here."
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL = re.compile(r"No space left|os error (28|122|27)\b|requested and \d+ written")


@contextmanager
def _named(folder: Path, remedy: str) -> Iterator[None]:
    """Whatever the system refuses is said by the folder's name."""
    try:
        yield
    except OSError as error:
        raise NbkitError(
            f"{folder}", expected="a folder that can be written to", found=error.strerror or str(error), remedy=remedy,
        ) from error


class NoRoom(NbkitError):
    """A write failed for want of room."""


def _is_full(error: Exception, folder: Path) -> bool:
    """Whether a write failed for want of room, whatever library says so and how."""
    if isinstance(error, NbkitError):
        return isinstance(error, NoRoom)
    if getattr(error, "errno", None) in _NO_ROOM or _FULL.search(str(error)):
        return True
    return isinstance(error, (OSError, RuntimeError)) and shutil.disk_usage(folder).free < 2**16


@contextmanager
def atomic(path: Path | str, *, remedy: str = ELSEWHERE) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path` (a file or a folder) in one step.

    Raises
    ------
    NbkitError
        If the folder cannot be written to, or its disk is full; `remedy` says what to do.
    """
    path = Path(path)
    with ExitStack() as stack:
        with _named(path.parent, remedy):
            path.parent.mkdir(parents=True, exist_ok=True)
            holder = stack.enter_context(shelf.unfinished(path.parent, path.name))
        try:
            yield holder / path.name
            if path.is_dir():
                shutil.rmtree(path)
            os.replace(holder / path.name, path)
        except Exception as error:
            if not _is_full(error, path.parent):
                raise
            # a file inside a folder that is being made: the folder is what people know
            said = error.__cause__ if isinstance(error, NoRoom) else error
            raise NoRoom(
                f"{path.parent}", expected=f"room for {path.name}", remedy=f"{ROOM} {remedy}",
                found=f"{shutil.disk_usage(path.parent).free / 1e6:.0f} MB free ({said})",
            ) from said


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
def sole(lock: Path | str, *, remedy: str = ELSEWHERE) -> Iterator[None]:
    """Wait until no other process holds `lock`, a file that is made for this and removed afterwards.

    The system frees it when its holder dies.
    """
    lock = Path(lock)
    while True:
        with _named(lock.parent, remedy):
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = open(lock, "a")  # noqa: SIM115 - closed below
        with suppress(OSError):  # network disks without locks: as it was before there were any
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
    try:
        named = os.environ.get("NBKIT_CACHE")
        return Path(named or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nbkit").expanduser()
    except RuntimeError as error:
        raise NbkitError(
            "HOME", expected="a home folder, for the cache in it", found="none",
            remedy="Set NBKIT_CACHE to a folder you may write to (downloads go there too, unless NBKIT_DATA is set).",
        ) from error


CACHE_REMEDY = (
    "`nbkit cache` shows what finished work takes and `nbkit cache clear` removes it; "
    "or set NBKIT_CACHE to a folder with room and permission to write."
)


class Cache:
    """Finished work on disk, one folder per key.

    An entry is made in a temporary folder and moved into place when it is complete, so a killed
    run leaves nothing half-written; entries are folders that `make` fills and `load` reads. Every file has its
    SHA-256, which is checked when an entry is read, once per process: what is damaged is made again.
    """

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root) if root else cache_folder()

    def holds(self, kind: str, key: Any) -> bool:
        """Whether the entry (`kind`, `key`) is there."""
        return (self.root / kind / digest(key) / shelf.KEY).exists()

    def get(self, kind: str, key: Any, make: Callable[[Path], None], load: Callable[[Path], T]) -> T:
        """Load the entry (`kind`, `key`), making it first if it is not there. `key` must be JSON-able."""
        entry = self.root / kind / digest(key)
        shelf.register(self.root)
        if self._is_older(entry):
            try:
                value = load(entry)
                with suppress(OSError):
                    shelf.write_sums(entry)
                return value
            except MemoryError:
                raise
            except Exception as error:
                log.warning("%s %s cannot be read (%s): made again", kind, entry.name, error)
                self._make(entry, key, make)
        if not self._is_right(entry):
            with sole(entry.with_name(f".{entry.name}.lock"), remedy=CACHE_REMEDY):
                if not self._is_right(entry):  # nobody else made it meanwhile
                    self._make(entry, key, make)
        return load(entry)

    def _is_older(self, entry: Path) -> bool:
        """Whether it was made before entries had digests: it counts, if it can be read."""
        return (entry / shelf.KEY).exists() and not (entry / shelf.SUMS).exists()

    def _is_right(self, entry: Path) -> bool:
        if not (entry / shelf.KEY).exists():
            return False
        shelf.touch(entry)
        wrong = shelf.damage(entry)
        if wrong:
            log.warning("%s %s is damaged (%s): made again", entry.parent.name, entry.name, wrong)
        return not wrong

    def _make(self, entry: Path, key: Any, make: Callable[[Path], None]) -> None:
        log.info("making %s %s", entry.parent.name, entry.name)
        with atomic(entry, remedy=CACHE_REMEDY) as part:
            part.mkdir()
            make(part)
            write_json(part / shelf.KEY, key)
            shelf.write_sums(part)
