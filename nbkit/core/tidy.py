"""Tidy frames, the one currency between experiments, records, tables and charts: one number a row.

Columns: id (of the record; empty where nothing is recorded), subject (empty for a number of no single person), system,
metric, value, unit; where they exist fold, visit, structure, setting, and sd and n of a number of no single person.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from nbkit.core.checks import check_keys, known, require

COLUMNS = ("id", "subject", "system", "metric", "value", "unit")


def tidy(values: Mapping[str, float] | float, *, id: str = "", unit: str = "", **labels: Any) -> pd.DataFrame:
    """One measured quantity as a tidy frame.

    Parameters
    ----------
    values : mapping of subject to value, or a single number
    id : str
        Under which it is recorded.
    unit : str
    **labels
        Further columns, the same in every row: ``system="fcn", metric="mse", fold="fold1"``.

    Returns
    -------
    pandas.DataFrame
        With the columns of :data:`COLUMNS` and the labels, a row per subject.
    """
    by_subject = values if isinstance(values, Mapping) else {"": values}
    frame = pd.DataFrame({"subject": list(map(str, by_subject)), "value": list(map(float, by_subject.values()))})
    frame = frame.assign(**{"id": id, "system": "", "metric": "", "unit": unit, **labels})
    return frame[[*COLUMNS, *(name for name in labels if name not in COLUMNS)]]


def stacked(*frames: pd.DataFrame) -> pd.DataFrame:
    """Tidy frames under one another."""
    return pd.concat(frames, ignore_index=True)


def where(frame: pd.DataFrame, **labels: Any) -> pd.DataFrame:
    """The rows whose columns have these values; a column that is not there is refused by name."""
    check_keys(labels, frame.columns, "where: column")
    for name, value in labels.items():
        frame = frame[frame[name] == value]
    return frame


def by_subject(frame: pd.DataFrame, column: str = "value", **labels: Any) -> dict[str, float]:
    """Subject to value, of the rows that :func:`where` finds; each subject once.

    Raises
    ------
    NbkitError
        If a subject has two rows: a label is missing.
    """
    found = where(frame, **labels)
    twice = found["subject"][found["subject"].duplicated()]
    require(
        twice.empty, "by_subject", expected=f"one row a subject for {labels}", found=f"several of {list(twice)[:3]}",
        remedy="Name the system, metric, fold or visit that tells them apart.",
    )
    return dict(zip(found["subject"], found[column].astype(float), strict=True))


def paired(frame: pd.DataFrame, against: str, *, by: str = "system") -> pd.DataFrame:
    """Each subject's value minus that of `against` on the same subject; rows as in `frame`, without `against`.

    Only subjects that both have are compared.

    Raises
    ------
    NbkitError
        If `against` is not in the column `by`, or a subject has two rows of one system.
    """
    known(against, frame[by].unique(), "paired: against")
    base = by_subject(frame, **{by: against})
    others = frame[(frame[by] != against) & frame["subject"].isin(base)]
    for name in others[by].unique():
        by_subject(others, **{by: name})
    return others.assign(value=others["value"] - others["subject"].map(base))
