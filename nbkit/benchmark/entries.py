"""What came back: forecasts of any tool, read from a folder and checked before anything is scored."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nbkit.benchmark.ageing import START, Ageing, Asked
from nbkit.benchmark.entry_images import forecast_images
from nbkit.benchmark.faults import Faults
from nbkit.benchmark.write import VOLUMES
from nbkit.core.checks import NbkitError, check_keys, closest, known, require
from nbkit.core.protocols import Subject
from nbkit.data.sidecars import read_object
from nbkit.data.text_tables import is_empty, number, read_text_table

ENTRANT = "entrant.json"
COSTS: Mapping[str, str] = {
    "seconds_per_forecast": "s a forecast", "training_hours": "h of training", "memory_mib": "MiB", "hardware": "",
}
"""What an entrant may tell of its cost, and in which unit."""
NEEDED, INTERVAL = ("subject", "age", "region", "value"), ("lower", "upper")
COLUMNS = ("label", "age", "region", "value", "lower", "upper")
_LIKELY = (1 / 3, 3.0)
"""Median volume over that at the last scan shown: beyond this, the unit is another one."""


@dataclass(frozen=True, eq=False)
class Entrant:
    """One system's forecasts.

    Parameters
    ----------
    name : str
    folder : str
        It came from.
    images : mapping of (label, age) to path
        Forecasts and, where they were made, pictures of the last scan's own age.
    volumes : DataFrame
        Columns :data:`COLUMNS`, mm³; without rows where only images were given.
    cost : mapping
        What it told of :data:`COSTS`.
    """

    name: str
    folder: str
    images: Mapping[Asked, Path]
    volumes: pd.DataFrame
    cost: Mapping[str, Any]

    @property
    def told(self) -> str:
        """What was handed in, in words."""
        volumes = ["volumes" + (" with intervals" if self.sure else "")] * (len(self.volumes) > 0)
        return " and ".join([*["images"] * bool(self.images), *volumes])

    @property
    def sure(self) -> bool:
        """Whether volumes come with intervals."""
        return len(self.volumes) > 0 and bool(self.volumes["lower"].notna().all())

    def lacking(self, asked: Sequence[Asked], region: str | None = None) -> list[Asked]:
        """Forecasts that were not handed in: volumes of a region, or images."""
        if region is None:
            return [key for key in asked if key not in self.images]
        rows = self.volumes[self.volumes["region"] == region]
        here = set(zip(rows["label"], rows["age"], strict=True))
        return [key for key in asked if key not in here]


def read_entrants(folder: Path | str, task: Ageing, *, taken: Sequence[str] = ()) -> list[Entrant]:
    """The systems of a folder, everything checked: one, or as many as its images name.

    Parameters
    ----------
    folder : path
        Holds ``volumes.tsv``, images ``desc-predicted...``, or both; and perhaps ``entrant.json``.
    task : Ageing
    taken : sequence of str
        Names of others; an entrant of the same name is called after its folder.

    Raises
    ------
    NbkitError
        By file and field, all faults at once.
    """
    folder, faults = Path(folder), Faults(Path(folder).name)
    require(folder.is_dir(), f"{folder.name}", expected="a folder of forecasts", found="no such folder",
            remedy="Give the folder that holds volumes.tsv or sub-*/.")
    told: dict[str, Any] = {}
    with faults.noted():
        told = entrant_told(folder / ENTRANT)
    images = forecast_images(folder, task, faults)
    volumes = pd.DataFrame(columns=list(COLUMNS))
    if (folder / VOLUMES).is_file():
        with faults.noted():
            volumes = read_volumes(folder / VOLUMES, task, faults)
    faults.check(
        bool(images) or (folder / VOLUMES).is_file(), folder.name, found="neither",
        expected="volumes.tsv, or images named sub-*/ses-*/anat/*_desc-predicted*_T1w.nii.gz",
        remedy="The README of the task shows both; wanted.tsv says whom and which ages.",
    )
    faults.check(
        len(images) <= 1 or not len(volumes), f"{folder.name}/{VOLUMES}", expected="a table of the one system here",
        found=f"images of {', '.join(images)}", remedy="Put each system into a folder of its own.",
    )
    faults.settle()
    systems = images or {"": {}}
    cost = {name: told[name] for name in COSTS if name in told}
    one = len(systems) == 1
    found = [Entrant(told.get("name", name) if one else name, folder.resolve().name, own, volumes, cost)
             for name, own in systems.items()]
    return list(_called(found, taken))


def _called(entrants: Sequence[Entrant], taken: Sequence[str]) -> Iterator[Entrant]:
    """Nobody without a name, and no name twice."""
    names = list(taken)
    for entrant in entrants:
        names.append(called(entrant.name, entrant.folder, names))
        yield replace(entrant, name=names[-1])


def called(name: str, folder: str, taken: Sequence[str]) -> str:
    """A name for a page: the entrant's own, else its folder's, and both where somebody has it already."""
    # charts read $ as the beginning of a formula, and hide names that begin with _
    name = (name or folder).replace("$", "").lstrip("_") or "entrant"
    name = name if name not in taken else f"{name} ({folder})"
    while name in taken:
        name += "'"
    return name


def entrant_told(path: Path) -> dict[str, Any]:
    """``entrant.json``, where there is one: name, and what it costs; anything else is refused by field."""
    if not path.exists():
        return {}
    try:
        told = read_object(path)
    except NbkitError as error:
        raise NbkitError(
            f"{path.parent.name}/{path.name}", expected=error.expected, found=error.found,
            remedy=f"Write for example {json.dumps({'name': 'mine', 'seconds_per_forecast': 2.5})}.",
        ) from error
    where = f"{path.parent.name}/{path.name}"
    check_keys(told, ("name", *COSTS), where)
    for name, value in told.items():
        if name in ("name", "hardware"):
            good = isinstance(value, str) and 0 < len(value) <= 60 and value.isprintable()
            expected = "words, at most 60 letters on one line"
        else:
            good = type(value) in (int, float) and math.isfinite(value) and value >= 0
            expected = "a number, not below zero"
        require(good, f"{where}: {name}", expected=expected, found=repr(value), remedy="Mend it, or leave it out.")
    return told


def read_volumes(path: Path, task: Ageing, faults: Faults) -> pd.DataFrame:
    """``volumes.tsv`` of an entrant, with the columns :data:`COLUMNS`; faults are noted by row.

    Raises
    ------
    NbkitError
        Where it is no such table at all.
    """
    where = f"{path.parent.name}/{path.name}"
    table = read_text_table(path, NEEDED, further=INTERVAL, tabs=True)
    check_keys(table.columns, (*NEEDED, *INTERVAL), f"{where}: column")
    ends = [name for name in INTERVAL if name in table.columns]
    require(
        len(ends) != 1, f"{where}: column", expected="lower and upper, or neither", found=f"{''.join(ends)} alone",
        remedy="Both ends of the central 50 % interval belong together.",
    )
    asked, starts = set(task.asked()), set(task.asked(START))
    rows: dict[tuple[str, float, str], tuple[int, dict[str, Any]]] = {}
    for index, row in table.iterrows():
        line = f"{where}, row {index + 2}"
        with faults.noted():
            found = _row(row, line, task, asked | starts, bool(ends))
            key = found["label"], found["age"], found["region"]
            require(
                key not in rows, line, expected="each subject, age and region once",
                found=f"{row['subject']}, {row['age']}, {row['region']} again, as in row {rows.get(key, (0,))[0]}",
                remedy="Keep one of the two rows.",
            )
            rows[key] = index + 2, found
    volumes = pd.DataFrame([found for _, found in rows.values()], columns=list(COLUMNS))
    volumes = volumes[[(label, age) in asked for label, age in zip(volumes["label"], volumes["age"], strict=True)]]
    _check_unit(volumes, task, where, faults)
    return volumes.reset_index(drop=True)


def _row(row: pd.Series, where: str, task: Ageing, asked: set[Asked], sure: bool) -> dict[str, Any]:
    """One row; whom nobody asked for, and what is no volume, is refused."""
    label, age = row["subject"].removeprefix("sub-"), number(row["age"])
    person = test_person(label, task, f"{where}: subject")
    require(age is not None, f"{where}: age", expected="an age in years", found=repr(row["age"]),
            remedy="Write decimals with a point.")
    found = {"label": label, "age": asked_age(label, age, asked, f"{where}: age")}
    found["region"] = known(row["region"], task.structures, f"{where}: region")
    for name in ("value", *INTERVAL * sure):
        value = number(row[name])
        found[name] = value
        empty = " (intervals are given in all rows or in none)" if name != "value" and is_empty(row[name]) else ""
        require(
            value is not None and 0 < value < math.inf, f"{where}: {name}", expected="a volume in mm3 above 0",
            found=f"{row[name]!r}{empty}", remedy=f"Mend what wrote it for {person.id}; what is not known, leave out.",
        )
    if sure:
        require(
            found["lower"] < found["upper"], f"{where}: lower, upper", expected="lower below upper",
            found=f"{row['lower']} and {row['upper']}", remedy="Give the ends of the central 50 % interval.",
        )
    return found


def test_person(label: str, task: Ageing, where: str) -> Subject:
    """Somebody who is asked for; others are refused, and told whether they are known."""
    trained = label in task.labels.values() and label not in task.by_label
    require(
        label in task.by_label, where, expected="a test person of wanted.tsv",
        found=f"{label!r}{', a training person' if trained else ''}",
        remedy="" if trained else f"{closest(label, task.by_label)}Forecast those whom wanted.tsv lists.",
    )
    return task.by_label[label]


def asked_age(label: str, age: float, asked: set[Asked], where: str) -> float:
    """The age that was asked of a person, which `age` is to hundredths of a year."""
    ages = sorted(a for name, a in asked if name == label)
    nearest = min(ages, key=lambda a: abs(a - age))
    require(
        abs(nearest - age) < 0.0051, where, expected=f"an age of wanted.tsv: {', '.join(f'{a:g}' for a in ages)}",
        found=f"{age:g}", remedy="Copy the ages of wanted.tsv as they stand.",
    )
    return nearest


def _check_unit(volumes: pd.DataFrame, task: Ageing, where: str, faults: Faults) -> None:
    """Volumes a thousand times too small are millilitres."""
    if not len(volumes):
        return
    last = {label: task.volumes[person.id][task.seen - 1] for label, person in task.by_label.items()}
    start = np.array([last[label][region] for label, region in zip(volumes["label"], volumes["region"], strict=True)])
    ratio = float(np.median(volumes["value"].to_numpy(float)[start > 0] / start[start > 0]))
    low, high = _LIKELY
    faults.check(
        low < ratio < high, f"{where}: value", expected="volumes in mm3, near those at the last scan shown",
        found=f"{ratio:.3g} times as much (median)",
        remedy="Volumes in mL are multiplied by 1000." if ratio < low else "Regions add up both sides, in mm3.",
    )
