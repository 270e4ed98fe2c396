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

from nbkit.core.checks import closest, require
from nbkit.data.findings import Finding
from nbkit.data.text_tables import number, read_text_table

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
class Clinical:
    """The two original tables by subject (OAS3xxxx), asked by subject and day."""

    visits: Mapping[str, pd.DataFrame]
    people: Mapping[str, pd.DataFrame]

    def at(self, subject: str, days: float) -> dict[str, Any]:
        """Age (years) and sex `days` after entry, and what the nearest clinical visit (of two, the earlier) found."""
        person = _of(self.people, subject, DEMOGRAPHICS).iloc[0]
        rows = _of(self.visits, subject, CDR_TABLE)
        gaps = (rows["days"] - days).abs()
        score = rows.loc[gaps.idxmin()]
        code = person["GENDER"].removesuffix(".0")
        return {
            "age_years": _entry_age(person["AgeatEntry"], f"{DEMOGRAPHICS}: {subject}") + days / YEAR,
            "sex": GENDER.get(code, code) or None, "diagnosis": diagnosis(score["dx1"]),
            "cdr": score["CDRTOT"], "mmse": score["MMSE"], "gap_days": gaps.min(),
        }


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
    numbers = visits[["days_to_visit", "CDRTOT", "MMSE"]].map(number).astype(float)
    visits = visits.assign(**numbers, days=numbers["days_to_visit"]).dropna(subset=["days"])
    visits = visits.sort_values(["subject", "days"], kind="stable")
    return Clinical(*(dict(list(table.groupby("subject"))) for table in (visits, people)))


def _read(folder: Path, name: str) -> pd.DataFrame:
    there = {p.name: p for p in sorted(folder.rglob("*.csv"), reverse=True)}
    require(
        name in there, f"--clinical {folder.name}", expected=name, found=", ".join(sorted(there)[:6]) or "no CSV",
        remedy=f"{closest(name, there)}Download it from the OASIS-3 project ('OASIS3_data_files').",
    )
    table = read_text_table(there[name], REQUIRED[name])
    return table.assign(subject=table["OASISID"].str.upper().str.replace("OASIS3", "OAS3"))


def facts(
    visit: tuple[str, str], row: Mapping[str, Any], person: Mapping[str, Any], tables: Clinical | None, *, where: str
) -> dict[str, Any]:
    """What is known of one visit (subject and session), from the original tables where they are here.

    Without the days since entry (``d0129``) an age would be cut to whole years.
    """
    days = re.fullmatch(r"d(-?\d+)", row.get("days") or "")
    require(
        days is not None, where, expected="source_session_id such as d0129 (days since entry)",
        found=repr(row.get("days")), remedy="The column age is cut to whole years, so age is rebuilt from the days: "
        "keep source_session_id as the converter wrote it, or leave the scan out with a line in .bidsignore.",
    )
    if tables is not None:
        return tables.at(visit[0], float(days[1])) | {"source": f"{CDR_TABLE}: {' '.join(visit)}"}
    entry = _entry_age(person.get("age"), f"participants.tsv: {visit[0]}")
    return {"age_years": entry + float(days[1]) / YEAR, "diagnosis": diagnosis(row.get("diagnosis"))}


def _entry_age(text: object, where: str) -> float:
    age = number(text)
    require(age is not None, where, expected="the age at entry in years", found=repr(text), remedy=_REMEDY)
    return age


def diagnosis(text: str | None) -> str | None:
    """CN, MCI (uncertain or very mild) or AD for the wording of dx1; other dementias stay as they are written."""
    words = (text or "").lower()
    if words in ("", "."):
        return None
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
        scores = tuple(row.get(name) for name in SCORES)
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
