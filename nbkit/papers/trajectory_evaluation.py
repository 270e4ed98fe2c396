"""How predicted trajectories are scored: images, structures and regional volumes against the visits that came true.

One table for every trajectory system and control, on the same visits and the same voxels. What deforms the baseline
carries its labels along; what only paints images is segmented by a model handed in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from nbkit.core.checks import known, require
from nbkit.core.device import side_by_side
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Scan, Subject, TrajectoryModel
from nbkit.core.source import module_digest
from nbkit.core.volume import Volume
from nbkit.geometry.futures import Futures
from nbkit.metrics.deformation import folding_fraction, smallest_jacobian
from nbkit.metrics.image import mae, psnr, ssim
from nbkit.metrics.regions import by_structure, dice_by_structure, regional_volumes

PEAK_QUANTILE = 0.999
"""Images are divided by this quantile of the baseline inside its brain mask; the peak of PSNR and SSIM is then 1."""


class Segmenter(Protocol):
    """Gives predicted images labels, in the codes of the cohort's own."""

    def segment(self, image: Volume, *, mask: Volume) -> Volume:
        """Label map of `image` inside `mask`."""


class Scores(NamedTuple):
    """Two tidy tables.

    Attributes
    ----------
    visits : pandas.DataFrame
        One row per subject, visit and model: subject, session, diagnosis (at baseline), age, years (since baseline),
        model, psnr (dB), ssim, mae inside the brain and ``*_whole`` over the whole volume, dice (mean over
        structures), folds (share of brain voxels) and smallest_jacobian (both NaN for a model without a deformation),
        seconds per prediction, registration included.
    regions : pandas.DataFrame
        One row per structure besides: structure, dice, mm3 and true_mm3, error_mm3, error_pct (of the true volume),
        change_pct and true_change_pct (since baseline).
    """

    visits: pd.DataFrame
    regions: pd.DataFrame


@dataclass(frozen=True, eq=False)
class _Forecast:
    """What a model says of the visits of one subject."""

    images: list[Volume]
    labels: list[Volume] | None
    growth: list[dict[str, float]] | None
    topology: list[dict[str, float]]
    seconds: float


def score_trajectories(
    models: Mapping[str, TrajectoryModel], cohort: Cohort, *, courses: Mapping[str, Any] | None = None,
    true_volumes: Mapping[str, Sequence[Mapping[str, float]]] | None = None, segmenter: Segmenter | None = None,
    contrast: str = "T1w", progress: bool = True,
) -> Scores:
    """Predict every later visit of every subject from the first, with every model, and score it; subjects side by side.

    The brain is the union of the true masks at baseline and at the visit, the same for all models. A predicted
    volume is the true volume at baseline times the growth that the model predicts, so that neither partial volume
    nor a segmenter's bias counts as change.

    Parameters
    ----------
    models : mapping of str to TrajectoryModel
        By name. One with a method ``futures(scan, ages, course)`` is scored on its own labels and deformation.
    cohort : Cohort
        Test subjects with two visits or more, none of them trained on; the caller splits.
    courses : mapping of str to object, optional
        By subject id, what the models are told instead of the diagnosis at baseline.
    true_volumes : mapping of str to sequence, optional
        By subject id, region -> mm³ at each visit, where a simulation knows it; by default the labels are counted.
    segmenter : Segmenter, optional
        For models that give images only; without one these have no Dice and no volumes.
    contrast : str
    progress : bool
        Show a progress bar.

    Raises
    ------
    NbkitError
        For a subject with one visit, or a prediction on another grid.
    """
    for subject in cohort:
        require(
            len(subject.scans) > 1, f"score_trajectories: {subject.id}", expected="two visits or more", found="one",
            remedy="Leave the subject out of the test set.",
        )
    with tqdm(total=len(cohort), desc="scoring", unit="subject", disable=not progress) as bar:
        tables = side_by_side(
            lambda subject: _scored(
                subject, models, (courses or {}).get(subject.id, subject.diagnosis),
                _true_volumes(subject, true_volumes), segmenter, contrast, bar.update,
            ), cohort,
        )
    return Scores(*(pd.DataFrame([row for table in tables for row in table[k]]) for k in (0, 1)))


