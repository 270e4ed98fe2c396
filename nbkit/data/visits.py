"""Who was how old, and how ill, at each visit: participants.tsv, sessions.tsv, and the original OASIS-3 tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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


def subject_name(label: str) -> str:
    """``OAS30001`` for ``sub-OAS30001``, ``sub-OASIS30001`` and ``OASIS30001``; other names lose their ``sub-``."""
    return re.sub(r"^OASIS3(?=\d{4}$)", "OAS3", label.removeprefix("sub-"))


def session_name(label: str) -> str:
    """``M006`` for ``ses-M6``, ``ses-M06`` and ``ses-M006``; other names lose their ``ses-``."""
    name = label.removeprefix("ses-")
    months = re.fullmatch(r"[Mm](\d+)", name)
    return f"M{int(months[1]):03d}" if months else name


def read_visits(
    root: Path, wanted: Collection[Key], findings: list[Finding], *, clinical: Path | str | None = None
) -> dict[Key, Visit]:
    """What the tables of a data set say of the visits in `wanted`; a visit that cannot be known is a finding.

    Age is that of the session's table, else that of participants.tsv for people with one session, else (sessions
    named by months, as Clinica does) the age at baseline plus the months. In OASIS-3 it is the age at entry plus
    the days in source_session_id, and diagnosis, CDR and MMSE come from the original tables in `clinical`.
    """
    people = _participants(root, findings)
    sessions = _sessions(root, {subject for subject, _ in wanted}, findings)
    ours = any(oasis3.is_subject(subject) for subject, _ in wanted)
    clinical = clinical or (oasis3.find_clinical(root) if ours else None)
    tables = None if clinical is None else oasis3.read_clinical(clinical)
    of: dict[Key, Visit] = {}
    visits = Counter(subject for subject, _ in wanted)
    for key in sorted(wanted):
        try:
            of[key] = _visit(key, people, sessions.get(key, {}), visits[key[0]], tables)
        except NbkitError as error:
            findings.append(Finding.of(error, key[0], error.where))
    findings += oasis3.score_faults(sessions, replaced=tables is not None)
    findings += [] if tables is None else oasis3.distant(of, tables)
    of = _filled(of, people, findings)
    findings += [*_reckoned(of), *_contradictions(of, people), *_order(of)]
    return of


def _participants(root: Path, findings: list[Finding]) -> dict[str, dict]:
    path = next((p for p in (root / "participants.tsv", root / "subjects" / "participants.tsv") if p.is_file()), None)
    if path is None:
        caps = " (CAPS has none: copy participants.tsv and sub-*/ of tables from the BIDS folder)"
        findings.append(Finding(
            "", "participants.tsv", "a table of the participants", "no such file",
            f"Bring it from where the data set was made{caps if (root / 'subjects').is_dir() else ''}.",
        ))
        return {}
    rows = _rows(path, path.name, "participant_id", _PARTICIPANT)
    names = [subject_name(row["participant_id"] or "") for row in rows]
    return _once("participant", zip(names, names, rows, strict=True), findings)


def _sessions(root: Path, subjects: Collection[str], findings: list[Finding]) -> dict[Key, dict]:
    """Rows by (subject, session)."""
    rows = []
    for pattern in ("sessions.tsv", "sub-*/*_sessions.tsv", "subjects/sub-*/*_sessions.tsv"):
        for path in sorted(root.glob(pattern)):
            for row in _rows(path, path.relative_to(root).as_posix(), "session_id", _SESSION):
                subject = subject_name(row.get("participant_id") or path.name.removesuffix("_sessions.tsv"))
                rows.append((subject, (subject, session_name(row["session_id"] or "")), row))
    return _once("session", (row for row in rows if row[0] in subjects), findings)


def _once(what: str, rows: Iterable[tuple[str, Any, dict]], findings: list[Finding]) -> dict[Any, dict]:
    """From (subject, key, row) the first row of every key; each further one is a finding."""
    found: dict[Any, dict] = {}
    for subject, key, row in rows:
        if key in found:
            findings.append(Finding(
                subject, row["source"], f"each {what} once", f"a duplicated {what}: {row[f'{what}_id']}",
                f"It stands in {found[key]['source']} already: keep the row that is right (sub-OAS3… and sub-OASIS3… "
                "are one person).",
            ))
        found.setdefault(key, row)
    return found


def _rows(path: Path, name: str, key: str, columns: Mapping[str, tuple[str, ...]]) -> list[dict[str, str | None]]:
    """Rows of a TSV with their ``source`` (`name` and line); known columns under our names, whatever their case."""
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
    cells = table.map(lambda v: None if str(v).strip() in _EMPTY else str(v).strip()).astype(object)
    rows = cells.where(cells.notna(), None).to_dict("records")
    known = {name: [lower[a] for a in aliases if a in lower] for name, aliases in columns.items()}
    return [
        row | {"source": f"{name} row {n}"}
        | {own: next((row[c] for c in there if row[c] is not None), None) for own, there in known.items()}
        for n, row in enumerate(rows, 2)
    ]


def _visit(key: Key, people: Mapping[str, dict], row: Mapping, visits: int, tables: oasis3.Clinical | None) -> Visit:
    subject, ours = key[0], oasis3.is_subject(key[0])
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


def _of_oasis3(key: Key, visit: Visit, person: Mapping, row: Mapping, tables: oasis3.Clinical | None) -> Visit:
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
    if base is None:
        return person.get("age")
    if months or visits == 1:
        return base + (int(months[1]) / 12 if months else 0)
    raise NbkitError(
        f"{source}: {key[0]} {key[1]}", expected="an age at every visit", found="one age for several visits",
        remedy="Add the column age (years) to sub-*_sessions.tsv.",
    )


def _our_name(diagnosis: str | None) -> str | None:
    return DIAGNOSIS_NAMES.get((diagnosis or "").upper(), diagnosis)


def _diagnosis(at_visit: str | None, at_baseline: str | None) -> str | None:
    """The name in our table; ADNI's screening diagnosis tells which MCI or CN a visit means."""
    visit, base = _our_name(at_visit), _our_name(at_baseline)
    return base if base in _FINER.get(visit, ()) else visit


