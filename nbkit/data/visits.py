"""Who was how old, and how ill, at each visit: participants.tsv, sessions.tsv, and the original OASIS-3 tables."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from nbkit.core.checks import NbkitError
from nbkit.data import oasis3
from nbkit.data.findings import Finding
from nbkit.data.own_settings import read_settings
from nbkit.data.table_sidecars import age_unit, levels, read_sidecar
from nbkit.data.tables import DIAGNOSIS_NAMES, SEX_NAMES
from nbkit.data.text_tables import is_empty, number, read_text_table

# CDR of each ADNI diagnosis at inclusion (ADNI procedures manual); a visit outside is printed, not refused
_CDR = {"CN": (0, 0), "SMC": (0, 0), "EMCI": (0.5, 0.5), "LMCI": (0.5, 0.5), "MCI": (0.5, 0.5), "AD": (0.5, 3)}
# MMSE at inclusion is 24-30 without dementia and 20-26 with it; only what is far outside is printed
_MMSE = {"CN": (24, 30), "SMC": (24, 30), "AD": (0, 28)}
_FINER = {"CN": ("SMC",), "MCI": ("EMCI", "LMCI")}
_PARTICIPANT = {"sex": ("sex", "gender"), "age": ("age_bl", "age"), "diagnosis": (
    "diagnosis_bl", "diagnosis_sc", "diagnosis", "dx", "group")}
_SESSION = {"age": ("age",), "diagnosis": ("diagnosis", "dx1", "dx"), "cdr": ("cdr_global", "cdr"), "mmse": ("mmse",),
            "days": ("source_session_id",)}
Key = tuple[str, str]
Row = Mapping[str, Any]


def subject_name(label: str) -> str:
    """``OAS30001`` for ``sub-OAS30001``, ``sub-OASIS30001`` and ``OASIS30001``; other names lose their ``sub-``."""
    return re.sub(r"^OASIS3(?=\d{4}$)", "OAS3", label.removeprefix("sub-"))


def session_name(label: str) -> str:
    """``M006`` for ``ses-M6``, ``ses-M06`` and ``ses-M006``; other names lose their ``ses-``."""
    name = label.removeprefix("ses-")
    months = re.fullmatch(r"[Mm](\d{1,9})", name)
    return f"M{int(months[1]):03d}" if months else name


def named_visits(root: Path, folders: Iterable[Key]) -> Iterator[tuple[str, str | None, str]]:
    """Subject, session and the place that names them: every one of `folders`, every row of the tables.

    A session is None where only the person is named.
    """
    seen = set()
    for person, session in folders:
        yield subject_name(person), session_name(session or "single"), "/".join(filter(None, (person, session)))
        seen.add(subject_name(person))
    people = _participants(root, [])
    yield from ((subject, None, f"participants.tsv: {subject}") for subject in people if subject)
    for (subject, session), row in _sessions(root, seen | set(people), []).items():
        yield subject, session, f"{row['source']}: {subject} {session}"


def read_visits(
    root: Path, wanted: Collection[Key], findings: list[Finding], *, clinical: Path | str | None = None
) -> pd.DataFrame:
    """What the tables of a data set say of the visits in `wanted`; a visit that cannot be known is a finding.

    Age is that of the session's table, else that of participants.tsv for people with one session, else (sessions
    named by months, as Clinica does) the age at baseline plus the months. In OASIS-3 it is the age at entry plus
    the days in source_session_id, and diagnosis, CDR and MMSE come from the original tables in `clinical`.

    Returns
    -------
    pandas.DataFrame
        subject, session, age_years, sex, diagnosis, cdr, mmse, source (file, row and visit).
    """
    settings = read_settings(root)
    people = _participants(root, findings, settings.sex_codes)
    sessions = _sessions(root, {subject for subject, _ in wanted}, findings)
    ours = any(oasis3.is_subject(subject) for subject, _ in wanted)
    clinical = clinical or (oasis3.find_clinical(root) if ours else None)
    tables = None if clinical is None else oasis3.read_clinical(clinical)
    findings += oasis3.score_faults(sessions, replaced=tables is not None)
    visits, rows = Counter(subject for subject, _ in wanted), []
    for key in sorted(wanted):
        try:
            rows.append(_visit(*key, people, sessions.get(key, {}), visits[key[0]], tables))
        except NbkitError as error:
            findings.append(Finding.of(error, key[0], error.where))
    if not rows:
        return pd.DataFrame(columns=["subject", "session", "age_years", "sex", "diagnosis", "cdr", "mmse", "source"])
    table = _filled(pd.DataFrame(rows), people, findings)
    table["diagnosis"] = table["diagnosis"].fillna(settings.diagnosis)
    findings += [*_doubts(table, people), *_order(table)]
    return table.drop(columns=["age", "gap_days", "reckoned"])


def _participants(
    root: Path, findings: list[Finding], sex_codes: Mapping[str, str] | None = None
) -> dict[str, Row]:
    path = next((p for p in (root / "participants.tsv", root / "subjects" / "participants.tsv") if p.is_file()), None)
    if path is None:
        caps = " (CAPS has none: copy participants.tsv and sub-*/ of tables from the BIDS folder)"
        findings.append(Finding(
            "", "participants.tsv", "a table of the participants", "no such file",
            f"Bring it from where the data set was made{caps if (root / 'subjects').is_dir() else ''}.",
        ))
        return {}
    rows = _rows(path, root, "participant_id", _PARTICIPANT, findings)
    sidecar = read_sidecar(path.with_suffix(".json"))
    told = {code: SEX_NAMES.get(word.upper(), code) for name in _PARTICIPANT["sex"]
            for code, word in levels(sidecar, name).items()}
    for row in rows:
        row["sex"] = {**told, **(sex_codes or {})}.get(row["sex"], row["sex"])
    names = [subject_name(row["participant_id"] or "") for row in rows]
    return _once("participant", zip(names, names, rows, strict=True), findings)


def _sessions(root: Path, subjects: Collection[str], findings: list[Finding]) -> dict[Key, Row]:
    """Rows by (subject, session)."""
    rows = []
    for pattern in ("sessions.tsv", "sub-*/*_sessions.tsv", "subjects/sub-*/*_sessions.tsv"):
        for path in sorted(root.glob(pattern)):
            for row in _rows(path, root, "session_id", _SESSION, findings):
                subject = subject_name(row.get("participant_id") or path.name.removesuffix("_sessions.tsv"))
                rows.append((subject, (subject, session_name(row["session_id"] or "")), row))
    return _once("session", (row for row in rows if row[0] in subjects), findings)


def _once(what: str, rows: Iterable[tuple[str, Any, Row]], findings: list[Finding]) -> dict[Any, Row]:
    """From (subject, key, row) the first row of every key; each further one is a finding."""
    found: dict[Any, Row] = {}
    for subject, key, row in rows:
        if key in found:
            findings.append(Finding(
                subject, row["source"], f"each {what} once", f"a duplicated {what}: {row[f'{what}_id']}",
                f"It stands in {found[key]['source']} already: keep the row that is right (sub-OAS3… and sub-OASIS3… "
                "are one person).",
            ))
        found.setdefault(key, row)
    return found


def _rows(
    path: Path, root: Path, key: str, columns: Mapping[str, tuple[str, ...]], findings: list[Finding]
) -> list[Row]:
    """Rows of a TSV, each with its ``source``; known columns under our names, whatever their case, None if empty."""
    known = {"participant_id", *columns, *(name for names in columns.values() for name in names)}
    table = read_text_table(path, (key,), further=sorted(known - {key}), tabs=True)
    rows = table.index + 2
    table = table.reset_index(drop=True).rename(columns=str.lower)
    table = table.loc[:, ~table.columns.duplicated()].astype(object)
    table = table.where(~table.map(is_empty), None)
    table = _in_years(table, path, root, columns["age"], findings)
    for ours, names in columns.items():
        table[ours] = table.reindex(columns=list(names)).bfill(axis=1).iloc[:, 0]
    table["source"] = [f"{path.relative_to(root).as_posix()} row {n}" for n in rows]
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _in_years(
    table: pd.DataFrame, path: Path, root: Path, columns: Iterable[str], findings: list[Finding]
) -> pd.DataFrame:
    """The table with ages in years, whatever the JSON beside it says that they are in."""
    sidecars = (path.with_suffix(".json"), root / f"{path.stem.split('_')[-1]}.json")
    sidecar = read_sidecar(next((file for file in sidecars if file.is_file()), sidecars[0]))
    for name in (name for name in columns if name in table):
        unit, years = age_unit(sidecar, name, path.with_suffix(".json").name)
        if unit != "year":
            found = [number(cell) for cell in table[name]]
            table[name] = [cell if n is None else str(n * years) for cell, n in zip(table[name], found, strict=True)]
            findings.append(Finding(
                "", f"{path.name}: {name}", "years", f"{unit}s, as the JSON beside it says; they are made years",
                "Correct the unit if it is wrong.", refused=False,
            ))
    return table


def _visit(
    subject: str, session: str, people: Mapping[str, Row], row: Row, visits: int, tables: oasis3.Clinical | None
) -> Row:
    ours = oasis3.is_subject(subject)
    if people and subject not in people and not (ours and tables):
        raise NbkitError(
            f"participants.tsv: {subject}", expected="a row for every participant", found="none",
            remedy="Add the person, or leave the scans out with a line in .bidsignore.",
        )
    person = people.get(subject, {})
    sex = person.get("sex")
    facts = {
        "subject": subject, "session": session, "sex": SEX_NAMES.get((sex or "").upper(), sex),
        "cdr": _number(row.get("cdr"), math.nan), "mmse": _number(row.get("mmse"), math.nan), "gap_days": 0.0,
        "reckoned": False, "source": f"{row.get('source', 'participants.tsv')}: {subject} {session}",
    }
    if ours:
        return facts | oasis3.facts((subject, session), row, person, tables, where=facts["source"])
    age, base = row.get("age"), _number(person.get("age"))
    if age is None:
        age = _reckoned(base, session, visits, facts["source"]) or person.get("age")
    visit, screened = _our_name(row.get("diagnosis")), _our_name(person.get("diagnosis"))
    return facts | {
        "age_years": _number(age, age), "reckoned": isinstance(age, float) and age != base,
        # ADNI's screening diagnosis tells which MCI or CN a visit means
        "diagnosis": screened if screened in _FINER.get(visit, ()) else visit,
    }


def _reckoned(base: float | None, session: str, visits: int, where: str) -> float | None:
    """Years: the age at baseline plus the months in the session's name, where a person has one of the two."""
    months = re.fullmatch(r"M(\d+)", session)
    if base is not None and not months and visits > 1:
        raise NbkitError(
            where, expected="an age at every visit", found="one age for several visits",
            remedy="Add the column age (years) to sub-*_sessions.tsv.",
        )
    return None if base is None else base + (int(months[1]) / 12 if months else 0)


