"""OASIS-3: the original clinical tables, joined on subject and nearest day, and Clinica's join that is not.

Clinica (at least v0.7.0 to v0.11.3) joins CDR, MMSE and diagnosis onto sessions.tsv by the session bin alone, so
that everybody in a bin gets the scores of one person, and cuts ages to whole years. The scores of that table are
therefore taken only when they differ within a bin, and ages are rebuilt from the days since entry.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nbkit.core.checks import NbkitError, closest, require
from nbkit.data.findings import Finding

YEAR = 365.25
FAR_DAYS = 365
CDR_TABLE, DEMOGRAPHICS = "OASIS3_UDSb4_cdr.csv", "OASIS3_demographics.csv"
REQUIRED = {
    CDR_TABLE: ("OASISID", "days_to_visit", "CDRTOT", "MMSE", "dx1"),
    DEMOGRAPHICS: ("OASISID", "AgeatEntry", "GENDER"),
}
# the data dictionary of OASIS-3: 1 is male, 2 is female
GENDER = {"1": "M", "2": "F", "M": "M", "F": "F"}
SCORES = ("cdr", "mmse", "dx1", "commun", "homehobb", "judgment", "memory", "orient", "perscare", "sumbox")
_NORMAL = ("cognitively normal", "no dementia")
_UNCERTAIN = (
    "uncertain dementia", "unc: ques. impairment", "unc: impair reversible", "0.5 in memory only", "incipient demt ptp",
)
_REMEDY = (
    f"Give the folder with the original tables {CDR_TABLE} and {DEMOGRAPHICS} (oasis-brains.org): "
    "`nbkit data check PATH --clinical FOLDER`, or copy the two files into the data set."
)


@dataclass(frozen=True)
class Score:
    """The clinical visit nearest to a scan."""

    diagnosis: str | None
    cdr: float | None
    mmse: float | None
    gap_days: float


class Clinical:
    """The two tables, asked by subject and day.

    Parameters
    ----------
    visits, people : pandas.DataFrame
        As read, with ``subject`` (OAS3xxxx).
    """

    def __init__(self, visits: pd.DataFrame, people: pd.DataFrame) -> None:
        self._visits, self._people = (dict(list(table.groupby("subject"))) for table in (visits, people))

    def nearest(self, subject: str, days: float) -> Score:
        """Scores of the visit nearest to `days` since entry; of two as near, the earlier."""
        rows = _of(self._visits, subject, CDR_TABLE)
        gaps = (rows["days"] - days).abs()
        row = rows.loc[gaps.idxmin()]
        cdr, mmse = (None if pd.isna(row[c]) else float(row[c]) for c in ("CDRTOT", "MMSE"))
        return Score(None if row["dx1"] in ("", ".") else row["dx1"], cdr, mmse, float(gaps.min()))

    def entry_age(self, subject: str) -> float:
        """Age at entry in years."""
        row = _of(self._people, subject, DEMOGRAPHICS).iloc[0]
        return entry_age(row["AgeatEntry"], f"{DEMOGRAPHICS}: {subject}")

    def sex(self, subject: str) -> str | None:
        """F or M, by the study's own code."""
        code = _of(self._people, subject, DEMOGRAPHICS).iloc[0]["GENDER"].removesuffix(".0")
        return GENDER.get(code, code) or None


def _of(rows: Mapping[str, pd.DataFrame], subject: str, table: str) -> pd.DataFrame:
    require(
        subject in rows, f"{table}: {subject}", expected="at least one row of every participant", found="none",
        remedy="Leave the scans out with a line in .bidsignore, or download the table again.",
    )
    return rows[subject]


def is_subject(subject: str) -> bool:
    """Whether a normalised name is one of OASIS-3 (OAS30001 to OAS39999)."""
    return re.fullmatch(r"OAS3\d{4}", subject) is not None


def find_clinical(root: Path) -> Path | None:
    """The data set's own folder when it holds both original tables, at any depth."""
    return root if all(any(root.rglob(name)) for name in REQUIRED) else None


