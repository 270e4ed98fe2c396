"""How predicted trajectories are scored: images, structures and regional volumes against the visits that came true.

One table for every trajectory system and control, on the same visits and the same voxels. What deforms a scan carries
its labels along; what only paints images is measured by a segmenter handed in, and so is everything where that is fair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nbkit.core.checks import known, require
from nbkit.core.device import side_by_side
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Segmenter, Subject, TrajectoryModel
from nbkit.core.volume import Volume
from nbkit.geometry.futures import Futures
from nbkit.metrics.deformation import folding_fraction, smallest_jacobian
from nbkit.metrics.regions import by_structure, dice_by_structure, regional_volumes
from nbkit.papers.trajectories.image_scores import image_scores
from nbkit.training.kept import kept_tables

READINGS = ("own", "alike")


class Scores(NamedTuple):
    """Two tidy tables.

    Attributes
    ----------
    visits : pandas.DataFrame
        One row per subject, visit and model: subject, session, diagnosis (at baseline), age, years (since the last scan
        seen), model, psnr (dB), ssim, mae, sharpness inside the brain and ``*_whole`` of the first three over the whole
        volume, dice (mean over structures), folds (share of brain voxels) and smallest_jacobian (both NaN for a model
        without a deformation), seconds per prediction on one thread, registration included.
    regions : pandas.DataFrame
        One row per structure and reading besides: structure, reading, dice, mm3 and true_mm3, error_mm3, error_pct (of
        the true volume), error_brain_pct (of the true volume of all structures but CSF), change_pct and
        true_change_pct (since the last scan seen).
    """

    visits: pd.DataFrame
    regions: pd.DataFrame


@dataclass(frozen=True, eq=False)
class _Forecast:
    """What a model says of the visits of one subject."""

    images: list[Volume]
    labels: list[Volume]
    growth: dict[str, list[dict[str, float]]]
    topology: list[dict[str, float]]
    seconds: float


def score_trajectories(
    models: Mapping[str, TrajectoryModel], cohort: Cohort, *, seen: int = 1,
    courses: Mapping[str, Any] | None = None,
    true_volumes: Mapping[str, Sequence[Mapping[str, float]]] | None = None, segmenter: Segmenter | None = None,
    readings: Sequence[str] = ("own",), progress: bool = True,
) -> Scores:
    """Predict every later visit of every subject from the first `seen`, with every model; subjects side by side.

    The brain is the union of the true masks at the last scan seen and at the visit, the same for all models. A
    predicted volume is the true volume at the last scan seen times the growth that the model predicts, so that neither
    partial volume nor a segmenter's bias counts as change.

    Parameters
    ----------
    models : mapping of str to TrajectoryModel
        By name. One with a method ``futures(scan, ages, course)`` is asked about the last scan seen and scored on its
        own labels and deformation.
    cohort : Cohort
        Test subjects with more than `seen` visits, none of them trained on; the caller splits.
    seen : int
        Visits in the history.
    courses : mapping of str to object, optional
        By subject id, what the models are told instead of the diagnosis at baseline.
    true_volumes : mapping of str to sequence, optional
        By subject id, region -> mm³ at each visit, where a simulation knows it; by default the labels are counted.
    segmenter : Segmenter, optional
        For models that give images only; without one these have no Dice and no volumes.
    readings : sequence of {"own", "alike"}
        How growth is read. "own": from the labels that a deformation carries, or else by the segmenter, on the
        prediction over the last scan seen. "alike", with a segmenter: every model by the segmenter, on its prediction
        over its own picture of the last age seen, so that what a model cannot paint counts for no one as change.
    progress : bool
        Show a progress bar.

    Raises
    ------
    NbkitError
        For a subject without a later visit, a reading that needs a segmenter, or a prediction on another grid.
    """
    for reading in readings:
        known(reading, READINGS, "score_trajectories: readings")
    require(
        segmenter is not None or "alike" not in readings, "score_trajectories: segmenter", found="none",
        expected="one, to read alike", remedy="Hand in a trained segmenter, or leave readings at ('own',).",
    )
    for subject in cohort:
        require(
            len(subject.scans) > seen > 0, f"score_trajectories: {subject.id}", found=len(subject.scans),
            expected=f"more visits than seen = {seen}, which is at least 1",
            remedy="Leave the subject out of the test set.",
        )
    with tqdm(total=len(cohort), desc="scoring", unit="subject", disable=not progress) as bar:
        tables = side_by_side(
            lambda subject: _scored(
                subject, seen, models, (courses or {}).get(subject.id, subject.diagnosis),
                _true_volumes(subject, true_volumes), segmenter, readings, bar.update,
            ), cohort,
        )
    return Scores(*(pd.DataFrame([row for table in tables for row in table[k]]) for k in (0, 1)))


def _scored(
    subject: Subject, seen: int, models: Mapping[str, TrajectoryModel], course: Any,
    truth: Sequence[Mapping[str, float]], segmenter: Segmenter | None, readings: Sequence[str],
    done: Callable[[], object],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of one subject for both tables."""
    visits, regions, last = [], [], subject.scans[seen - 1]
    for name, model in models.items():
        forecast = _forecast(model, subject, seen, course, segmenter, readings)
        for k, scan in enumerate(subject.scans[seen:]):
            where = {
                "subject": subject.id, "session": scan.session, "diagnosis": subject.diagnosis, "age": scan.age,
                "years": scan.age - last.age, "model": name,
            }
            table = _region_rows(forecast, k, scan, truth[seen - 1], truth[seen + k]) if truth else []
            regions += [where | row for row in table]
            scores = image_scores(last, scan, forecast.images[k])
            overlaps = [row["dice"] for row in table if row["dice"] == row["dice"]]
            dice = float(np.mean(overlaps)) if overlaps else np.nan
            visits.append(where | scores | {"dice": dice} | forecast.topology[k] | {"seconds": forecast.seconds})
    done()
    return visits, regions


