"""The door of a results folder: what goes in names no place of this machine and, of own data, nobody and no file."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbkit.core.entered import addresses
from nbkit.core.files import write_text
from nbkit.runner.provenance import ROOT

NAMING = ("subject", "subject_id", "participant", "participant_id", "id", "oasisid", "ptid", "rid", "name")
VISITS = ("session", "session_id", "visit")
FILES = ("path", "file", "filename")
HIDDEN = "[hidden]"
WITHHELD = "what it says may name people or files, so it stands in the log alone (`nbkit cache` says where)"

_PICTURE = re.compile(r"(data:image/[a-z+]+;base64,[A-Za-z0-9+/=\s]+)")
_CODE = re.compile(r"(<script\b.*?</script>|<style>.*?</style>)", re.DOTALL)
_DATA = re.compile(r"(<script type=\"application/json\"[^>]*>)(.*)(</script>)", re.DOTALL)
_PATH = re.compile(r"(?<![\w/:<.\]])~?(?:/[^\s\"'<>:|,;()\\]+){2,}|\b[A-Za-z]:\\[^\s\"'<>|,;()]+")
_ENTITY = re.compile(r"\b(?:sub|ses)-[A-Za-z0-9]+(?:[\w.-]*\.(?:nii|json|tsv|csv|gz)\b)*", re.IGNORECASE)
_WORD = re.compile(r"[^\s\"'<>(){}\[\],;:=|&/\\]+")
_PART = re.compile(r"[^\W_]+")


def is_path(value: Any) -> bool:
    """Whether a parameter's value is a place on this machine that is there."""
    try:
        return isinstance(value, str) and bool(value) and ("/" in value or "." in value) and Path(value).exists()
    except OSError:
        return False


