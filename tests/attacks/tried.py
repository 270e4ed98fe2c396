"""Interrupts works of works.py in processes of their own; a module, so that the tests' process stays out of it.

``python -m tests.attacks.tried kill FOLDER PLACES WORK ...`` kills each work at places spread over all it does with
files; ``full`` gives it a disk of growing size, ``readonly`` one that can only be read (tmpfs: they ask for the right
to mount). After each, the work is done again in the same folder and must come to what it comes to undisturbed, with
nothing left over. Prints JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from nbkit.core.checks import NbkitError
from tests.attacks.works import WORKS

EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.utime", "shutil.rmtree",
          "tempfile.mkdtemp", "fcntl.flock", "subprocess.Popen"}


def forked(work: str, folder: Path, *, kill_at: int | None = None, count: bool = False) -> dict[str, Any]:
    """What the work comes to in a process of its own: value, error, how many events, or how it was killed."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        seen = [0]

        def watch(event: str, arguments: tuple) -> None:
            if event in EVENTS and _ours(event, arguments, folder):
                if seen[0] == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen[0] += 1

        if count or kill_at is not None:
            sys.addaudithook(watch)
        told: dict[str, Any] = {}
        try:
            told["value"] = WORKS[work](folder)
        except NbkitError as error:
            told["refused"] = f"{error.where}: {error.found}"
        except BaseException as error:  # noqa: BLE001 - what it is, the test says
            told["error"] = "".join(traceback.format_exception(error))[-1500:]
        told["events"] = seen[0]
        with os.fdopen(write, "w") as pipe:
            json.dump(told, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else {"killed": os.waitstatus_to_exitcode(status)}


def _ours(event: str, arguments: tuple, folder: Path) -> bool:
    if event == "fcntl.flock" or event == "subprocess.Popen":
        return True
    return bool(arguments) and str(folder) in str(arguments[0])


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def kills(work: str, folder: Path, places: int) -> dict[str, Any]:
    """Killed at `places` places of all, then done again."""
    whole = forked(work, fresh(folder), count=True)
    outcomes = []
    for k in range(places):
        at = (2 * k + 1) * whole["events"] // (2 * places)
        ended = forked(work, fresh(folder), kill_at=at)
        again = forked(work, folder)
        outcomes.append({"at": at, "ended": ended, "same": again.get("value") == whole.get("value"), "again": again,
                         "left": left(folder)})
    return {"whole": whole, "outcomes": outcomes}


def full(work: str, folder: Path, places: int) -> dict[str, Any]:
    """On a disk too small, of `places` sizes; then with room."""
    whole = forked(work, fresh(folder), count=True)
    need = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    outcomes = []
    fresh(folder)
    for k in range(places):
        size = max(need * k // places, 8192) // 4096 * 4096
        _mount(f"size={size}", folder)
        try:
            ended = forked(work, folder)
            half = left(folder)
            _mount("remount,size=64m", folder)
            again = forked(work, folder)
            outcomes.append({"at": size, "ended": ended, "same": again.get("value") == whole.get("value"),
                             "again": again, "left": left(folder), "half": half})
        finally:
            subprocess.run(["umount", folder], check=True)
    return {"whole": whole, "outcomes": outcomes}


def readonly(work: str, folder: Path, places: int) -> dict[str, Any]:
    """On a disk that can only be read; then one that can be written to."""
    whole = forked(work, fresh(folder), count=True)
    fresh(folder)
    _mount("size=64m,ro", folder)
    try:
        ended = forked(work, folder)
        _mount("remount,rw", folder)
        again = forked(work, folder)
        same = again.get("value") == whole.get("value")
        outcome = {"at": 0, "ended": ended, "same": same, "again": again, "left": left(folder)}
        return {"whole": whole, "outcomes": [outcome]}
    finally:
        subprocess.run(["umount", folder], check=True)


def _mount(options: str, folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)


def left(folder: Path) -> list[str]:
    """What looks half-written: temporary files and folders, parts."""
    halves = (p for p in folder.rglob("*") if p.name.endswith((".new", ".part", ".tmp")))
    return sorted(p.relative_to(folder).as_posix() for p in halves)


if __name__ == "__main__":
    how, place, times, *works = sys.argv[1:]
    interrupted = {"kill": kills, "full": full, "readonly": readonly}[how]
    print(json.dumps({work: interrupted(work, Path(place), int(times)) for work in works}))
