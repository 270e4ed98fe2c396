"""What could be won at all in the head-to-head: room, floor and reach of every volume, on the visits compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from nbkit.core.protocols import Cohort
from nbkit.core.tidy import stacked, where
from nbkit.papers.trajectories.head_to_head import PERCENT, PLACES, SAID, TITLES
from nbkit.papers.trajectories.room import REACH, TENFOLD, after, forecast_room

_METRICS = {structure: metric for metric, structure in PLACES.items()}
_LEARNERS = {REACH: (REACH, f"{REACH}_ridge"), TENFOLD: (TENFOLD, f"{TENFOLD}_ridge")}
"""Systems whose better one is the reach."""


def rooms(
    train: Cohort, people: Cohort, scored: pd.DataFrame, *, shown: Mapping[str, int], strangers: Cohort | None = None,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """By setting, the errors of controls, of strong learners and of the floor, of every structure scored.

    The floor is what the segmenter misses on the true visit without its noise, or with it where that is not known.
    Without volumes there is no room to measure, and the result is empty.

    Parameters
    ----------
    train, people : Cohort
        Who is learned from, and who is predicted.
    scored : DataFrame
        Tidy, as :func:`~nbkit.papers.trajectories.head_to_head.tidy_scores` gives it.
    shown : mapping of str to int
        Visits shown, by setting.
    strangers : Cohort, optional
        Ten times as many other simulated people.
    """
    read = scored[(scored["unit"] == PERCENT) & (scored["reading"] == "alike")]
    if not len(read):
        return {}
    best = next(name for name in ("floor", "hindsight") if (read["system"] == name).any())
    floors = read[read["system"] == best].assign(system="floor")
    found = {}
    for setting, seen in shown.items():
        floor = where(floors, setting=setting)
        floor = floor.assign(id=[f"head_to_head.{setting}.{metric}.floor" for metric in floor["metric"]])
        found[setting] = forecast_room(
            train, people, asked=after(seen), id=f"head_to_head.{setting}.{{place}}.{{system}}", strangers=strangers,
            structures=list(floor["structure"].unique()), floor=floor, seed=seed,
        ).assign(setting=setting)
    return found


def decided(found: Mapping[str, pd.DataFrame]) -> list[tuple[pd.DataFrame, dict[str, Any]]]:
    """The frame of every structure that decides, and what ``Run.room`` is told of it."""
    return [
        (where(frame, structure=structure), {
            "of": f"head_to_head.{setting}.{metric}.", "measure": f"{TITLES[metric]}, from {SAID[setting]}",
        })
        for setting, frame in found.items() for structure, metric in _METRICS.items()
        if (frame["structure"] == structure).any()
    ]


def bounded(scored: pd.DataFrame, found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`scored` with the rows of "floor", "reach" and "reach_tenfold" beneath, in its own metrics and units.

    Of each reach the better learner counts, by its mean over people.
    """
    diagnosis = scored.drop_duplicates("subject").set_index("subject")["diagnosis"]
    parts = [_best(where(frame, structure=s)) for frame in found.values() for s in frame["structure"].unique()]
    if not parts:
        return scored
    rows = stacked(*parts)
    rows = rows.assign(
        metric=rows["structure"].map(lambda name: _METRICS.get(name, name)), diagnosis=rows["subject"].map(diagnosis),
        unit=PERCENT, reading="alike",
    )
    measured = (scored["system"] == "floor") & (scored["unit"] == PERCENT) & (scored["reading"] == "alike")
    return stacked(scored[~measured], rows)


def _best(frame: pd.DataFrame) -> pd.DataFrame:
    rows = [frame[frame["system"] == "floor"]]
    for name, learners in _LEARNERS.items():
        tried = frame[frame["system"].isin(learners)]
        if len(tried):
            rows.append(tried[tried["system"] == tried.groupby("system")["value"].mean().idxmin()].assign(system=name))
    return stacked(*rows).drop(columns="role")