@dataclass(frozen=True)
class Scrubber:
    """Takes names and places out of text, JSON and whole folders.

    Parameters
    ----------
    places : mapping of str to str
        Paths, the innermost first, and what stands for them.
    names : frozenset of str
        In lower case: subjects, sessions and files of own data.
    own : bool
        The run reads own data: nothing that a kernel printed and no message of an error is kept, and no path at all.
    """

    places: Mapping[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    own: bool = False

    def text(self, text: str) -> str:
        """`text` without names and places; pictures in it are left alone."""
        return "".join(p if i % 2 else self._plain(p) for i, p in enumerate(_PICTURE.split(text)))

    def _plain(self, text: str) -> str:
        for place, word in self.places.items():
            text = text.replace(place, word) if len(place) > 2 else text
        if not self.own:
            return text
        text = _ENTITY.sub(HIDDEN, _PATH.sub(HIDDEN, text))
        for name in self._spaced:
            text = re.sub(re.escape(name), HIDDEN, text, flags=re.IGNORECASE)
        return _WORD.sub(self._word, text)

    @functools.cached_property
    def _spaced(self) -> list[str]:
        return sorted((n for n in self.names if not _WORD.fullmatch(n)), key=len, reverse=True)

    def _word(self, match: re.Match) -> str:
        word = match[0]
        plain = word.rstrip(".!?")
        if plain.lower() in self.names:
            return HIDDEN + word[len(plain):]
        return _PART.sub(lambda part: HIDDEN if part[0].lower() in self.names else part[0], word)

    def json(self, value: Any) -> Any:
        """A JSON value; base64 pictures are left alone, and keys that are ordinary words."""
        if isinstance(value, dict):
            return {self._key(k): v if k.startswith("image/") else self.json(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.json(v) for v in value]
        return self.text(value) if isinstance(value, str) else value

    def _key(self, key: str) -> str:
        return key if key.isalpha() and key.islower() else self.text(key)

    def error(self, where: str, message: str) -> str:
        """How a failure is told: `where` it was ("cell 3: KeyError"), and what it says unless data are own."""
        if not where:
            return self.text(message)
        return f"{where}: {WITHHELD}" if self.own else self.text(f"{where}: {message}")

    def notebook(self, node: dict[str, Any]) -> dict[str, Any]:
        """An executed notebook; of own data without what its cells printed and what errors said."""
        node["metadata"]["papermill"] = {k: v for k, v in node["metadata"]["papermill"].items() if "path" not in k}
        if not self.own:
            return self.json(node)
        for cell in (c for c in node["cells"] if c["cell_type"] == "code"):
            cell["outputs"] = self.json([_silent(o) for o in cell["outputs"] if o["output_type"] != "stream"])
            if "injected-parameters" in cell["metadata"].get("tags", []):
                cell["source"] = self.json(cell["source"])
        return node | {"metadata": self.json(node["metadata"])}

    def folder(self, folder: Path) -> None:
        """Every text file below a folder that changes by it is written anew; own data alone need it."""
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and self.own):
            old = path.read_text(encoding="utf-8", errors="replace") if path.suffix in _READ else ""
            try:
                new = _READ[path.suffix](self, old) if old else old
            except ValueError:  # not what its ending says
                new = self.text(old)
            if new != old:
                write_text(path, new)

    def _lines(self, text: str) -> str:
        lines = filter(None, text.split("\n"))  # splitlines ends a line at characters that a note may hold
        return "".join(json.dumps(self.json(json.loads(line)), ensure_ascii=False) + "\n" for line in lines)

    def _document(self, text: str) -> str:
        value = json.loads(text)
        hidden = self.json(value)
        return text if hidden == value else json.dumps(hidden, indent=1, ensure_ascii=False) + "\n"

    def _page(self, text: str) -> str:
        """A page; its own scripts and styles hold no data, and a script that changes runs no more."""
        parts = enumerate(_CODE.split(text))
        return "".join(self._data(p) if _DATA.match(p) else p if i % 2 else self.text(p) for i, p in parts)

    def _data(self, text: str) -> str:
        start, body, end = _DATA.match(text).groups()
        value = json.loads(body)
        hidden = self.json(value)
        if hidden == value:
            return text
        # as jinja's tojson writes it: nothing in it can end the script
        return start + json.dumps(hidden).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026") + end

    def _table(self, text: str) -> str:
        rows = list(csv.reader(io.StringIO(text, newline="")))
        naming = {i for i, label in enumerate(rows[0] if rows else ()) if label.strip().lower() in (*NAMING, *VISITS)}
        hidden = [
            [c if _is_number(c) and i not in naming else self.text(c) for i, c in enumerate(row)] for row in rows
        ]
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(hidden)
        return stream.getvalue()


_READ = {".jsonl": Scrubber._lines, ".json": Scrubber._document, ".csv": Scrubber._table, ".html": Scrubber._page,
         ".txt": Scrubber.text, ".md": Scrubber.text}


def _silent(output: dict[str, Any]) -> dict[str, Any]:
    return output | {"evalue": WITHHELD, "traceback": []} if output["output_type"] == "error" else output


def _is_number(cell: str) -> bool:
    try:
        return not cell.strip().startswith("0") or "." in cell if float(cell) == float(cell) else True
    except ValueError:
        return False


def scrubber(notebook: Path, out_dir: Path, values: Mapping[str, Any]) -> Scrubber:
    """What to take out of the results of a notebook that is run with these values."""
    ours = {str(out_dir), str(notebook.parent)}
    given = {str(Path(v).absolute()): v for k, v in values.items() if k != "out_dir" and is_path(v)}
    given |= {os.path.realpath(path): v for path, v in given.items()}
    own = {path: HIDDEN for path in sorted(set(given) - ours, key=len, reverse=True)}
    places = {
        str(out_dir): "results" if given else out_dir.name, str(notebook.parent): ".", str(ROOT): "..",
        **{os.path.dirname(a): "." for a in addresses(values.get("model", "")) if os.path.dirname(a) not in ("", "/")},
        sys.prefix: "<env>", _home() + os.sep: "~" + os.sep,
    }
    names = {name for path in given for name in names_in(Path(path))}
    return Scrubber(own | places, frozenset(n.lower() for n in names if _tells(n)), own=bool(given))


def _home() -> str:
    try:
        return str(Path.home())
    except RuntimeError:
        return ""


def _tells(name: str) -> bool:
    """Numbers below four digits are everywhere; one letter is no name."""
    return len(name) > 1 and not (name.isdigit() and len(name) < 4 and not name.startswith("0"))


def names_in(path: Path) -> Iterator[str]:
    """Subjects, sessions and files of a table or a BIDS folder, however it is written; nothing in it is checked."""
    yield path.name
    yield f"own-{path.stem}"
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv"):
        yield from _names_of_rows(path)
    for folder, folders, files in os.walk(path) if path.is_dir() else ():
        for name in folders:
            yield from _entity(name)
        yield from (name for name in files if name.startswith("sub-") or ".nii" in name)
        for name in (n for n in files if n.endswith((".csv", ".tsv"))):
            yield from _names_of_rows(Path(folder, name))


def _entity(name: str) -> Iterator[str]:
    """``sub-01`` and ``01``, ``ses-M00`` and ``M00``."""
    kind, dash, label = name.partition("-")
    if dash and kind in ("sub", "ses"):
        yield name
        yield from [label] if kind == "sub" or not label.isalpha() else []


def _names_of_rows(table: Path) -> Iterator[str]:
    raw = table.read_bytes()
    utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = _decoded(raw, *(("utf-16",) if utf16 else ("utf-8-sig", "latin-1")))
    lines = [line for line in text.splitlines(keepends=True) if line.strip() and not line.startswith("sep=")]
    mark = max(",;\t", key=lines[0].count) if lines else ","
    csv.field_size_limit(sys.maxsize)
    for row in csv.DictReader(lines, delimiter=mark, restkey=""):
        for column, cell in row.items():
            column, cell = str(column).strip().lower(), str(cell or "").strip()
            if column in NAMING:
                yield from (cell, cell.removeprefix("sub-"))
            elif column in VISITS and not (cell.isalpha() and cell.islower()):
                yield from (cell, cell.removeprefix("ses-"))
            elif column in FILES:
                yield from (cell, Path(cell).name)


def _decoded(raw: bytes, *encodings: str) -> str:
    for encoding in encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("utf-8", errors="replace")
