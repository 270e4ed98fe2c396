"""The error of volumes read from real scans: worked out as stated, kept beside the weights, told beside a volume."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.metrics.regions import regional_volumes
from nbkit.papers.trajectories import scan_error

NAMES = {1: "hippocampus_left", 2: "hippocampus_right"}
AFFINE = np.diag([2.0, 2, 2, 1])


def _scan(name: str) -> Scan:
    labels = torch.zeros(1, 12, 12, 12, dtype=torch.int16)
    labels[:, 1:5, 3:9, 3:9], labels[:, 7:11, 3:9, 3:9] = 1, 2
    mask = torch.ones(1, 12, 12, 12, dtype=torch.bool)
    return Scan(name, "M000", 60.0, {"T1w": Volume(labels.float(), AFFINE)}, {"brain": Volume(mask, AFFINE)},
                Volume(labels, AFFINE), NAMES)


class Reader:
    """Reads the labels it finds in the image, times a factor of its own for every person in turn."""

    def __init__(self, factors):
        self.factors, self.names = iter(factors), NAMES

    def volumes(self, image, *, mask):
        factor = next(self.factors)
        return {n: factor * v for n, v in regional_volumes(image.with_data(image.data.round()), NAMES).items()}

    def segment(self, image, *, mask):
        return image.with_data(image.data.round().to(torch.int16))


def _cohort(names: str) -> Cohort:
    people = tuple(Subject(n, "F", "CN", (_scan(n),)) for n in names)
    truth = {n: SimpleNamespace(ages=(60.0,), volumes=(regional_volumes(_scan(n).labels, NAMES),)) for n in names}
    return Cohort("heads", people, "open", {"data_hash": "x"}, truth)


def test_bias_spread_and_error_are_those_of_the_factors():
    table = scan_error.measured_error(Reader([1.1, 0.8, 1.0]), _cohort("abc"), spacings=(2.0,))
    (row,) = table.itertuples()
    assert tuple(table.columns) == scan_error.COLUMNS and (row.structure, row.people) == ("hippocampus", 3)
    assert row.bias_pct == pytest.approx(-10 / 3) and row.sd_pct == pytest.approx(np.std([10, -20, 0], ddof=1))
    assert row.error_pct == pytest.approx(np.sqrt((100 + 400) / 3)) and row.dice == 1.0


def test_a_coarser_grid_covers_the_same_place():
    scan = _scan("a")
    assert scan_error.coarsened(scan, 2.0)[0] is scan.image("T1w")
    image, mask = scan_error.coarsened(scan, 4.0)
    assert image.shape == (6, 6, 6) and mask.data.dtype == torch.bool and image.spacing == (4.0, 4.0, 4.0)
    corner = [v.affine @ [-0.5, -0.5, -0.5, 1] for v in (image, scan.image("T1w"))]
    np.testing.assert_allclose(*corner)
    assert image.totals[0] == pytest.approx(scan.image("T1w").totals[0], rel=0.1)
    table = scan_error.measured_error(Reader([1.0] * 2), _cohort("a"), spacings=(2.0, 4.0))
    assert table["dice"].isna().tolist() == [False, True]


@pytest.fixture
def kept(tmp_path):
    rows = [("hippocampus", 2.0, 10, 0.85, 2.0, 4.0, 5.0), ("hippocampus", 5.0, 10, np.nan, 9.0, 8.0, 12.0)]
    pd.DataFrame(rows, columns=scan_error.COLUMNS).to_csv(tmp_path / "error.tsv", sep="\t", index=False)
    return tmp_path


@pytest.mark.parametrize(("spacing", "error"), [(2.0, 5.0), (1.5, 5.0), (5.0, 12.0), (4.0, 12.0)])
def test_a_volume_is_told_with_the_error_at_its_voxel_size(kept, spacing, error):
    told = scan_error.with_error({"hippocampus_left": 3000.0, "hippocampus_right": 4000.0}, spacing, folder=kept)
    row = told.loc["hippocampus"]
    assert row["volume (mL)"] == 7.0 and row["± error (mL)"] == pytest.approx(7 * error / 100) and row["Dice"] == 0.85
    assert scan_error.relative_error(spacing, folder=kept) == {"hippocampus": error / 100}


def test_people_with_labels_are_examined_themselves_and_others_have_the_kept_error(kept, monkeypatch):
    monkeypatch.setattr(scan_error, "own_error", lambda segmenter, people: "own")
    monkeypatch.setattr(scan_error, "shipped_folder", lambda name: kept)
    people = _cohort("a")
    assert scan_error.reading_error(Reader([]), people) == "own"
    assert scan_error.whom(people) == "1 people of heads"
    unlabelled = Scan("a", "1", 60.0, people.subjects[0].baseline.images)
    bare = Cohort("own", (Subject("a", None, "CN", (unlabelled,)),), "restricted")
    found = scan_error.reading_error(Reader([]), bare)
    assert found.loc["hippocampus", "error_pct"] == 5.0 and "spacing_mm" not in found
    assert scan_error.whom(bare) == "people of IXI"


def test_only_what_is_read_has_an_error_that_of_the_voxels_it_is_read_at(kept, monkeypatch):
    monkeypatch.setattr(scan_error, "shipped_folder", lambda name: kept)
    scan = _scan("a")
    bare = replace(scan, labels=None)
    coarse = replace(bare, images={"T1w": Volume(bare.image("T1w").data, np.diag([5.0, 5, 5, 1]))})
    assert scan_error.error_of(scan) == {}
    assert scan_error.error_of(coarse) == {"hippocampus": 0.12}
    assert scan_error.error_of(coarse, [bare]) == {"hippocampus": 0.05}
    table, caption = scan_error.told({"hippocampus": 2000.0}, coarse, [bare])
    assert table.loc["hippocampus", "± error (mL)"] == 0.1 and "at 2 mm" in caption
