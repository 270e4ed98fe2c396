"""Regional ratios, what rates say of them, and how courses run: measured on planted ones."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nbkit.core.protocols import Cohort
from nbkit.core.tidy import by_subject
from nbkit.papers.daninet.aged_slices import SliceFrame
from nbkit.papers.daninet.progression import (
    brightness_changes, course_measures, courses, rates_in_words, ratio_errors, region_sizes, regional_courses,
    regional_pairs, smoothness, true_changes,
)
from nbkit.papers.daninet.regional_rates import AgeBins, RegionalRates
from tests.papers.daninet.test_experiments import AFFINE, BRAIN, SIZE, person

MASKS = np.zeros((2, SIZE, SIZE), dtype=bool)
MASKS[0, 6:16, 8:24] = MASKS[1, 14:26, 8:24] = True
FRAME = SliceFrame("T1w", (SIZE, SIZE, 1), AFFINE, 1.0)


@pytest.fixture(scope="module")
def people() -> Cohort:
    both = (person("a", "CN", (70.0, 71.0, 73.0), seed=1), person("b", "AD", (66.0, 68.5), seed=2))
    return Cohort("noise", both, "embedded", {"data_hash": "x"})


@pytest.fixture(scope="module")
def steady() -> RegionalRates:
    """Everything loses a hundredth a year; the ill (code 3) twice that."""
    bins = AgeBins(60, 80, 5)
    years = torch.from_numpy(bins.centres[None, :] - bins.centres[:, None]).clamp(min=0)
    ratios = torch.stack([torch.exp(-pace * years) for pace in (0.01, 0.01, 0.01, 0.02)])
    masks = torch.from_numpy(MASKS).float()
    return RegionalRates(masks, ratios[..., None].expand(-1, -1, -1, 2).float(), bins)


def test_true_ratios_are_those_of_sums(people, steady):
    pairs = regional_pairs(people, SimpleNamespace(rates=steady, frame=FRAME))
    assert len(pairs) == 2 * (3 + 1)
    row = pairs[(pairs["subject"] == "b") & (pairs["structure"] == 1)].iloc[0]
    sums = [people.subject("b").scans[k].image("T1w").numpy()[..., 0][MASKS[1]].sum() + 0.1 for k in (0, 1)]
    assert row["value"] == pytest.approx(sums[1] / sums[0], rel=1e-5) and row["diagnosis"] == "AD"
    assert (row["younger"], row["older"]) == (66.0, 68.5)


def test_errors_of_rates_between_the_centres_of_bins(people, steady):
    pairs = regional_pairs(people, SimpleNamespace(rates=steady, frame=FRAME))
    pace = pairs["diagnosis"].map({"CN": 0.01, "AD": 0.02})
    exact = pairs.assign(value=np.exp(-pace * (pairs["older"] - pairs["younger"])))
    errors = ratio_errors(exact, {"steady": steady})
    found = {name: by_subject(errors, id=f"daninet.fig2.svr.error.{name}") for name in ("steady", "constant")}
    assert found["steady"] == pytest.approx({"a": 0, "b": 0}, abs=1e-6)
    assert found["constant"]["a"] == pytest.approx(np.mean([1 - math.exp(-0.01 * y) for y in (1.0, 3.0, 2.0)]))
    beyond = ratio_errors(exact.assign(younger=50.0, older=61.0, value=1.0), {"steady": steady})
    assert by_subject(beyond, system="steady")["a"] == pytest.approx(0, abs=1e-6), "before the first centre all is one"
    rising, kept = rates_in_words(exact.assign(value=[1.1, *[0.9] * 7]), {"steady": steady})
    assert rising.startswith("Of true pairs, 12 %") and f"{100 * math.exp(-0.16):.1f} % by the steady" in kept


def test_curves_are_the_ratios_to_the_first_age(steady):
    curves = regional_courses(steady, diagnoses=["CN", "AD"])
    ill = curves[(curves["diagnosis"] == "AD") & (curves["structure"] == 1)]
    assert ill["age"].tolist() == steady.bins.centres.tolist() and len(curves) == 2 * 5 * 2
    np.testing.assert_allclose(ill["value"], np.exp(-0.02 * (ill["age"] - 62)), rtol=1e-6)


def test_regions_are_counted(steady):
    sizes = region_sizes(steady.masks).set_index("id")["value"]
    assert sizes.to_dict() == {"daninet.regions.count": 2, "daninet.regions.pixels": 176}


def test_a_course_that_darkens_beside_a_growing_pool():
    brain = torch.from_numpy(BRAIN)
    images = torch.stack([torch.where(brain, 0.9 - 0.01 * k, 0.0) for k in range(4)]) * 2.0
    for k in range(4):
        images[k, 12:14, 12 : 16 + k] = 0.2 - 0.02 * k
    regions = torch.stack([brain, torch.zeros_like(brain)]).float()
    regions[1, 6:9] = brain[6:9].float()
    found = course_measures(images, brain=brain, regions=regions, peak=2.0)
    assert found["csf"] == found["regions"] == 100 and found["brighter"] == 0
    assert found["csf_area"] == pytest.approx(100 * 6 / BRAIN.sum())
    back = course_measures(images.flip(0), brain=brain, regions=regions, peak=2.0)
    assert back["regions"] == 0 and back["csf_area"] == pytest.approx(-100 * 6 / BRAIN.sum())
    # the pool shrinks by a column a step: that pixel, and no other, brightens by more than 0.05
    assert back["brighter"] == pytest.approx(100 * np.mean([2, 4, 6, 2, 4, 2]) / BRAIN.sum())


class Fading:
    """Makes everybody 5 % darker from bin to bin."""

    frame = FRAME

    def personalised(self, scans, diagnoses):
        """(N, 3, S, S)."""
        images = torch.stack([scan.image("T1w").data[0, ..., 0] for scan in scans])
        return images[:, None] * 0.95 ** torch.arange(3).view(1, 3, 1, 1)


def test_courses_of_everybody_are_recorded_under_the_ids_of_figure_4(people, steady):
    found = courses({"P-C-T": Fading()}, people, regions=steady.masks)
    names = ("fig4.monotone.csf", "fig4.monotone.regions", "fig4.csf_area", "violations")
    assert set(found["id"]) == {f"daninet.{name}.p_c_t" for name in names}
    assert by_subject(found, metric="regions") == {"a": 100, "b": 100} and set(found["system"]) == {"P-C-T"}


def changed(*shares: tuple[float, float], seed: int = 0) -> np.ndarray:
    """A slice, and slices in which shares of the brain's pixels got brighter and darker by 0.2, the others by 0.01."""
    rng = np.random.default_rng(seed)
    images = [0.5 * BRAIN]
    for brighter, darker in shares:
        order = rng.permutation(BRAIN.sum()) / BRAIN.sum()
        step = np.where(order < brighter, 0.2, np.where(order >= 1 - darker, -0.2, 0.01))
        later = np.full(BRAIN.shape, 0.9)  # outside the brain all get brighter, and none of it counts
        later[BRAIN] = 0.5 + step
        images.append(later)
    return np.stack(images)


