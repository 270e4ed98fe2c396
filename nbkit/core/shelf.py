"""What keeps finished work right and small: digests, who is at work, what has to go, what the dead left behind."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from nbkit.core.checks import require

log = logging.getLogger(__name__)
SUMS, KEY, LIVE, UNFINISHED, TRAINING = "SHA256SUMS", "key.json", ".live", ".new", "training"
DEFAULT_GB = 50.0
WEEK_S = 7 * 86400.0
"""Age after which what cannot be locked counts as left behind."""
_checked: set[tuple] = set()
_live: dict[tuple[int, Path], int] = {}


def write_sums(entry: Path) -> None:
    """Write ``SHA256SUMS`` over all files of a folder, as `sha256sum -c` reads it."""
    text = "".join(f"{_digest(file)}  {file.relative_to(entry).as_posix()}\n" for file in _files(entry))
    part = entry / f".{SUMS}.{os.getpid()}"
    part.write_text(text, encoding="utf-8")
    part.replace(entry / SUMS)


def _files(entry: Path) -> list[Path]:
    return sorted(f for f in entry.rglob("*") if f.is_file() and not f.name.startswith((SUMS, f".{SUMS}")))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def damage(entry: Path) -> str:
    """What is wrong with a folder that has ``SHA256SUMS``, or ""; a file is read once per process until it changes."""
    try:
        lines = (entry / SUMS).read_text(encoding="utf-8").splitlines()
        listed = {name: given for given, _, name in (line.partition("  ") for line in lines)}
        there = {f.relative_to(entry).as_posix(): f for f in _files(entry)}
        odd = sorted(set(listed) ^ set(there))
        return next((f"{name} is missing or foreign" for name in odd), "") or next(
            (f"{name} has other content" for name, file in there.items() if not _is(file, listed[name])), ""
        )
    except (OSError, UnicodeDecodeError) as error:
        return str(error)


def _is(file: Path, given: str) -> bool:
    stat = file.stat()
    key = (str(file), stat.st_ino, stat.st_size, stat.st_mtime_ns, given)
    if key in _checked:
        return True
    if _digest(file) != given:
        return False
    _checked.add(key)
    return True


@contextmanager
def unfinished(parent: Path, name: str) -> Iterator[Path]:
    """A temporary folder, held for as long as it is filled and then removed; the system frees it if its holder dies."""
    # nobody sweeps between its name and its lock; nobody ever sweeps one of these, which are locked already
    with nullcontext() if parent.name.endswith(UNFINISHED) else _held(parent, fcntl.LOCK_SH):
        folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=UNFINISHED, dir=parent))
        handle = os.open(folder, os.O_RDONLY)
        with suppress(OSError):  # some network disks lock no folders: then age decides
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


@contextmanager
def _held(folder: Path, how: int) -> Iterator[None]:
    """A lock on a folder, which goes with its holder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, how)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # a process that was forked meanwhile has the handle too
        os.close(handle)


def sweep(*folders: Path, prefix: str = "") -> list[Path]:
    """Remove what dead processes left in these folders: unfinished folders and locks that nobody holds."""
    left = []
    for folder in (f for f in folders if f.is_dir()):
        with _held(folder, fcntl.LOCK_EX):
            for path in leftovers(folder, prefix=prefix):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
                left.append(path)
    if left:
        log.info("removed what a run that was killed had left: %s", ", ".join(p.name for p in left[:5]))
    return left


def places(root: Path) -> list[Path]:
    """Where killed runs may have left something in a cache: itself, and its folders."""
    return [root, *(p for p in root.iterdir() if p.is_dir() and not p.is_symlink())] if root.is_dir() else []


def leftovers(*folders: Path, prefix: str = "") -> list[Path]:
    """What :func:`sweep` would remove."""
    return [p for folder in folders if folder.is_dir() for p in folder.glob(f"{prefix}*") if _is_left(p)]


