"""Who was how old, and how ill, at each visit: participants.tsv, sessions.tsv, and the original OASIS-3 tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from nbkit.core.checks import NbkitError, closest, require
from nbkit.data import oasis3
from nbkit.data.findings import Finding

DIAGNOSIS_NAMES = {
    "CN": "CN", "NC": "CN", "NL": "CN", "SMC": "SMC", "EMCI": "EMCI", "LMCI": "LMCI", "MCI": "MCI", "AD": "AD",
    "DEMENTIA": "AD", "HC": "HC", "MS": "MS", "CONTROL": "HC",
}
SEX_NAMES = {"F": "F", "FEMALE": "F", "M": "M", "MALE": "M"}
# CDR of each ADNI diagnosis at inclusion (ADNI procedures manual); a visit outside is printed, not refused
_CDR = {"CN": (0, 0), "SMC": (0, 0), "EMCI": (0.5, 0.5), "LMCI": (0.5, 0.5), "MCI": (0.5, 0.5), "AD": (0.5, 3)}
# MMSE at inclusion is 24-30 without dementia and 20-26 with it; only what is far outside is printed
_MMSE = {"CN": (24, 30), "SMC": (24, 30), "AD": (0, 28)}
_FINER = {"CN": ("SMC",), "MCI": ("EMCI", "LMCI")}
_PARTICIPANT = {"sex": ("sex", "gender"), "age": ("age_bl", "age"), "diagnosis": (
    "diagnosis_bl", "diagnosis_sc", "diagnosis", "dx", "group")}
_SESSION = {"age": ("age",), "diagnosis": ("diagnosis", "dx1", "dx"), "cdr": ("cdr_global", "cdr"), "mmse": ("mmse",),
            "days": ("source_session_id",)}
_EMPTY = ("", "n/a", "nan", "NaN", "N/A", ".")
Key = tuple[str, str]


@dataclass(frozen=True)
class Visit:
    """What the tables say of one session; `source` is the file that says it.

    An age is `reckoned` when it is that of the baseline plus the months in the session's name.
    """

    age: object = None
    sex: str | None = None
    diagnosis: str | None = None
    cdr: float | None = None
    mmse: float | None = None
    source: str = "participants.tsv"
    days: float | None = None
    reckoned: bool = False


@dataclass(frozen=True)
class Visits:
    """Visits by (subject, session), and what is wrong with the tables."""

    of: Mapping[Key, Visit]
    findings: tuple[Finding, ...]


Rename = Callable[[str], str]


def read_visits(
    root: Path, wanted: Collection[Key], *, clinical: Path | str | None, subject_name: Rename, session_name: Rename
) -> Visits:
    """What the tables of a data set say of the visits in `wanted`; a visit that cannot be known is a finding.

    Age is that of the session's table, else that of participants.tsv for people with one session, else (sessions
    named by months, as Clinica does) the age at baseline plus the months. In OASIS-3 it is the age at entry plus
    the days in source_session_id, and diagnosis, CDR and MMSE come from the original tables in `clinical`.
    """
    people, faults = _participants(root, subject_name)
    sessions, more = _sessions(root, {s for s, _ in wanted}, subject_name, session_name)
    findings = [*faults, *more]
    ours = any(oasis3.is_subject(s) for s, _ in wanted)
    clinical = clinical or (oasis3.find_clinical(root) if ours else None)
    tables = None if clinical is None else oasis3.read_clinical(clinical)
    of: dict[Key, Visit] = {}
    visits = Counter(s for s, _ in wanted)
    for key in sorted(wanted):
        try:
            of[key] = _visit(key, people, sessions, visits[key[0]], tables)
        except NbkitError as error:
            findings.append(Finding.of(error, key[0], error.where))
    findings += oasis3.score_faults(sessions, replaced=tables is not None)
    findings += [] if tables is None else oasis3.distant(of, tables)
    findings += _reckoned(of)
    of, filled = _filled(of, {s: p.get("diagnosis") for s, p in people.items()})
    findings += [*filled, *_contradictions(of, people), *_order(of)]
    return Visits(of, tuple(findings))


def _participants(root: Path, subject_name: Rename) -> tuple[dict[str, dict], list[Finding]]:
    path = next((p for p in (root / "participants.tsv", root / "subjects" / "participants.tsv") if p.is_file()), None)
    if path is None:
        caps = " (CAPS has none: copy participants.tsv and sub-*/ of tables from the BIDS folder)"
        return {}, [Finding(
            "", "participants.tsv", "a table of the participants", "no such file",
            f"Bring it from where the data set was made{caps if (root / 'subjects').is_dir() else ''}.",
        )]
    rows = _rows(path, "participant_id", _PARTICIPANT)
    people, findings = {}, []
    for n, row in rows:
        name = subject_name(row.get("participant_id") or "")
        if name in people:
            findings.append(Finding(
                name, f"participants.tsv row {n}", "each participant once", f"{row['participant_id']} again",
                "Keep one row per person (sub-OAS3… and sub-OASIS3… are one person).",
            ))
        people.setdefault(name, row)
    return people, findings


def _sessions(
    root: Path, subjects: Collection[str], subject_name: Rename, session_name: Rename
) -> tuple[dict[Key, dict], list[Finding]]:
    """Rows by (subject, session), each with ``source`` (file and row)."""
    found: dict[Key, dict] = {}
    findings = []
    files = [p for pattern in ("sessions.tsv", "sub-*/*_sessions.tsv", "subjects/sub-*/*_sessions.tsv")
             for p in sorted(root.glob(pattern))]
    for path in files:
        relative = path.relative_to(root).as_posix()
        for n, row in _rows(path, "session_id", _SESSION):
            label = row.get("participant_id") or path.name.removesuffix("_sessions.tsv")
            key = subject_name(label), session_name(row.get("session_id") or "")
            if key in found:
                findings.append(Finding(
                    key[0], f"{relative} row {n}", "each session once", f"a duplicated session: {row['session_id']}",
                    f"It stands in {found[key]['source']} already: keep the row that is right.",
                ))
            elif key[0] in subjects:
                found[key] = row | {"source": f"{relative} row {n}"}
    return found, findings


def _rows(path: Path, key: str, columns: Mapping[str, tuple[str, ...]]) -> list[tuple[int, dict[str, str | None]]]:
    """Rows of a TSV with their line numbers; known columns under their own names, whatever their case."""
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise NbkitError(
            path.name, expected="a tab-separated table", found=str(error), remedy="Save it as TSV (UTF-8).",
        ) from error
    table.columns = [str(c).strip() for c in table.columns]
    require(
        key in table, f"{path.name}: columns", expected=key, found=", ".join(table.columns),
        remedy=f"{closest(key, table.columns)}Rename the column; tables are separated by tabs.",
    )
    lower = {c.lower(): c for c in reversed(table.columns)}
    table = table.map(lambda v: None if str(v).strip() in _EMPTY else str(v).strip())
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    known = {name: [lower[a] for a in aliases if a in lower] for name, aliases in columns.items()}
    return [
        (n, row | {name: next((row[c] for c in there if row[c] is not None), None) for name, there in known.items()})
        for n, row in enumerate(rows, 2)
    ]


def _visit(
    key: Key, people: Mapping[str, dict], sessions: Mapping[Key, dict], visits: int, tables: oasis3.Clinical | None
) -> Visit:
    subject, row, ours = key[0], sessions.get(key, {}), oasis3.is_subject(key[0])
    if people and subject not in people and not (ours and tables):
        raise NbkitError(
            f"participants.tsv: {subject}", expected="a row for every participant", found="none",
            remedy="Add the person, or leave the scans out with a line in .bidsignore.",
        )
    person = people.get(subject, {})
    sex = person.get("sex")
    visit = Visit(
        sex=SEX_NAMES.get((sex or "").upper(), sex), source=row.get("source", "participants.tsv"),
        cdr=_number(row.get("cdr")), mmse=_number(row.get("mmse")),
    )
    if ours:
        return _of_oasis3(key, visit, person, row, tables)
    age = _age(key, person, row, visits, visit.source)
    reckoned = row.get("age") is None and isinstance(age, float) and age != _number(person.get("age"))
    return replace(
        visit, age=age, reckoned=reckoned, diagnosis=_diagnosis(row.get("diagnosis"), person.get("diagnosis")),
    )


def _of_oasis3(
    key: Key, visit: Visit, person: Mapping, row: Mapping, tables: oasis3.Clinical | None
) -> Visit:
    days = oasis3.days_of(row.get("days"), f"{visit.source}: {key[0]} {key[1]}")
    if tables is None:
        entry = oasis3.entry_age(person.get("age"), f"participants.tsv: {key[0]}")
        return replace(visit, age=entry + days / oasis3.YEAR, days=days,
                       diagnosis=oasis3.diagnosis(row.get("diagnosis")))
    found = tables.nearest(key[0], days)
    return replace(
        visit, age=tables.entry_age(key[0]) + days / oasis3.YEAR, days=days, sex=tables.sex(key[0]),
        diagnosis=oasis3.diagnosis(found.diagnosis), cdr=found.cdr, mmse=found.mmse, source=oasis3.CDR_TABLE,
    )


def _age(key: Key, person: Mapping, row: Mapping, visits: int, source: str) -> object:
    """Years as a number where they are one; text that is none stays, to be refused with the cells."""
    if row.get("age") is not None:
        return _number(row["age"], row["age"])
    base = _number(person.get("age"))
    months = re.fullmatch(r"M(\d+)", key[1])
    if base is not None and (visits == 1 and months is None or months):
        return base + (int(months[1]) / 12 if months else 0)
    if base is None:
        return person.get("age")
    raise NbkitError(
        f"{source}: {key[0]} {key[1]}", expected="an age at every visit", found="one age for several visits",
        remedy="Add the column age (years) to sub-*_sessions.tsv.",
    )


def _diagnosis(at_visit: str | None, at_baseline: str | None) -> str | None:
    """The name in our table; ADNI's screening diagnosis tells which MCI or CN a visit means."""
    visit, base = (DIAGNOSIS_NAMES.get((d or "").upper(), d) for d in (at_visit, at_baseline))
    return base if base in _FINER.get(visit, ()) else visit