def _scored(
    subject: Subject, models: Mapping[str, TrajectoryModel], course: Any, truth: Sequence[Mapping[str, float]],
    segmenter: Segmenter | None, contrast: str, done: Callable[[], object],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of one subject for both tables."""
    visits, regions = [], []
    for name, model in models.items():
        forecast = _forecast(model, subject, course, segmenter, contrast)
        for k, scan in enumerate(subject.scans[1:]):
            where = _place(subject, scan, name)
            table = _region_rows(forecast, k, scan, truth)
            regions += [where | row for row in table]
            scores = _image_scores(subject, scan, forecast.images[k], contrast)
            dice = float(np.nanmean([r["dice"] for r in table])) if table else np.nan
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
    record = {
        "models": {n: [type(m).__name__, m.config.as_dict(), getattr(m, "trained_on", "")] for n, m in models.items()},
        "cohort": cohort.name, "data": cohort.provenance.get("data_hash"), "people": list(cohort.ids), "key": key,
        "courses": {s: str(c) for s, c in (options.get("courses") or {}).items()},
        "source": module_digest(__name__, *sorted({type(m).__module__ for m in models.values()})),
    }

    def make(folder: Path) -> None:
        for name, table in score_trajectories(models, cohort, **options)._asdict().items():
            table.to_csv(folder / f"{name}.csv", index=False)

    return (cache or Cache()).get("scores", record, make, _read)


def _read(folder: Path) -> Scores:
    files, text = [folder / f"{name}.csv" for name in Scores._fields], {"subject": str, "session": str}
    return Scores(*(pd.read_csv(f, dtype=text) if f.stat().st_size > 1 else pd.DataFrame() for f in files))


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

    Parameters
    ----------
    model
        With ``futures(scan, ages, course)``.
    scans : sequence of Scan
    courses : mapping of str to callable
        By name, what the model is told about a scan: ``lambda scan: "AD"``.
    years : sequence of float
        After each scan.
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
    return float(folding_fraction(futures.displacements, affine=futures.affine, mask=mask).max())


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


def _true_volumes(
    subject: Subject, given: Mapping[str, Sequence[Mapping[str, float]]] | None
) -> list[dict[str, float]]:
    if given is not None:
        known(subject.id, given, "score_trajectories: true_volumes")
        return [by_structure(volumes) for volumes in given[subject.id]]
    labelled = [scan for scan in subject.scans if scan.labels is not None]
    if len(labelled) < len(subject.scans):
        return []
    return [by_structure(regional_volumes(scan.labels, scan.label_names)) for scan in labelled]


def _forecast(
    model: TrajectoryModel, subject: Subject, course: Any, segmenter: Segmenter | None, contrast: str
) -> _Forecast:
    baseline, ages = subject.baseline, [scan.age for scan in subject.scans[1:]]
    start = time.perf_counter()
    futures = model.futures(baseline, ages, course) if hasattr(model, "futures") else None
    images = futures.images() if futures else model.predict((baseline,), ages, course)
    seconds = (time.perf_counter() - start) / len(ages)
    for image in images:
        baseline.image(contrast).check_grid(image, f"score_trajectories: {subject.id}: baseline and prediction")
    labels = growth = None
    if futures and baseline.labels is not None:
        labels = futures.labels()
        growth = _growth(regional_volumes(baseline.labels, baseline.label_names), futures.volumes())
    elif segmenter is not None:
        labels = [segmenter.segment(image, mask=baseline.mask("brain")) for image in images]
        first = segmenter.segment(baseline.image(contrast), mask=baseline.mask("brain"))
        counted = [regional_volumes(map_, baseline.label_names) for map_ in (first, *labels)]
        growth = _growth(counted[0], counted[1:])
    return _Forecast(images, labels, growth, _topology(futures, baseline, len(ages)), seconds)


def _topology(futures: Futures | None, baseline: Scan, count: int) -> list[dict[str, float]]:
    """Per age the share of folded brain voxels and the smallest Jacobian determinant."""
    if futures is None:
        return [{"folds": np.nan, "smallest_jacobian": np.nan}] * count
    where = {"affine": futures.affine, "mask": baseline.mask("brain").data[None]}
    shares, least = (measure(futures.displacements, **where) for measure in (folding_fraction, smallest_jacobian))
    return [{"folds": float(s), "smallest_jacobian": float(j)} for s, j in zip(shares, least, strict=True)]


def _growth(start: Mapping[str, float], later: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Volume over volume at baseline, by structure; NaN for what the baseline lacks."""
    first = by_structure(start)
    return [{n: v / first[n] if first[n] else np.nan for n, v in by_structure(visit).items()} for visit in later]


def _place(subject: Subject, scan: Scan, model: str) -> dict[str, Any]:
    years = scan.age - subject.baseline.age
    return {
        "subject": subject.id, "session": scan.session, "diagnosis": subject.diagnosis, "age": scan.age,
        "years": years, "model": model,
    }


def _image_scores(subject: Subject, scan: Scan, image: Volume, contrast: str) -> dict[str, float]:
    inside = subject.baseline.mask("brain").data.bool()
    first = subject.baseline.image(contrast).data.float()
    peak = float(torch.quantile(first[inside].double(), PEAK_QUANTILE))
    a, b = ((volume.data.float() / peak)[None].cpu() for volume in (image, scan.image(contrast)))
    mask = (inside | scan.mask("brain").data.bool())[None].cpu()
    return {
        "psnr": float(psnr(a, b, data_range=1.0, mask=mask)), "ssim": float(ssim(a, b, data_range=1.0, mask=mask)),
        "mae": float(mae(a, b, mask=mask)), "psnr_whole": float(psnr(a, b, data_range=1.0)),
        "ssim_whole": float(ssim(a, b, data_range=1.0)), "mae_whole": float(mae(a, b)),
    }


def _region_rows(
    forecast: _Forecast, k: int, scan: Scan, truth: Sequence[Mapping[str, float]]
) -> list[dict[str, Any]]:
    if forecast.labels is None or scan.labels is None or not truth:
        return []
    agreement = dice_by_structure(forecast.labels[k], scan.labels, scan.label_names)
    rows = []
    for name, dice in agreement.items():
        start, true = truth[0][name], truth[k + 1][name]
        mm3 = start * forecast.growth[k][name]
        rows.append({
            "structure": name, "dice": dice, "mm3": mm3, "true_mm3": true, "error_mm3": mm3 - true,
            "error_pct": _percent(mm3, true), "change_pct": _percent(mm3, start),
            "true_change_pct": _percent(true, start),
        })
    return rows


def _percent(value: float, reference: float) -> float:
    return 100 * (value / reference - 1) if reference else np.nan
