"""What `nbkit doctor` finds: packages and machine, folders, data that are here; a line each, with its remedy."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from nbkit.cohorts import CohortInfo, list_cohorts
from nbkit.core.checks import NbkitError
from nbkit.core.device import pick_device
from nbkit.core.files import cache_folder, write_text
from nbkit.data import brain_network
from nbkit.data.manifest import load_manifest, mirror_folder
from nbkit.runner.provenance import machine, packages

OPTIONAL = {
    "ipyniivue": ("3D viewer in notebooks", 'pip install -e ".[viewer]"'),
    "ants": ("an entrant in examples/", "pip install --no-deps antspyx==0.6.3 webcolors==25.10.0"),
    brain_network.PACKAGE: ("finds brains of scans without a mask", brain_network.REMEDY),
}
Line = tuple[str, str, str, str]


def lines() -> list[Line]:
    """State ("ok", "note" or "missing"), what, what was found, and how to fix it."""
    return [*_environment_lines(), *_folder_lines(), *_data_lines()]


def _environment_lines() -> list[Line]:
    here, versions = machine(), packages()
    new = sys.version_info >= (3, 11)
    torch_line = f"{versions['torch']}, device {pick_device()}{', ' + here['gpu'] if here['gpu'] else ''}"
    half = "bfloat16 is fast" if here["torch"]["bf16_fast"] else "bfloat16 is not faster than float32"
    room = shutil.disk_usage(_existing(cache_folder())).free / 1e9
    return [
        ("ok" if new else "missing", "python", here["python"], "" if new else "use Python 3.11 or newer"),
        ("ok", "torch", f"{torch_line}, {half} here, {here['torch']['threads']} threads", ""),
        _noted(here["memory_gb"] >= 8, "memory", f"{here['memory_gb']} GB", "use PROFILE=smoke"),
        _noted(room > 5, "disk", f"{room:.0f} GB free", "set NBKIT_CACHE to a larger disk"),
        *(_package_line(name, *about) for name, about in OPTIONAL.items()),
    ]


def _package_line(name: str, purpose: str, install: str) -> Line:
    there = find_spec(name) is not None
    return _noted(there, name, f"{purpose}: {'installed' if there else 'not installed'}", install)


def _noted(good: bool, what: str, found: str, fix: str) -> Line:
    return ("ok", what, found, "") if good else ("note", what, found, fix)


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())


def _folder_lines() -> list[Line]:
    return [_writable("cache", cache_folder(), "set NBKIT_CACHE"), _writable("results", Path("results"), "set OUT")]


def _writable(what: str, folder: Path, fix: str) -> Line:
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        write_text(folder / ".doctor", "").unlink()
    except NbkitError as error:
        return "missing", what, f"{folder} cannot be written to: {error.found}", f"{fix} to a folder you may write to"
    for empty in made:
        empty.rmdir()
    return "ok", what, f"{folder} can be written to", ""


def _data_lines() -> list[Line]:
    mirror = [("ok", "mirror", f"{mirror_folder()}", "")] if mirror_folder() else []
    return mirror + [_cohort_line(c) for c in list_cohorts()]


def _cohort_line(cohort: CohortInfo) -> Line:
    if cohort.access == "restricted":
        how = f"apply at {load_manifest(cohort.name).repository}, then nbkit data check FOLDER"
        return "note", f"data {cohort.level}", f"{cohort.name}: never downloaded", how
    here = cohort.present[:2] != "0 "
    how = f"make data COHORT={cohort.fetched_by}"
    return _noted(here, f"data {cohort.level}", f"{cohort.name}: {cohort.present}", how)