def _filled(of: Mapping[Key, Visit], people: Mapping[str, dict], findings: list[Finding]) -> dict[Key, Visit]:
    """A visit without a diagnosis takes that of the visit before; the first, that of participants.tsv."""
    filled: dict[Key, Visit] = {}
    last = {subject: _our_name(person.get("diagnosis")) for subject, person in people.items()}
    told: set[str] = set()
    for key, visit in sorted(of.items(), key=lambda kv: (kv[0][0], _number(kv[1].age, float("inf")), kv[0][1])):
        subject = key[0]
        if visit.diagnosis is not None:
            told.add(subject)
            last[subject] = visit.diagnosis
        elif subject in told:
            findings.append(_doubt(
                key, visit, "a diagnosis at every visit", f"none; {last[subject]} of the visit before is used",
                "Fill it in if it is known.",
            ))
        filled[key] = replace(visit, diagnosis=last.get(subject))
    return filled


def _reckoned(of: Mapping[Key, Visit]) -> Iterator[Finding]:
    for key, visit in of.items():
        if visit.reckoned:
            yield _doubt(
                key, visit, "an age at every visit",
                f"none; {visit.age:.1f}, reckoned from the age at baseline and the session's name, is used",
                "Add the column age (years) to sub-*_sessions.tsv.",
            )


def _contradictions(of: Mapping[Key, Visit], people: Mapping[str, dict]) -> Iterator[Finding]:
    """Warnings: a diagnosis that its scores do not allow, or a baseline that is not what screening found."""
    expected = "a diagnosis that CDR, MMSE and screening allow"
    remedy = "Compare with the study's own table; a converter may have mixed up labels."
    for key, visit in of.items():
        for name, value, bounds in (("CDR", visit.cdr, _CDR), ("MMSE", visit.mmse, _MMSE)):
            low, high = bounds.get(visit.diagnosis, (0, 30))
            if value is not None and not low <= value <= high:
                yield _doubt(key, visit, expected, f"diagnosis {visit.diagnosis}, {name} {value:g}", remedy)
        screened = (people.get(key[0], {}).get("diagnosis") or "").upper()
        if _our_name(screened) in ("SMC", "EMCI", "LMCI") and visit.diagnosis == "AD" and key[1] == "M000":
            yield _doubt(key, visit, expected, f"diagnosis AD, but {screened} in participants.tsv", remedy)


def _order(of: Mapping[Key, Visit]) -> Iterator[Finding]:
    """Sessions named by months in which age does not grow: one age was copied, or two visits swapped."""
    timed = [(k, v) for k, v in sorted(of.items()) if re.fullmatch(r"M\d+", k[1]) and isinstance(v.age, float)]
    for (a, before), (b, after) in zip(timed, timed[1:], strict=False):
        if a[0] == b[0] and after.age <= before.age:
            yield replace(_doubt(
                b, after, "an age that grows from session to session",
                f"{before.age:g} years at {a[1]}, {after.age:g} at {b[1]}",
                "An age was copied or two visits are swapped: correct the column age.",
            ), refused=True)


def _doubt(key: Key, visit: Visit, expected: str, found: str, remedy: str) -> Finding:
    return Finding(key[0], f"{visit.source}: {key[0]} {key[1]}", expected, found, remedy, refused=False)


def _number(text: object, otherwise: object = None) -> object:
    try:
        return float(text)
    except (TypeError, ValueError):
        return otherwise