def scored_trajectories(
    models: Mapping[str, TrajectoryModel], cohort: Cohort, *, key: Any, cache: Cache | None = None, **options: Any
) -> Scores:
    """:func:`score_trajectories`, read from the cache when the same models met the same people before.

    Parameters
    ----------
    key : JSON-able
        What the models depend on besides their own settings and training people (settings of their templates).
    options
        As for :func:`score_trajectories`.
    """
    segmenter, fixed = options.get("segmenter"), ("seen", "readings")
    record = {
        "key": key, "courses": {s: str(c) for s, c in (options.get("courses") or {}).items()},
        "options": {name: options[name] for name in fixed if name in options},
    }
    tables = kept_tables(
        "scores", lambda: score_trajectories(models, cohort, **options)._asdict(), cohort=cohort, key=record,
        models=models | ({"segmenter": segmenter} if segmenter else {}), sources=[__name__], cache=cache,
    )
    return Scores(**tables)


def per_subject(table: pd.DataFrame, column: str, **where: object) -> dict[str, float]:
    """Subject -> mean of a column over the rows in which the columns of `where` have these values; ready to record.

    Rows without a value do not count; an unknown column or value is refused.
    """
    for key in (column, *where):
        known(key, table.columns, "per_subject: column")
    for key, value in where.items():
        known(str(value), table[key].astype(str).unique(), f"per_subject: {key}")
        table = table[table[key] == value]
    means = table.dropna(subset=[column]).groupby("subject", sort=False)[column].mean()
    return {str(subject): float(value) for subject, value in means.items()}


def by_person(
    table: pd.DataFrame, column: str, *, by: Sequence[str] = (), id: str = "", unit: str = "", **labels: object
) -> pd.DataFrame:
    """Each person's mean of a column under each model, as a tidy frame; rows without a value do not count.

    Parameters
    ----------
    table : DataFrame
        Columns "subject", "model", `column` and those of `by`, which tell further means apart.
    id : str
        With fields that the columns fill: ``"head_to_head.one.ssim.{system}"``.
    unit, **labels
        The same in every row.
    """
    keys = ["model", "subject", *by]
    means = table.dropna(subset=[column]).groupby(keys, sort=False)[column].mean()
    frame = means.rename("value").rename_axis(["system", *keys[1:]]).reset_index()
    frame = frame.assign(**{"metric": column, "unit": unit, **labels})
    return frame.assign(id=[id.format(**row) for row in frame.to_dict("records")])


