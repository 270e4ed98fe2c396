"""What was published: every printed number and every claim of a paper, read from its folder's ``published.toml``."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nbkit.core.checks import NbkitError, closest, known, require
from nbkit.core.toml_files import read_toml

PAPERS = Path(__file__).parents[1] / "papers"
Kind = Literal["order", "sign", "difference", "equivalence", "correlation"]
DIRECTIONS = {
    "order": ("ascending", "descending"),
    "sign": ("less", "greater"),
    "difference": ("less", "greater"),
    "correlation": ("less", "greater"),
    "equivalence": (None,),
}
_SAYS = re.compile(r"What the (paper|comparison)( of (?P<year>\d{4}))? (claims|asks): (?P<words>.+)")
COMPARES = {"order": (2, 99), "sign": (1, 1), "difference": (2, 2), "equivalence": (2, 2), "correlation": (2, 2)}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Record):
    """A paper or chapter, and whether its absolute numbers can be compared with ours.

    `short` is what people call it; `notebook` answers it, and records the pictures `method` and `hero`; `key` are the
    ids of the three numbers that matter most.
    """

    name: str
    prefix: str
    title: str
    authors: str
    year: int
    source: str
    comparable: bool
    reason: str = ""
    short: str = ""
    notebook: str = ""
    method: str = ""
    hero: str = ""
    key: tuple[str, ...] = ()


class Number(_Record):
    """One published number; without a value, an id that only we observe (a curve, a control).

    `tolerance` is absolute and defaults to `spread`; `comparable` overrides the paper's.
    """

    id: str
    where: str
    row: str = ""
    column: str = ""
    value: float | None = None
    spread: float | None = None
    spread_kind: str = ""
    n: int | None = None
    unit: str = ""
    variant: str = ""
    tolerance: float | None = None
    comparable: bool | None = None
    reason: str = ""
    note: str = ""


class Claim(_Record):
    """One statement of the paper about its numbers.

    Parameters
    ----------
    kind, ids, direction
        ``order``: the ids' means ascend or descend; ``difference``: the first is less or greater than the
        second; ``equivalence``: the two differ by less than `margin`; ``sign``: the one is below or above
        zero; ``correlation``: the rank correlation over subjects is below or above zero.
    margin : float
        A fraction of the second id's mean. Of a difference, it is how much may be lost before the claim is
        (non-inferiority).
    margin_reason : str
        Why this margin; needed with one.
    """

    id: str
    where: str
    statement: str
    kind: Kind
    ids: tuple[str, ...]
    direction: Literal["ascending", "descending", "less", "greater"] | None = None
    margin: float = Field(default=0.0, ge=0.0)
    margin_reason: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Claim:
        low, high = COMPARES[self.kind]
        if not low <= len(self.ids) <= high:
            raise ValueError(f"{self.id}: {self.kind} compares {low} to {high} ids, not {len(self.ids)}")
        if self.direction not in DIRECTIONS[self.kind]:
            raise ValueError(f"{self.id}: direction of {self.kind} is one of {DIRECTIONS[self.kind]}")
        if (self.kind == "equivalence") > (self.margin > 0) or bool(self.margin) != bool(self.margin_reason):
            raise ValueError(f"{self.id}: an equivalence needs a margin, and a margin its margin_reason")
        return self


class Paper(_Record):
    """The ledger of one paper."""

    paper: Source
    table: dict[str, dict[str, Any]] = {}
    number: tuple[Number, ...]
    claim: tuple[Claim, ...]

    @property
    def name(self) -> str:
        """What notebooks call the ledger by."""
        return self.paper.name

    @property
    def prefix(self) -> str:
        """What every id of this paper starts with."""
        return self.paper.prefix

    @property
    def ids(self) -> dict[str, Number]:
        """Numbers by id."""
        return {n.id: n for n in self.number}

    def at(self, where: str) -> list[Number]:
        """The numbers of one table or figure, in printed order; an unknown one is refused by name."""
        known(where, {n.where for n in self.number}, f"{self.name}: where")
        return [n for n in self.number if n.where == where]

    @property
    def places(self) -> tuple[str, ...]:
        """Tables and figures in the order of the file."""
        return tuple(dict.fromkeys(n.where for n in self.number))


def papers() -> tuple[str, ...]:
    """Names of the ledgers that come with nbkit."""
    return tuple(sorted(_ledgers()))


def load_paper(name: str) -> Paper:
    """The ledger of one paper.

    Raises
    ------
    NbkitError
        For an unknown paper (with the nearest name), or a faulty file, by name, field and remedy.
    """
    return read_ledger(_ledgers()[known(name, papers(), "load_paper: name")])


def claimed(name: str) -> str:
    """What a paper says, in sentences: the paragraph "What the paper claims" of its package's docstring.

    A package with two papers names the year: "What the paper of 2020 claims".
    """
    year, package = load_paper(name).paper.year, _ledgers()[name].with_name("__init__.py")
    text = ast.get_docstring(ast.parse(package.read_text(encoding="utf-8"))) or ""
    told = (_SAYS.match(" ".join(paragraph.split())) for paragraph in text.split("\n\n"))
    words = next((m["words"] for m in told if m and m["year"] in (None, str(year))), "")
    return words[:1].upper() + words[1:]


def package_of(name: str) -> str:
    """The package of a paper: ``nbkit.papers.flair``."""
    return f"nbkit.papers.{_ledgers()[known(name, papers(), 'package_of: name')].parent.name}"


@lru_cache(maxsize=1)
def _ledgers() -> dict[str, Path]:
    """Ledger files by their name; all are read once, so that one with a wrong name cannot hide."""
    return {read_ledger(path).name: path for path in sorted(PAPERS.glob("*/published*.toml"))}


@lru_cache(maxsize=16)
def read_ledger(path: Path) -> Paper:
    """Read and check one ledger file: fields, ids used once and prefixed, claims that name existing ids."""
    raw = read_toml(Path(path))
    defaults, numbers = raw.get("table", {}), raw.get("number", [])
    shaped = [*defaults.values(), *numbers] if isinstance(defaults, dict) and isinstance(numbers, list) else [None]
    require(
        all(isinstance(part, dict) for part in shaped), Path(path).name, expected="[[number]] and [table.\"...\"]",
        found="other values of these names", remedy="Write them as CONTRIBUTING.md, 'Adding a paper', says.",
    )
    raw["number"] = [defaults.get(str(n.get("where")), {}) | n for n in numbers]
    try:
        paper = Paper.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise NbkitError(
            f"{Path(path).name}: {'.'.join(map(str, first['loc']))}", expected="a complete ledger record",
            found=first["msg"], remedy=f"Correct the file ({error.error_count()} such places).",
        ) from error
    _check_ids(paper, Path(path).name)
    return paper


def _check_ids(paper: Paper, file: str) -> None:
    names = [n.id for n in paper.number] + [c.id for c in paper.claim]
    twice = sorted({i for i in names if names.count(i) > 1})
    require(
        not twice, f"{file}: id", expected="each id once", found=", ".join(twice),
        remedy="Rename or remove one of them.",
    )
    foreign = [i for i in names if not i.startswith(paper.prefix + ".")]
    require(
        not foreign, f"{file}: id", expected=f"ids that start with {paper.prefix}.", found=", ".join(foreign),
        remedy="Add the paper's prefix.",
    )
    valid = paper.ids
    compared = [(claim.id, i) for claim in paper.claim for i in claim.ids]
    for where, i in [*compared, *(("paper.key", i) for i in paper.paper.key)]:
        require(
            i in valid, f"{file}: {where}", expected="ids of numbers in this file", found=repr(i),
            remedy=f"{closest(i, valid)}Add a number record (without a value if none is printed).",
        )
