"""What single scans can tell of ageing: how the old differ from the young, which need not be how anybody ages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nbkit.core.protocols import Cohort
from nbkit.papers.trajectories.experiments import volumes_at_visits


def across_and_within(
    people: Cohort, structures: Sequence[str] = ("lateral_ventricle", "hippocampus")
) -> pd.DataFrame:
    """How fast volumes seem to change in single scans of people of one diagnosis, and how fast the same people's do.

    Who learns from single scans and their ages can know the first alone: how the old differ from the young. Both are
    least-squares slopes of ln volume on age, with a level for each diagnosis, or for each person. True volumes where a
    simulation knows them, else those of the labels; people without either are left out.

    Returns
    -------
    DataFrame
        By "structure": "people", "across people, %/year", "within people, %/year" and "share", the one over the other.
    """
    known = volumes_at_visits(people)
    seen = pd.DataFrame([
        {"person": person.id, "diagnosis": scan.diagnosis or person.diagnosis, "age": scan.age} | volumes
        for person in people if person.id in known
        for scan, volumes in zip(person.scans, known[person.id], strict=True)
    ])
    rows = {
        name: {"people": len(known)} | {
            f"{where} people, %/year": _slope(seen["age"], np.log(seen[name]), seen[level])
            for where, level in (("across", "diagnosis"), ("within", "person"))
        }
        for name in structures if name in seen
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("structure")
    return table.assign(share=table["across people, %/year"] / table["within people, %/year"]).round(2)


def _slope(ages: pd.Series, values: pd.Series, level: pd.Series) -> float:
    """% a year, with a level for each group."""
    years, apart = (x - x.groupby(level).transform("mean") for x in (ages, values))
    return 100 * float((years * apart).sum() / years.pow(2).sum())


def said(table: pd.DataFrame) -> str:
    """What :func:`across_and_within` means for who learns from single scans."""
    parts = ", ".join(
        f"{name.replace('_', ' ')} {row.iloc[1]:+.2f} % a year across a diagnosis, {row.iloc[2]:+.2f} % within people"
        for name, row in table.iterrows()
    )
    return f"Change in training people: {parts}. Who learns from single scans can know the first alone."
