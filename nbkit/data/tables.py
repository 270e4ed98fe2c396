"""The normalised scan table: one row per file, checked row by row and across rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from nbkit.core.checks import NbkitError, closest, require
from nbkit.core.protocols import SEXES

COLUMNS = ("subject", "session", "age_years", "sex", "diagnosis", "contrast", "path")
SCORES = {"edss": (0.0, 10.0), "t2_load_ml": (0.0, 1000.0)}
"""Further columns that are read where a table has them, with the range of their values; cells may be empty."""
DIAGNOSES = ("CN", "HC", "SMC", "EMCI", "LMCI", "MCI", "AD", "MS")
_EXPECTED = {
    "subject": "letters, digits, - or _",
    "session": "letters, digits, - or _",
    "age_years": "years above 1.2 and up to 120",
    "sex": "F or M",
    "diagnosis": f"one of {', '.join(DIAGNOSES)}",
    "contrast": 'a name such as T1w, FLAIR or "mask:lesions"',
    "path": "a file name",
    "edss": "points from 0 to 10",
    "t2_load_ml": "mL from 0 to 1000",
}
_REMEDY = {
    "age_years": "Give ages in years: values up to 1.2 are usually age/100.",
    "sex": "Write F or M: what 0, 1 and 2 mean differs between data sets, so pass sex_codes, e.g. "
    '{"1": "M", "2": "F"} (--sex-codes 1=M,2=F), or recode the column.',
    "diagnosis": "Rename the diagnosis to one of the table.",
}


@dataclass(frozen=True)
class Fault:
    """What breaks a rule of the table: row labels, and the words for it."""

    rows: tuple[int, ...]
    expected: str
    found: str
    remedy: str


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
        The columns above, with ``file`` (absolute Path) and ``row`` (line in the CSV) added.

    Raises
    ------
    NbkitError
        Listing every bad row: impossible ages, coded sexes, unknown diagnoses, repeated scans, one subject with
        two sexes, two rows on one file, missing files.
    """
    path = Path(path)
    table, cells = good_rows(_read(path, sex_codes))
    _raise(path, cells, join=True)
    table = _located(table, path)
    _raise(path, across_faults(table))
    return table


def survey_scan_table(
    path: Path | str, *, sex_codes: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, list[Fault]]:
    """As :func:`read_scan_table`, but faults of rows are returned with the rows that have none.

    Returns
    -------
    table : pandas.DataFrame
        The rows that can be used.
    raw : pandas.DataFrame
        Every row, good or bad, as text.
    faults : list of Fault
    """
    path = Path(path)
    raw = _read(path, sex_codes)
    table, cells = good_rows(raw)
    table = _located(table, path)
    faults = [*cells, *across_faults(table)]
    bad = {row for fault in faults for row in fault.rows}
    return table.drop(index=list(bad & set(table.index))), raw, faults


def good_rows(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Fault]]:
    """The rows that keep the rules for single cells, ages as numbers, and a fault for each cell that breaks one."""
    try:
        return _schema(table).validate(table, lazy=True), []
    except pa.errors.SchemaErrors as error:
        bad = error.failure_cases.dropna(subset=["index"]).drop_duplicates(["index", "column"])
        cells = [(int(b["index"]), b["column"]) for _, b in bad.sort_values(["index", "column"]).iterrows()]
    faults = [
        Fault((i,), f"{c}: {_EXPECTED[c]}", _bad_cell(table, i, c), _REMEDY.get(c, "Correct these rows."))
        for i, c in cells
    ]
    rest = table.drop(index=list({i for i, _ in cells}))
    numbers = [name for name in ("age_years", *SCORES) if name in rest]
    return _schema(rest).validate(rest) if len(rest) else rest.astype(dict.fromkeys(numbers, float)), faults


