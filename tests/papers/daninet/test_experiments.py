"""Slices are scored as by hand, gains are differences of the right pairs, and courses are measured on planted ones."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from skimage.metrics import structural_similarity

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.papers.daninet.aged_slices import SliceFrame
from nbkit.data.slices import cut
from nbkit.papers.daninet.experiments import (
    OnSlice, component_gains, course_measures, histories, key_of, ratio_errors, regional_pairs, score_slices,
)
from nbkit.papers.daninet.regional_rates import AgeBins, RegionalRates

SIZE = 32
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
BRAIN = np.zeros((SIZE, SIZE), dtype=bool)
BRAIN[6:26, 8:24] = True


def _scan(name: str, age: float, image: np.ndarray) -> Scan:
    volume, mask = (Volume(torch.from_numpy(np.array(x))[..., None], AFFINE) for x in (image.astype("f4"), BRAIN))
    return Scan(name, f"M{age:g}", age, {"T1w": volume}, {"brain": mask})


def _person(name: str, diagnosis: str, ages: tuple[float, ...], *, seed: int) -> Subject:
    rng = np.random.default_rng(seed)
    scans = tuple(_scan(name, age, BRAIN * rng.uniform(0.2, 1.0, BRAIN.shape)) for age in ages)
    return Subject(name, "F", diagnosis, scans)


@pytest.fixture(scope="module")
def people() -> Cohort:
    both = (_person("a", "CN", (70.0, 71.0, 73.0), seed=1), _person("b", "AD", (66.0, 68.5), seed=2))
    return Cohort("noise", both, "embedded", {"data_hash": "x"})


class Dimmed:
    """Gives the input times a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def predict(self, history, ages, diagnosis):
        """The last scan, darker."""
        image = history[-1].image("T1w")
        return [image.with_data(self.factor * image.data) for _ in ages]


def test_scores_are_those_of_independent_code(people):
    table = score_slices({"dim": Dimmed(0.5)}, people, peak=0.8, progress=False)
    assert table[["subject", "session", "years"]].to_numpy().tolist() == [["a", "M73", 3.0], ["b", "M68.5", 2.5]]
    first, later = ((people.subject("a").scans[k].image("T1w").numpy()[..., 0] / 0.8).astype(float) for k in (0, 2))
    mine, row = 0.5 * first, table.iloc[0]
    assert row["mae"] == pytest.approx(np.abs(mine - later)[BRAIN].mean(), rel=1e-5)
    assert row["psnr"] == pytest.approx(-10 * math.log10(np.square(mine - later)[BRAIN].mean()), rel=1e-5)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    box = np.s_[1:31, 3:29]  # windows of 11 pixels whose centres are in the box of the brain
    whole = structural_similarity(mine[box], later[box], full=True, **settings)[1][5:-5, 5:-5]
    assert row["ssim"] == pytest.approx(whole.mean(), abs=1e-5)
    inside = structural_similarity(mine, later, full=True, **settings)[1]
    assert row["ssim_brain"] == pytest.approx(inside[BRAIN].mean(), abs=1e-5)


def test_the_truth_is_perfect_and_nobody_without_a_late_visit_is_scored(people):
    class Oracle:
        def predict(self, history, ages, diagnosis):
            visits = people.subject(history[0].subject).scans
            return [next(s for s in visits if s.age == age).image("T1w") for age in ages]

    table = score_slices({"oracle": Oracle()}, people, peak=1.0, years=1.0, progress=False)
    assert len(table) == 3 and table["ssim"].tolist() == pytest.approx([1] * 3) and (table["mae"] == 0).all()
    with pytest.raises(NbkitError, match=r"score_slices: b: expected a visit 2\.6 years"):
        score_slices({"oracle": Oracle()}, people, peak=1.0, years=2.6, progress=False)


