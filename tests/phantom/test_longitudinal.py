"""A person's visits: planned sizes, courses that turn at the onset, images whose noise belongs to one visit only."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.geometry.flow import Velocity, compose, expv
from nbkit.phantom import longitudinal, records
from nbkit.phantom.ageing import Participant, draw_lasting, draw_scores, norm_change, rates_at
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.longitudinal import (
    GRIDS, Plan, ageing_parameters, brain_of, draw_head, draw_state, follow, grid_for, images_of, labels_of,
    person_at_first_visit, usual_size,
)
from nbkit.phantom.norms import norm_ratio
from nbkit.phantom.parameters import load_parameters
from nbkit.phantom.regions import template_maps
from tests.phantom.boxes import four_mm

P = ageing_parameters()
PLAN = Plan(Participant("p1", "F", 70.0, "LMCI", converter=True), (70.0, 71.0, 73.0, 74.0), onset_age=71.8)
SEED = 11


@pytest.fixture(scope="module")
def template():
    return load_template(load_parameters())


@pytest.fixture(scope="module")
def person(template):
    """(regions, tissues) at the first visit, 4 mm."""
    maps = template_maps(template, P, spacing=4)
    return person_at_first_visit(PLAN, maps, grid=four_mm(P), template=template, parameters=P, seed=SEED)


@pytest.fixture(scope="module")
def course(person):
    return follow(PLAN, person[0], parameters=P, seed=SEED)


@pytest.fixture(scope="module")
def images(person, course):
    return images_of(
        course.trajectory.visits, person[1], brain_of(person[0]), parameters=P, seed=SEED, person="p1"
    )


# anatomy and state


def test_grids_are_boxes_of_eights_around_one_centre():
    for profile, (spacing, shape) in GRIDS.items():
        got, affine = grid_for(profile, P)
        assert got == shape and not any(n % 8 for n in shape)
        np.testing.assert_allclose(affine @ [*((np.array(shape) - 1) / 2), 1], [*P["grid.centre"], 1])
        assert np.array_equal(affine[:3, :3], spacing * np.eye(3))


def test_heads_have_the_drawn_size_whatever_their_shape(template):
    """The median litres of the sex where the spread is none; shapes alone would vary it by some 4 %."""
    still = type(P)({**P.entries, "head.spread": {"value": 0.0}})
    maps = template_maps(template, P, spacing=4)
    for sex, seed in (("F", 0), ("M", 1)):
        head = draw_head(np.random.default_rng(seed), sex, template=template, parameters=still)
        shape, affine = four_mm(P)
        placed, tissues = longitudinal.place(*maps, head, shape=shape, affine=affine)
        litres = float(tissues.data.sum()) * tissues.voxel_volume / 1e6
        assert litres == pytest.approx(P[f"head.{sex}"], rel=0.02)


def test_the_head_lies_inside_the_box(person):
    rim = brain_of(person[0]).data[0].clone()
    rim[1:-1, 1:-1, 1:-1] = False
    assert not rim.any()


def test_controls_meet_the_norm_half_way():
    """A control of 70 with the mean rates, followed for ten years, has the norm's size at 75."""
    usual = usual_size((70.0, 80.0), P)
    for name, row in (("hippocampus", "hippocampus"), ("frontal", "cortex"), ("hindbrain", "hindbrain")):
        half_way = usual[name] * (1 + 5 * P[f"rate.CN.{row}"][0] / 100)
        assert half_way == pytest.approx(norm_ratio(name, 75.0) or 1 + norm_change(75.0, P)[name], rel=0.006)
    assert norm_ratio("frontal", 75.0) == pytest.approx(87.7 / 102.4)
    assert norm_ratio("hippocampus", 75.0) == pytest.approx((3831 + 3576) / (4130 + 3868))
    assert norm_ratio("hindbrain", 75.0) is None


