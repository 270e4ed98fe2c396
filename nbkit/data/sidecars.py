"""The one door for JSON of strangers; the JSON of a BIDS scan with what it inherits, and the entities of its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nbkit.core.checks import NbkitError, require
from nbkit.data.text_tables import read_text


def entities_of(stem: str) -> tuple[dict[str, str], str]:
    """Entities and suffix of a BIDS name without its ending; ``{"sub": "01"}, "pet"`` of ``sub-01_pet``."""
    *entities, suffix = stem.split("_")
    return {key: value for key, _, value in (e.partition("-") for e in entities)}, suffix


def sidecar(root: Path, image: Path) -> dict[str, Any]:
    """What the JSON files that apply to `image` say, the nearest above the others (BIDS, inheritance principle).

    A file applies if it lies beside the image or in a folder above it, up to `root`, has the same suffix, and no
    entity that the image lacks.

    Raises
    ------
    NbkitError
        By file, for one that is no JSON object.
    """
    mine, suffix = entities_of(image.name.split(".nii")[0])
    below = image.relative_to(root).parts[:-1]
    told: dict[str, Any] = {}
    for depth in range(len(below) + 1):
        found = []
        for path in (root.joinpath(*below[:depth])).glob("*.json"):
            entities, theirs = entities_of(path.stem)
            if theirs == suffix and entities.items() <= mine.items() and not path.name.startswith("."):
                found.append((len(entities), path))
        for _, path in sorted(found):
            told |= read_object(path)
    return told


def read_object(path: Path, *, remedy: str = "Correct the file, or take it away.") -> dict[str, Any]:
    """The object that a JSON file holds, in whatever encoding :func:`nbkit.data.text_tables.read_text` knows.

    Raises
    ------
    NbkitError
        By file, for one that is missing, no text, or no JSON object; `remedy` says what to do.
    """
    text = read_text(path)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NbkitError(path.name, expected="a JSON object", found=str(error), remedy=remedy) from error
    require(
        isinstance(found, dict), path.name, expected="a JSON object", found=f"a {type(found).__name__}", remedy=remedy,
    )
    return found