def volume_curve(futures: Futures) -> pd.DataFrame:
    """Volume of each structure at the scan and at each age: columns age, structure, mm3, change_pct, by age."""
    start = by_structure(regional_volumes(futures.scan.labels, futures.scan.label_names))
    points = [(futures.scan.age, start), *zip(futures.ages, map(by_structure, futures.volumes()), strict=True)]
    rows = [
        {"age": age, "structure": name, "mm3": value, "change_pct": _percent(value, start[name])}
        for age, volumes in points for name, value in volumes.items()
    ]
    return pd.DataFrame(rows).sort_values("age", kind="stable", ignore_index=True)


def yearly_change(futures: Futures) -> dict[str, float]:
    """Change of each structure in % of its volume at the scan per year: the straight line through the scan."""
    curve = volume_curve(futures)
    years = curve["age"] - futures.scan.age
    slopes = (years * curve["change_pct"]).groupby(curve["structure"], sort=False).sum()
    return (slopes / years.pow(2).groupby(curve["structure"], sort=False).sum()).to_dict()


def futures_of(
    model: Any, scans: Sequence[Scan], courses: Mapping[str, Callable[[Scan], Any]], *, years: Sequence[float]
) -> dict[str, dict[str, Futures]]:
    """Futures of each scan under each course, people side by side: subject -> name of the course -> futures.

    `model` has ``futures(scan, ages, course)``; `courses` say by name what it is told about a scan
    (``lambda scan: "AD"``), `years` count from each scan.
    """
    made = side_by_side(
        lambda scan: {
            name: model.futures(scan, [scan.age + k for k in years], course(scan)) for name, course in courses.items()
        }, scans,
    )
    return {scan.subject: futures for scan, futures in zip(scans, made, strict=True)}


def rate_between(curve: pd.DataFrame, start: float, stop: float) -> float:
    """Mean change per year (% of the volume at the scan) between two ages of one structure's :func:`volume_curve`."""
    change = np.interp([start, stop], curve["age"], curve["change_pct"])
    return float(np.diff(change)[0] / (stop - start))


def folded_share(futures: Futures) -> float:
    """Largest share of folded brain voxels over the ages of `futures`."""
    mask = futures.scan.mask("brain").data[None]
    return float(folding_fraction(futures.displacements.cpu(), affine=futures.affine, mask=mask).max())


def bend_age(ages: Sequence[float], values: Sequence[float]) -> float:
    """Age at which a curve bends: the knot of the continuous broken line that fits it best.

    Knots are tried every hundredth of a year between the second age and the last but one.

    Parameters
    ----------
    ages : sequence of float
        Years, rising, at least five.
    values : sequence of float
        One per age, any unit.

    Raises
    ------
    NbkitError
        For fewer points, or ages that do not rise.
    """
    x, y = np.asarray(ages, dtype=np.float64), np.asarray(values, dtype=np.float64)
    require(
        x.size == y.size >= 5 and bool((np.diff(x) > 0).all()), "bend_age: ages", expected="five rising ages or more",
        found=f"{x.size} ages, {y.size} values", remedy="Ask for more ages on both sides of the bend.",
    )
    knots = np.linspace(x[1], x[-2], max(2, round((x[-2] - x[1]) * 100) + 1))
    misses = []
    for knot in knots:
        basis = np.stack([np.ones_like(x), x - knot, np.maximum(x - knot, 0)], axis=1)
        misses.append(np.square(basis @ np.linalg.lstsq(basis, y, rcond=None)[0] - y).sum())
    return float(knots[np.argmin(misses)])


def volumes_at_visits(cohort: Cohort) -> dict[str, list[dict[str, float]]]:
    """By subject id, mm³ of each structure at each visit: what a simulation knows, or else the labels counted.

    People with a scan without labels are left out.
    """
    found = {subject.id: _known(subject, cohort.truth.get(subject.id)) or _counted(subject) for subject in cohort}
    return {name: volumes for name, volumes in found.items() if volumes}


def _known(subject: Subject, truth: Any) -> list[dict[str, float]]:
    """What a simulation knows of the visits, found by their ages: some may have been left out."""
    at = dict(zip(truth.ages, truth.volumes, strict=True)) if truth else {}
    return [by_structure(at[min(at, key=lambda age: abs(age - scan.age))]) for scan in subject.scans if at]


