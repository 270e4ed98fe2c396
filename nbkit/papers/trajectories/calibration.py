"""What a forecast with uncertainty says of regional volumes, beside the volumes that came true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from nbkit.core.checks import known, require
from nbkit.core.device import side_by_side
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Forecast, Scan, Subject, VolumeReader
from nbkit.metrics.regions import by_structure
from nbkit.training.kept import kept_tables


def drawn_volumes(
    models: Mapping[str, Any], cohort: Cohort, *, segmenter: VolumeReader,
    true_volumes: Mapping[str, Sequence[Mapping[str, float]]], seen: int = 1,
    options: Mapping[str, Mapping[str, Any]] | None = None, progress: bool = True,
) -> pd.DataFrame:
    """Forecast the last visit of every subject from the first `seen`, with uncertainty; subjects side by side.

    A future that a model draws says how a volume grows: the segmenter's volume on the draw at the visit over that on
    the same draw at the age of the last scan seen. Its volume is the true one at that scan times this growth. The
    spread is thus that of the change, as far as the model knows it; the segmenter's own error is no part of it.

    Parameters
    ----------
    models : mapping of str to system
        By name, each with ``predict_with_uncertainty(history, ages, diagnosis, measure=..., **options[name])``.
    cohort : Cohort
        Test subjects with more than `seen` visits, none of them trained on.
    segmenter : VolumeReader
    true_volumes : mapping of str to sequence
        By subject id, mm³ of each structure at each visit.
    seen : int
    options : mapping of str to mapping, optional
        By model, e.g. ``{"draws": 16}``.
    progress : bool

    Returns
    -------
    pandas.DataFrame
        One row per subject, model and structure: subject, session, diagnosis, age, years (since the last scan seen),
        model, structure, true (mm³), and of the draws (mm³) mean, sd (n − 1) and count, as
        :func:`nbkit.metrics.calibration.calibration` wants them; and spread_vs_error: Spearman's rank correlation over
        the voxels of the brain, of the spread of the images drawn with the absolute error of the expected one.

    Raises
    ------
    NbkitError
        For a subject without a later visit or without true volumes.
    """
    for subject in cohort:
        known(subject.id, true_volumes, "drawn_volumes: true_volumes")
        require(
            len(subject.scans) > seen > 0, f"drawn_volumes: {subject.id}", found=len(subject.scans),
            expected=f"more visits than seen = {seen}, which is at least 1",
            remedy="Leave the subject out of the test set.",
        )
    with tqdm(total=len(cohort), desc="forecasts", unit="subject", disable=not progress) as bar:

        def rows(subject: Subject) -> list[dict[str, Any]]:
            truth, chosen, found = true_volumes[subject.id], options or {}, []
            for name, model in models.items():
                found += _rows(name, model, subject, seen, truth, segmenter, chosen.get(name, {}))
            bar.update()
            return found

        return pd.DataFrame([row for table in side_by_side(rows, cohort) for row in table])


def kept_forecasts(
    models: Mapping[str, Any], cohort: Cohort, *, segmenter: VolumeReader, key: Any, seen: int = 1,
    options: Mapping[str, Mapping[str, Any]] | None = None, cache: Cache | None = None, **more: Any,
) -> pd.DataFrame:
    """:func:`drawn_volumes`, read from the cache when the same models met the same people before.

    `key` (JSON-able) is what the models depend on besides their own settings and training people.
    """
    record = {"key": key, "seen": seen, "options": {name: dict(o) for name, o in (options or {}).items()}}

    def make() -> dict[str, pd.DataFrame]:
        return {"rows": drawn_volumes(models, cohort, segmenter=segmenter, seen=seen, options=options, **more)}

    return kept_tables(
        "forecasts", make, models={**models, "segmenter": segmenter}, cohort=cohort, key=record, sources=[__name__],
        cache=cache,
    )["rows"]


def _rows(
    name: str, model: Any, subject: Subject, seen: int, truth: Sequence[Mapping[str, float]], segmenter: VolumeReader,
    options: Mapping[str, Any],
) -> list[dict[str, Any]]:
    history, last, scan = subject.scans[:seen], subject.scans[seen - 1], subject.scans[-1]
    brain = last.mask("brain")
    now, then = model.predict_with_uncertainty(
        history, [last.age, scan.age], subject.diagnosis,
        measure=lambda image: by_structure(segmenter.volumes(image, mask=brain)), **options,
    )
    where = {
        "subject": subject.id, "session": scan.session, "diagnosis": subject.diagnosis, "age": scan.age,
        "years": scan.age - last.age, "model": name,
    }
    agreement, first, later = _spread_vs_error(then, last, scan), by_structure(truth[seen - 1]), truth[-1]
    rows = []
    for structure, true in by_structure(later).items():
        drawn = first[structure] * then.draws[structure] / now.draws[structure]
        rows.append(where | {
            "structure": structure, "true": true, "mean": float(drawn.mean()), "sd": float(drawn.std(ddof=1)),
            "count": drawn.size, "spread_vs_error": agreement,
        })
    return rows


def _spread_vs_error(forecast: Forecast, last: Scan, scan: Scan) -> float:
    inside = last.mask("brain").data.bool() | scan.mask("brain").data.bool()
    error = (forecast.image.data.float() - scan.image("T1w").data.float()).abs()
    ranks = [pd.Series(values[inside].cpu().numpy()).rank().to_numpy() for values in (forecast.sd.data, error)]
    return float(np.corrcoef(*ranks)[0, 1])
