"""Forecasts of volumes that owe nothing to an image: nothing changes, and the slopes of the training people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from nbkit.benchmark.ageing import Ageing
from nbkit.benchmark.entries import COLUMNS
from nbkit.core.protocols import Cohort, age_of

NO_CHANGE, MEAN, DIAGNOSIS = "no_change", "mean_slope", "diagnosis_slope"
FEWEST = 4
"""People of a diagnosis without whom its slope is that of everybody: quartiles of fewer say nothing."""
Volumes = Mapping[str, Sequence[Mapping[str, float]]]


def yearly_slopes(train: Cohort, volumes: Volumes) -> pd.DataFrame:
    """Change of ln volume a year from first to last visit: a row a training person, a column a structure, diagnosis."""
    rows = []
    for person in train:
        first, *_, last = volumes[person.id] if len(person.scans) > 1 else [None, None]
        if first is not None:
            years = age_of(person.scans[-1]) - age_of(person.scans[0])
            logs = {n: np.log(max(last[n], 1.0) / max(first[n], 1.0)) / years for n in first}
            rows.append({"diagnosis": person.diagnosis, **logs})
    return pd.DataFrame(rows)


def volume_controls(task: Ageing) -> dict[str, pd.DataFrame]:
    """By control, its forecasts with the columns of an entrant's; slopes with the quartiles of people's as interval."""
    slopes = yearly_slopes(task.train, task.volumes)
    everybody = slopes.drop(columns="diagnosis")
    own = {name: part.drop(columns="diagnosis") for name, part in slopes.groupby("diagnosis") if len(part) >= FEWEST}
    still = pd.DataFrame(np.zeros((1, len(task.structures))), columns=list(task.structures))
    return {
        NO_CHANGE: _carried(task, lambda _: still), MEAN: _carried(task, lambda _: everybody),
        DIAGNOSIS: _carried(task, lambda diagnosis: own.get(diagnosis, everybody)),
    }


def _carried(task: Ageing, slopes_for) -> pd.DataFrame:
    """Volumes at the last scan shown carried on by the mean slope, and by the quartiles of slopes where they differ."""
    rows = []
    for label, age in task.asked():
        person = task.by_label[label]
        start, years = task.volumes[person.id][task.seen - 1], age - round(age_of(task.last(person)), 2)
        slopes = slopes_for(person.diagnosis)
        low, high = slopes.quantile(0.25), slopes.quantile(0.75)
        for region, mm3 in start.items():
            ends = [mm3 * np.exp(s[region] * years) for s in (low, high)]
            sure = ends if ends[0] < ends[1] else [np.nan, np.nan]
            rows.append((label, age, region, mm3 * np.exp(slopes[region].mean() * years), *sure))
    return pd.DataFrame(rows, columns=list(COLUMNS))
