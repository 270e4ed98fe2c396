"""Courses of lesions: shares, patches, what comes first, and the null experiment."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nbkit.core.volume import Volume
from nbkit.phantom.lesion_myelin import PATHS, Rates, draw_course, unchanged
from nbkit.phantom.myelin_people import myelin_parameters
from nbkit.phantom.parameters import Parameters

P = myelin_parameters()
RATES = Rates(0.5, 0.4, 0.3)


def balls(count: int = 12, radius: float = 6.0) -> Volume:
    labels = np.zeros((20 * count, 24, 24), dtype=np.int16)
    grid = np.stack(np.meshgrid(*map(np.arange, labels.shape), indexing="ij"), axis=-1)
    for i in range(count):
        labels[np.linalg.norm(grid - [20 * i + 10, 12, 12], axis=-1) <= radius] = i + 1
    return Volume(torch.from_numpy(labels), np.eye(4))


def states(course) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lesion, demyelinated at t0 and at t1, (X, Y, Z), from the maps alone."""
    share, lost0, *_ = course.maps.data.numpy()
    lost1 = course.maps.data[4].numpy()
    edge = 1 - P["state.demyelinated"] - 2 * P["state.demyelinated_sd"]
    return share > 0, lost0 > edge, lost1 > edge


@given(seed=st.integers(0, 2**31), start=st.floats(0.2, 0.8), back=st.floats(0.05, 0.9), lost=st.floats(0.05, 0.9))
@settings(max_examples=12, deadline=None)
def test_the_facts_are_those_of_the_maps(seed, start, back, lost):
    course = draw_course(np.random.default_rng(seed), balls(4), Rates(start, back, lost), parameters=P)
    lesion, before, after = states(course)
    f, n = course.facts, lesion.sum()
    assert list(f["paths"]) == list(PATHS) and sum(f["paths"].values()) == pytest.approx(1)
    assert f["demyelinated"] == pytest.approx({"t0": before.sum() / n, "t1": after.sum() / n})
    assert f["remyelination"] == pytest.approx((before & ~after).sum() / before.sum())
    assert f["demyelination"] == pytest.approx((after & ~before).sum() / (lesion & ~before).sum())
    assert f["global_change"] == pytest.approx(f["demyelinated"]["t1"] - f["demyelinated"]["t0"])
    assert len(f["lesions"]) == 4 and np.allclose(np.sum(f["lesions"], axis=1), 1, atol=1e-3)


def test_shares_are_the_rates_on_average_and_differ_between_lesions():
    course = draw_course(np.random.default_rng(0), balls(40, 4.0), RATES, parameters=P)
    rows = np.array(course.facts["lesions"])
    ill = rows[:, 2] + rows[:, 3]
    error = ill.std(ddof=1) / np.sqrt(len(ill))
    assert abs(ill.mean() - RATES.demyelinated) < 4 * error
    assert ill.std() == pytest.approx(np.sqrt(0.25 / (P["course.agreement"] + 1)), rel=0.35)


def test_centres_are_demyelinated_first_and_rims_remyelinate_first():
    labels = balls()
    course = draw_course(np.random.default_rng(1), labels, RATES, parameters=P)
    lesion, before, after = states(course)
    depth = ndimage.distance_transform_edt(lesion)
    assert depth[before].mean() > depth[lesion & ~before].mean() + 0.5
    assert depth[before & ~after].mean() < depth[before & after].mean() - 0.5


def test_latents_stay_in_their_ranges_and_are_zero_outside_lesions():
    course = draw_course(np.random.default_rng(2), balls(), RATES, parameters=P)
    share, *latents = course.maps.data
    assert set(share.unique().tolist()) == {0.0, 1.0}
    assert not course.maps.data[:7, share == 0].any()
    for lost, water, axons in (latents[:3], latents[3:6]):
        assert 0 < float(lost[share > 0].min()) and float(lost.max()) < 1
        assert float(water.min()) >= 0 and 0 <= float(axons.min()) and float(axons.max()) < 1
    gone, back = latents[3] > latents[0] + 1e-6, latents[3] < latents[0] - 1e-6
    assert gone.any() and back.any()
    assert (latents[5][gone] > latents[2][gone]).all() and torch.equal(latents[5][back], latents[2][back])
    assert (latents[4][gone] > latents[1][gone]).all() and (latents[4][back] <= latents[1][back]).all()


