"""The normalised scan table: one row per file, checked cell by cell, across rows, and header against header."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa

from nbkit.core.checks import NbkitError, check_same_grid, require
from nbkit.core.protocols import SEXES
from nbkit.data import nifti
from nbkit.data.findings import Finding, Reading, raise_refused
from nbkit.data.own_settings import SETTINGS, read_settings
from nbkit.data.text_tables import file_at, is_empty, number, read_text_table

COLUMNS = ("subject", "session", "age_years", "sex", "diagnosis", "contrast", "path")
SCORES = ("edss", "t2_load_ml")
"""Further columns that are read where a table has them; cells may be empty."""
DIAGNOSES = ("CN", "HC", "SMC", "EMCI", "LMCI", "MCI", "AD", "MS")
DIAGNOSIS_NAMES = {
    **{name: name for name in DIAGNOSES}, "NC": "CN", "NL": "CN", "DEMENTIA": "AD", "CONTROL": "HC",
}
"""What tables call the diagnoses and the sexes, in capitals."""
SEX_NAMES = {"F": "F", "FEMALE": "F", "M": "M", "MALE": "M"}
MASK = "mask:"
_SHOWN = 80
"""Characters of a path that an error shows."""


def _age_remedy(text: object) -> str:
    """What to do about an age that cannot be one, by what it looks like."""
    words, years = str(text).strip(), number(text)
    if years is None and ("+" in words or words[:1] in "><≥≤"):
        return "Give the age itself; where it is hidden, leave the cell empty (n/a): the visit then has no age."
    if years is None:
        return "Write the years as one number and nothing else (64.2), or leave the cell empty (n/a)."
    if 0 < years <= 1.2:
        return "Give ages in years: values up to 1.2 are usually age/100."
    return "Give ages in years: is it in months or days? A code for a missing value is an empty cell (n/a)."


def _diagnosis_remedy(text: object) -> str:
    if is_empty(text):
        return (
            "Fill in the column diagnosis, or add it (in BIDS to participants.tsv or sub-*_sessions.tsv). Is everybody "
            f'healthy? Then a file {SETTINGS} in that folder with the line diagnosis = "CN" says so.'
        )
    return "Rename the diagnosis to one of the table."


def _column(
    expected: str, *checks: pa.Check, remedy: str | Callable[[object], str] = "Correct this row.", **kind: Any
) -> pa.Column:
    return pa.Column(checks=list(checks), description=expected, metadata={"remedy": remedy}, **kind)


_NAME = "letters, digits, - or _", pa.Check.str_matches(r"^[A-Za-z0-9_-]+$")
_NUMBER = {"dtype": float, "nullable": True, "coerce": True}
_SCHEMA = pa.DataFrameSchema({
    "subject": _column(*_NAME),
    "session": _column(*_NAME),
    "age_years": _column(
        "years above 1.2 and up to 120", pa.Check.in_range(1.2, 120, include_min=False),
        remedy=_age_remedy, **_NUMBER,
    ),
    "sex": _column(
        "F or M", pa.Check.isin(SEXES), nullable=True,
        remedy="Write F or M: what 0, 1 and 2 mean differs between data sets, so pass sex_codes, e.g. "
        '{"1": "M", "2": "F"} (--sex-codes 1=M,2=F; for runs sex_codes = {1 = "M", 2 = "F"} in ' + SETTINGS
        + "), or recode the column.",
    ),
    "diagnosis": _column(
        f"one of {', '.join(DIAGNOSES)}", pa.Check.isin(DIAGNOSES), remedy=_diagnosis_remedy,
    ),
    "contrast": _column(
        'a name such as T1w, FLAIR or "mask:lesions"', pa.Check.str_matches(r"^(mask:)?[A-Za-z0-9_-]+$"),
    ),
    "path": _column("a file name"),
    "edss": _column("points from 0 to 10", pa.Check.in_range(0, 10), required=False, **_NUMBER),
    "t2_load_ml": _column("mL from 0 to 1000", pa.Check.in_range(0, 1000), required=False, **_NUMBER),
})


def read_scan_table(path: Path | str, *, sex_codes: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read and check a CSV with one row per image file.

    Parameters
    ----------
    path : path
        Columns subject, session, age_years, sex, diagnosis, contrast, path and, where there are any, edss (points)
        and t2_load_ml (lesion load, mL); further columns are left out. Age, sex and these two may be empty. `path`
        is relative to the CSV's own folder, or absolute. A mask has the contrast ``"mask:brain"``,
        ``"mask:lesions"``, ...
    sex_codes : mapping, optional
        What the codes in the column sex mean, e.g. ``{"1": "M", "2": "F"}``.

    Returns
    -------
    pandas.DataFrame
        As the table of :class:`nbkit.data.findings.Reading`.

    Raises
    ------
    NbkitError
        Listing every bad row: impossible ages, coded sexes, unknown diagnoses, repeated scans, one subject with
        two sexes, two rows on one file, missing files, headers of one session on different grids.
    """
    reading = survey_scan_table(path, sex_codes=sex_codes)
    raise_refused(reading.findings, Path(path).name, remedy="Correct each; `nbkit data check` looks at images too.")
    return reading.table