def _filled(of: Mapping[Key, Visit], screening: Mapping[str, str | None]) -> tuple[dict[Key, Visit], list[Finding]]:
    """A visit without a diagnosis takes that of the visit before; the first, that of participants.tsv."""
    filled, findings = {}, []
    last: dict[str, str | None] = {s: DIAGNOSIS_NAMES.get((d or "").upper(), d) for s, d in screening.items()}
    told: set[str] = set()
    for key, visit in sorted(of.items(), key=lambda kv: (kv[0][0], _sortable(kv[1].age), kv[0][1])):
        subject = key[0]
        if visit.diagnosis is None and subject in told:
            findings.append(Finding(
                subject, f"{visit.source}: {subject} {key[1]}", "a diagnosis at every visit",
                f"none; {last[subject]} of the visit before is used", "Fill it in if it is known.", refused=False,
            ))
        told |= {subject} if visit.diagnosis is not None else set()
        last[subject] = visit.diagnosis or last.get(subject)
        filled[key] = replace(visit, diagnosis=last[subject])
    return filled, findings


def _reckoned(of: Mapping[Key, Visit]) -> list[Finding]:
    return [Finding(
        subject, f"{visit.source}: {subject} {session}", "an age at every visit",
        f"none; {visit.age:.1f}, reckoned from the age at baseline and the session's name, is used",
        "Add the column age (years) to sub-*_sessions.tsv.", refused=False,
    ) for (subject, session), visit in of.items() if visit.reckoned]


