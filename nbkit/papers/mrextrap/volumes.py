"""Volumes along latent lines: between two scans of a person, and beyond the last one.

Volumes are read from images by a segmenter handed in; models are anything that predicts from a history of scans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nbkit.core.checks import check_keys, require
from nbkit.core.device import side_by_side
from nbkit.core.protocols import Cohort, Scan, Subject, TrajectoryModel, VolumeReader
from nbkit.core.volume import Volume
from nbkit.metrics.regions import by_structure

STRUCTURES = ("lateral_ventricle", "hippocampus", "grey_matter", "white_matter")
"""The paper's: hippocampus, ventricular CSF, total grey and white matter."""
GREY = (
    "frontal", "parietal", "temporal", "occipital", "limbic", "hippocampus", "amygdala", "thalamus", "caudate",
    "putamen", "deep_grey",
)
NO_CHANGE = "no_change"
SEEN = 3
"""Scans seen of a person, where there is a fourth to be predicted."""

Volumes = dict[str, float]
Truth = Mapping[str, Sequence[Volumes]]


class FourVolumes:
    """A segmenter of regions, read as the paper reads SynthSeg."""

    def __init__(self, segmenter: VolumeReader) -> None:
        self.segmenter, self.config, self.trained_on = segmenter, segmenter.config, segmenter.trained_on

    def volumes(self, image: Volume, *, mask: Volume) -> Volumes:
        """mm³ of the lateral ventricles, the hippocampi, all grey and all white matter inside `mask`."""
        return four_volumes(self.segmenter.volumes(image, mask=mask))


class History(NamedTuple):
    """Which visits are shown and which is to be predicted, as indices.

    Attributes
    ----------
    design : str
        "all": every visit but the last. "latest": the k visits before the last, for every k below that, so that
        neither the target nor the years to it change with k; asked for as "last", only the one with k = 1. "first":
        the first k visits, for the same k.
    seen : tuple of int
    target : int
        The last visit.
    """

    design: str
    seen: tuple[int, ...]
    target: int


def shown(people: Iterable[Subject]) -> int:
    """Scans seen of a person: three, or two where nobody has a fourth visit to be predicted.

    Raises
    ------
    NbkitError
        If nobody has three visits: a line needs two of them.
    """
    most = max((len(subject.scans) for subject in people), default=0)
    require(
        most > 2, "MRExtrap: people to forecast for", expected="test people with three visits or more",
        found=f"{most} at most" if most else "nobody", remedy="Bring people with three visits, or more people.",
    )
    return min(SEEN, most - 1)


def histories(visits: int, *designs: str, seen: int = SEEN) -> list[History]:
    """What can be asked about a person with so many visits; nothing where `seen` leave none to be predicted."""
    last = visits - 1
    asked = {
        "all": [History("all", tuple(range(last)), last)],
        "latest": [History("latest", tuple(range(last - k, last)), last) for k in range(1, last)],
        "last": [History("latest", (last - 1,), last)],
        "first": [History("first", tuple(range(k)), last) for k in range(1, last)],
    }
    check_keys(designs, asked, "histories: designs")
    return [history for design in designs for history in asked[design]] if visits > seen else []


def four_volumes(volumes: Mapping[str, float]) -> Volumes:
    """The paper's four volumes (mm³) from those of all regions or structures."""
    sums = by_structure(volumes)
    grey = sum(sums.get(name, 0.0) for name in GREY)
    return {name: grey if name == "grey_matter" else sums[name] for name in STRUCTURES}


def _reader(segmenter: VolumeReader, subject: Subject) -> Callable[[Volume], Volumes]:
    """Reads an image of a person inside the brain of the first visit."""
    mask = subject.baseline.mask("brain")
    return lambda image: segmenter.volumes(image, mask=mask)


