"""Every entrant, control and system scored by the same hands as in notebook 08, on the same visits."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nbkit.benchmark.ageing import Ageing, Asked
from nbkit.benchmark.controls import NO_CHANGE, volume_controls
from nbkit.benchmark.entries import Entrant
from nbkit.cohorts import noise_free
from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Scan, age_of
from nbkit.core.tidy import stacked, where
from nbkit.core.volume import Volume
from nbkit.data.nifti import read_image
from nbkit.papers.trajectories import design
from nbkit.papers.trajectories.experiments import READINGS, Scores, score_trajectories, scored_trajectories
from nbkit.papers.trajectories.head_to_head import PERCENT, PLACES, deciding, tidy_scores
from nbkit.papers.trajectories.room import REACH, after, forecast_room
from nbkit.systems import weights_hash

log = logging.getLogger(__name__)
PIXELS = "pixel_population"
_IMAGES = ("psnr", "ssim", "mae", "dice", "sharpness", "psnr_whole", "ssim_whole", "mae_whole", "folds",
           "smallest_jacobian", "seconds")
_VISIT = ["subject", "session", "diagnosis", "age", "years"]


class Entered:
    """An entrant's images as a :class:`~nbkit.core.protocols.TrajectoryModel`; what it lacks is the last scan shown."""

    config = None

    def __init__(self, entrant: Entrant, task: Ageing) -> None:
        self.entrant, self.task = entrant, task

    def predict(self, history: Sequence[Scan], ages: Sequence[float], diagnosis: str) -> list[Volume]:
        """The images handed in, read from their files."""
        last, label = history[-1], self.task.labels[history[-1].subject]
        found = [self.entrant.images.get((label, round(age, 2))) for age in ages]
        return [last.image("T1w") if path is None else self._read(path, last) for path in found]

    @staticmethod
    def _read(path, last: Scan) -> Volume:
        image = read_image(path)
        return last.image("T1w").with_data(image.data)


@dataclass(frozen=True, eq=False)
class Judged:
    """What came of it.

    Parameters
    ----------
    task : Ageing
    entrants : tuple of Entrant
    scores : Scores
        Of everybody, as :func:`~nbkit.papers.trajectories.experiments.score_trajectories` gives them.
    scored, main : DataFrame
        Tidy: everything measured, and what ranks.
    told : mapping of str to DataFrame
        Volumes forecast by name, for whatever forecasts volumes, in mm³, with intervals where there are.
    systems : tuple of str
        The papers' systems that were asked for.
    lacking : mapping of str to list of (label, age)
        By name, forecasts that there were not: scored as no change.
    failed : mapping of str to str
        Systems that could not be asked, and why.
    """

    task: Ageing
    entrants: tuple[Entrant, ...]
    scores: Scores
    scored: pd.DataFrame
    main: pd.DataFrame
    told: Mapping[str, pd.DataFrame]
    systems: tuple[str, ...]
    lacking: Mapping[str, list[Asked]]
    failed: Mapping[str, str]

    def forgotten(self, name: str) -> dict[str, int]:
        """By person, how many forecasts of an entrant or system there were not."""
        people = pd.Series([label for label, _ in self.lacking.get(name, ())], dtype=str)
        return people.value_counts(sort=False).to_dict()


