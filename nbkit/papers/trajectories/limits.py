"""The ends of a measure of error beside what systems reach: for charts, and as rows of a table."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nbkit.core.protocols import Cohort
from nbkit.papers.trajectories.room import forecast_room

DRAWN = {
    "floor": "floor", "reach": "reach", "reach_tenfold": "reach_tenfold", "diagnosis_slope": "population slope",
}
"""By system of :func:`nbkit.papers.trajectories.room.forecast_room`: what its line in a chart is called.

No change is drawn as a system wherever errors are.
"""
TOLD = {"person": "best control, own scale"} | {name: name.replace("_", " ") for name in (
    "floor", "reach", "reach_ridge", "reach_tenfold", "reach_tenfold_ridge", "own_slope", "diagnosis_slope",
    "mean_slope",
)}
"""By system: the name of its row in a table; no change stands there already."""


def limits(room: pd.DataFrame | None) -> dict[str, dict[str, float]]:
    """By structure, the lines of a chart of errors: means over people of the systems in :data:`DRAWN`.

    Parameters
    ----------
    room : DataFrame or None
        Of :func:`nbkit.papers.trajectories.room.forecast_room`; nothing is known without.
    """
    if room is None:
        return {}
    known = room[room["system"].isin(DRAWN)]
    means = known.groupby(["structure", "system"], sort=False)["value"].mean()
    return {
        name: {DRAWN[system]: float(value) for system, value in means[name].items()}
        for name in known["structure"].unique()
    }


def rows_of(room: pd.DataFrame | None) -> pd.Series:
    """Mean error of every system of :data:`TOLD` by (structure, name), to stand below those of systems."""
    if room is None:
        return pd.Series(dtype=float)
    told = room[room["system"].isin(TOLD)].assign(name=lambda rows: rows["system"].map(TOLD))
    return told.groupby(["structure", "name"], sort=False)["value"].mean()


def below(table: pd.DataFrame, room: pd.DataFrame) -> pd.DataFrame:
    """A table of errors by system (rows) and structure (columns), with the rows of the ends below."""
    ends = rows_of(room).unstack("structure", sort=False)
    return pd.concat([table, ends.reindex(columns=table.columns)])


def last_visit(train: Cohort, people: Cohort, **options: Any) -> pd.DataFrame:
    """What could be won at all on the last visit where the last two are kept back: those before are seen.

    People with fewer than three visits are passed over; `options` are those of
    :func:`~nbkit.papers.trajectories.room.forecast_room`.
    """
    return forecast_room(
        train, people, asked=lambda visits: [(range(visits - 2), visits - 1)] if visits > 2 else [], **options
    )
