"""A results folder: its name, its lock, and the stamps that say which notebooks are done."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from nbkit.claims.observe import load_artefacts, load_observations
from nbkit.core.checks import NbkitError
from nbkit.core.files import write_json, write_text

Status = Literal["done", "unchanged", "failed", "stopped"]
LEVELS = ("embedded", "open")
# an orphan of a killed run notices within a third of a second and gives its lock back
PATIENCE_S = 3.0


@dataclass(frozen=True)
class Stamp:
    """How one notebook went: the digest of all it depends on, and what came of it."""

    notebook: str
    key: str
    status: Status
    code: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0
    error: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    records: list[str] = field(default_factory=list)


def results_folder(root: Path | str, profile: str, cohort: str) -> Path:
    """``<root>/<profile>-<level>``; the user's own data go to ``<root>/restricted-<profile>-own-<name>``."""
    if cohort in LEVELS:
        return Path(root) / f"{profile}-{cohort}"
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(cohort).stem).strip("-.") or "data"
    return Path(root) / (f"restricted-{profile}-own-{name}" if is_own(cohort) else f"{profile}-{name}")


def is_own(cohort: str) -> bool:
    """Whether a cohort is the path of the user's own data, so that git must not see its results."""
    return cohort not in LEVELS and Path(cohort).exists()


def records_of(folder: Path, notebook: str) -> list[str]:
    """Ids and files that a notebook has recorded in a folder, as far as they are still there."""
    files = [a["file"] for a in load_artefacts(folder)["artefacts"] if a["notebook"] == notebook]
    ids = [o.id for o in load_observations(folder).values() if o.notebook == notebook]
    return sorted(ids) + sorted(f for f in files if (folder / f).exists())


def write_stamp(folder: Path, stamp: Stamp) -> None:
    """Keep a stamp; the one before is replaced."""
    write_json(folder / ".stamps" / f"{stamp.notebook}.json", asdict(stamp))


def read_stamps(folder: Path) -> dict[str, Stamp]:
    """Stamps by notebook, in order of their names; unreadable ones count as absent."""
    found = {}
    for path in sorted((folder / ".stamps").glob("*.json")):
        try:
            found[path.stem] = Stamp(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            continue
    return found


def is_current(folder: Path, stamp: Stamp | None, key: str) -> bool:
    """Whether a notebook was finished with the same inputs, and all it recorded is still there."""
    return (
        stamp is not None and stamp.key == key and stamp.status in ("done", "unchanged")
        and (folder / f"{stamp.notebook}.ipynb").exists()
        and set(stamp.records) <= set(records_of(folder, stamp.notebook))
    )


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold a results folder; yields the lock's file descriptor, for the processes that work in it.

    The system frees the lock when its last holder ends, so a killed run leaves none behind.

    Raises
    ------
    NbkitError
        If another run holds the folder, or it cannot be written to.
    """
    path = folder / ".run.lock"
    if not path.exists():
        write_text(path, "")
    try:
        handle = open(path, "r+", encoding="utf-8")  # noqa: SIM115 - held until the run ends
    except OSError as error:
        raise NbkitError(
            str(folder), expected="a folder that can be written to", found=error.strerror or str(error),
            remedy="Choose another output folder with --out, or change its permissions.",
        ) from error
    with handle:
        _acquire(handle, folder)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield handle.fileno()


def _acquire(handle: Any, folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                holder = handle.read().strip() or "unknown"
                raise NbkitError(
                    f"{folder.name}", expected="a results folder no other run is writing to",
                    found=f"a run in process {holder}",
                    remedy="Wait for it, stop it, or give this run its own folder with --out.",
                ) from error
            time.sleep(0.1)