def survey_scan_table(path: Path | str, *, sex_codes: Mapping[str, str] | None = None) -> Reading:
    """As :func:`read_scan_table`, but what is wrong with rows is collected, not raised."""
    path, findings = Path(path), []
    raw = _read(path, sex_codes)
    table = _consistent(good_rows(raw, findings), findings, path)
    named = raw.dropna(subset=["path", "contrast"])
    files = named[named["file"].notna()]
    everyone = tuple(sorted(raw["subject"].dropna().unique()))
    return Reading(path.stem, one_grid(table, findings), files, everyone, tuple(findings))


def is_mask(contrast: str) -> bool:
    """Whether a contrast of the table names a mask."""
    return contrast.startswith(MASK)


def images_first(visit: pd.DataFrame) -> pd.DataFrame:
    """The rows of one session: T1w, other images, masks."""
    return visit.sort_values(
        "contrast", key=lambda names: names.map(lambda name: (is_mask(name), name != "T1w")), kind="stable",
    )


def good_rows(table: pd.DataFrame, findings: list[Finding]) -> pd.DataFrame:
    """The rows that keep the rules for single cells, ages as numbers; each cell that breaks one is a finding.

    A cell's place is the table's column ``<name>_source`` if it has one, else ``source``.
    """
    for name in (c for c in ("age_years", *SCORES) if c in table):
        table = table.assign(**{name: table[name].map(_pointed, na_action="ignore").astype(object)})
    try:
        return _SCHEMA.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        bad = error.failure_cases.dropna(subset=["index"]).drop_duplicates(["index", "column"])
    for index, name in bad.sort_values(["index", "column"])[["index", "column"]].itertuples(index=False):
        row, rule = table.loc[index], _SCHEMA.columns[name]
        findings.append(Finding(
            "" if pd.isna(row["subject"]) else row["subject"], row.get(f"{name}_source", row["source"]),
            f"{name}: {rule.description}", f"{name} {'empty' if pd.isna(row[name]) else repr(row[name])}",
            remedy(row[name]) if callable(remedy := rule.metadata["remedy"]) else remedy,
        ))
    # where a cell is no number, the column's other rules have not been asked yet
    return good_rows(table.drop(index=bad["index"].unique()), findings)


def _pointed(cell: object) -> object:
    """A number in text with its decimal comma made a point; anything else as it is."""
    return cell.replace(",", ".") if isinstance(cell, str) and number(cell) is not None else cell


def one_grid(table: pd.DataFrame, findings: list[Finding], *, images_may_differ: bool = False) -> pd.DataFrame:
    """The rows with a readable header on the grid of their session's T1w (or first image); others are findings.

    With `images_may_differ` an image on another grid is left out with a warning; a mask never may.
    """
    dropped = []
    for _, visit in table.groupby(["subject", "session"], sort=False):
        first = None
        for row in images_first(visit).itertuples():
            where, refused = row.place, True
            try:
                grid, doubt = nifti.read_grid(row.file), nifti.header_doubt(row.file)
                if doubt is not None:
                    findings.append(Finding.of(doubt, row.subject, where, file=row.file, refused=False))
                first = first or (row.place, grid)
                where, refused = f"{row.place} against {first[0]}", not images_may_differ or is_mask(row.contrast)
                check_same_grid(*first[1], *grid, where)
            except NbkitError as error:
                findings.append(Finding.of(error, row.subject, where, file=row.file, refused=refused))
                dropped.append(row.Index)
    return table.drop(index=dropped)


