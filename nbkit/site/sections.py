"""Sections of README.md and CONTRIBUTING.md as pages of the site: said once, shown twice."""

from __future__ import annotations

import re
from pathlib import Path

from nbkit.core.checks import closest, require

_HEADING = re.compile(r"^(#{1,6}) (.+?)\s*$")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#|mailto:)[^)]+\)")


def section(file: Path, heading: str, *, level: int = 2) -> str:
    """A section of a Markdown file with all below it, its heading at `level`.

    Links to files of the repository become plain words, since the site does not hold those files.

    Raises
    ------
    NbkitError
        If the file has no such heading; the nearest is named.
    """
    lines, code, headings = file.read_text(encoding="utf-8").splitlines(), False, {}
    for at, line in enumerate(lines):
        code ^= line.startswith("```")
        found = None if code else _HEADING.match(line)
        if found:
            headings[at] = (len(found[1]), found[2])
    names = [name for _, name in headings.values()]
    require(
        heading in names, f"{file.name}: section", expected=f"the heading {heading!r}", found=", ".join(names),
        remedy=f"{closest(heading, names)}Name a heading of {file.name} in docs/.",
    )
    start, (depth, _) = next((at, told) for at, told in headings.items() if told[1] == heading)
    end = next((at for at, (deep, _) in headings.items() if at > start and deep <= depth), len(lines))
    shifted = [f"{'#' * (headings[at][0] - depth + level)} {headings[at][1]}" if at in headings else lines[at]
               for at in range(start, end)]
    return _LINK.sub(lambda m: m[1], "\n".join(shifted)).strip() + "\n"