def _is_left(path: Path) -> bool:
    name = path.name
    old = name.endswith(".part")  # of earlier versions, which held no locks, and downloads that were given up
    if not (old or (name.startswith(".") and name.endswith((UNFINISHED, ".lock")) and name != ".run.lock")):
        return False
    with suppress(OSError):
        stat = path.stat()
        free = None if old else _free(path)
        return stat.st_uid == os.getuid() and (time.time() - stat.st_mtime > WEEK_S if free is None else free)
    return False


def _free(path: Path) -> bool | None:
    """Whether nobody holds `path`; None where that cannot be known."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return None
    finally:
        os.close(handle)


def register(root: Path) -> None:
    """Say once that this process works with a cache; before that, remove leftovers and what is too much."""
    if (os.getpid(), root) in _live or not root.is_dir():
        return
    with suppress(OSError):  # a cache that cannot be written to can still be read
        (root / LIVE).mkdir(exist_ok=True)
        handle = os.open(root / LIVE / f"{socket.gethostname()}-{os.getpid()}", os.O_RDWR | os.O_CREAT)
        fcntl.flock(handle, fcntl.LOCK_SH)  # until we end
        os.utime(handle)
        _live[os.getpid(), root] = handle
        sweep(*places(root))
        evict(root, limit_bytes())


def limit_bytes() -> float:
    """NBKIT_CACHE_GB in bytes."""
    text = os.environ.get("NBKIT_CACHE_GB") or str(DEFAULT_GB)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    require(
        value >= 0, "NBKIT_CACHE_GB", expected="a number of gigabytes", found=repr(text),
        remedy=f"Write NBKIT_CACHE_GB=20; without it the limit is {DEFAULT_GB:.0f}, and `inf` sets none.",
    )
    return value * 1e9


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(f.lstat().st_size for f in folder.rglob("*") if f.is_file())


def entries_of(kind: Path) -> list[Path]:
    """Folders of one kind of finished work, and those of trainings that were stopped."""
    there = [p for p in kind.iterdir() if p.is_dir() and not p.name.startswith(".")] if kind.is_dir() else []
    return sorted(p for p in there if kind.name == TRAINING or (p / KEY).exists())


def entries(root: Path) -> list[tuple[float, Path]]:
    """When each entry of a cache was last used, and its folder; the least recently used first."""
    kinds = [p for p in root.iterdir() if p.is_dir() and not p.is_symlink()]
    return sorted((_used(entry), entry) for kind in kinds for entry in entries_of(kind))


def touch(entry: Path) -> None:
    """Say that an entry is used now: it stays when others have to go."""
    with suppress(OSError):
        os.utime(entry / SUMS)


def _used(entry: Path) -> float:
    known = [f for f in (entry / SUMS, entry / KEY) if f.exists()][:1]
    return max(p.stat().st_mtime for p in known or [entry, *entry.iterdir()])


def evict(root: Path, limit: float) -> list[Path]:
    """Remove the least recently used entries until a cache fits; what was used since the oldest process that works
    with it began stays, however large."""
    since, gone = _since(root), []
    there = [(used, entry, size(entry)) for used, entry in entries(root)]
    total = sum(nbytes for *_, nbytes in there)
    for _, entry, nbytes in there:
        if total <= limit:
            break
        aside = entry.with_name(f".{entry.name}{UNFINISHED}")
        entry.rename(aside)
        if _used(aside) >= since:  # looked at last of all: somebody may just have come
            aside.rename(entry)
            break
        shutil.rmtree(aside, ignore_errors=True)
        total, gone = total - nbytes, [*gone, entry]
    if gone:
        log.info("cache over NBKIT_CACHE_GB=%g: %d entries used longest ago removed", limit / 1e9, len(gone))
    return gone


def _since(root: Path) -> float:
    starts = [time.time()]
    for file in (root / LIVE).glob("*"):
        if _free(file):
            file.unlink(missing_ok=True)
        else:
            starts.append(file.stat().st_mtime)
    return min(starts)