def _contradictions(of: Mapping[Key, Visit], people: Mapping[str, dict]) -> list[Finding]:
    """Warnings: a diagnosis that its scores do not allow, or a baseline that is not what screening found."""
    findings, first = [], {}
    for (subject, session), visit in of.items():
        where = f"{visit.source}: {subject} {session}"
        for name, value, bounds in (("CDR", visit.cdr, _CDR), ("MMSE", visit.mmse, _MMSE)):
            low, high = bounds.get(visit.diagnosis, (0, 30))
            if value is not None and not low <= value <= high:
                findings.append(_doubt(subject, where, f"diagnosis {visit.diagnosis}, {name} {value:g}"))
        first.setdefault(subject, (where, visit))
    for subject, (where, visit) in first.items():
        screened = (people.get(subject, {}).get("diagnosis") or "").upper()
        if DIAGNOSIS_NAMES.get(screened) in ("SMC", "EMCI", "LMCI") and visit.diagnosis == "AD" and "M000" in where:
            findings.append(_doubt(subject, where, f"diagnosis AD, but {screened} in participants.tsv"))
    return findings


def _doubt(subject: str, where: str, found: str) -> Finding:
    return Finding(
        subject, where, "a diagnosis that CDR, MMSE and screening allow", found,
        "Compare with the study's own table; a converter may have mixed up labels.", refused=False,
    )


def _order(of: Mapping[Key, Visit]) -> list[Finding]:
    """Sessions named by months in which age does not grow: one age was copied, or two visits swapped."""
    findings = []
    timed = [(k, v) for k, v in sorted(of.items()) if re.fullmatch(r"M\d+", k[1]) and isinstance(v.age, float)]
    for (a, before), (b, after) in zip(timed, timed[1:], strict=False):
        if a[0] == b[0] and after.age <= before.age:
            findings.append(Finding(
                a[0], f"{after.source}: {b[0]} {b[1]}", "an age that grows from session to session",
                f"{before.age:g} years at {a[1]}, {after.age:g} at {b[1]}",
                "An age was copied or two visits are swapped: correct the column age.",
            ))
    return findings


def _number(text: object, otherwise: object = None) -> object:
    try:
        return float(text)
    except (TypeError, ValueError):
        return otherwise


def _sortable(age: object) -> float:
    return age if isinstance(age, float) else float("inf")