def test_patients_start_beyond_the_norm():
    rng = np.random.default_rng(0)
    states = {d: [draw_state(Plan(Participant("x", "F", 75.0, d), (75.0, 79.0)), P, rng) for _ in range(300)]
              for d in ("CN", "LMCI", "AD")}
    usual = usual_size((75.0, 79.0), P)
    assert all(1 + state["hippocampus"] == pytest.approx(usual["hippocampus"]) for state in states["CN"])
    ventricles = np.log([1 + s["lateral_ventricle"] for s in states["CN"]])
    sd = P["spread.lateral_ventricle"]
    assert ventricles.mean() == pytest.approx(np.log(usual["lateral_ventricle"]), abs=4 * sd / np.sqrt(300))
    assert ventricles.std() == pytest.approx(sd, rel=0.15)
    excess = P["rate.AD.hippocampus"][0] - P["rate.CN.hippocampus"][0]
    lost = [(1 + s["hippocampus"]) / usual["hippocampus"] - 1 for s in states["AD"]]
    low, high = P["history.AD"]
    assert min(lost) >= excess * high / 100 and max(lost) <= excess * low / 100
    assert np.mean([s["hippocampus"] for s in states["AD"]]) < np.mean([s["hippocampus"] for s in states["LMCI"]])


def at_baseline_and_after(diagnosis: str, count: int) -> np.ndarray:
    """(count, 3): size of the hippocampus at baseline from years at the mean and at the own rates, and rate after."""
    rng, rows = np.random.default_rng(2), []
    plan = Plan(Participant("x", "F", 75.0, diagnosis), (75.0, 79.0))
    for _ in range(count):
        lasting, mean = draw_lasting(P, rng), draw_state(plan, P, rng)
        own, rates = draw_state(plan, P, rng, lasting=lasting), draw_scores(P, rng, lasting=lasting)
        rows.append([mean["hippocampus"], own["hippocampus"], rates_at(plan.person, rates, P).yearly["hippocampus"]])
    return np.array(rows)


@pytest.mark.parametrize(("diagnosis", "told"), [("CN", False), ("LMCI", True), ("AD", True)])
def test_a_small_hippocampus_tells_of_faster_loss_in_patients_only(diagnosis, told):
    """The own pace keeps the mean of the sizes at baseline; only who has a history shows it."""
    mean, own, after = at_baseline_and_after(diagnosis, 1500).T
    assert own.mean() == pytest.approx(mean.mean(), abs=4 * own.std() / np.sqrt(1500) + 1e-6)
    if told:
        assert np.corrcoef(own, after)[0, 1] > 0.4 > abs(np.corrcoef(mean, after)[0, 1]) + 0.2
    else:
        assert np.ptp(own) < 1e-9


def test_who_comes_too_fast_for_the_grid_comes_at_half_the_pace(template, monkeypatch):
    real, asked = longitudinal.velocity_for, []

    def reluctant(regions, change, *, tolerance):
        asked.append(change["hippocampus"])
        if len(asked) <= 4:
            raise NbkitError("flow", expected="less", found="more", remedy="Slower.")
        return real(regions, change, tolerance=tolerance)

    def steady(plan, parameters, rng, *, lasting):
        return dict.fromkeys(P.section("structure"), 0.0) | {"hippocampus": -0.05 * float(lasting[1])}

    monkeypatch.setattr(longitudinal, "velocity_for", reluctant)
    monkeypatch.setattr(longitudinal, "draw_state", steady)
    maps = template_maps(template, P, spacing=4)
    person_at_first_visit(PLAN, maps, grid=four_mm(P), template=template, parameters=P, seed=SEED)
    assert len(asked) == 5 and len(set(asked[:4])) == 1 and asked[4] == pytest.approx(asked[0] / 2)


# the course