def _read(path: Path, sex_codes: Mapping[str, str] | None) -> pd.DataFrame:
    """All rows as text, with what good tables hold besides: row, file (None where there is none), source, place."""
    settings, table = read_settings(path.parent), read_text_table(path, COLUMNS, further=SCORES)
    require(len(table) > 0, f"{path}", expected="at least one row", found="none", remedy="Add one row per file.")
    table = table[[name for name in (*COLUMNS, *SCORES) if name in table]]
    files = [file_at(path.parent, cell) for cell in table["path"]]
    table = table.replace("", None).assign(row=table.index + 2, file=pd.Series(files, table.index, dtype=object))
    for name in (c for c in ("age_years", "sex", "diagnosis", *SCORES) if c in table):
        table[name] = table[name].mask(table[name].map(is_empty), None)
    table["sex"] = table["sex"].replace({**settings.sex_codes, **(sex_codes or {})})
    table["diagnosis"] = table["diagnosis"].fillna(settings.diagnosis)
    for name, ours in (("sex", SEX_NAMES), ("diagnosis", DIAGNOSIS_NAMES)):
        table[name] = table[name].map(lambda cell, ours=ours: ours.get(cell.upper(), cell), na_action="ignore")
    table["source"] = [f"{path.name} row {row}" for row in table["row"]]
    # pages carry no absolute path
    names = [Path(p).name if Path(p).is_absolute() else p for p in table["path"].fillna("")]
    return table.assign(place=[f"row {row}, {name[:_SHOWN]}" for row, name in zip(table["row"], names, strict=True)])


def _consistent(table: pd.DataFrame, findings: list[Finding], path: Path) -> pd.DataFrame:
    """The rows that agree with all others: repeated scans, shared and missing files, contradictions are findings."""
    visit = table["subject"] + "/" + table["session"]
    scan = visit + "/" + table["contrast"]
    same = table["file"].map(lambda file: str(file.resolve()), na_action="ignore").fillna(table["path"])
    rules = [
        (scan, scan, "each subject, session and contrast once", "Remove the repeated rows."),
        (same, table["path"].map(lambda p: Path(p).name[:_SHOWN]), "each file in one row",
         "Two scans cannot be one file: correct path."),
    ]
    per_visit = [(column, "session", visit) for column in ("age_years", "diagnosis", *SCORES) if column in table]
    for column, per, group in (("sex", "subject", table["subject"]), *per_visit):
        torn = table[column].astype(str).groupby(group).transform("nunique") > 1
        remedy = f"Correct the column {column}, or give different people different names."
        rules.append((group[torn], group, f"one {column} per {per}", remedy))
    bad = set()
    for keys, shown, expected, remedy in rules:
        for rows in (rows for rows in keys.groupby(keys).groups.values() if len(rows) > 1):
            where = f"{path.name} rows {', '.join(map(str, table.loc[rows, 'row']))}"
            told = table.loc[rows, "subject"].unique()
            findings += [Finding(subject, where, expected, shown[rows[0]], remedy) for subject in told]
            bad |= set(rows)
    for row in (r for r in table.itertuples() if pd.isna(r.file)):
        findings.append(Finding(row.subject, row.place, "files that exist", *_absence(path.parent, row.path)))
        bad.add(row.Index)
    return _with_images(table.drop(index=list(bad)), findings)


def _absence(folder: Path, path: str) -> tuple[str, str]:
    """What is there instead of a file, and what to do."""
    place = os.path.join(folder, path)
    if os.path.islink(place):
        return "a link whose file is not here", "Bring the file (git annex get, datalad get), or correct the path."
    if os.path.isdir(place):
        return "a folder", "Name the image in it."
    if "\\" in path:
        return "a path with backslashes", "Write the path with / between folders."
    return "none here", "Paths are relative to the folder of the CSV: correct them or bring the files."


def _with_images(table: pd.DataFrame, findings: list[Finding]) -> pd.DataFrame:
    """The rows of visits that have an image; a visit with nothing but masks is a finding."""
    bare = table["contrast"].map(is_mask).astype(bool).groupby([table["subject"], table["session"]]).transform("all")
    for (subject, session), rows in table[bare].groupby(["subject", "session"], sort=False):
        where, found = f"{subject}/{session}", f"only {', '.join(rows['contrast'])}"
        remedy = "Add a row for each contrast of the session, or correct the rows of its images."
        findings.append(Finding(subject, where, "at least one image", found, remedy))
    return table[~bare]