def judged(task: Ageing, entrants: Sequence[Entrant], *, systems: Sequence[str] = ()) -> Judged:
    """Score entrants beside controls, and beside the papers' systems that are asked for (trained if they are not kept).

    Images are read and scored where somebody hands images in or a system is asked for; else volumes alone.
    """
    controls, asked = volume_controls(task), task.asked()
    pictured = [e for e in entrants if e.images]
    parts, lacking, failed, answered = [], {}, {}, []
    if pictured or systems:
        parts.append(_controls(task))
        for name in (PIXELS, *systems):
            try:
                found, lacking[name] = _system(task, name, parts[0])
                parts.append(found)
                answered += [name] * (name in systems)
            except NbkitError as error:
                failed[name] = str(error)
                log.warning("%s left out: %s", name, error)
    still = _told_rows(task, NO_CHANGE, controls[NO_CHANGE])
    told = [name for name in controls if name != NO_CHANGE or not parts]
    parts += [_of_volumes(_told_rows(task, name, controls[name])) for name in told]
    for entrant in pictured:
        found = _pictured(task, entrant)
        parts.append(_without(found, task, entrant.name, entrant.lacking(asked), parts[0].visits, still))
        lacking[entrant.name] = entrant.lacking(asked)
    for entrant in (e for e in entrants if len(e.volumes)):
        parts, missing = _with_volumes(task, entrant, parts, still)
        lacking[entrant.name] = list(dict.fromkeys([*lacking.get(entrant.name, []), *missing]))
    visits = [p.visits for p in parts if len(p.visits)]
    empty = pd.DataFrame({n: pd.Series(dtype=float if n in _IMAGES else object) for n in [*_VISIT, "model", *_IMAGES]})
    scores = Scores(pd.concat(visits) if visits else empty, pd.concat([p.regions for p in parts], ignore_index=True))
    scored = tidy_scores({task.history: scores})
    scored = stacked(scored, _reach(task))
    main = deciding(scored)
    main = main[main["metric"].isin(task.rules.told["metrics"]["ranked"])]
    told = {name: own for name, own in controls.items()} | {e.name: e.volumes for e in entrants if len(e.volumes)}
    return Judged(
        task, tuple(entrants), scores, scored, main, told, tuple(answered),
        {name: keys for name, keys in lacking.items() if keys}, failed,
    )


def _controls(task: Ageing) -> Scores:
    """No change, the true visit as it is read and, where it is known, without its noise; kept in the cache."""
    models = {NO_CHANGE: task.bench.model(NO_CHANGE), **design.floor(task.test, noise_free(task.test, "T1w"))}
    return design.compare(
        models, task.test, list(models), segmenter=task.reader, key=task.identity, seen=task.seen)


def _system(task: Ageing, name: str, still: Scores) -> tuple[Scores, list[Asked]]:
    """A system on everybody, person by person, kept in the cache; whom it refuses is scored as no change.

    Raises
    ------
    NbkitError
        Where it refuses everybody, as what needs two scans does where one is shown: it would rank as no change.
    """
    model, found, refused, errors = task.bench.model(name), [], [], []
    key = [task.identity, weights_hash(model)]
    for person in tqdm(task.test, desc=name, unit="person"):
        alone = task.test.subset([person.id])
        try:
            found.append(scored_trajectories(
                {name: model}, alone, key=key, seen=task.seen, segmenter=task.reader, readings=READINGS,
                true_volumes={person.id: task.volumes[person.id]}, progress=False,
            ))
        except NbkitError as error:
            errors.append(error)
            log.info("%s, %s: scored as no change (%s)", name, person.id, error)
            found.append(Scores(*(
                t[(t["model"] == NO_CHANGE) & (t["subject"] == person.id)].assign(model=name) for t in still)))
            refused += [(task.labels[person.id], round(age_of(s), 2)) for s in person.scans[task.seen:]]
    if len(errors) == len(task.test):
        raise errors[-1]
    return Scores(*(pd.concat(t, ignore_index=True) for t in zip(*found, strict=True))), refused


def _pictured(task: Ageing, entrant: Entrant) -> Scores:
    """An entrant's images, scored; volumes read between its own pictures where it made one of the last scan's age."""
    found = score_trajectories(
        {entrant.name: Entered(entrant, task)}, task.test, seen=task.seen, segmenter=task.reader,
        true_volumes=task.volumes, readings=READINGS,
    )
    return Scores(found.visits.assign(seconds=entrant.cost.get("seconds_per_forecast", np.nan)), found.regions)


def _without(
    found: Scores, task: Ageing, name: str, lacking: Sequence[Asked], controls: pd.DataFrame, still: pd.DataFrame
) -> Scores:
    """Scores of an entrant with those of no change where there was no image."""
    if not lacking:
        return found
    keys, tables = set(lacking), []
    for table, control in ((found.visits, controls[controls["model"] == NO_CHANGE]), (found.regions, still)):
        here, there = (_among(t, task, keys) for t in (table, control))
        tables.append(pd.concat([table[~here], control[there].assign(model=name)], ignore_index=True))
    return Scores(*tables)