def test_a_converter_turns_at_the_onset_and_never_slows_down(course):
    assert [PLAN.diagnosis_at(a) for a in PLAN.ages] == ["LMCI", "LMCI", "AD", "AD"]
    assert course.trajectory.turn.age == 71.8
    pace = 1 + course.rates.acceleration * 1.8
    for name, later in course.rates_after_onset.yearly.items():
        assert abs(later) >= abs(course.rates.yearly[name] * pace) * (1 - 1e-9)
        assert np.sign(later) == np.sign(course.rates.yearly[name])
    volumes = [v.regions.volumes for v in course.trajectory.visits]
    for side in ("left", "right"):
        hippocampus = [v[f"hippocampus_{side}"] for v in volumes]
        assert hippocampus == sorted(hippocampus, reverse=True)
        per_year = -np.diff(np.log(hippocampus)) / np.diff(PLAN.ages)
        assert per_year[2] > per_year[0]


def test_rates_that_no_flow_brings_about_are_drawn_again(person, monkeypatch):
    real, asked = longitudinal.simulate_trajectory, []

    def reluctant(regions, rates, ages, *, onset):
        asked.append(rates)
        if len(asked) < 3:
            raise NbkitError("flow", expected="no folds", found="folds", remedy="Slower.")
        return real(regions, rates, ages, onset=onset)

    monkeypatch.setattr(longitudinal, "simulate_trajectory", reluctant)
    plan = Plan(Participant("p2", "M", 70.0, "CN"), (70.0, 72.0))
    course = follow(plan, person[0], parameters=P, seed=SEED)
    assert course.draws == 3 and course.rates == asked[2] and len({str(r) for r in asked}) == 3
    monkeypatch.setattr(longitudinal, "_DRAWS", 2)
    asked.clear()
    with pytest.raises(NbkitError, match="expected no folds"):
        follow(plan, person[0], parameters=P, seed=SEED)


# labels and images


def test_labels_name_the_largest_region_inside_the_skull(person):
    regions, brain = person[0], brain_of(person[0]).data[0]
    labels = labels_of(regions).data[0]
    assert labels.dtype == torch.uint8
    assert torch.equal(labels > 0, brain)
    assert torch.equal(labels[brain].long() - 1, regions.maps.data[:, brain].argmax(dim=0))


def test_images_are_skull_stripped_with_white_matter_at_one(person, images):
    brain, (gm, wm, csf) = brain_of(person[0]).data, person[1].data
    for image in images:
        assert image.data.dtype == torch.float32 and bool((image.data[~brain] == 0).all())
        assert bool((image.data[brain] >= 0).all())
    first = images[0].data[0]
    levels = [float(first[tissue > 0.95].median()) for tissue in (wm, gm, csf)]
    assert levels[0] == pytest.approx(1, abs=0.08)  # inhomogeneity left after correction, gain
    assert levels[0] > levels[1] > levels[2] > 0


def noise_of(images: list[Volume], quiet: list[Volume], brain: Volume) -> list[np.ndarray]:
    pairs = zip(images, quiet, strict=True)
    return [(a.data - b.data)[brain.data].numpy() for a, b in pairs]


def test_noise_is_never_warped_and_no_two_visits_share_it(person, course, images):
    """What noise adds to one visit says nothing of the next, not even at the place where tissue has gone."""
    quiet_parameters = type(P)({**P.entries, "scan.noise": {"value": 0.0}})
    brain, visits = brain_of(person[0]), course.trajectory.visits
    quiet = images_of(visits, person[1], brain, parameters=quiet_parameters, seed=SEED, person="p1")
    wm = brain.with_data((person[1].data[1:2] > 0.8) & brain.data)
    first, second = noise_of(images, quiet, wm)[:2]
    expected = P["scan.noise"] * (P["scan.voxel"] / 4) ** 1.5
    assert np.std(first) == pytest.approx(expected, rel=0.05) and np.std(second) == pytest.approx(expected, rel=0.05)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(first.size)
    field = images[0].with_data(images[0].data - quiet[0].data)
    carried = visits[1].carry(field).data[wm.data].numpy()
    assert abs(np.corrcoef(carried, second)[0, 1]) < 4 / np.sqrt(first.size)
    neighbours = (field.data[:, 1:] * field.data[:, :-1])[wm.data[:, 1:] & wm.data[:, :-1]]
    assert abs(float(neighbours.mean())) < 4 * expected**2 / np.sqrt(neighbours.numel())


