"""Scores against independent code, gains and differences by hand, and who and what is compared."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.tidy import by_subject, stacked, tidy
from nbkit.core.volume import Volume
from nbkit.data.slices import cut
from nbkit.papers.daninet.experiments import (
    Case, OnSlice, component_gains, differences, first_ages, followed, followups, key_of, largest_p, morphology,
    people_counts, reasons, score_slices, settings, table1, tune,
)
from nbkit.papers.daninet.regional_rates import AgeBins

SIZE = 32
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
BRAIN = np.zeros((SIZE, SIZE), dtype=bool)
BRAIN[6:26, 8:24] = True


def _scan(name: str, age: float, image: np.ndarray) -> Scan:
    volume, mask = (Volume(torch.from_numpy(np.array(x))[..., None], AFFINE) for x in (image.astype("f4"), BRAIN))
    return Scan(name, f"M{age:g}", age, {"T1w": volume}, {"brain": mask})


def person(name: str, diagnosis: str, ages: tuple[float, ...], *, seed: int) -> Subject:
    rng = np.random.default_rng(seed)
    scans = tuple(_scan(name, age, BRAIN * rng.uniform(0.2, 1.0, BRAIN.shape)) for age in ages)
    return Subject(name, "F", diagnosis, scans)


@pytest.fixture(scope="module")
def people() -> Cohort:
    both = (person("a", "CN", (70.0, 71.0, 73.0), seed=1), person("b", "AD", (66.0, 68.5), seed=2))
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
    change = np.abs(ndimage.uniform_filter(later - first, 5, mode="constant"))
    most = BRAIN & (change >= np.quantile(change[BRAIN], 0.9))
    assert row["ssim_changed"] == pytest.approx(inside[most].mean(), abs=1e-5)


def test_the_truth_is_perfect_and_nobody_without_a_late_visit_is_scored(people):
    class Oracle:
        def predict(self, history, ages, diagnosis):
            visits = people.subject(history[0].subject).scans
            return [next(s for s in visits if s.age == age).image("T1w") for age in ages]

    table = score_slices({"oracle": Oracle()}, people, peak=1.0, years=1.0, progress=False)
    assert len(table) == 3 and table["ssim"].tolist() == pytest.approx([1] * 3) and (table["mae"] == 0).all()
    with pytest.raises(NbkitError, match=r"score_slices: b: expected a visit 2\.6 years"):
        score_slices({"oracle": Oracle()}, people, peak=1.0, years=2.6, progress=False)


def test_scores_become_one_value_a_person_under_the_ids_of_the_paper(people):
    scores = score_slices({"P-C-T": Dimmed(0.5), "copy": Dimmed(1.0)}, people, peak=0.8, years=0.5, progress=False)
    table = table1(scores)
    row = table[(table["id"] == "daninet.controls.psnr.p_c_t") & (table["subject"] == "a")]
    visits = scores[(scores["model"] == "P-C-T") & (scores["subject"] == "a")]
    assert len(visits) == 2 and row["value"].tolist() == pytest.approx([visits["psnr"].mean()])
    assert row["unit"].tolist() == ["dB"] and row["system"].tolist() == ["P-C-T"]
    assert set(table["id"]) == {
        f"daninet.{name}.{key}" for key in ("p_c_t", "copy")
        for name in ("table1.ssim", "controls.ssim_brain", "controls.ssim_changed", "controls.psnr", "controls.mae")
    }
    assert len(table) == 2 * 2 * 5 and [key_of(v) for v in ("[9]", "P-C-T", "none")] == ["caae", "p_c_t", "none"]


def ssim_table(values: dict[str, dict[str, float]]) -> pd.DataFrame:
    return stacked(*(tidy(v, unit="SSIM", system=name, metric="ssim") for name, v in values.items()))


def test_gains_are_means_over_pairs_that_differ_by_one_part():
    worth, values = {"P": 0.01, "C": 0.02, "T": 0.1}, {}
    for name in ("[9]", "C", "T", "C-T", "P", "P-C", "P-T", "P-C-T"):
        parts = set(name.split("-")) - {"[9]"}
        bonus = 0.04 * (parts >= {"P", "C"})  # felt in two of the four pairs of P, and of C
        values[name] = {s: k + sum(worth[p] for p in parts) + bonus for s, k in (("a", 0.4), ("b", 0.5))}
    gains = component_gains(ssim_table(values | {"copy": {"a": 0.9, "b": 0.9}}))
    for part, expected in (("P", 0.03), ("C", 0.04), ("T", 0.1)):
        found = by_subject(gains, id=f"daninet.table1.gain.{part.lower()}")
        assert found == pytest.approx({"a": expected, "b": expected}), part
    del values["P-C"]
    with pytest.raises(NbkitError, match="component_gains: system: .*found 'P-C'"):
        component_gains(ssim_table(values))


def test_differences_are_paired_byperson():
    base = {f"s{k}": 0.5 + 0.01 * k for k in range(8)}
    other = {s: v - 0.02 + 0.001 * (-1) ** k for k, (s, v) in enumerate(base.items())}
    table = differences(ssim_table({"P-C-T": base, "copy": dict(reversed(other.items()))}), "P-C-T")
    row = table.loc["copy"]
    assert row["minus P-C-T"] == pytest.approx(-0.02) and row["people"] == 8
    assert -0.021 <= row["95 % from"] < -0.02 < row["to"] <= -0.019 and row["paired t-test, p"] < 1e-4


def test_the_largest_p_is_of_the_systems_of_the_table():
    table = pd.DataFrame({"paired t-test, p": [0.2, 0.01, 0.9]}, index=["[9]", "C-T", "copy"])
    found = largest_p(table)
    assert found["value"].tolist() == [0.2] and found["id"].tolist() == ["daninet.table1.p"]


def test_a_simulation_is_its_own_persons_more_than_the_mean_slice_is(people):
    class Mean(Dimmed):
        def predict(self, history, ages, diagnosis):
            images = torch.stack([p.scans[-1].image("T1w").data for p in people])
            return [history[-1].image("T1w").with_data(images.mean(dim=0)) for _ in ages]

    class Own(Dimmed):
        def predict(self, history, ages, diagnosis):
            return [people.subject(history[-1].subject).scans[-1].image("T1w") for _ in ages]

    found = morphology({"P-C-T": Own(1.0), "P-C": Mean(1.0)}, people, peak=1.0)
    own, gap = (by_subject(found, id=f"daninet.morphology.{kind}.p_c_t") for kind in ("own", "gap"))
    others = by_subject(found, id="daninet.morphology.others.p_c_t")
    assert own == pytest.approx({"a": 1.0, "b": 1.0})
    assert gap == pytest.approx({k: own[k] - others[k] for k in own}) and min(gap.values()) > 0.3
    assert all(abs(v) < 0.1 for v in by_subject(found, id="daninet.morphology.gap.p_c").values())
    alone = morphology({"P-C": Mean(1.0)}, people.subset(["a"]), peak=1.0)
    assert alone["id"].tolist() == ["daninet.morphology.own.p_c"]


def test_people_followed_long_enough_and_of_a_diagnosis_that_was_taught(people):
    healthy = people.subset(["a"])
    assert followed(people, people, years=2.0).ids == ("a", "b") and followed(people, people, years=2.6).ids == ("a",)
    assert followed(people, healthy, years=2.0).ids == ("a",)


def test_people_are_counted_as_the_paper_counts_them(people):
    counts = people_counts(people, training=people.subset(["a"]), test=people.subset(["b"])).set_index("id")["value"]
    found = {id.removeprefix("daninet.data."): value for id, value in counts.items()}
    assert found == {
        "slices_train": 3, "people_train": 1, "slices_test": 2, "people_test": 1, "scans": 2.5, "age.low": 66,
        "age.high": 73, "years": 2.75, "share.cn": 50, "share.smc": 0, "share.mci": 0, "share.ad": 50,
        "daninet.abstract.images_train": 3, "daninet.abstract.images_test": 2,
    }
    assert first_ages(all=people).loc[["count", "mean"], "all"].tolist() == [2, 68]


def test_reasons_are_told_with_the_numbers_of_the_run():
    found = {"daninet.table1.gain.t": 0.16, "daninet.table1.ssim.p_t": 0.7, "daninet.table1.ssim.copy": 0.9}
    parts, copy, courses = reasons(lambda id: found.get(id, 0.1))
    assert "T +0.160, P +0.100" in parts and "input gives 0.900" in copy and "(P-T) 0.700" in copy
    assert "in true pairs 0.1 %" in courses


class Tuned(Dimmed):
    """Remembers whom it was tuned to."""

    bins = AgeBins(60, 80, 5)

    def personalised(self, scans, diagnoses):
        """Note the people."""
        self.told = [(scan.subject, diagnosis) for scan, diagnosis in zip(scans, diagnoses, strict=True)]


def test_all_are_tuned_to_at_once_and_the_full_system_is_timed(people):
    models = {"[9]": Tuned(1.0), "P-C-T": Tuned(0.5)}
    seconds = tune(models, people)
    assert all(model.told == [("a", "CN"), ("b", "AD")] for model in models.values())
    assert list(seconds["id"]) == ["", "daninet.seconds.transfer", "daninet.seconds.simulation"]
    assert (seconds["value"] >= 0).all()


def test_follow_ups_stand_beside_their_simulations(people):
    cases = followups({"half": Dimmed(0.5)}, people, years=0.5)
    assert [(case.id, case.years, case.diagnosis) for case in cases] == [
        ("a/M71", 1.0, "CN"), ("a/M73", 3.0, "CN"), ("b/M68.5", 2.5, "AD"),
    ]
    assert torch.equal(cases[1].candidates["half"].data, 0.5 * cases[1].baseline.data)
    assert [case.id for case in followups({}, people, last=True)] == ["a/M73", "b/M68.5"]
    with pytest.raises(NbkitError, match="a/M73: follow-up and baseline: expected the same shape"):
        replace(cases[1], baseline=cases[1].baseline.crop((slice(0, 20), slice(0, 32), slice(0, 1))))
    thick = Volume(torch.rand(16, 16, 4), AFFINE)
    with pytest.raises(NbkitError, match="one axial slice"):
        Case("a", "M0", "CN", 1.0, thick, thick, {}, thick)


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
