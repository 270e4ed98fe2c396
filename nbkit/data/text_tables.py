"""Tables that people bring, as text: one reader, so that each is refused in the same words."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from nbkit.core.checks import NbkitError, closest, require


def read_text_table(path: Path, columns: Collection[str], *, tabs: bool = False) -> pd.DataFrame:
    """Every cell as text without space around it, "" where empty; `columns` must be there, others may.

    Raises
    ------
    NbkitError
        Naming the file: missing, no table, or without one of `columns`, with the nearest name.
    """
    kind = "tab" if tabs else "comma"
    require(path.is_file(), f"{path}", expected="a table", found="no such file", remedy="Check the path.")
    try:
        table = pd.read_csv(path, sep="\t" if tabs else ",", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise NbkitError(
            path.name, expected=f"a {kind}-separated table", found=str(error), remedy="Save it so, in UTF-8.",
        ) from error
    table.columns = [str(c).strip() for c in table.columns]
    missing = [c for c in columns if c not in table]
    near = "".join(closest(c, set(table) - set(columns)) for c in missing)
    require(
        not missing, f"{path.name}: columns", expected=", ".join(columns), found=f"no {', '.join(missing)}",
        remedy=f"{near}Rename or add the columns; the table is separated by {kind}s.",
    )
    return table.fillna("").apply(lambda column: column.str.strip())