def _counted(subject: Subject) -> list[dict[str, float]]:
    scans = [scan for scan in subject.scans if scan.labels is not None]
    every = len(scans) == len(subject.scans)
    return [by_structure(regional_volumes(scan.labels, scan.label_names)) for scan in scans] if every else []


def _true_volumes(
    subject: Subject, given: Mapping[str, Sequence[Mapping[str, float]]] | None
) -> list[dict[str, float]]:
    if given is None:
        return _counted(subject)
    known(subject.id, given, "score_trajectories: true_volumes")
    return [by_structure(volumes) for volumes in given[subject.id]]


def _forecast(
    model: TrajectoryModel, subject: Subject, seen: int, course: Any, segmenter: Segmenter | None,
    readings: Sequence[str],
) -> _Forecast:
    history, last = subject.scans[:seen], subject.scans[seen - 1]
    ages = [scan.age for scan in subject.scans[seen:]]
    start = time.perf_counter()
    futures = model.futures(last, ages, course) if hasattr(model, "futures") else None
    images = futures.images() if futures else model.predict(history, ages, course)
    seconds = (time.perf_counter() - start) / len(ages)
    for image in images:
        last.image("T1w").check_grid(image, f"score_trajectories: {subject.id}: last scan and prediction")
    labels, growth, brain = [], {}, last.mask("brain")
    carried = futures is not None and last.labels is not None
    measured = segmenter is not None and (not carried or "alike" in readings)
    read = []
    for image in images if measured else ():
        read.append(segmenter.volumes(image, mask=brain))
        if not carried:
            labels.append(segmenter.segment(image, mask=brain))
    if carried:
        labels = futures.labels()
        growth["own"] = _growth(regional_volumes(last.labels, last.label_names), futures.volumes())
    elif measured:
        growth["own"] = _growth(segmenter.volumes(last.image("T1w"), mask=brain), read)
    if "alike" in readings:
        (now,) = model.predict(history, [last.age], course)
        growth["alike"] = _growth(segmenter.volumes(now, mask=brain), read)
    growth = {name: values for name, values in growth.items() if name in readings}
    return _Forecast(images, labels, growth, _topology(futures, last, len(ages)), seconds)


def _topology(futures: Futures | None, last: Scan, count: int) -> list[dict[str, float]]:
    """Per age the share of folded brain voxels and the smallest Jacobian determinant."""
    if futures is None:
        return [{"folds": np.nan, "smallest_jacobian": np.nan}] * count
    where = {"affine": futures.affine, "mask": last.mask("brain").data[None]}
    shares, least = (measure(futures.displacements.cpu(), **where) for measure in (folding_fraction, smallest_jacobian))
    return [{"folds": float(s), "smallest_jacobian": float(j)} for s, j in zip(shares, least, strict=True)]


def _growth(start: Mapping[str, float], later: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Volume over volume at the start, by structure; NaN for what the start lacks."""
    first = by_structure(start)
    return [{n: v / first[n] if first[n] else np.nan for n, v in by_structure(visit).items()} for visit in later]


def _region_rows(
    forecast: _Forecast, k: int, scan: Scan, first: Mapping[str, float], later: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Rows of one visit, given the true volumes at the last scan seen and at the visit."""
    if scan.labels is None:
        return []
    agreement = dice_by_structure(forecast.labels[k], scan.labels, scan.label_names) if forecast.labels else {}
    brain, rows = sum(volume for name, volume in later.items() if name != "csf"), []
    for reading, growth in forecast.growth.items():
        for name, factor in growth[k].items():
            start, true = first[name], later[name]
            mm3 = start * factor
            rows.append({
                "structure": name, "reading": reading, "dice": agreement.get(name, np.nan), "mm3": mm3,
                "true_mm3": true, "error_mm3": mm3 - true, "error_pct": _percent(mm3, true),
                "error_brain_pct": 100 * (mm3 - true) / brain, "change_pct": _percent(mm3, start),
                "true_change_pct": _percent(true, start),
            })
    return rows


def _percent(value: float, reference: float) -> float:
    return 100 * (value / reference - 1) if reference else np.nan
