"""The normalised scan table: one row per file, checked row by row and across rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from nbkit.core.checks import NbkitError, closest, require
from nbkit.core.protocols import SEXES

COLUMNS = ("subject", "session", "age_years", "sex", "diagnosis", "contrast", "path")
DIAGNOSES = ("CN", "HC", "SMC", "EMCI", "LMCI", "MCI", "AD", "MS")
_EXPECTED = {
    "subject": "letters, digits, - or _",
    "session": "letters, digits, - or _",
    "age_years": "years above 1.2 and up to 120",
    "sex": "F or M",
    "diagnosis": f"one of {', '.join(DIAGNOSES)}",
    "contrast": 'a name such as T1w, FLAIR or "mask:lesions"',
    "path": "a file name",
}
_REMEDY = {
    "age_years": "Give ages in years: values up to 1.2 are usually age/100.",
    "sex": "Write F or M: what 0, 1 and 2 mean differs between data sets, so pass sex_codes, e.g. "
    '{"1": "M", "2": "F"}, or recode the column.',
    "diagnosis": "Rename the diagnosis to one of the table.",
}


def read_scan_table(path: Path | str, *, sex_codes: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read and check a CSV with one row per image file.

    Parameters
    ----------
    path : path
        Columns subject, session, age_years, sex, diagnosis, contrast, path; further columns are left out. Age
        and sex may be empty. `path` is relative to the CSV's own folder, or absolute. A mask has the contrast
        ``"mask:brain"``, ``"mask:lesions"``, ...
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
    table = _read(path)
    table["sex"] = table["sex"].replace(dict(sex_codes or {}))
    table = _validated(table, path)
    table["row"] = table.index + 2
    table["file"] = [(path.parent / p).resolve() for p in table["path"]]
    _check_across(table, path)
    return table


def _read(path: Path) -> pd.DataFrame:
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
    table = table[list(COLUMNS)].apply(lambda column: column.str.strip())
    return table.replace("", None)


def _schema() -> pa.DataFrameSchema:
    name = pa.Check.str_matches(r"^[A-Za-z0-9_-]+$")
    return pa.DataFrameSchema({
        "subject": pa.Column(checks=name),
        "session": pa.Column(checks=name),
        "age_years": pa.Column(float, pa.Check.in_range(1.2, 120, include_min=False), nullable=True, coerce=True),
        "sex": pa.Column(checks=pa.Check.isin(SEXES), nullable=True),
        "diagnosis": pa.Column(checks=pa.Check.isin(DIAGNOSES)),
        "contrast": pa.Column(checks=pa.Check.str_matches(r"^(mask:)?[A-Za-z0-9_-]+$")),
        "path": pa.Column(),
    })


def _validated(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    try:
        return _schema().validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        bad = error.failure_cases.dropna(subset=["index"]).drop_duplicates(["index", "column"])
        bad = bad.sort_values(["index", "column"])
        columns = sorted(set(bad["column"]))
        raise NbkitError(
            f"{path}", expected="; ".join(f"{c}: {_EXPECTED[c]}" for c in columns),
            found="; ".join(_bad_cell(table, int(b["index"]), b["column"]) for _, b in bad.iterrows()),
            remedy=" ".join(_REMEDY[c] for c in columns if c in _REMEDY) or "Correct these rows.",
        ) from error


def _bad_cell(table: pd.DataFrame, index: int, column: str) -> str:
    value = table.at[index, column]
    return f"row {index + 2} {column} {'empty' if pd.isna(value) else repr(value)}"


def _check_across(table: pd.DataFrame, path: Path) -> None:
    scan = table[["subject", "session", "contrast"]].agg("/".join, axis=1)
    _refuse(path, table, scan, "each subject, session and contrast once", "Remove the repeated rows.")
    _refuse(path, table, table["file"].map(str), "each file in one row", "Two scans cannot be one file: correct path.")
    visit = table[["subject", "session"]].agg("/".join, axis=1)
    for column, per, group in (
        ("sex", "subject", table["subject"]), ("age_years", "session", visit), ("diagnosis", "session", visit),
    ):
        torn = table[column].astype(str).groupby(group).transform("nunique") > 1
        remedy = f"Correct the column {column}, or give different people different names."
        _refuse(path, table[torn], group[torn], f"one {column} per {per}", remedy)
    absent = [f"row {r.row} {r.path}" for r in table.itertuples() if not r.file.is_file()]
    require(
        not absent, f"{path}", expected="files that exist", found=f"missing: {'; '.join(absent)}",
        remedy="Paths are relative to the folder of the CSV: correct them or bring the files.",
    )


def _refuse(path: Path, table: pd.DataFrame, key: Iterable[str], expected: str, remedy: str) -> None:
    rows = table["row"].groupby(pd.Series(key, index=table.index)).agg(list)
    twice = [f"{name} in rows {', '.join(map(str, r))}" for name, r in rows.items() if len(r) > 1]
    require(not twice, f"{path}", expected=expected, found="; ".join(twice), remedy=remedy)