def _our_name(diagnosis: str | None) -> str | None:
    return DIAGNOSIS_NAMES.get((diagnosis or "").upper(), diagnosis)


def _filled(visits: pd.DataFrame, people: Mapping[str, Row], findings: list[Finding]) -> pd.DataFrame:
    """By age; a visit without a diagnosis takes that of the visit before; the first, that of participants.tsv."""
    visits = visits.assign(age=pd.to_numeric(visits["age_years"], errors="coerce"))
    visits = visits.sort_values(["subject", "age", "session"])
    filled = visits.groupby("subject")["diagnosis"].ffill()
    for row in visits[visits["diagnosis"].isna() & filled.notna()].itertuples():
        found = f"none; {filled[row.Index]} of the visit before is used"
        findings.append(_doubt(row, "a diagnosis at every visit", found, "Fill it in if it is known."))
    screened = visits["subject"].map({name: _our_name(person["diagnosis"]) for name, person in people.items()})
    return visits.assign(diagnosis=filled.fillna(screened))


def _doubts(visits: pd.DataFrame, people: Mapping[str, Row]) -> Iterator[Finding]:
    """Warnings: ages and scores from afar, and diagnoses that their scores or the screening contradict."""
    for row in visits.itertuples():
        if row.reckoned:
            yield _doubt(
                row, "an age at every visit",
                f"none; {row.age:.1f}, reckoned from the age at baseline and the session's name, is used",
                "Add the column age (years) to sub-*_sessions.tsv.",
            )
        if row.gap_days > oasis3.FAR_DAYS:
            yield _doubt(
                row, f"a clinical visit within {oasis3.FAR_DAYS} days of the scan",
                f"the nearest {row.gap_days:.0f} days away", "Leave the scan out if the diagnosis matters.",
            )
        against = []
        for name, value, bounds in (("CDR", row.cdr, _CDR), ("MMSE", row.mmse, _MMSE)):
            low, high = bounds.get(row.diagnosis, (0, 30))
            against += [f", {name} {value:g}"] if value < low or value > high else []
        screened = (people.get(row.subject, {}).get("diagnosis") or "").upper()
        if row.session == "M000" and row.diagnosis == "AD" and _our_name(screened) in ("SMC", "EMCI", "LMCI"):
            against.append(f", but {screened} in participants.tsv")
        for words in against:
            yield _doubt(
                row, "a diagnosis that CDR, MMSE and screening allow", f"diagnosis {row.diagnosis}{words}",
                "Compare with the study's own table; a converter may have mixed up labels.",
            )


def _order(visits: pd.DataFrame) -> Iterator[Finding]:
    """Sessions named by months in which age does not grow: one age was copied, or two visits swapped."""
    timed = visits[visits["session"].str.fullmatch(r"M\d+") & visits["age"].notna()]
    for before, after in pairwise(timed.sort_values(["subject", "session"]).itertuples()):
        if before.subject == after.subject and after.age <= before.age:
            yield Finding(
                after.subject, after.source, "an age that grows from session to session",
                f"{before.age:g} years at {before.session}, {after.age:g} at {after.session}",
                "An age was copied or two visits are swapped: correct the column age.",
            )


def _doubt(row: Any, expected: str, found: str, remedy: str) -> Finding:
    return Finding(row.subject, row.source, expected, found, remedy, refused=False)


def _number(text: object, otherwise: object = None) -> object:
    found = number(text)
    return otherwise if found is None else found
