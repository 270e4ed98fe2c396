"""What could be won at all on forecasts of the four volumes, for verdicts, tables and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from nbkit.core.protocols import Cohort
from nbkit.core.tidy import stacked, where
from nbkit.papers.mrextrap.experiments import PLACES
from nbkit.papers.mrextrap.metrics import agreement
from nbkit.papers.mrextrap.volumes import STRUCTURES, four_volumes
from nbkit.papers.trajectories.limits import rows_of
from nbkit.papers.trajectories.room import LEAST, forecast_room, last_from

ROOMS = (
    (None, "mrextrap.miss.{place}.{system}", ("mrextrap.miss.{}.",)),
    (3, "mrextrap.fig2c.{place}.{system}.k3", ("mrextrap.fig2c.{}.latest.ols.k3", "mrextrap.fig2c.{}.daninet")),
)
"""Scans seen (None: all but the last), ids of the ends, and beginnings of the ids that are measured so."""


def rooms(
    train: Cohort, people: Cohort, misses: pd.DataFrame, *, strangers: Cohort | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """What could be won at all on the last visit, by structure: from all earlier scans, and from the last three.

    Of people with four visits or more, as everything here; where nobody has as many, from all earlier scans alone.

    Controls are no change and the population's slopes. The person's own line through *true* volumes is no control but
    what the scans tell: to read volumes from images as well as that is what the systems are for.

    Parameters
    ----------
    misses : DataFrame
        Of :func:`~nbkit.papers.mrextrap.experiments.controls`; its "hindsight" is the floor: a segmenter reads volumes.
    strangers : Cohort, optional
        Other simulated people to learn from.

    Returns
    -------
    list of dict
        Arguments of ``Session.room``: "frame" (:func:`~nbkit.papers.trajectories.room.forecast_room`), "of" and
        "measure"; :data:`STRUCTURES` from all scans first.
    """
    read, found = where(misses, system="hindsight").assign(system="floor"), []
    least = min(LEAST, max(len(person.scans) for person in people))
    for seen, id, of in [room for room in ROOMS if room[0] is None or room[0] < least]:
        floor = read.assign(id=[id.format(place=PLACES[name], system="floor") for name in read["structure"]])
        frame = forecast_room(
            train, people, asked=last_from(seen, least=least), id=id, strangers=strangers, structures=STRUCTURES,
            summed=four_volumes, floor=floor, seed=seed,
        )
        found += [
            {"frame": where(frame, structure=name), "of": tuple(i.format(PLACES[name]) for i in of),
             "measure": f"error of the {name.replace('_', ' ')}, % of the true volume"} for name in STRUCTURES
        ]
    return found


def ends(rooms: Sequence[Mapping[str, Any]]) -> pd.DataFrame | None:
    """Of :func:`rooms`, the frames from all earlier scans as one; None of none."""
    return stacked(*(room["frame"] for room in rooms[: len(STRUCTURES)])) if rooms else None


def agreement_told(last: pd.DataFrame, room: pd.DataFrame | None) -> pd.DataFrame:
    """How predicted changes meet the true ones (:func:`~nbkit.papers.mrextrap.metrics.agreement`), above the room."""
    found = agreement(last)
    if room is None:
        return found
    told = rows_of(room).rename("miss (%)").to_frame().rename_axis(["structure", "model"])
    both = pd.concat([found, told])
    return both.loc[[key for name in STRUCTURES for key in both.index if key[0] == name]]
