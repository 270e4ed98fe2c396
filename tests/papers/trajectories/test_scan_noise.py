"""How much of a difference is noise: on pairs whose difference is known, read by a reader that cannot err."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.tidy import by_subject, where
from nbkit.core.volume import Volume
from nbkit.papers.trajectories import scan_noise

SHAPE, AFFINE = (12, 12, 12), np.eye(4)
OFFSETS = {"a": 0.0, "b": 0.1, "c": -0.2}


class Reader:
    """The mean of the image, as the volume of the two hippocampi; the third ventricle is empty."""

    def volumes(self, image: Volume, *, mask: Volume) -> dict[str, float]:
        value = float(image.data[mask.data].mean())
        return {"hippocampus_left": value, "hippocampus_right": 2 * value, "third_ventricle": 0.0}


def person(name: str, offset: float) -> Subject:
    base = torch.linspace(0.5, 1.0, math.prod(SHAPE)).reshape(1, *SHAPE)
    brain = {"brain": Volume(torch.ones(1, *SHAPE, dtype=torch.bool), AFFINE)}
    scans = tuple(Scan(name, str(k), None, {"T1w": Volume(base + k * offset, AFFINE)}, brain) for k in (0, 1))
    return Subject(name, None, "CN", scans)


@pytest.fixture
def twice() -> Cohort:
    told = {"who": ["3 of 4 people", "Weeks apart"], "attribution": "By them, CC0"}
    return Cohort("pairs", tuple(person(name, offset) for name, offset in OFFSETS.items()), "open", told)


def test_images_are_scored_as_forecasts_are(twice):
    found = scan_noise.differences([twice], None)
    peak = np.quantile(np.linspace(0.5, 1.0, math.prod(SHAPE)), 0.999)
    mae = by_subject(found, metric="mae")
    assert mae == pytest.approx({name: abs(offset) / peak for name, offset in OFFSETS.items()}, abs=1e-6)
    psnr = by_subject(found, metric="psnr")
    assert psnr["b"] == pytest.approx(20 * math.log10(peak / 0.1), abs=1e-3)
    assert by_subject(found, metric="ssim")["a"] == pytest.approx(1.0)
    assert set(found["metric"]) == set(scan_noise.UNITS) and set(found["setting"]) == {"pairs"}


def test_volumes_differ_in_percent_of_their_mean(twice):
    found = where(scan_noise.differences([twice], Reader()), metric="volume")
    expected = {name: 200 * offset / (1.5 + offset) for name, offset in OFFSETS.items()}
    assert by_subject(found, structure="hippocampus") == pytest.approx(expected, abs=1e-4)
    assert set(found["structure"]) == {"hippocampus"}, "what both lack has no difference"
    assert set(found["id"]) == {"scan_noise.pairs.hippocampus"}


def test_the_repeatability_coefficient_counts_the_shift_between_sessions_too(twice):
    found = scan_noise.differences([twice], Reader())
    table = scan_noise.summary(found)
    values = np.array(list(by_subject(found, structure="hippocampus").values()))
    row = table.loc[("pairs", "hippocampus (% of the volume)")]
    assert row["pairs"] == 3 and row["mean"] == pytest.approx(values.mean(), abs=1e-4)
    assert row["SD"] == pytest.approx(values.std(ddof=1), abs=1e-4)
    assert row["95 % of pairs within ±"] == pytest.approx(1.96 * np.sqrt((values**2).mean()), abs=1e-3)
    assert math.isnan(table.loc[("pairs", "ssim (SSIM)"), "95 % of pairs within ±"])
    said = scan_noise.said(found)
    assert "pairs, 3 pairs: SSIM of two scans" in said and "(hippocampus)" in said
    assert "3 of 4 people. Weeks apart. By them, CC0." in said, "who they are, and whose scans"


def test_without_a_reader_and_without_pairs_it_is_said(twice):
    assert "Volumes are not read here" in scan_noise.said(scan_noise.differences([twice], None))
    nobody = scan_noise.differences([], Reader())
    table = scan_noise.summary(nobody)
    assert len(nobody) == 0 and list(table["pairs"]) == [0]
    for text in (scan_noise.said(nobody), table.index[0][1]):
        assert "nbkit data fetch sleepy_brain" in text