def test_images_depend_on_the_person_and_the_visit_only(person, course, images):
    again = images_of(
        course.trajectory.visits[:2], person[1], brain_of(person[0]), parameters=P, seed=SEED, person="p1"
    )
    other = images_of(
        course.trajectory.visits[:1], person[1], brain_of(person[0]), parameters=P, seed=SEED, person="p9"
    )
    assert all(torch.equal(a.data, b.data) for a, b in zip(again, images, strict=False))
    assert not torch.equal(other[0].data, images[0].data)


# on disk


@pytest.fixture(scope="module")
def stored(person, course, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("person")
    records.write_person(folder, course, images=images, brain=brain_of(person[0]))
    return records.read_people([PLAN], [folder], person[0].names, lambda _: {})[0]


def test_what_is_read_is_what_was_simulated(stored, person, course, images):
    subject, truth = stored
    assert subject.diagnosis == "LMCI" and [s.session for s in subject.scans] == ["M000", "M012", "M036", "M048"]
    assert [s.diagnosis for s in subject.scans] == ["LMCI", "LMCI", "AD", "AD"]
    for k, (scan, visit) in enumerate(zip(subject.scans, course.trajectory.visits, strict=True)):
        torch.testing.assert_close(scan.image("T1w").data, images[k].data, atol=5e-4, rtol=5e-4)
        assert torch.equal(scan.labels.data[0], labels_of(visit.regions).data[0])
        assert torch.equal(scan.mask("brain").data, brain_of(person[0]).data)
        torch.testing.assert_close(truth.log_jacobian(k).data, visit.log_jacobian.data, atol=5e-4, rtol=5e-4)
        assert truth.volumes[k] == pytest.approx(visit.regions.volumes)
    assert truth.ages == PLAN.ages and truth.rates == course.rates.yearly and truth.load == course.load
    assert not set(subject.covariates)  # the load is hidden
    assert json.loads(json.dumps(truth.as_dict()))["onset"]["rates"] == course.rates_after_onset.yearly


def test_the_stored_truth_is_enough_to_age_the_baseline_again(stored, person):
    """From velocity, times and onset alone: the carried maps have the stored volumes."""
    regions, truth = person[0], stored[1]
    affine = regions.maps.affine
    to_onset = expv(Velocity(truth.onset["time"] * truth.velocity.data[None]), affine=affine)
    rest = truth.times[3] - truth.onset["time"]
    after = expv(Velocity(rest * truth.velocity_after_onset.data[None]), affine=affine)
    moved = regions.moved(compose(to_onset, after, affine=affine)).volumes
    for name, volume in truth.volumes[3].items():
        if not name.startswith("csf"):
            assert moved[name] == pytest.approx(volume, rel=0.01), name


def test_who_does_not_convert_has_one_velocity(person, tmp_path):
    plan = Plan(Participant("p3", "M", 66.0, "CN"), (66.0, 68.0))
    course = follow(plan, person[0], parameters=P, seed=SEED)
    blank = [Volume(torch.zeros(1, *person[0].maps.shape), person[0].maps.affine) for _ in range(2)]
    records.write_person(tmp_path, course, images=blank, brain=brain_of(person[0]))
    ((_, truth),) = records.read_people([plan], [tmp_path], (), lambda _: {})
    assert truth.onset is None and truth.acceleration == 0
    with pytest.raises(KeyError):
        _ = truth.velocity_after_onset
    with pytest.raises(IndexError):
        truth.log_jacobian(2)


def test_an_unknown_profile_is_refused():
    with pytest.raises(NbkitError, match="Did you mean 'laptop'"):
        grid_for("labtop", P)
