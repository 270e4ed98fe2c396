"""What could be won at all in the head-to-head: room, floor and reach of volumes and images, on the visits compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from nbkit.core.protocols import Cohort
from nbkit.core.tidy import stacked, where
from nbkit.papers.trajectories import image_room
from nbkit.papers.trajectories.head_to_head import PERCENT, PLACES, SAID, TITLES
from nbkit.papers.trajectories.room import REACH, TENFOLD, after, forecast_room

_METRICS = {structure: metric for metric, structure in PLACES.items()}
_LEARNERS = {REACH: (REACH, f"{REACH}_ridge"), TENFOLD: (TENFOLD, f"{TENFOLD}_ridge")}
"""Systems whose better one is the reach."""


def rooms(
    train: Cohort, people: Cohort, scored: pd.DataFrame, *, shown: Mapping[str, int], strangers: Cohort | None = None,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """By setting, what could be won at all: on the volume of every structure scored, and on images inside the brain.

    The floor of volumes is what the segmenter misses on the true visit without its noise, or with it where that is not
    known; that of images the true visit without its noise.

    Parameters
    ----------
    train, people : Cohort
        Who is learned from, and who is predicted.
    scored : DataFrame
        Tidy, as :func:`~nbkit.papers.trajectories.head_to_head.tidy_scores` gives it.
    shown : mapping of str to int
        Visits shown, by setting.
    strangers : Cohort, optional
        Ten times as many other simulated people, for volumes.
    """
    read = scored[(scored["unit"] == PERCENT) & (scored["reading"] == "alike")]
    best = next((name for name in ("floor", "hindsight") if (read["system"] == name).any()), None)
    found = {}
    for setting, seen in shown.items():
        id = f"head_to_head.{setting}.{{metric}}.{{system}}"
        free = where(scored, setting=setting, system="floor", reading="brain").assign(role="floor")
        free = free[free["metric"].isin(image_room.METRICS)]
        frames = [image_room.image_room(train, people, id=id, seen=seen, seed=seed), _named(free, id)]
        if best:
            floor = _named(where(read, setting=setting, system=best).assign(system="floor"), id)
            frames.append(forecast_room(
                train, people, asked=after(seen), id=f"head_to_head.{setting}.{{place}}.{{system}}",
                strangers=strangers, structures=list(floor["structure"].unique()), floor=floor, seed=seed,
            ))
        found[setting] = stacked(*frames).assign(setting=setting)
    return found


def decided(found: Mapping[str, pd.DataFrame]) -> Iterator[tuple[pd.DataFrame, dict[str, Any]]]:
    """The frame of every measure that decides, and what ``Run.room`` is told of it."""
    for setting, frame in found.items():
        of = f"head_to_head.{setting}.{{metric}}."
        for told in image_room.image_rooms(frame, of):
            yield told.pop("frame"), told | {"measure": f"{told['measure']}, from {SAID[setting]}"}
        for structure, metric in _METRICS.items():
            rows = frame[frame["structure"] == structure] if "structure" in frame else frame[:0]
            if len(rows):
                yield rows, {"of": of.format(metric=metric), "measure": f"{TITLES[metric]}, from {SAID[setting]}"}


def bounded(scored: pd.DataFrame, found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`scored` with the rows of "floor", "reach" and "reach_tenfold" beneath, in its own metrics and units.

    Of each reach the better learner counts, by its mean over people.
    """
    diagnosis = scored.drop_duplicates("subject").set_index("subject")["diagnosis"]
    parts = []
    for frame in found.values():
        images = frame[frame["metric"].isin(image_room.METRICS) & (frame["system"] == REACH)]
        parts.append(images.assign(reading="brain").drop(columns="role"))
        for structure in frame["structure"].dropna().unique() if "structure" in frame else ():
            rows = _best(where(frame, structure=structure)).assign(unit=PERCENT, reading="alike")
            parts.append(rows.assign(metric=_METRICS.get(structure, structure)))
    if not parts:
        return scored
    rows = stacked(*parts)
    rows = rows.assign(diagnosis=rows["subject"].map(diagnosis))
    measured = (scored["system"] == "floor") & (scored["unit"] == PERCENT) & (scored["reading"] == "alike")
    return stacked(scored[~measured] if (rows["reading"] == "alike").any() else scored, rows)


def _named(rows: pd.DataFrame, id: str) -> pd.DataFrame:
    return rows.assign(id=[id.format(**row) for row in rows.to_dict("records")])


def _best(frame: pd.DataFrame) -> pd.DataFrame:
    rows = [frame[frame["system"] == "floor"]]
    for name, learners in _LEARNERS.items():
        tried = frame[frame["system"].isin(learners)]
        if len(tried):
            rows.append(tried[tried["system"] == tried.groupby("system")["value"].mean().idxmin()].assign(system=name))
    return stacked(*rows).drop(columns="role")