def test_gains_are_means_over_pairs_that_differ_by_one_part():
    worth, rows = {"P": 0.01, "C": 0.02, "T": 0.1}, []
    for name in ("[9]", "C", "T", "C-T", "P", "P-C", "P-T", "P-C-T"):
        parts = set(name.split("-")) - {"[9]"}
        bonus = 0.04 * (parts >= {"P", "C"})  # felt in two of the four pairs of P, and of C
        rows += [(s, name, k + sum(worth[p] for p in parts) + bonus) for s, k in (("a", 0.4), ("b", 0.5))]
    table = pd.DataFrame(rows, columns=["subject", "model", "ssim"])
    gains = component_gains(table)
    for part, expected in (("P", 0.03), ("C", 0.04), ("T", 0.1)):
        assert gains[part] == pytest.approx({"a": expected, "b": expected}), part
    with pytest.raises(NbkitError, match=r"component_gains: P: .*all eight"):
        component_gains(table[table["model"] != "P-C"])
    with pytest.raises(NbkitError, match="component_gains: column.*Did you mean 'ssim'"):
        component_gains(table, "sim")
    assert [key_of(v) for v in ("[9]", "P-C-T")] == ["caae", "p_c_t"]


def test_true_ratios_and_the_errors_of_tables(people):
    frame = SliceFrame("T1w", (SIZE, SIZE, 1), AFFINE, 1.0)
    told = histories(people, frame)
    masks = np.zeros((2, SIZE, SIZE), dtype=bool)
    masks[0, 6:16, 8:24] = masks[1, 14:26, 8:24] = True
    pairs = regional_pairs(told, masks)
    assert len(pairs) == 2 * (3 + 1)
    row = pairs[(pairs["subject"] == "b") & (pairs["region"] == 1)].iloc[0]
    sums = [people.subject("b").scans[k].image("T1w").numpy()[..., 0][masks[1]].sum() + 0.1 for k in (0, 1)]
    assert row["ratio"] == pytest.approx(sums[1] / sums[0], rel=1e-5) and row["diagnosis"] == 3
    bins = AgeBins(60, 80, 5)
    steady = torch.exp(-0.01 * torch.from_numpy(bins.centres[None, :] - bins.centres[:, None]))
    ratios = torch.where(torch.ones(5, 5).triu(1) > 0, steady, 1.0)[None, :, :, None].expand(4, -1, -1, 2).float()
    exact = pairs.assign(ratio=np.exp(-0.01 * (pairs["older"] - pairs["younger"])))
    errors = ratio_errors(exact, {"steady": RegionalRates(torch.from_numpy(masks).float(), ratios, bins)})
    assert errors["steady"] == pytest.approx({"a": 0, "b": 0}, abs=1e-6)
    years = [1.0, 3.0, 2.0]
    assert errors["constant"]["a"] == pytest.approx(np.mean([1 - math.exp(-0.01 * y) for y in years]))


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


def test_a_system_of_volumes_answers_by_the_slice_of_its_volume():
    """It sees the visits of the slices it is asked from, and no later one."""
    ramp = torch.arange(24.0)[None, None, :].expand(40, 40, 24) * torch.linspace(0.5, 1, 40)[:, None, None]
    centre = np.array([[3, 0, 0, -58.5], [0, 3, 0, -75.5], [0, 0, 3, -20.0], [0, 0, 0, 1.0]])
    volume = Volume(ramp.contiguous(), centre)
    scans = tuple(
        Scan("a", f"M{k}", 60.0 + k, {"T1w": volume.with_data((1 + k) * volume.data)}) for k in range(3)
    )
    person = Cohort("ramps", (Subject("a", None, "CN", scans),), "embedded")
    where = {"level_mm": 10.0, "size": 32, "spacing_mm": 3.0}
    seen = [replace(scan, images={}) for scan in scans[:2]]
    (image,) = OnSlice(Dimmed(0.5), person, **where).predict(seen, [70.0], "CN")
    expected = cut(scans[1].image("T1w"), **where)
    assert image.shape == (32, 32, 1) and torch.allclose(image.data, 0.5 * expected.data)
    assert float(image.data.max()) > 5
    with pytest.raises(NbkitError, match="subject"):
        OnSlice(Dimmed(0.5), person, **where).predict([replace(seen[0], subject="stranger")], [70.0], "CN")
