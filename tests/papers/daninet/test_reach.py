"""The ends of an error on slices: the mean, what a learner reaches, one's own scale, and the truth without noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.slices import sliced
from nbkit.papers.daninet.experiments import score_slices, table1
from nbkit.papers.daninet.reach import (
    MeanSlice, NoiseFree, OwnScale, PixelBoosting, bounds, dots, ends, measured, with_roles,
)
from nbkit.papers.trajectories.controls import NoChange

SIZE = 24
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
BRAIN = torch.zeros(1, SIZE, SIZE, 1, dtype=torch.bool)
BRAIN[:, 3:-3, 4:-4] = True
PACE = {"CN": 0.01, "AD": 0.05}


def person(name: str, diagnosis: str, visits: int = 3, *, gain: float = 1.0) -> Subject:
    """Bright pixels dim with age, faster in the ill; dark ones stay."""
    rng = torch.Generator().manual_seed(sum(map(ord, name)))
    first = torch.rand(1, SIZE, SIZE, 1, generator=rng)
    scans = []
    for k in range(visits):
        image = (first - PACE[diagnosis] * 2 * k * (first > 0.5)) * BRAIN
        scans.append(Scan(name, f"M{k}", 70.0 + 2 * k, {"T1w": Volume(gain**k * image, AFFINE)},
                          {"brain": Volume(BRAIN, AFFINE)}))
    return Subject(name, None, diagnosis, tuple(scans))


@pytest.fixture(scope="module")
def train() -> Cohort:
    people = [person(f"{d}{k}", d) for d in PACE for k in range(4)]
    return Cohort("dimming", tuple(people), "embedded", {"data_hash": "d"})


@pytest.fixture(scope="module")
def test_people() -> Cohort:
    return Cohort("new", (person("x", "CN"), person("y", "AD")), "embedded")


def error(model, people: Cohort) -> float:
    return float(score_slices({"m": model}, people, peak=1.0, progress=False)["mae"].mean())


def test_a_learner_sees_what_repeating_the_input_and_the_mean_do_not(train, test_people):
    learner = PixelBoosting(pixels=20_000).fit(train)
    found = {"reach": error(learner, test_people), "copy": error(NoChange(), test_people),
             "mean": error(MeanSlice(train), test_people)}
    assert found["reach"] < 0.2 * found["copy"] and found["copy"] < found["mean"]
    again = PixelBoosting(pixels=20_000).fit(train)
    history = test_people.subjects[0].scans[:1]
    assert torch.equal(*(m.predict(history, [74.0], "CN")[0].data for m in (learner, again)))
    with pytest.raises(NbkitError, match="people scanned twice"):
        PixelBoosting().fit(Cohort("once", (person("z", "CN", 1),), "embedded"))


def test_the_mean_slice_is_that_of_all_training_scans(train, test_people):
    (image,) = MeanSlice(train).predict(test_people.subjects[0].scans[:1], [80.0], "CN")
    every = np.stack([s.image("T1w").numpy() for p in train for s in p.scans])
    np.testing.assert_allclose(image.data[0].numpy(), every.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_own_scale_takes_out_a_gain_and_nothing_else():
    people = Cohort("louder", (person("l", "CN", gain=1.3),), "embedded")
    first, last = people.subjects[0].scans[0], people.subjects[0].scans[-1]
    (image,) = OwnScale(NoChange(), people).predict((first,), [last.age], "CN")
    x, y = (scan.image("T1w").data[BRAIN].double().numpy() for scan in (first, last))
    slope, offset = np.linalg.lstsq(np.column_stack([x, np.ones_like(x)]), y, rcond=None)[0]
    np.testing.assert_allclose(image.data[BRAIN].numpy(), slope * x + offset, rtol=1e-5)
    assert not image.data[~BRAIN].any() and error(OwnScale(NoChange(), people), people) < error(NoChange(), people)


def test_without_noise_is_the_slice_of_the_visits_own_volume():
    centre = np.array([[6, 0, 0, -93], [0, 6, 0, -110], [0, 0, 6, -30], [0, 0, 0, 1.0]])
    rng = torch.Generator().manual_seed(2)
    clean = {("a", f"M{k}"): Volume(torch.rand(1, 32, 32, 12, generator=rng), centre) for k in range(2)}
    mask = {"brain": Volume(torch.ones(1, 32, 32, 12, dtype=torch.bool), centre)}
    scans = tuple(Scan("a", f"M{k}", 70.0 + 3 * k, {"T1w": clean["a", f"M{k}"]}, mask) for k in range(2))
    where = {"level_mm": 9.5, "size": 32, "spacing_mm": 6.0}
    slices = sliced(Cohort("c", (Subject("a", None, "CN", scans),), "embedded"), **where)
    (image,) = NoiseFree(slices, clean, **where).predict(slices.subjects[0].scans[:1], [73.0], "CN")
    assert torch.equal(image.data, slices.subjects[0].scans[1].image("T1w").data)


def test_roles_and_ends_of_a_table(train, test_people):
    systems = {"copy": NoChange(), "mean": MeanSlice(train), "P-C-T": NoChange()}
    systems["reach"] = PixelBoosting(pixels=5_000).fit(train)
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


def test_bounds_have_a_floor_where_the_truth_without_noise_is_known(train, test_people):
    free = {(s.subject, s.session): s.image("T1w") for p in test_people for s in p.scans}
    where = {"level_mm": 0.0, "size": SIZE, "spacing_mm": 4.0}
    for given, names in ((free, {"floor"}), ({}, set())):
        found = bounds(train, test_people, best=NoChange(), free=given, seed=3, **where)
        assert set(found) == {"mean", "person", "reach"} | names
