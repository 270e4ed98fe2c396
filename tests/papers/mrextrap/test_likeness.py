"""Images are compared with true scans: whose they are, and how near they come, on people made of noise of their own."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.papers.mrextrap.likeness import between_people, held_out, middle_scan, nearness

SHAPE, AFFINE = (16, 15, 14), np.diag([3.0, 3.0, 3.0, 1.0])
BRAIN = Volume(torch.ones(1, *SHAPE, dtype=torch.bool), AFFINE)


def texture(*name) -> torch.Tensor:
    return torch.rand(1, *SHAPE, generator=torch_generator(3, *map(str, name)))


def person(name: str, ages=(70.0, 71.0, 74.5, 78.0), *, change: float = 0.02) -> Subject:
    """A texture of one's own that drifts along another with age."""
    scans = [
        Scan(name, f"M{k}", age, {"T1w": Volume(texture(name) + change * (age - 70) * texture(name, "drift"), AFFINE)},
             {"brain": BRAIN}) for k, age in enumerate(ages)
    ]
    return Subject(name, None, "CN", tuple(scans))


def cohort(*people: Subject) -> Cohort:
    return Cohort("noise", people, "embedded", {}, {})


class Lines:
    """Interpolates and continues images themselves; what is reconstructed or decoded is mixed with `blur` of a mean."""

    config = SimpleNamespace(contrast="T1w")

    def __init__(self, blur: float = 0.0, mean: float = 0.5) -> None:
        self.blur, self.mean = blur, mean

    def decoded(self, data: torch.Tensor) -> Volume:
        return Volume((1 - self.blur) * data + self.blur * self.mean, AFFINE)

    def interpolate(self, last: Scan, first: Scan, alpha: float) -> Volume:
        return self.decoded(alpha * last.image("T1w").data + (1 - alpha) * first.image("T1w").data)

    def reconstruct(self, scan: Scan) -> Volume:
        return self.decoded(scan.image("T1w").data)

    def estimating(self, estimator: str) -> Lines:
        assert estimator == "ols"
        return self

    def predict(self, history, ages, diagnosis) -> list[Volume]:
        first, last = history[0], history[-1]
        pace = (last.image("T1w").data - first.image("T1w").data) / (last.age - first.age)
        return [self.decoded(last.image("T1w").data + (age - last.age) * pace) for age in ages]


def test_nearness_is_ssim_and_feels_nothing_outside_the_brain():
    scan = person("a").scans[0]
    other = scan.image("T1w").with_data(scan.image("T1w").data + 0.1 * texture("more"))
    assert nearness(scan.image("T1w"), scan) == pytest.approx(1.0)
    mask = torch.zeros(1, *SHAPE, dtype=torch.bool)
    mask[:, 5:11, 5:10, 5:9] = True
    small = Scan("a", "M0", 70.0, dict(scan.images), {"brain": Volume(mask, AFFINE)})
    peak = float(torch.quantile(scan.image("T1w").data[mask].double(), 0.999))
    _, values = structural_similarity(
        scan.image("T1w").numpy().astype(float), other.numpy().astype(float), data_range=peak, full=True,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )
    assert nearness(other, small) == pytest.approx(values[mask[0].numpy()].mean(), abs=1e-4)


def test_the_middle_scan_is_nearest_to_half_way_and_no_end():
    assert middle_scan(person("a")).age == 74.5
    assert middle_scan(person("a", (70.0, 70.5, 80.0))).age == 70.5


def test_an_image_between_two_scans_is_the_persons_own():
    people = cohort(*(person(f"p{k}") for k in range(4)), person("twice", (70.0, 75.0)))
    found = between_people(Lines(), people).pivot(index="subject", columns="system", values="value")
    assert list(found.index) == [f"p{k}" for k in range(4)], "two scans have no middle"
    assert np.allclose(found[["own", "reconstruction"]], 1, atol=1e-5) and (found["other"] < 0.3).all()
    lost = between_people(Lines(blur=1.0), people).pivot(index="subject", columns="system", values="value")
    assert ((lost["own"] - lost["other"]).abs() < 0.05).all(), "a mean picture is nobody's"


def test_one_person_alone_is_compared_with_nobody():
    assert set(between_people(Lines(), cohort(person("a")))["system"]) == {"own", "reconstruction"}


def test_a_held_out_scan_is_met_by_who_follows_the_line():
    people = cohort(*(person(f"p{k}", change=0.1) for k in range(3)))
    exact, dim = (held_out(Lines(blur), people).groupby("system")["value"].mean() for blur in (0.0, 0.3))
    assert exact["ols"] == pytest.approx(1, abs=1e-5) and exact["no_change"] < 0.95
    assert dim["ols"] == pytest.approx(dim["reconstruction"], abs=1e-4) and dim["ols"] < 0.97
