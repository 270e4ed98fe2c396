"""A small cohort of balls for the benchmark: twelve people, three visits, a hippocampus within a ventricle."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nbkit import systems
from nbkit.benchmark import ageing
from nbkit.benchmark.ageing import FORECAST, Ageing, open_task
from nbkit.core.protocols import Cohort, Scan, age_of
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.derivatives import Derived, predicted_desc
from tests.papers.trajectories.ageing_balls import person

AGES = (62.0, 66.5, 70.25)
NAMES = {1: "hippocampus_left", 2: "lateral_ventricle_left"}


def people() -> Cohort:
    """Balls of different sizes, no two alike; half of them lose radius faster."""
    made = [
        person(f"{g}-{k}", g, ages=AGES, size=1.0 + 0.02 * k, centre=(k, -k, 0)) for k in range(6) for g in ("AD", "HC")
    ]
    named = (replace(p, sex="F", scans=tuple(replace(s, label_names=NAMES) for s in p.scans)) for p in made)
    return Cohort("balls", tuple(named), "embedded", {"data_hash": "abc", "licence": "CC0", "attribution": "Somebody"})


class Reader:
    """Volumes are voxels above two grey levels; deterministic, and different for different images."""

    names = NAMES
    config = None

    def volumes(self, image: Volume, *, mask: Volume) -> dict[str, float]:
        """mm³ by region."""
        inside = image.data.float()[mask.data.bool()]
        return {name: 64.0 * (1 + float((inside > level).sum())) for name, level in zip(NAMES.values(), (0.8, 0.4))}

    def segment(self, image: Volume, *, mask: Volume) -> Volume:
        """Two codes by brightness."""
        return image.with_data(((image.data > 0.8).int() + 1) * mask.data.int())


def opened(monkeypatch: pytest.MonkeyPatch, **options: object) -> Ageing:
    """The task on these people, read by the reader above; nothing is trained but lines through voxels."""
    monkeypatch.setattr(ageing, "cohort_for", lambda *_, **__: people())
    monkeypatch.setattr(Ageing, "reader", Reader())
    monkeypatch.setattr(systems.Bench, "lacking", lambda self, names: [])
    return open_task("embedded", **({"profile": "smoke", "device": "cpu"} | options))


def later(task: Ageing) -> Iterable[tuple[str, float, Scan, Scan, int]]:
    """Label, age, last scan shown, true visit and its place, for everything that is asked."""
    for label, age in task.asked(FORECAST):
        who = task.by_label[label]
        place = next(k for k, scan in enumerate(who.scans) if round(age_of(scan), 2) == age)
        yield label, age, task.last(who), who.scans[place], place


def hand_in_images(root: Path, task: Ageing, of: Callable[[Scan, Scan], Volume], *, system: str = "",
                   without: Iterable[str] = ()) -> Path:
    """A folder of images, ``of(last, true visit)``, of everybody but some."""
    for label, age, last, true, _ in later(task):
        if label not in without:
            session = task.session(task.by_label[label], last)
            place = Derived(label, session, "T1w", predicted_desc(system, age), {}).path
            nifti.save_image(root / place, of(last, true))
    return root


def volume_rows(task: Ageing, of: Callable[[float, float], float], *, half_width: float | None = None,
                without: Iterable[str] = ()) -> pd.DataFrame:
    """Rows of volumes.tsv, ``of(mm³ at the last scan shown, true mm³)``, of everybody but some."""
    rows = []
    for label, age, last, _, place in later(task):
        truth = task.volumes[task.by_label[label].id]
        for region in truth[place]:
            value = of(truth[task.seen - 1][region], truth[place][region])
            ends = () if half_width is None else (value * (1 - half_width), value * (1 + half_width))
            rows += [(f"sub-{label}", age, region, value, *ends)] * (label not in without)
    names = ["subject", "age", "region", "value", *([] if half_width is None else ["lower", "upper"])]
    return pd.DataFrame(rows, columns=names)


def hand_in(root: Path, rows: pd.DataFrame) -> Path:
    """A folder with volumes.tsv."""
    root.mkdir(parents=True, exist_ok=True)
    rows.to_csv(root / "volumes.tsv", sep="\t", index=False)
    return root


def still(last: Scan, _: Scan) -> Volume:
    """No change."""
    return last.image("T1w")


def truth(_: Scan, true: Scan) -> Volume:
    """The visit itself."""
    return true.image("T1w")


def brighter(last: Scan, true: Scan) -> Volume:
    """Something between, and a little too bright."""
    image = last.image("T1w")
    return image.with_data(np.float32(0.55) * image.data + np.float32(0.5) * true.image("T1w").data)
