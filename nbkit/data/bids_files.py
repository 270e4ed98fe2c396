"""Which files of a BIDS or CAPS folder are images to look at, and which of them ``.bidsignore`` leaves out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import pathspec

from nbkit.core.checks import NbkitError, require
from nbkit.data.text_tables import read_text

IGNORE = ".bidsignore"
LEAVE_OUT = f"or leave it out with a line in {IGNORE}."
IMAGES = (
    "/sub-*/**/*.nii", "/derivatives/*/sub-*/**/*_mask.nii", "/derivatives/*/sub-*/**/*_brainmask.nii",
    "/subjects/sub-*/*/t1_linear/*.nii", "/subjects/sub-*/*/pet_linear/*.nii",
    "/subjects/sub-*/*/pet/preprocessing/**/*.nii", "/subjects/sub-*/*/**/*_mask.nii",
)
"""As lines of a .gitignore, in small letters; .nii stands for .nii.gz too."""
PET_IMAGES = (
    "/sub-*/**/pet/*_pet.nii", "/subjects/sub-*/*/pet_linear/*_pet.nii",
    "/subjects/sub-*/*/pet/preprocessing/**/*_pet.nii", "/derivatives/*/sub-*/**/pet/*_pet.nii",
)
_TOP = ("sub-", "derivatives", "subjects")


def image_names(root: Path, patterns: Iterable[str] = IMAGES) -> list[str]:
    """Relative paths of images, without those that .bidsignore leaves out.

    Links are followed, also those without content: whoever reads them says so. Capitals count for nothing in folders
    and endings. Hidden files are passed over, macOS's ``._`` among them.
    """
    everything = all_image_names(root, patterns)
    return sorted(set(everything) - set(ignored(root, everything)))


def all_image_names(root: Path, patterns: Iterable[str] = IMAGES) -> list[str]:
    """Relative paths of images, whatever .bidsignore says."""
    require(root.is_dir(), f"{root}", expected="a folder", found="none", remedy="Check the path.")
    wanted = pathspec.GitIgnoreSpec.from_lines(patterns)
    return sorted(p for p in _files(root) if wanted.match_file(p.lower().removesuffix(".gz")))


def ignored(root: Path, paths: Iterable[str]) -> list[str]:
    """Those of `paths` that .bidsignore leaves out, by the rules of .gitignore.

    Who is left out of the data set is so in its derivatives: a line counts for what follows the name of the pipeline
    too.

    Raises
    ------
    NbkitError
        For a line that is no pattern, by its number.
    """
    file = root / IGNORE
    if not file.is_file():
        return []
    spec = _rules(tuple(line.rstrip() for line in read_text(file).splitlines()))
    return [p for p in paths if spec.match_file(p) or spec.match_file(_from_person(p))]


def person_and_session_folders(root: Path) -> Iterator[tuple[str, str]]:
    """``("sub-01", "ses-1")`` for every folder so named; ``("sub-01", "")`` for a person without sessions."""
    for top in (root, root / "subjects"):
        for person in sorted(p for p in top.glob("[sS][uU][bB]-*") if p.is_dir()):
            sessions = sorted(s.name for s in person.glob("[sS][eE][sS]-*") if s.is_dir())
            images = any(p.is_dir() for p in person.iterdir())
            yield from ((person.name, session) for session in sessions or ([""] if images or top == root else []))


@lru_cache(maxsize=8)
def _rules(lines: tuple[str, ...]) -> pathspec.GitIgnoreSpec:
    for number, line in enumerate(lines, 1):
        try:
            pathspec.GitIgnoreSpec.from_lines([line])
        except (ValueError, re.error) as error:
            raise NbkitError(
                f"{IGNORE} line {number}", expected="a pattern as in .gitignore", found=repr(line),
                remedy="Correct or remove the line: whom it should leave out cannot be known.",
            ) from error
    return pathspec.GitIgnoreSpec.from_lines(lines)


def _from_person(path: str) -> str:
    parts = path.split("/")
    first = next((n for n, part in enumerate(parts) if part.lower().startswith("sub-")), 0)
    return "/".join(parts[first:])


def _files(root: Path) -> Iterator[str]:
    """Relative paths of what may be an image."""
    for folder, folders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        if here == root:
            folders[:] = [f for f in folders if f.lower().startswith(_TOP)]
        folders[:] = [f for f in folders if not f.startswith(".") and not _loops(here, here / f)]
        yield from ((here / f).relative_to(root).as_posix() for f in files if not f.startswith("."))


def _loops(here: Path, folder: Path) -> bool:
    """Whether a link leads to a folder that one came through, and so would be followed for ever."""
    return folder.is_symlink() and folder.resolve() in {above.resolve() for above in (here, *here.parents)}
