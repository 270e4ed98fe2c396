"""The normalised scan table: one row per file, checked cell by cell, across rows, and header against header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa

from nbkit.core.checks import NbkitError, check_same_grid, require
from nbkit.core.protocols import SEXES
from nbkit.data import nifti
from nbkit.data.findings import Finding, Reading, raise_refused
from nbkit.data.text_tables import read_text_table

COLUMNS = ("subject", "session", "age_years", "sex", "diagnosis", "contrast", "path")
SCORES = ("edss", "t2_load_ml")
"""Further columns that are read where a table has them; cells may be empty."""
DIAGNOSES = ("CN", "HC", "SMC", "EMCI", "LMCI", "MCI", "AD", "MS")
MASK = "mask:"


def _column(expected: str, *checks: pa.Check, remedy: str = "Correct this row.", **kind: Any) -> pa.Column:
    return pa.Column(checks=list(checks), description=expected, metadata={"remedy": remedy}, **kind)


_NAME = "letters, digits, - or _", pa.Check.str_matches(r"^[A-Za-z0-9_-]+$")
_NUMBER = {"dtype": float, "nullable": True, "coerce": True}
_SCHEMA = pa.DataFrameSchema({
    "subject": _column(*_NAME),
    "session": _column(*_NAME),
    "age_years": _column(
        "years above 1.2 and up to 120", pa.Check.in_range(1.2, 120, include_min=False),
        remedy="Give ages in years: values up to 1.2 are usually age/100.", **_NUMBER,
    ),
    "sex": _column(
        "F or M", pa.Check.isin(SEXES), nullable=True,
        remedy="Write F or M: what 0, 1 and 2 mean differs between data sets, so pass sex_codes, e.g. "
        '{"1": "M", "2": "F"} (--sex-codes 1=M,2=F), or recode the column.',
    ),
    "diagnosis": _column(
        f"one of {', '.join(DIAGNOSES)}", pa.Check.isin(DIAGNOSES), remedy="Rename the diagnosis to one of the table.",
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
    table = _consistent(good_rows(raw, findings), findings, path.name)
    named = raw.dropna(subset=["path", "contrast"])
    files = named.loc[[file.is_file() for file in named["file"]]]
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
    try:
        return _SCHEMA.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        bad = error.failure_cases.dropna(subset=["index"]).drop_duplicates(["index", "column"])
    for index, name in bad.sort_values(["index", "column"])[["index", "column"]].itertuples(index=False):
        row, rule = table.loc[index], _SCHEMA.columns[name]
        findings.append(Finding(
            "" if pd.isna(row["subject"]) else row["subject"], row.get(f"{name}_source", row["source"]),
            f"{name}: {rule.description}", f"{name} {'empty' if pd.isna(row[name]) else repr(row[name])}",
            rule.metadata["remedy"],
        ))
    return _SCHEMA.validate(table.drop(index=bad["index"].unique()))


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
    """All rows as text, with what good tables hold besides: row, file, source, place."""
    table = read_text_table(path, COLUMNS)
    require(len(table) > 0, f"{path}", expected="at least one row", found="none", remedy="Add one row per file.")
    table = table[[name for name in (*COLUMNS, *SCORES) if name in table]]
    files = [(path.parent / p).resolve() if p else None for p in table["path"]]
    table = table.replace("", None).assign(row=table.index + 2, file=files)
    table["sex"] = table["sex"].replace(dict(sex_codes or {}))
    table["source"] = [f"{path.name} row {row}" for row in table["row"]]
    # pages carry no absolute path
    names = [Path(p).name if Path(p).is_absolute() else p for p in table["path"].fillna("")]
    return table.assign(place="row " + table["row"].astype(str) + ", " + names)


def _consistent(table: pd.DataFrame, findings: list[Finding], name: str) -> pd.DataFrame:
    """The rows that agree with all others: repeated scans, shared and missing files, contradictions are findings."""
    visit = table["subject"] + "/" + table["session"]
    scan = visit + "/" + table["contrast"]
    rules = [
        (scan, scan, "each subject, session and contrast once", "Remove the repeated rows."),
        (table["file"].map(str), table["path"].map(lambda p: Path(p).name), "each file in one row",
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
            where = f"{name} rows {', '.join(map(str, table.loc[rows, 'row']))}"
            told = table.loc[rows, "subject"].unique()
            findings += [Finding(subject, where, expected, shown[rows[0]], remedy) for subject in told]
            bad |= set(rows)
    for row in (r for r in table.itertuples() if not r.file.is_file()):
        findings.append(Finding(
            row.subject, row.place, "files that exist", "none here",
            "Paths are relative to the folder of the CSV: correct them or bring the files.",
        ))
        bad.add(row.Index)
    return table.drop(index=list(bad))
