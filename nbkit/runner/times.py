"""How long a run will take here, by what its notebooks took before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from nbkit.core.checks import NbkitError
from nbkit.core.files import cache_folder, write_json
from nbkit.core.project import FILES

SECONDS = "seconds.json"
"""In the cache: the longest that each notebook took, by results folder. In a reference: what each took then."""


def _seconds(path: Path) -> dict[str, float]:
    """Seconds by notebook or by "folder/notebook"; a file that cannot be used says nothing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: float(value) for name, value in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def note(folder: str, notebook: str, seconds: float) -> None:
    """Remember what a notebook took; a run that found finished work in the cache does not count as quicker."""
    path = cache_folder() / SECONDS
    known, name = _seconds(path), f"{folder}/{notebook}"
    with suppress(NbkitError):  # a full disk: the notebook is done all the same
        write_json(path, {**known, name: max(seconds, known.get(name, 0.0))})


def longest(folder: str, took: Mapping[str, float], *, reference: Path) -> dict[str, float]:
    """What notebooks took: the longest known here of those that ran (`took`), of others what a reference says."""
    here = _seconds(cache_folder() / SECONDS)
    ran = {name: max(seconds, here.get(f"{folder}/{name}", 0.0)) for name, seconds in took.items()}
    return dict(sorted((_seconds(reference / SECONDS) | ran).items()))


def foretold(folder: str, notebooks: Sequence[str], *, at_once: int = 1, now: datetime | None = None) -> str:
    """A sentence for the start of a run: how long these notebooks take at most, and by what that is known."""
    here, reference = _seconds(cache_folder() / SECONDS), _seconds(FILES / "reference" / folder / SECONDS)
    mine = [here[f"{folder}/{name}"] for name in notebooks if f"{folder}/{name}" in here]
    theirs = [reference[name] for name in notebooks if f"{folder}/{name}" not in here and name in reference]
    if not mine and not theirs:
        return f"{_count(len(notebooks))}: none has run at this profile here, so how long it takes is not known"
    total = sum(mine) + sum(theirs)
    end = (now or datetime.now()) + timedelta(seconds=total)
    by = [f"{len(mine)} by earlier runs here"] * bool(mine) + [f"{len(theirs)} by the reference"] * bool(theirs)
    new = len(notebooks) - len(mine) - len(theirs)
    by += [f"{new} never run, which come on top"] * bool(new)
    known = f"{', '.join(by)}; less where work is kept" + f", and side by side, {at_once} at a time" * (at_once > 1)
    return f"{_count(len(notebooks))}: about {_said(total)}, until {end:%H:%M} ({known})"


def _count(number: int) -> str:
    return f"{number} notebook{'s' * (number != 1)}"


def _said(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
