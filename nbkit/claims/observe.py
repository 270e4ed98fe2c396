"""What a notebook found: numbers with their subjects, tables and figures, written into one results folder."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nbkit.claims.kept import check_index, check_numbers, read_record, well_kept
from nbkit.claims.ledger import load_paper
from nbkit.claims.room import Room
from nbkit.claims.shown import Savable, Shown, save_png
from nbkit.core.checks import closest, require
from nbkit.core.files import atomic, plain_cell, sole, write_json, write_text
from nbkit.core.protocols import Cohort
from nbkit.core.shelf import sweep

OBSERVATIONS, ARTEFACTS, LOCK = "observations.jsonl", "artefacts.json", ".records.lock"


@dataclass(frozen=True)
class Observation:
    """One number a notebook measured.

    Parameters
    ----------
    id : str
        The ledger's id of the published number it stands beside.
    value, sd : float
        Mean and sample standard deviation over subjects (or the single value; sd None).
    n : int or None
        Number of subjects.
    unit : str
    per_subject : mapping of str to float
        By subject id; by rank in the cohort when the data are restricted.
    cohort, level, profile, seed, notebook, note
        Where the number comes from.
    """

    id: str
    value: float
    sd: float | None = None
    n: int | None = None
    unit: str = ""
    per_subject: Mapping[str, float] = field(default_factory=dict)
    cohort: str = ""
    level: str = ""
    profile: str = ""
    seed: int = 0
    notebook: str = ""
    note: str = ""


def load_observations(out_dir: Path | str) -> dict[str, Observation]:
    """Observations of a results folder by id, in file order; a line that is none is refused with file and number."""
    return {o.id: o for o in _read(out_dir).values()}


def write_observations(out_dir: Path | str, observations: Iterable[Observation]) -> None:
    """Write what :func:`load_observations` reads, at once."""
    write_text(Path(out_dir) / OBSERVATIONS, "".join(_line(o) + "\n" for o in observations))


def _read(out_dir: Path | str) -> dict[str, Observation]:
    """The observations of a folder by their lines."""
    path = Path(out_dir) / OBSERVATIONS
    with well_kept(f"{path}"):
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return {line: _parse(line, f"{path}:{i}") for i, line in enumerate(lines, 1) if line}


def _line(observation: Observation) -> str:
    return json.dumps(vars(observation), ensure_ascii=False, allow_nan=False)


def _parse(line: str, where: str) -> Observation:
    with well_kept(where, expected="one observation in JSON", remedy="Remove the line, and run the notebook again."):
        return _parsed(line)


@lru_cache(maxsize=None)  # every number recorded reads the whole file again
def _parsed(line: str) -> Observation:
    found = Observation(**json.loads(line))
    check_numbers(found)
    return found


def load_artefacts(out_dir: Path | str) -> dict[str, Any]:
    """The index of tables and figures: ``{"artefacts": [...], "not_run": [...], "rooms": [...]}``, as recorded."""
    path = Path(out_dir) / ARTEFACTS
    index = {"artefacts": [], "not_run": [], "rooms": []} | read_record(path)
    check_index(index, path)
    return index


def load_rooms(out_dir: Path | str) -> tuple[Room, ...]:
    """The rooms that :meth:`Run.room` kept in a results folder."""
    with well_kept(f"{Path(out_dir) / ARTEFACTS}: rooms"):
        return tuple(Room(**{**r, "of": tuple(r["of"])}) for r in load_artefacts(out_dir)["rooms"])


class Run:
    """The results folder as one notebook sees it.

    Making a Run clears what this notebook recorded there before; other notebooks' records stay.

    Parameters
    ----------
    out_dir : path
        The results folder.
    notebook : str
        The notebook's file name without ``.ipynb``.
    cohort : Cohort or str
        The cohort, or its name or level.
    profile, seed
        As in the notebook's parameters.
    data_level : {"embedded", "open", "restricted"}, optional
        Taken from the cohort when it is not given; a name that tells no level counts as restricted. What is
        restricted stays so, and its folder tells git to ignore it, wherever it is.
    paper : str, optional
        Ledger whose ids are checked, e.g. "wei2019_flair": an id of this paper that the ledger lacks is refused.
    """

    def __init__(
        self, out_dir: Path | str, *, notebook: str, cohort: Cohort | str, profile: str, seed: int,
        data_level: str | None = None, paper: str | None = None,
    ) -> None:
        self.out_dir, self.notebook, self.profile, self.seed = Path(out_dir), notebook, profile, int(seed)
        given = isinstance(cohort, Cohort)
        named = str(cohort) if str(cohort) in ("embedded", "open") else "restricted"
        restricted = given and cohort.access == "restricted"
        self.level = "restricted" if restricted else data_level or (cohort.access if given else named)
        self.cohort = cohort.name if given else Path(cohort).name
        self.attribution = str(cohort.provenance.get("attribution", "")) if given else ""
        self.paper = load_paper(paper) if paper else None
        self._ranks = {s: str(i) for i, s in enumerate(cohort.ids, 1)} if given else {}
        self._lines: dict[str, str] = {}
        self._artefacts: list[dict[str, Any]] = []
        self._not_run: list[dict[str, str]] = []
        self._rooms: list[dict[str, Any]] = []
        if self.level == "restricted":
            write_text(self.out_dir / ".gitignore", "*\n")
        sweep(self.out_dir, self.out_dir / "tables", self.out_dir / "figures")
        self._write_observations()
        self._write_index()

    @property
    def source(self) -> str:
        """What stands under every figure: cohort, data level and profile, and the credit an open licence asks for."""
        credit = f". {self.attribution}" if self.level == "open" and self.attribution else ""
        return f"{self.cohort}, {self.level} data, {self.profile} profile{credit}"

    def number(
        self, id: str, per_subject: Mapping[str, float] | Sequence[float] | None = None, *,
        value: float | None = None, sd: float | None = None, n: int | None = None, unit: str = "", note: str = "",
        extra: bool = False,
    ) -> Observation:
        """Record one number, from its values per subject or as a single `value`.

        Parameters
        ----------
        id : str
            An id of the ledger; with ``extra=True`` one of the notebook's own.
        per_subject : mapping of subject to value, or a sequence in cohort order
            Gives the mean, the sample SD and n.
        value, sd, n
            A number that has no subjects (parameters, seconds), with its spread where known.

        Raises
        ------
        NbkitError
            For an id the ledger lacks, neither or both of `per_subject` and `value`, or a value that is not finite.
        """
        seen = self._observed(id, per_subject, value=value, sd=sd, n=n, unit=unit, note=note, extra=extra)
        self._write_observations(seen)
        return seen

    def record(self, frame: pd.DataFrame, *, extra: bool = False, published: bool = False) -> pd.DataFrame:
        """Record a tidy frame (:mod:`nbkit.core.tidy`), and return it: an observation for each of its ids.

        Parameters
        ----------
        frame : DataFrame
            Columns "id", "value", "subject" (empty: a number of no single person, one row an id) and "unit"; optional
            "sd" and "n" of such numbers, and "note". Rows with an empty id are not recorded.
        extra : bool
            Ids that the paper does not have are welcome.
        published : bool
            Of the paper's ids record only those that its ledger has (a table may print folds that a run lacks, and
            the reverse); all others are recorded too.

        Raises
        ------
        NbkitError
            As :meth:`number` does.
        """
        seen = []
        for id, rows in frame[frame["id"] != ""].groupby("id", sort=False):
            if published and self._is_of_paper(id) and id not in self.paper.ids:
                continue
            single, first = (rows["subject"] == "").all(), rows.iloc[0]
            more = {key: first[key] for key in ("unit", "note") if key in rows and pd.notna(first[key])}
            if single:
                more |= {key: kind(first[key]) for key, kind in (("sd", float), ("n", int))
                         if key in rows and pd.notna(first[key])}
            values = None if single else dict(zip(rows["subject"], rows["value"], strict=True))
            require(
                len(rows) == (1 if single else len(values)), f"Run.record: {id}", expected="one row a subject",
                found=f"{len(rows)} rows", remedy="Give each fold, visit or setting an id of its own.",
            )
            seen.append(self._observed(id, values, value=first["value"] if single else None, extra=extra, **more))
        self._write_observations(*seen)
        return frame

    def _observed(
        self, id: str, per_subject: Mapping[str, float] | Sequence[float] | None, *, value: float | None = None,
        sd: float | None = None, n: int | None = None, unit: str = "", note: str = "", extra: bool = False,
    ) -> Observation:
        where = f"Run.number: {id}"
        self._check_id(id, extra)
        require(
            (per_subject is None) != (value is None), where, expected="either per_subject or value",
            found="both" if value is not None else "neither", remedy="Pass one of the two.",
        )
        by_subject = {} if per_subject is None else self._by_subject(per_subject)
        if by_subject:
            x = np.array(list(by_subject.values()), dtype=np.float64)
            value, n, sd = float(x.mean()), x.size, float(x.std(ddof=1)) if x.size > 1 else None
        self._check_finite([*by_subject.values()] or [value, *([] if sd is None else [sd])], where)
        self._check_text(note, where)
        return Observation(
            id, float(value), sd, n, unit, by_subject, self.cohort, self.level, self.profile, self.seed,
            self.notebook, note,
        )

    def table(self, name: str, data: pd.DataFrame, *, caption: str) -> Path:
        """Write ``tables/NAME.csv`` and index it with its caption."""
        for text in self._texts(data):
            self._check_text(text, f"Run.table: {name}")
        levels = {"header": data.columns.nlevels, "index": data.index.nlevels}
        path = self._artefact("table", name, ".csv", caption, **levels)
        with atomic(path) as part:
            plain = data.map(plain_cell).rename(index=plain_cell, columns=plain_cell)
            for labels in (plain.index, plain.columns):
                labels.names = [plain_cell(name) for name in labels.names]
            plain.to_csv(part)
        self._write_index()
        return path

    def figure(self, name: str, figure: Savable, *, caption: str) -> Shown:
        """Write ``figures/NAME.png`` (:func:`~nbkit.claims.shown.save_png`), and index it.

        As the last line of a cell it shows the picture with its caption and source.
        """
        path = self._artefact("figure", name, ".png", caption)
        self._hide_names(figure)
        with atomic(path) as part:
            save_png(figure, part)
        self._write_index()
        return Shown(path, f"{caption.rstrip('.')}. {self.source}.")

    def not_run(self, prefix: str | Mapping[str, str], reason: str = "") -> None:
        """Say why ids that start with `prefix` are not observed here, e.g. "the cohort has no DIR"; or many by it."""
        for start, why in (prefix if isinstance(prefix, Mapping) else {prefix: reason}).items():
            if self.paper:
                self._check_prefix(start, "Run.not_run: prefix")
            self._check_text(why, f"Run.not_run: {start}")
            self._not_run.append({"notebook": self.notebook, "prefix": start, "reason": why})
        self._write_index()

    def room(
        self, frame: pd.DataFrame, *, of: str | Sequence[str], measure: str, better: str = "lower"
    ) -> pd.DataFrame:
        """Record what could be won at all on a measure, and return the frame; verdicts ask for it.

        `frame` is tidy, with the column "role" (:meth:`nbkit.claims.room.Room.of_frame`); `of` are beginnings of the
        ids that are measured so, `measure` names it for readers, with its unit.
        """
        prefixes = (of,) if isinstance(of, str) else tuple(of)
        for prefix in prefixes if self.paper else ():
            self._check_prefix(prefix, "Run.room: of")
        room = Room.of_frame(frame, of=prefixes, measure=measure, better=better, notebook=self.notebook)
        self.record(frame, extra=True)
        self._rooms = [r for r in self._rooms if tuple(r["of"]) != prefixes] + [asdict(room)]
        self._write_index()
        return frame

    def _check_prefix(self, prefix: str, where: str) -> None:
        require(
            any(i.startswith(prefix) for i in self.paper.ids), where, found=repr(prefix),
            expected=f"the beginning of an id of {self.paper.name}",
            remedy=f"{closest(prefix, self.paper.ids)}Give a table or one id.",
        )

    def _is_of_paper(self, id: str) -> bool:
        return self.paper is not None and id.startswith(self.paper.prefix + ".")

    def _check_id(self, id: str, extra: bool) -> None:
        if self._is_of_paper(id) and not extra:
            require(
                id in self.paper.ids, "Run.number: id", expected=f"an id of {self.paper.name}", found=repr(id),
                remedy=f"{closest(id, self.paper.ids)}Pass extra=True for a number the paper does not have.",
            )

    def _by_subject(self, values: Mapping[str, float] | Sequence[float]) -> dict[str, float]:
        if not isinstance(values, Mapping):
            order = list(self._ranks) if len(self._ranks) == len(values) else range(1, len(values) + 1)
            values = dict(zip(map(str, order), values, strict=True))
        require(
            len(values) > 0, "Run.number: per_subject", expected="at least one subject", found="none",
            remedy="Leave the number out, and say why with Run.not_run.",
        )
        for subject in values:
            self._ranks.setdefault(str(subject), str(len(self._ranks) + 1))
        hide = self.level == "restricted"
        return {self._ranks[str(s)] if hide else str(s): float(v) for s, v in values.items()}

    def _check_finite(self, values: Sequence[float], where: str) -> None:
        bad = sum(not math.isfinite(v) for v in values)
        require(
            bad == 0, where, expected="finite values", found=f"{bad} of {len(values)} NaN or infinite",
            remedy="Find the subject whose prediction or metric failed; leave out subjects without a value.",
        )

    def _check_text(self, text: str, where: str) -> None:
        """Restricted results name no subject and no place on this machine."""
        if self.level != "restricted":
            return
        words = {w.strip(".:") for w in re.split(r"[\s,;()\"'=]+", text)}
        named = sorted(words & {s for s in self._ranks if not s.isdigit()})
        placed = [w for w in words if re.match(r"(/|[A-Za-z]:\\)[^/\\]+[/\\]", w)]
        require(
            not named and not placed, where, expected="restricted results without subject ids and absolute paths",
            found=", ".join(named + placed), remedy="Report values over the group, and name files by their role.",
        )

    def _hide_names(self, figure: Savable) -> None:
        """Subjects that a figure of restricted data names are called by their rank."""
        names = sorted((s for s in self._ranks if not s.isdigit()), key=len, reverse=True)
        if self.level != "restricted" or not names or not hasattr(figure, "findobj"):
            return
        pattern = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, names))})(?!\w)")
        for artist in figure.findobj(lambda a: hasattr(a, "set_text")):
            artist.set_text(pattern.sub(lambda found: f"#{self._ranks[found[0]]}", artist.get_text()))

    def _texts(self, data: pd.DataFrame) -> list[str]:
        labels = [*data.index.to_flat_index(), *data.columns.to_flat_index()]
        flat = [part for label in labels for part in (label if isinstance(label, tuple) else (label,))]
        cells = [v for column in data.select_dtypes(exclude="number") for v in data[column]]
        return [v for v in [*flat, *cells] if isinstance(v, str)]

    def _artefact(self, kind: str, name: str, ending: str, caption: str, **more: int) -> Path:
        where = f"Run.{kind}: name"
        require(
            re.fullmatch(r"[A-Za-z0-9_.-]+", name) is not None, where, expected="letters, digits, '_', '-', '.'",
            found=repr(name), remedy="The name becomes a file name: table2_2a, fig2_4.",
        )
        taken = [a["notebook"] for a in self._others("artefacts") if (a["kind"], a["name"]) == (kind, name)]
        require(
            not taken, where, expected="a name no other notebook uses", found=f"{name!r}, written by {taken}",
            remedy="Choose another name, or clear the results folder if that notebook was renamed.",
        )
        self._check_text(caption, f"Run.{kind}: caption of {name}")
        file = f"{kind}s/{name}{ending}"
        entry = {"notebook": self.notebook, "kind": kind, "name": name, "file": file, "caption": caption}
        self._artefacts = [a for a in self._artefacts if a["file"] != file] + [entry | {"source": self.source} | more]
        return self.out_dir / file

    def _others(self, key: str) -> list[dict[str, Any]]:
        return [a for a in load_artefacts(self.out_dir)[key] if a["notebook"] != self.notebook]

    def _write_index(self) -> None:
        mine = {"artefacts": self._artefacts, "not_run": self._not_run, "rooms": self._rooms}
        with sole(self.out_dir / LOCK):
            merged = {key: sorted(self._others(key) + mine[key], key=lambda a: a["notebook"]) for key in mine}
            write_json(self.out_dir / ARTEFACTS, merged)

    def _write_observations(self, *new: Observation) -> None:
        with sole(self.out_dir / LOCK):
            others = {line: o for line, o in _read(self.out_dir).items() if o.notebook != self.notebook}
            twice = [o for o in others.values() if o.id in {n.id for n in new}]
            require(
                not twice, "Run.number: id", expected="an id no other notebook records",
                found=", ".join(f"{o.id} of {o.notebook}" for o in twice),
                remedy="Record each number once; clear the results folder if that notebook was renamed.",
            )
            self._lines |= {o.id: _line(o) for o in new}
            mine = [(self.notebook, line) for line in self._lines.values()]
            everything = sorted([*((o.notebook, line) for line, o in others.items()), *mine], key=itemgetter(0))
            write_text(self.out_dir / OBSERVATIONS, "".join(f"{line}\n" for _, line in everything))
