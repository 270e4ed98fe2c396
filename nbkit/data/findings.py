"""What is wrong with people's own data: one finding per fault, collected before anything is refused."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nbkit.core.checks import NbkitError

_SHOWN = 12


@dataclass(frozen=True)
class Finding:
    """One fault, or one thing to know.

    Parameters
    ----------
    subject : str
        Whom it is about; "" for the data set as a whole.
    where : str
        File (relative to the data set), row or session.
    expected, found, remedy : str
        As in :class:`nbkit.core.checks.NbkitError`.
    refused : bool
        False for a warning: the scan is read all the same.
    """

    subject: str
    where: str
    expected: str
    found: str
    remedy: str
    refused: bool = True

    @classmethod
    def of(
        cls, error: NbkitError, subject: str, where: str, *, file: Path | None = None, refused: bool = True
    ) -> Finding:
        """A refusal met while reading `file`, with a place and words that carry no absolute path."""
        found = error.found.replace(f"{file.parent}{os.sep}", "") if file else error.found
        return cls(subject, where, error.expected, found, error.remedy, refused)

    @property
    def left_out(self) -> bool:
        """Whether it says that somebody or something is not read, and that nothing need be done about it."""
        return not self.refused and "left out" in self.found

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}. {self.remedy}"


@dataclass(frozen=True)
class Reading:
    """A data set as far as its tables, names and headers could be read.

    Parameters
    ----------
    name : str
    table : pandas.DataFrame
        The rows that can be used: the columns of :mod:`nbkit.data.tables`, ``file`` (absolute Path), ``source`` and
        ``place`` (words for the row and for the file), and where known ``cdr`` and ``mmse``.
    files : pandas.DataFrame
        Every file that is there, usable or not, in the same columns; ages and diagnoses as they are written.
    subjects : tuple of str
        Everyone seen, usable or not.
    findings : tuple of Finding
    """

    name: str
    table: pd.DataFrame
    files: pd.DataFrame
    subjects: tuple[str, ...]
    findings: tuple[Finding, ...]


def left_out(findings: Iterable[Finding]) -> dict[str, int]:
    """How often each reason why somebody or something is left out occurs, in words that name nobody."""
    return dict(Counter(f"{f.expected}: {f.found}" for f in dict.fromkeys(findings) if f.left_out))


def raise_refused(findings: Iterable[Finding], name: str, *, remedy: str) -> None:
    """Raise one error that lists what is refused, at most twelve of them, like with like; warnings pass."""
    refused = [f for f in dict.fromkeys(findings) if f.refused]
    if not refused:
        return
    alike: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in refused[:_SHOWN]:
        alike[finding.expected, finding.remedy].append(finding)
    told = []
    for (expected, correct), group in alike.items():
        where, found = (", ".join(dict.fromkeys(words)) for words in zip(*((f.where, f.found) for f in group)))
        told.append(f"{where}: expected {expected}, found {found}. {correct.rstrip('.')}")
    rest = [f"and {len(refused) - _SHOWN} more"] if len(refused) > _SHOWN else []
    raise NbkitError(
        name, expected="data that pass the reading rules",
        found=f"{len(refused)} refused: {'; '.join(told + rest)}", remedy=remedy,
    )