def test_pixels_that_brighten_and_darken_are_counted():
    images = changed((0.25, 0.125))
    assert brightness_changes([70.0, 72.0], images, brain=BRAIN) == (0.25, 0.125)
    assert brightness_changes([72.0, 70.0], images, brain=BRAIN) == (0.125, 0.25)
    assert brightness_changes([70.0, 72.0], images, brain=BRAIN, tolerance=0.0) == (0.875, 0.125)


def test_the_share_is_a_mean_over_all_pairs():
    images = changed((0.5, 0.0))[[0, 1, 1]]
    found = brightness_changes([70.0, 71.0, 72.0], images, brain=BRAIN)
    assert found == pytest.approx(((0.5 + 0.5 + 0) / 3, 0))


def test_true_changes_are_of_everybody(people):
    found = true_changes(people, FRAME)
    first, later = (people.subject("b").scans[k].image("T1w").numpy()[..., 0][BRAIN] for k in (0, 1))
    brighter = by_subject(found, id="daninet.violations.true")
    assert brighter["b"] == pytest.approx(100 * (later - first > 0.05).mean()) and set(brighter) == {"a", "b"}
    assert by_subject(found, metric="darker")["b"] == pytest.approx(100 * (first - later > 0.05).mean())


def test_a_straight_course_is_smooth_and_a_shuffled_one_is_not(people):
    """Ten bins in even steps: neighbours differ by one step, any two by 11 / 3 on average."""
    steps = torch.arange(10.0).view(10, 1, 1).expand(10, SIZE, SIZE)
    someone = people.subset(["a"])

    class Told:
        frame = FRAME

        def __init__(self, course: torch.Tensor) -> None:
            self.course = course

        def personalised(self, scans, diagnoses):
            return self.course[None]

    shuffled = steps[[5, 0, 7, 2, 9, 4, 1, 8, 3, 6]]
    found = smoothness({"P-C-T": Told(steps), "no_critics": Told(shuffled)}, someone)
    values = found.set_index("id")["value"]
    assert values["daninet.smooth.neighbours.p_c_t"] == pytest.approx(100)
    assert values["daninet.smooth.ratio.p_c_t"] == pytest.approx(3 / 11)
    assert values["daninet.smooth.any.no_critics"] == pytest.approx(1100 / 3)
    assert values["daninet.smooth.ratio.no_critics"] > 1
