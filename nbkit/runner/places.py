"""Where a run writes: results, cache and temporary folder, looked at before work starts and tidied around it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from nbkit.core.checks import NbkitError, require
from nbkit.core.files import CACHE_REMEDY, cache_folder
from nbkit.core.shelf import leftovers, limit_bytes, places, sweep, unfinished

NAME = "nbkit"
# bytes without which not even a smoke run comes to its end
RESULTS, CACHE, TEMPORARY = 50_000_000, 200_000_000, 50_000_000
OURS = (".run.lock", ".stamps", "observations.jsonl", "artefacts.json")


def check_places(out_dir: Path) -> None:
    """Refuse, by name and before anything runs, a folder that is somebody else's or has no room.

    Raises
    ------
    NbkitError
    """
    there = sorted(p.name for p in {*out_dir.iterdir()} - {*leftovers(out_dir)}) if out_dir.is_dir() else []
    require(
        not there or any(name in OURS for name in there), str(out_dir), expected="a results folder, or none yet",
        found=f"a folder with {', '.join(there[:3])}",
        remedy="Choose another output folder with OUT or --out: files in this one would be overwritten.",
    )
    limit_bytes()
    places = (
        (out_dir, RESULTS, "Free some, or choose another folder with OUT or --out."),
        (cache_folder(), CACHE, CACHE_REMEDY),
        (temporary_folder(), TEMPORARY, "Free some, or set TMPDIR to a folder with room."),
    )
    for place, need, remedy in places:
        nearest = next(p for p in (place.absolute(), *place.absolute().parents) if p.exists())
        free = shutil.disk_usage(nearest).free
        require(
            free >= need, f"{place}", expected=f"at least {need / 1e6:.0f} MB of room", remedy=remedy,
            found=f"{free / 1e6:.0f} MB free",
        )


def temporary_folder() -> Path:
    """The system's folder for temporary files."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise NbkitError(
            "TMPDIR", expected="a folder for temporary files that can be written to", found="none",
            remedy="Set TMPDIR to one.",
        ) from error


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for one notebook's temporary files, all of them; it goes with the notebook."""
    with ExitStack() as stack:
        try:
            scratch = stack.enter_context(unfinished(temporary_folder(), NAME))
        except OSError as error:
            raise NbkitError(
                f"{temporary_folder()}", expected="a folder for temporary files that can be written to",
                found=error.strerror or str(error), remedy="Set TMPDIR to another one.",
            ) from error
        yield scratch


def clear_leftovers(out_dir: Path) -> None:
    """Remove what runs that were killed left in a results folder, in the cache and among the temporary files."""
    with suppress(OSError):
        sweep(out_dir, out_dir / "tables", out_dir / "figures", out_dir / ".stamps")
        sweep(*places(cache_folder()))
        sweep(temporary_folder(), prefix=f".{NAME}.")