def read_clinical(folder: Path | str) -> Clinical:
    """Find and read both tables, at any depth below `folder`.

    Raises
    ------
    NbkitError
        Naming the table or the column that is missing.
    """
    visits, people = (_read(Path(folder), name) for name in (CDR_TABLE, DEMOGRAPHICS))
    numbers = visits[["days_to_visit", "CDRTOT", "MMSE"]].apply(pd.to_numeric, errors="coerce")
    visits = visits.assign(**numbers, days=numbers["days_to_visit"]).dropna(subset=["days"])
    return Clinical(visits.sort_values(["subject", "days"], kind="stable"), people)


def _read(folder: Path, name: str) -> pd.DataFrame:
    path = next(iter(sorted(folder.rglob(name))), None)
    there = [p.name for p in folder.rglob("*.csv")] if folder.is_dir() else []
    require(
        path is not None, f"--clinical {folder.name}", expected=name, found=", ".join(sorted(there)[:6]) or "no CSV",
        remedy=f"{closest(name, there)}Download it from the OASIS-3 project ('OASIS3_data_files').",
    )
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    missing = [c for c in REQUIRED[name] if c not in table]
    require(
        not missing, name, expected=f"the columns {', '.join(REQUIRED[name])}", found=f"no {', '.join(missing)}",
        remedy="Use the table as it was downloaded.",
    )
    table = table.map(str.strip)
    return table.assign(subject=table["OASISID"].str.upper().str.replace("OASIS3", "OAS3"))


def entry_age(text: object, where: str) -> float:
    """AgeatEntry in years, as participants.tsv and the demographics carry it."""
    age = pd.to_numeric(text, errors="coerce")
    require(not pd.isna(age), where, expected="the age at entry in years", found=repr(text), remedy=_REMEDY)
    return float(age)


def days_of(text: str | None, where: str) -> float:
    """Days since entry from ``d0129``; without them an age would be cut to whole years."""
    match = re.fullmatch(r"d(-?\d+)", text or "")
    require(
        match is not None, where, expected="source_session_id such as d0129 (days since entry)", found=repr(text),
        remedy="The column age is cut to whole years, so age is rebuilt from the days: keep source_session_id as the "
        "converter wrote it, or leave the scan out with a line in .bidsignore.",
    )
    return float(match[1])


def diagnosis(text: str | None) -> str | None:
    """CN, MCI (uncertain or very mild) or AD for the wording of dx1; other dementias stay as they are written."""
    words = (text or "").lower()
    if words in _NORMAL:
        return "CN"
    if words in _UNCERTAIN:
        return "MCI"
    return "AD" if words.startswith(("ad dem", "dat")) else text


def score_faults(sessions: Mapping[tuple[str, str], Mapping[str, Any]], *, replaced: bool = False) -> Iterator[Finding]:
    """Refuse OASIS-3 scores of sessions.tsv unless two people in one session bin have different ones.

    With `replaced`, the original tables stand in for them: a mix-up that shows is a warning.
    """
    bins: dict[str, list[tuple]] = defaultdict(list)
    ours = {key: row for key, row in sessions.items() if is_subject(key[0])}
    for (_, session), row in ours.items():
        lower = {k.lower(): v for k, v in row.items()}
        scores = tuple(lower.get(name) for name in SCORES)
        if any(s is not None for s in scores):
            bins[session].append(scores)
    if not ours or any(len(set(scores)) > 1 for scores in bins.values()):
        return
    shared = max(bins, key=lambda session: len(bins[session]), default="")
    mixed = len(bins[shared]) > 1
    if mixed or not replaced:
        found = (
            f"the same score vector for all {len(bins[shared])} subjects in session {shared}: joined on the session "
            "alone" if mixed else "scores that cannot be told from those of another person"
        )
        yield Finding(
            "", "sub-*/sub-*_sessions.tsv", "each person's own CDR, MMSE and diagnosis", found,
            "They are not used: the original tables are." if replaced else _REMEDY, refused=not replaced,
        )


def distant(of: Mapping[tuple[str, str], Any], tables: Clinical) -> Iterator[Finding]:
    """Warnings for scans more than a year from any clinical visit."""
    for (subject, session), visit in of.items():
        gap = tables.nearest(subject, visit.days).gap_days if visit.days is not None else 0
        if gap > FAR_DAYS:
            yield Finding(
                subject, f"{CDR_TABLE}: {subject} {session}", f"a clinical visit within {FAR_DAYS} days of the scan",
                f"the nearest {gap:.0f} days away", "Leave the scan out if the diagnosis matters.", refused=False,
            )
