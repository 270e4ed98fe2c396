"""The ends of an error on slices: their roles, and which are there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.slices import sliced
from nbkit.papers.daninet.experiments import score_slices, table1
from nbkit.papers.daninet.reach import bounds, dots, ends, measured, with_roles
from nbkit.papers.trajectories.controls import NoChange
from nbkit.papers.trajectories.image_room import MeanScan, VoxelBoosting
from tests.papers.trajectories.dimming import person, school


@pytest.fixture(scope="module")
def train() -> Cohort:
    return school()


@pytest.fixture(scope="module")
def test_people() -> Cohort:
    return Cohort("new", (person("x", "CN"), person("y", "AD")), "embedded")


def test_the_floor_is_the_slice_of_the_visits_own_volume_without_noise(train):
    centre = np.array([[6, 0, 0, -93], [0, 6, 0, -110], [0, 0, 6, -30], [0, 0, 0, 1.0]])
    rng = torch.Generator().manual_seed(2)
    clean = {("a", f"M{k}"): Volume(torch.rand(1, 32, 32, 12, generator=rng), centre) for k in range(2)}
    mask = {"brain": Volume(torch.ones(1, 32, 32, 12, dtype=torch.bool), centre)}
    scans = tuple(Scan("a", f"M{k}", 70.0 + 3 * k, {"T1w": clean["a", f"M{k}"]}, mask) for k in range(2))
    where = {"level_mm": 9.5, "size": 32, "spacing_mm": 6.0}
    slices = sliced(Cohort("c", (Subject("a", None, "CN", scans),), "embedded"), **where)
    floor = bounds(train, slices, best=NoChange(), free=clean, seed=3, **where)["floor"]
    (image,) = floor.predict(slices.subjects[0].scans[:1], [73.0], "CN")
    assert torch.equal(image.data, slices.subjects[0].scans[1].image("T1w").data)


def test_roles_and_ends_of_a_table(train, test_people):
    systems = {"copy": NoChange(), "mean": MeanScan(train), "P-C-T": NoChange()}
    systems["reach"] = VoxelBoosting(voxels=5_000).fit(train)
    table = table1(score_slices(systems, test_people, peak=1.0, progress=False))
    rows = with_roles(table, "mae")
    assert dict(zip(rows["system"], rows["role"], strict=True)) == {
        "copy": "control", "mean": "mean", "P-C-T": "", "reach": "reach",
    }
    assert ends(rows) == {"reach": pytest.approx(rows.loc[rows["system"] == "reach", "value"].mean())}
    assert set(dots(rows)["system"]) == {"copy", "mean", "P-C-T"}
    told = {metric: measured(metric) for metric in ("ssim", "mae")}
    assert (told["ssim"]["better"], told["mae"]["better"]) == ("higher", "lower")
    assert all(row["id"].startswith(told["mae"]["of"]) for _, row in rows.iterrows())


def test_without_the_truth_there_is_no_floor(train, test_people):
    found = bounds(train, test_people, best=NoChange(), free={}, seed=3, level_mm=0.0, size=24, spacing_mm=4.0)
    assert set(found) == {"mean", "person", "reach"}
