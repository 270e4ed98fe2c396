"""Lines through voxels: exact on images that change linearly, and refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject, TrajectoryModel
from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume
from nbkit.papers.trajectories.pixel_regression import Config, PixelRegression, average_images

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
PACE = {"CN": -0.5, "AD": -2.0}


def scan(name: str, age: float, image: np.ndarray) -> Scan:
    return Scan(name, f"{age:g}", age, {"T1w": Volume(torch.from_numpy(image).float()[None], AFFINE)})


def subject(name: str, diagnosis: str, ages=(60.0, 61.0, 64.0), pace: float | None = None) -> Subject:
    start = numpy_generator(1, name).uniform(50, 100, (4, 5, 3))
    change = PACE[diagnosis] if pace is None else pace
    return Subject(name, None, diagnosis, tuple(scan(name, a, start + change * (a - 60)) for a in ages))


@pytest.fixture
def model() -> PixelRegression:
    people = [subject(f"{d}{k}", d) for d in PACE for k in range(3)]
    return PixelRegression().fit(Cohort("lines", tuple(people), "embedded"))


def with_estimator(model: PixelRegression, estimator: str) -> PixelRegression:
    twin = PixelRegression(Config(estimator=estimator))
    twin.slopes, twin.affine = model.slopes, model.affine
    return twin


def test_it_is_a_trajectory_model(model):
    assert isinstance(model, TrajectoryModel)


def test_a_straight_change_is_continued_exactly(model):
    person = subject("new", "CN", ages=(60.0, 62.0, 70.0), pace=-1.3)
    image = model.predict(person.scans[:2], [70.0], "CN")[0]
    torch.testing.assert_close(image.data, person.scans[2].image("T1w").data)
    assert image.history[-1] == "pixel regression ols at 70 years"


def test_one_scan_follows_its_diagnosis(model):
    person, population = subject("new", "CN"), with_estimator(model, "population")
    for diagnosis, pace in PACE.items():
        image = population.predict(person.scans[:1], [66.0], diagnosis)[0]
        torch.testing.assert_close(image.data, person.scans[0].image("T1w").data + 6 * pace)


def test_people_count_by_the_spread_of_their_ages():
    """Spreads 0.5 and 8: the second person's slope of -4 counts sixteen times as much as the first's of -1."""
    seen = {"a": ((60.0, 61.0), -1.0), "b": ((60.0, 64.0), -4.0), "c": ((60.0,), -9.0)}
    people = tuple(subject(name, "CN", *how) for name, how in seen.items())
    slope = PixelRegression().fit(Cohort("two", people, "embedded")).slopes["CN"]
    torch.testing.assert_close(slope, torch.full_like(slope, (0.5 * -1 + 8 * -4) / 8.5), rtol=1e-4, atol=1e-4)


def test_values_stop_at_zero(model):
    image = model.predict(subject("new", "AD", pace=-9.0).scans, [90.0], "AD")[0]
    assert float(image.data.min()) == 0


def test_save_load_predict_is_identical(model, tmp_path):
    model.save(tmp_path / "model")
    again, history = PixelRegression.load(tmp_path / "model"), subject("new", "CN").scans
    assert torch.equal(*(m.predict(history, [66.0], "CN")[0].data for m in (model, again)))
    assert again.trained_on == model.trained_on != "" and list(again.slopes) == ["AD", "CN"]


def test_refusals(model):
    person = subject("new", "CN")
    with pytest.raises(NbkitError, match="two ages or more for 'ols'"):
        model.predict(person.scans[:1], [66.0], "CN")
    with pytest.raises(NbkitError, match="Did you mean 'AD'"):
        model.predict(person.scans, [66.0], "ADD")
    with pytest.raises(NbkitError, match="a scan, found none"):
        model.predict([], [66.0], "CN")
    with pytest.raises(NbkitError, match="new/60: age"):
        model.predict([replace(person.scans[0], age=None)], [66.0], "CN")
    with pytest.raises(NbkitError, match="Call fit"):
        PixelRegression().predict(person.scans, [66.0], "CN")
    with pytest.raises(NbkitError, match="people scanned at two ages or more"):
        PixelRegression().fit(Cohort("one", (subject("a", "CN", (60.0,)),), "embedded"))
    with pytest.raises(NbkitError, match="Did you mean 'ols'"):
        Config(estimator="old")


def test_averages_of_images():
    a, b = (subject(n, "CN").baseline.image("T1w") for n in "ab")
    torch.testing.assert_close(average_images(a, b, 0.25).data, 0.25 * a.data + 0.75 * b.data)
    with pytest.raises(NbkitError, match="same shape"):
        average_images(a, Volume(torch.rand(2, 2, 2), AFFINE), 0.5)