def true_volumes(cohort: Cohort, segmenter: FourVolumes, *, contrast: str = "T1w") -> dict[str, list[Volumes]]:
    """The paper's volumes of every visit: what a simulation knows, else read from the true scan, as the paper does."""
    known = {s.id: [four_volumes(v) for v in cohort.truth[s.id].volumes] for s in cohort if s.id in cohort.truth}
    rest = [s for s in cohort if s.id not in known]
    read = side_by_side(lambda s: [_reader(segmenter, s)(scan.image(contrast)) for scan in s.scans], rest)
    return known | {subject.id: found for subject, found in zip(rest, read, strict=True)}


def interpolated_volumes(
    ways: Mapping[str, Callable[[Scan, Scan, float], Volume]], cohort: Cohort, *, segmenter: VolumeReader,
    alphas: Sequence[float], contrast: str = "T1w",
) -> pd.DataFrame:
    """Volumes of images between a person's first and last scan (Eq. 2, Fig. 1c and d).

    Parameters
    ----------
    ways : mapping of str to callable
        ``way(last, first, alpha) -> Volume`` by name: latent interpolation, and plain averages as a control.
    cohort : Cohort
    segmenter : VolumeReader
    alphas : sequence of float
        Weights of the last scan, rising, 0 and 1 among them.

    Returns
    -------
    DataFrame
        "subject", "way", "structure", "alpha", "mm3", and "chord_mm3": α v₁ + (1 − α) v₂ of the two real scans.
    """

    def of_person(subject: Subject) -> list[dict[str, Any]]:
        read, first, last = _reader(segmenter, subject), subject.scans[0], subject.scans[-1]
        young, old = (read(scan.image(contrast)) for scan in (first, last))
        return [
            {"subject": subject.id, "way": name, "structure": structure, "alpha": alpha, "mm3": value,
             "chord_mm3": alpha * old[structure] + (1 - alpha) * young[structure]}
            for name, way in ways.items() for alpha in alphas
            for structure, value in read(way(last, first, alpha)).items()
        ]

    return pd.DataFrame([row for rows in side_by_side(of_person, cohort) for row in rows])


def forecast_volumes(
    models: Mapping[str, TrajectoryModel], cohort: Cohort, *, segmenter: VolumeReader, truth: Truth,
    designs: Sequence[str], floors: Mapping[str, Callable[[Scan], Volume]] | None = None, progress: bool = True,
) -> pd.DataFrame:
    """Volumes that models predict, beside the true ones and those of no change.

    A predicted volume is the true volume at the last visit seen, times the growth from there that the model predicts:
    the volume in its image of the target over that in its own image of the last visit seen, read by one segmenter. So
    a blurred image or a segmenter's bias does not count as change, and nobody gains by a better start.

    Parameters
    ----------
    models : mapping of str to TrajectoryModel
        Those with ``config.estimator == "ols"`` are passed over where one scan is seen.
    cohort : Cohort
        Test people; those without a visit after as many as are :func:`shown` are passed over.
    segmenter, truth
        ``truth[subject][visit]`` in mm³ (:func:`true_volumes`).
    designs : sequence of str
        Of :class:`History`.
    floors : mapping of str to callable, optional
        Images of a true scan, e.g. itself or its reconstruction: what a forecaster who has seen the target would read.

    Returns
    -------
    DataFrame
        "design", "subject", "diagnosis", "session", "age", "scans" (seen), "years" (since the last seen), "model",
        "structure", "mm3", "true_mm3", "last_mm3" (true, at the last visit seen), "error_pct" and "miss" (signed and
        absolute, % of the true volume), "change_pct" and "true_change_pct" (since the last visit seen).
    """

    def of_person(subject: Subject) -> list[dict[str, Any]]:
        rows, read, true = [], _reader(segmenter, subject), truth[subject.id]
        for history in histories(len(subject.scans), *designs, seen=seen):
            grown = {NO_CHANGE: dict.fromkeys(true[0], 1.0), **_growths(models, subject, history, read)}
            now, then = (subject.scans[k] for k in (history.seen[-1], history.target))
            grown |= {name: _ratio(*(read(image_of(scan)) for scan in (now, then))) for name, image_of in looks.items()}
            rows += [row for name, growth in grown.items() for row in _rows(subject, history, name, growth, true)]
        bar.update()
        return rows

    looks, seen = floors or {}, shown(cohort)
    with tqdm(total=len(cohort), desc="forecasts", unit="person", disable=not progress) as bar:
        tables = side_by_side(of_person, cohort)
    return pd.DataFrame([row for rows in tables for row in rows])