def _among(table: pd.DataFrame, task: Ageing, keys: set[Asked]) -> np.ndarray:
    pairs = zip(table["subject"], table["age"], strict=True)
    return np.array([(task.labels[subject], round(age, 2)) in keys for subject, age in pairs], dtype=bool)


def _with_volumes(
    task: Ageing, entrant: Entrant, parts: Sequence[Scores], still: pd.DataFrame
) -> tuple[list[Scores], list[Asked]]:
    """Scores with an entrant's own volumes, which rank; what was read of its images stands as the other reading."""
    rows, missing = _told_rows(task, entrant.name, entrant.volumes), []
    for region in entrant.volumes["region"].unique():
        keys = entrant.lacking(task.asked(), region)
        control = still[still["structure"] == region]
        rows = pd.concat([rows, control[_among(control, task, set(keys))].assign(model=entrant.name)])
        missing += keys
    kept = []
    for part in parts:
        regions, mine = part.regions, part.regions["model"] == entrant.name
        read = regions[mine & (regions["reading"] == "alike")].assign(reading="own")
        kept.append(Scores(part.visits, pd.concat([regions[~mine], read])) if mine.any() else part)
        rows = rows[rows["reading"] == "alike"] if mine.any() else rows
    return [*kept, _of_volumes(rows)], missing


def _of_volumes(rows: pd.DataFrame) -> Scores:
    return Scores(pd.DataFrame(), rows)


def _told_rows(task: Ageing, name: str, volumes: pd.DataFrame) -> pd.DataFrame:
    """Rows of :class:`Scores` regions of volumes as they were told, under both readings."""
    told = {(r.label, r.age, r.region): float(r.value) for r in volumes.itertuples()}
    rows = []
    for label, age in task.asked():
        person, truth = task.by_label[label], task.volumes[task.by_label[label].id]
        place = next(k for k, scan in enumerate(person.scans) if round(age_of(scan), 2) == age and k >= task.seen)
        first, later, scan, last = truth[task.seen - 1], truth[place], person.scans[place], task.last(person)
        brain = sum(mm3 for region, mm3 in later.items() if region != "csf")
        at = {"subject": person.id, "session": scan.session, "diagnosis": person.diagnosis, "age": scan.age,
              "years": age_of(scan) - age_of(last), "model": name}
        for region in (r for r in first if (label, age, r) in told):
            mm3, true, start = told[label, age, region], later[region], first[region]
            rows += [at | {
                "structure": region, "reading": reading, "dice": np.nan, "mm3": mm3, "true_mm3": true,
                "error_mm3": mm3 - true, "error_pct": _percent(mm3, true),
                "error_brain_pct": 100 * (mm3 - true) / brain, "change_pct": _percent(mm3, start),
                "true_change_pct": _percent(true, start),
            } for reading in ("own", "alike")]
    return pd.DataFrame(rows)


def _percent(value: float, reference: float) -> float:
    return 100 * (value / reference - 1) if reference else np.nan


def _reach(task: Ageing) -> pd.DataFrame:
    """What a strong learner makes of the volumes shown, the better of boosting and ridge regression, as tidy rows."""
    structures = [s for s in PLACES.values() if s in task.structures]
    frame = forecast_room(
        task.train, task.test, asked=after(task.seen), structures=structures, truth=task.volumes, seed=task.seed)
    rows, diagnosis = [], {person.id: person.diagnosis for person in task.test}
    for metric, structure in PLACES.items():
        own = where(frame, structure=structure)
        own = own[own["system"].isin((REACH, f"{REACH}_ridge"))]
        if len(own):
            best = own.groupby("system")["value"].mean().idxmin()
            rows.append(where(own, system=best).drop(columns="role").assign(
                system=REACH, metric=metric, unit=PERCENT, reading="alike", setting=task.history, id=""))
    found = stacked(*rows)
    return found.assign(diagnosis=found["subject"].map(diagnosis))