def oedema(seed: int, months: float | None, count: int = 60, radius: float = 3.0):
    """Course, and by lesion its free water at t0 and t1."""
    labels = balls(count, radius)
    course = draw_course(np.random.default_rng(seed), labels, RATES, parameters=P, months=months)
    centres = [course.maps.data[7:, 20 * i + 10 - first(course), :, :].amax(dim=(1, 2)) for i in range(count)]
    return course, torch.stack(centres, dim=1).numpy()


def first(course) -> int:
    """Where the box of a course begins along X."""
    return int(course.maps.affine[0, 3])


def test_acute_lesions_are_as_many_as_form_within_their_weeks_at_both_visits():
    share = P["oedema.incidence"] * P["oedema.weeks"] / 52
    found = [oedema(seed, 2.0)[0].facts["acute"] for seed in range(12)]
    for visit in ("t0", "t1"):
        mean = np.mean([f[visit] for f in found]) / 60
        assert mean == pytest.approx(share, abs=4 * np.sqrt(share / 720)), visit


def test_oedema_goes_and_none_of_it_is_old():
    weeks = P["oedema.weeks"]
    for months in (0.0, 1.0, 12.0):
        _, (before, after) = oedema(3, months)
        assert before.any() and max(before.max(), after.max()) <= P["oedema.water"][1]
        was = before > 0
        assert (after[was] <= before[was] + 1e-6).all()
        if months == 0:
            assert np.allclose(after, before)
        if months * 52 / 12 > weeks:
            assert not after[was].any() and after.any()
    assert not oedema(3, None)[1][1].any()


def test_oedema_has_a_soft_edge_in_the_white_matter_round_the_lesion_and_is_level_inside():
    course, (before, _) = oedema(3, 2.0)
    i = int(before.argmax())
    row = course.maps.data[7, 20 * i + 10 - first(course), course.maps.shape[1] // 2].numpy()
    middle = len(row) // 2
    inside = row[middle - 2:middle + 3]
    assert np.allclose(inside, before[i])
    fall = row[middle + 4:middle + 8] / before[i]
    np.testing.assert_allclose(fall, np.exp(-(np.arange(1, 5) / P["oedema.edge"]) ** 2 / 2), rtol=1e-4)


def test_oedema_changes_no_other_draw():
    other = Parameters({**P.entries, "oedema.incidence": {**P.entries["oedema.incidence"], "value": 3.0}})
    one, two = (draw_course(np.random.default_rng(4), balls(6), RATES, parameters=p, months=2.0) for p in (P, other))
    assert torch.equal(one.maps.data[:7], two.maps.data[:7])
    assert two.facts["acute"]["t0"] > one.facts["acute"]["t0"]


def test_remyelinated_tissue_has_a_normal_level_by_the_cut():
    course = draw_course(np.random.default_rng(3), balls(), RATES, parameters=P)
    lesion, before, after = states(course)
    myelin = 1 - course.maps.data[4].numpy()
    assert myelin[before & ~after].min() >= P["state.repaired"][0] - 1e-6 > P["state.cut"]
    assert myelin[after].max() < P["state.cut"]
    assert myelin[lesion & ~before & ~after].min() >= P["state.intact"][0] - 1e-6


def test_the_same_draw_again_and_another_one():
    first, again, other = (draw_course(np.random.default_rng(s), balls(4), RATES, parameters=P) for s in (5, 5, 6))
    assert torch.equal(first.maps.data, again.maps.data) and first.facts == again.facts
    assert not torch.equal(first.maps.data, other.maps.data)


def test_nothing_happens_in_the_null_experiment_and_nothing_is_drawn_without_lesions():
    course = draw_course(np.random.default_rng(7), balls(4), RATES, parameters=P)
    still = unchanged(course.maps)
    assert torch.equal(still.data[4:7], course.maps.data[1:4]) and torch.equal(still.data[:4], course.maps.data[:4])
    assert torch.equal(still.data[7], course.maps.data[7]) and torch.equal(still.data[8], course.maps.data[7])
    empty = Volume(torch.zeros(1, 4, 4, 4, dtype=torch.int16))
    assert draw_course(np.random.default_rng(0), empty, RATES, parameters=P) is None