def _growths(
    models: Mapping[str, TrajectoryModel], subject: Subject, history: History, read: Callable[[Volume], Volumes]
) -> dict[str, Volumes]:
    """By model, the growth of every structure from the last visit seen to the target."""
    seen, target = [subject.scans[k] for k in history.seen], subject.scans[history.target]
    found = {}
    for name, model in models.items():
        if len(seen) > 1 or getattr(model.config, "estimator", "") != "ols":
            images = model.predict(seen, [seen[-1].age, target.age], subject.diagnosis)
            found[name] = _ratio(*map(read, images))
    return found


def _ratio(now: Volumes, then: Volumes) -> Volumes:
    return {name: then[name] / now[name] if now[name] else np.nan for name in then}


def _rows(
    subject: Subject, history: History, model: str, growth: Volumes, truth: Sequence[Volumes]
) -> list[dict[str, Any]]:
    scan, last = subject.scans[history.target], history.seen[-1]
    place = {
        "design": history.design, "subject": subject.id, "diagnosis": subject.diagnosis, "session": scan.session,
        "age": scan.age, "scans": len(history.seen), "years": scan.age - subject.scans[last].age, "model": model,
    }
    rows = []
    for name, start in truth[last].items():
        true = truth[history.target][name]
        error = 100 * (start * growth[name] / true - 1)
        rows.append(place | {
            "structure": name, "mm3": start * growth[name], "true_mm3": true, "last_mm3": start, "error_pct": error,
            "miss": abs(error), "change_pct": 100 * (growth[name] - 1), "true_change_pct": 100 * (true / start - 1),
        })
    return rows


def person_curve(
    model: Any, subject: Subject, *, seen: int, ages: Sequence[float], segmenter: VolumeReader, truth: Truth,
    draws: int = 0,
) -> pd.DataFrame:
    """Volumes of one person over ages as a model sees them after the first `seen` scans (Fig. 2b).

    They start at the true volume at the last scan seen, as in :func:`forecast_volumes`.

    Parameters
    ----------
    model
        With ``predict``; with ``predict_with_uncertainty`` where draws are asked for.
    subject : Subject
    seen : int
    ages : sequence of float
        Years.
    segmenter, truth
    draws : int

    Returns
    -------
    DataFrame
        "structure", "age", "mm3"; with draws their "mean", "sd" (n − 1) and "count" besides.
    """
    history, read, start = subject.scans[:seen], _reader(segmenter, subject), truth[subject.id][seen - 1]
    asked = [history[-1].age, *ages]
    if draws:
        told = model.predict_with_uncertainty(history, asked, subject.diagnosis, draws=draws, measure=read)
        images, drawn = [f.image for f in told], [f.draws for f in told]
    else:
        images, drawn = model.predict(history, asked, subject.diagnosis), None
    volumes = [read(image) for image in images]
    rows = []
    for k, age in enumerate(ages, 1):
        for name, first in start.items():
            row = {"structure": name, "age": age, "mm3": first * volumes[k][name] / volumes[0][name]}
            if drawn:
                x = first * drawn[k][name] / drawn[0][name]
                row |= {"mean": float(x.mean()), "sd": float(x.std(ddof=1)), "count": x.size}
            rows.append(row)
    return pd.DataFrame(rows)


def latent_volume(model: Any, scan: Scan) -> Volume:
    """Latents (C, x, y, z) of a scan with their place in the world: a cell is as wide as the voxels it stands for."""
    space, affine = model.space, scan.image(model.config.contrast).affine.copy()
    factor = space.net.factor
    affine[:3, 3] += affine[:3, :3] @ np.full(3, (factor - 1) / 2)
    affine[:3, :3] *= factor
    return Volume(model.encode(scan), affine, ("latents",))
