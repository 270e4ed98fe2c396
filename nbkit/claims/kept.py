"""Records of a results folder as they lie there: read, or refused by file, whoever changed them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbkit.core.checks import NbkitError, require

REMEDY = "Remove the file and run again: the notebooks it spoke of record anew."
_KEYS = {"artefacts": ("notebook", "kind", "name", "file", "caption"), "not_run": ("notebook", "prefix", "reason")}


@contextmanager
def well_kept(where: str, *, expected: str = "a record as a run wrote it", remedy: str = REMEDY) -> Iterator[None]:
    """Whatever a record that somebody changed makes raise becomes one refusal that names it."""
    try:
        yield
    except NbkitError:
        raise
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        raise NbkitError(
            where, expected=expected, found=f"{type(error).__name__}: {str(error)[:200]}", remedy=remedy,
        ) from error


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; an empty one where there is no file."""
    with well_kept(f"{path}"):
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        require(
            isinstance(found, dict), f"{path}", expected="a JSON object", found=type(found).__name__, remedy=REMEDY,
        )
        return found


def check_index(index: Mapping[str, Any], path: Path) -> None:
    """Refuse an index of artefacts whose entries lack a word, or name a file outside the folder."""
    with well_kept(f"{path}"):
        for kind, keys in _KEYS.items():
            for entry in index[kind]:
                odd = [key for key in keys if not isinstance(entry[key], str)]
                require(not odd, f"{path}: {kind}", expected="words", found=f"other {', '.join(odd)}", remedy=REMEDY)
        files = [entry["file"] for entry in index["artefacts"]]
        away = [f for f in files if Path(f).is_absolute() or ".." in Path(f).parts or "\0" in f]
        require(not away, f"{path}", expected="files of this folder", found=f"{away[:1]}", remedy=REMEDY)


def check_numbers(observation: Any) -> None:
    """Refuse what is no number or no word in an observation.

    Raises
    ------
    TypeError, ValueError
    """
    numbers = [observation.value, *observation.per_subject.values(), *(x for x in [observation.sd] if x is not None)]
    if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
        raise ValueError("a value that is no finite number")
    words = (observation.id, observation.unit, observation.cohort, observation.level, observation.profile,
             observation.notebook, observation.note)
    counts = (observation.seed, 0 if observation.n is None else observation.n)
    if not (all(isinstance(w, str) for w in words) and all(isinstance(c, int) for c in counts)):
        raise TypeError("a number where a word belongs, or the reverse")