def across_faults(table: pd.DataFrame) -> list[Fault]:
    """What rows have wrong together: repeated scans, shared files, contradictions, and files that are missing."""
    if table.empty:
        return []
    scan = table[["subject", "session", "contrast"]].agg("/".join, axis=1)
    visit = table[["subject", "session"]].agg("/".join, axis=1)
    faults = [
        *_repeated(table, scan, "each subject, session and contrast once", "Remove the repeated rows."),
        *_repeated(
            table, table["file"].map(str), "each file in one row", "Two scans cannot be one file: correct path.",
            shown=table["path"],
        ),
    ]
    for column, per, group in (
        ("sex", "subject", table["subject"]), ("age_years", "session", visit), ("diagnosis", "session", visit),
        *((name, "session", visit) for name in SCORES if name in table),
    ):
        torn = table[column].astype(str).groupby(group).transform("nunique") > 1
        remedy = f"Correct the column {column}, or give different people different names."
        faults += _repeated(table[torn], group[torn], f"one {column} per {per}", remedy)
    return faults + [
        Fault((r.Index,), "files that exist", f"missing: row {r.row} {r.path}",
              "Paths are relative to the folder of the CSV: correct them or bring the files.")
        for r in table.itertuples() if not r.file.is_file()
    ]


def _read(path: Path, sex_codes: Mapping[str, str] | None) -> pd.DataFrame:
    require(path.is_file(), f"{path}", expected="a CSV file", found="no such file", remedy="Check the path.")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise NbkitError(
            f"{path}", expected="a comma-separated table", found=str(error), remedy="Save it as CSV (UTF-8)."
        ) from error
    missing = [c for c in COLUMNS if c not in table]
    near = "".join(closest(c, set(table) - set(COLUMNS)) for c in missing)
    require(
        not missing, f"{path}: columns", expected=", ".join(COLUMNS), found=f"no {', '.join(missing)}",
        remedy=f"{near}Rename or add the columns.",
    )
    require(len(table) > 0, f"{path}", expected="at least one row", found="none", remedy="Add one row per file.")
    table = table[[*COLUMNS, *(name for name in SCORES if name in table)]].apply(lambda column: column.str.strip())
    table = table.replace("", None)
    table["sex"] = table["sex"].replace(dict(sex_codes or {}))
    return table


def _located(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    return table.assign(row=table.index + 2, file=[(path.parent / p).resolve() for p in table["path"]])


def _schema(table: pd.DataFrame) -> pa.DataFrameSchema:
    name = pa.Check.str_matches(r"^[A-Za-z0-9_-]+$")
    return pa.DataFrameSchema({
        "subject": pa.Column(checks=name),
        "session": pa.Column(checks=name),
        "age_years": pa.Column(float, pa.Check.in_range(1.2, 120, include_min=False), nullable=True, coerce=True),
        "sex": pa.Column(checks=pa.Check.isin(SEXES), nullable=True),
        "diagnosis": pa.Column(checks=pa.Check.isin(DIAGNOSES)),
        "contrast": pa.Column(checks=pa.Check.str_matches(r"^(mask:)?[A-Za-z0-9_-]+$")),
        "path": pa.Column(),
        **{
            score: pa.Column(float, pa.Check.in_range(*limits), nullable=True, coerce=True)
            for score, limits in SCORES.items() if score in table
        },
    })


def _bad_cell(table: pd.DataFrame, index: int, column: str) -> str:
    value = table.at[index, column]
    return f"row {index + 2} {column} {'empty' if pd.isna(value) else repr(value)}"


def _repeated(
    table: pd.DataFrame, key: pd.Series, expected: str, remedy: str, *, shown: pd.Series | None = None
) -> list[Fault]:
    if table.empty:
        return []
    groups = [list(rows.index) for _, rows in table.groupby(key) if len(rows) > 1]
    names = key if shown is None else shown
    return [
        Fault(tuple(rows), expected, f"{names[rows[0]]} in rows {', '.join(map(str, table.loc[rows, 'row']))}", remedy)
        for rows in groups
    ]


def _raise(path: Path, faults: Iterable[Fault], *, join: bool = False) -> None:
    """Refuse all faults of the first rule that is broken, or of all rules at once."""
    faults = list(faults)
    told = [f for f in faults if join or f.expected == faults[0].expected]
    if told:
        raise NbkitError(
            f"{path}", expected="; ".join(dict.fromkeys(f.expected for f in told)),
            found="; ".join(f.found for f in told), remedy=" ".join(dict.fromkeys(f.remedy for f in told)),
        )
