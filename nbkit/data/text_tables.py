"""Tables that people bring, as text: one reader, so that each is read, or refused, in the same words."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pandas as pd

from nbkit.core.checks import NbkitError, closest, require

log = logging.getLogger(__name__)
EMPTY = ("", "n/a", "na", "nan", "<na>", "none", "null", ".", "-")
"""What means "not known" in a cell, in small letters."""
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_SEP_LINE = re.compile(r'\ufeff?"?sep=(.)"?[,;\t ]*(\r\n|\r|\n|$)', re.IGNORECASE)
_SAVE = "Save it as plain text in UTF-8 (a spreadsheet calls it 'CSV UTF-8')."


def number(text: object) -> float | None:
    """The number that a cell holds, with a decimal point or a decimal comma; None where it holds anything else."""
    words = str(text).strip()
    return float(words.replace(",", ".")) if _NUMBER.fullmatch(words) else None


def is_empty(text: object) -> bool:
    """Whether a cell says that nothing is known, in any of the usual ways (:data:`EMPTY`)."""
    return text is None or str(text).strip().lower() in EMPTY


def file_at(folder: Path, cell: str) -> Path | None:
    """The file that a cell names, relative to `folder` or absolute, by the name it is given; None if there is none."""
    try:
        file = (folder / cell).absolute()
        return file if cell and file.is_file() else None
    except (OSError, ValueError):  # a name too long for the file system, or with a character that no name may have
        return None


def read_text_table(
    path: Path, columns: Collection[str], *, further: Collection[str] = (), tabs: bool = False
) -> pd.DataFrame:
    """Every cell as text without space around it, "" where empty; `columns` must be there, others may.

    UTF-8 and UTF-16 with its mark are read, whatever the ends of lines, and Latin-1 with a warning. A ``.csv`` may be
    separated by commas, semicolons or tabs, as its header or a first line ``sep=;`` says. Names of columns count
    whatever their case. Empty rows, and empty cells beyond the header's, are left out.

    Parameters
    ----------
    path : Path
    columns : collection of str
        Spelled so in the result.
    further : collection of str
        Columns that may be missing, spelled so in the result too.
    tabs : bool
        Separated by tabs, as BIDS wants it, and by nothing else.

    Returns
    -------
    pandas.DataFrame
        The index plus 2 is the row as a spreadsheet counts it.

    Raises
    ------
    NbkitError
        Naming the file (and row): missing, no text, no table, a quotation mark that is not closed, more cells than
        names, a column twice, or none of `columns`, with the nearest name.
    """
    text = read_text(path)
    told = _SEP_LINE.match(text)
    text = text[told.end():] if told else text
    delimiter = "\t" if tabs else told[1] if told else _delimiter(text, columns)
    rows = [(number, row) for number, row in _rows(path, text, delimiter) if any(row)]
    kind = _DELIMITERS.get(delimiter, repr(delimiter))
    require(
        bool(rows), path.name, expected=f"a {kind}-separated table", found="an empty file", remedy="Bring it again.",
    )
    (_, header), *rest = rows
    names = [_spelled(name, (*columns, *further)) for name in header]
    _complete(path, names, columns, kind)
    cells = [_fitted(path, row, number, len(names)) for number, row in rest]
    table = pd.DataFrame(cells, columns=range(len(names)), index=[number - 2 for number, _ in rest], dtype=object)
    return _once_each(path, table, names)


def read_text(path: Path) -> str:
    """A whole file, in UTF-8 or marked UTF-16; in Latin-1, where every byte is a letter, with a warning.

    Raises
    ------
    NbkitError
        For a file that is missing, cannot be opened, or is no text.
    """
    require(path.is_file(), f"{path}", expected="a file", found="no such file", remedy="Check the path.")
    try:
        raw = path.read_bytes()
        encoding = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), "utf-8-sig")
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        require(encoding == "utf-8-sig", path.name, expected="text", found=f"broken {encoding}: {error}", remedy=_SAVE)
        line = raw.count(b"\n", 0, error.start) + 1
        log.warning("%s: line %d is not UTF-8; it is read as Latin-1. %s", path.name, line, _SAVE)
        text = raw.decode("cp1252", errors="replace")
    except OSError as error:
        raise NbkitError(
            path.name, expected="a table", found=error.strerror or str(error), remedy="Check the file's permissions.",
        ) from error
    require(
        "\0" not in text, path.name, expected="text", found="NUL bytes: no text, or UTF-16 without its mark",
        remedy=_SAVE,
    )
    return text


def _delimiter(text: str, columns: Collection[str]) -> str:
    """What splits the first line into the most of `columns`; the comma where nothing does."""
    first = next(iter(text.splitlines()), "").lower()
    wanted = {name.lower() for name in columns}
    counts = {d: len(wanted & {cell.strip(' "\ufeff') for cell in first.split(d)}) for d in _DELIMITERS}
    return max(counts, key=counts.get)


def _rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows, numbered as a spreadsheet does, of cells without space around them; a broken one is refused by number."""
    number, lines = 0, io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        for number, row in enumerate(reader, 1):
            broken = next((cell for cell in row if "\n" in cell.strip() or "\r" in cell.strip()), None)
            require(
                broken is None, f"{path.name} row {number}", expected="cells of one line",
                found=f"a line break inside {str(broken)[:30]!r}",
                remedy="Close the quotation mark, or take the line break out of the cell.",
            )
            yield number, [cell.strip("\ufeff \t\xa0") for cell in row]
    except csv.Error as error:
        raise NbkitError(
            f"{path.name} row {number + 1}", expected=f"cells separated by {_DELIMITERS.get(delimiter, delimiter)}s",
            found=str(error), remedy="Look for a quotation mark that is not closed, or an overlong cell.",
        ) from error


def _spelled(name: str, wanted: Collection[str]) -> str:
    return next((ours for ours in wanted if ours.lower() == name.lower()), name)


def _complete(path: Path, names: Sequence[str], columns: Collection[str], kind: str) -> None:
    missing = [c for c in columns if c not in names]
    near = "".join(closest(c, set(names) - set(columns)) for c in missing)
    require(
        not missing, f"{path.name}: columns", expected=", ".join(columns),
        found=f"no {', '.join(missing)} among {', '.join(filter(None, names))[:200]}",
        remedy=f"{near}Rename or add the columns; the table is separated by {kind}s.",
    )


def _fitted(path: Path, row: list[str], number: int, width: int) -> list[str]:
    """A row as wide as the header; what is beyond must be empty."""
    require(
        not any(row[width:]), f"{path.name} row {number}", expected=f"{width} cells, as the header has",
        found=f"{len(row)}",
        remedy="Put cells that hold the separator (a decimal comma?) in quotation marks, or remove what is too much.",
    )
    return (row + [""] * width)[:width]


def _once_each(path: Path, table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The table under its names; columns without one are left out, and a name stands twice only over equal cells."""
    first = {name: names.index(name) for name in names if name}
    for k, name in enumerate(names):
        require(
            not name or table[k].equals(table[first[name]]), f"{path.name}: columns", expected="each column once",
            found=f"{name} twice, with different cells", remedy="Keep the one that is right, or rename the other.",
        )
    return table[list(first.values())].set_axis(list(first), axis=1)
