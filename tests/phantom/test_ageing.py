"""Ageing: rates as in the table, volumes that change as asked, a skull that holds, and truth that adds up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nbkit.core.checks import NbkitError
from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume
from nbkit.geometry.flow import Velocity, compose, expv, jacobian_determinant
from nbkit.phantom.ageing import (
    Participant, Rates, age_factor, draw_lasting, draw_load, draw_scores, elapsed, norm_change, rates_at,
    simulate_trajectory,
)
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.growth import TOLERANCE, realised_change, velocity_for
from nbkit.phantom.norms import band_at
from nbkit.phantom.parameters import Parameters, load_parameters
from nbkit.phantom.regions import AGEING_PARAMETERS, Regions, carried, fill_skull, template_maps

AGEING = load_parameters(AGEING_PARAMETERS)
DIAGNOSES = ("CN", "SMC", "EMCI", "LMCI", "AD")


@pytest.fixture(scope="module")
def brain() -> Regions:
    return fill_skull(*template_maps(load_template(load_parameters()), AGEING, spacing=4))[0]


@pytest.fixture(scope="module")
def futures(brain):
    """Six years of a control and of a patient with the mean rates."""
    return {d: simulate_trajectory(brain, Rates(mean_rates(d), 0.0), [65, 66, 71]) for d in ("CN", "AD")}


def mean_rates(diagnosis: str) -> dict[str, float]:
    rows = AGEING.section(f"rate.{diagnosis}")
    return {name: rows[row][0] / 100 for name, row in AGEING.section("structure").items()}


def person(diagnosis: str, age: float = 70.0, **more) -> Participant:
    return Participant("p01", "F", age, diagnosis, **more)


def draw_rates(who: Participant, rng: np.random.Generator) -> Rates:
    return rates_at(who, draw_scores(AGEING, rng), AGEING)


# rates


@pytest.mark.parametrize("diagnosis", DIAGNOSES)
def test_rates_have_the_mean_and_spread_of_the_table(diagnosis):
    age = AGEING[f"modulation.{diagnosis}"][1]
    rng = np.random.default_rng(0)
    drawn = [draw_rates(person(diagnosis, age), rng).yearly for _ in range(2000)]
    for structure, row in (("hippocampus", "hippocampus"), ("temporal", "temporal"), ("frontal", "cortex")):
        mean, sd = AGEING[f"rate.{diagnosis}.{row}"]
        values = 100 * np.array([d[structure] for d in drawn])
        assert (np.sign(values) == np.sign(mean)).all()
        assert values.mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(2000))
        assert values.std() == pytest.approx(sd, rel=0.15)


def test_rates_of_one_person_are_correlated():
    rng = np.random.default_rng(1)
    drawn = [draw_rates(person("AD"), rng).yearly for _ in range(2000)]
    logs = np.log(np.abs([[d["hippocampus"], d["lateral_ventricle"], d["white_matter"]] for d in drawn]))
    np.testing.assert_allclose(np.corrcoef(logs.T)[np.triu_indices(3, 1)], AGEING["between.correlation"], atol=0.05)


@pytest.mark.parametrize("structure", ["hippocampus", "temporal", "frontal", "white_matter", "lateral_ventricle"])
def test_every_stage_changes_no_slower_than_the_one_before(structure):
    sizes = [abs(mean_rates(d)[structure]) for d in DIAGNOSES]
    assert sizes == sorted(sizes) and sizes[-1] > 2 * sizes[0]
    assert {np.sign(mean_rates(d)[structure]) for d in DIAGNOSES} == {1 if structure == "lateral_ventricle" else -1}


def test_draws_depend_on_the_person_not_on_the_order():
    ids = ["a", "b", "c"]
    first, second = (
        {i: draw_rates(person("LMCI"), numpy_generator(7, i, "rates")) for i in order}
        for order in (ids, ids[::-1])
    )
    assert first == second
    assert first["a"] != first["b"]


def test_both_sides_and_shared_rows_draw_once():
    yearly = draw_rates(person("CN"), np.random.default_rng(2)).yearly
    assert yearly["hippocampus"] == yearly["amygdala"] != yearly["temporal"]
    assert set(yearly) == set(AGEING.groups("structure"))


@pytest.mark.parametrize(
    ("diagnosis", "age", "factor"), [("CN", 70, 1), ("CN", 80, 1.25), ("AD", 66, 1.2), ("AD", 20, 2), ("CN", 40, 0.4)]
)
def test_age_changes_the_pace(diagnosis, age, factor):
    assert age_factor(age, diagnosis, parameters=AGEING) == pytest.approx(factor)
    reference = AGEING[f"modulation.{diagnosis}"][1]
    now, usual = (draw_rates(person(diagnosis, a), np.random.default_rng(3)).yearly for a in (age, reference))
    assert now["temporal"] == pytest.approx(factor * usual["temporal"])


def test_converters_speed_up():
    rng = np.random.default_rng
    stable, converter = (draw_rates(person("LMCI", converter=c), rng(4)) for c in (False, True))
    assert stable.yearly == converter.yearly
    assert converter.acceleration > stable.acceleration > draw_rates(person("CN"), rng(4)).acceleration == 0


def correlation(a, b) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_the_pace_that_lasts_leaves_the_rates_as_they_are():
    """Scores stay standard and correlated as the table says, whatever share of them is known beforehand."""
    rng = np.random.default_rng(5)
    lasting = [draw_lasting(AGEING, rng) for _ in range(4000)]
    scores = np.array([draw_scores(AGEING, rng, lasting=known) for known in lasting])
    assert np.abs(scores.mean(axis=0)).max() < 4 / np.sqrt(4000)
    np.testing.assert_allclose(scores.std(axis=0), 1, atol=0.05)
    off = np.corrcoef(scores.T)[np.triu_indices(scores.shape[1], 1)]
    np.testing.assert_allclose(off, AGEING["between.correlation"], atol=0.05)
    kept = [correlation(a, b) for a, b in zip(np.array(lasting).T, scores.T, strict=True)]
    np.testing.assert_allclose(kept, AGEING["lasting.share"] ** 0.5, atol=0.05)


@pytest.mark.parametrize("diagnosis", ["CN", "LMCI", "AD"])
def test_load_goes_with_faster_loss_but_where_it_is_saturated(diagnosis):
    rng, rows = np.random.default_rng(6), list(AGEING.section(f"rate.{diagnosis}"))
    scores = np.array([draw_scores(AGEING, rng) for _ in range(4000)])
    load = np.array([draw_load(diagnosis, own, AGEING, rng) for own in scores])
    assert load.mean() == pytest.approx(0, abs=4 / np.sqrt(4000)) and load.std() == pytest.approx(1, abs=0.05)
    saturated = diagnosis in AGEING["load.saturated"]
    for row, own in zip(rows, scores.T, strict=True):
        told = AGEING[f"load.{'hippocampus' if row == 'hippocampus' else 'elsewhere'}"]
        assert correlation(load, own) == pytest.approx(0.0 if saturated else told, abs=4 / np.sqrt(4000))


def test_an_unknown_diagnosis_is_refused():
    with pytest.raises(NbkitError, match=r"diagnosis of p01: .* Did you mean 'LMCI'"):
        draw_rates(person("MCI"), np.random.default_rng(0))
    with pytest.raises(NbkitError, match="diagnosis of the converter p01: expected one of EMCI, LMCI, found 'CN'"):
        draw_rates(person("CN", converter=True), np.random.default_rng(0))


# the brain


@pytest.mark.parametrize("diagnosis", ["CN", "AD"])
def test_every_region_changes_as_asked(brain, futures, diagnosis):
    asked = mean_rates(diagnosis)
    change = realised_change(brain, futures[diagnosis].velocity)
    for name, structure in zip(brain.names, brain.structures, strict=True):
        if structure != "csf":
            assert change[name] == pytest.approx(asked[structure], rel=TOLERANCE), name
    after = futures[diagnosis].visits[1].regions.volumes
    assert {n: after[n] / v - 1 for n, v in brain.volumes.items()} == change


@settings(max_examples=3)
@given(st.integers(0, 2**31), st.sampled_from(DIAGNOSES), st.floats(55, 90))
def test_drawn_rates_are_met_too(brain, seed, diagnosis, age):
    yearly = draw_rates(person(diagnosis, age), np.random.default_rng(seed)).yearly
    change = realised_change(brain, velocity_for(brain, yearly))
    for name, structure in zip(brain.names, brain.structures, strict=True):
        if structure != "csf":
            assert change[name] == pytest.approx(yearly[structure], rel=TOLERANCE, abs=1e-4), name


@pytest.mark.parametrize("diagnosis", ["CN", "AD"])
def test_the_whole_keeps_its_volume_and_nothing_folds(brain, futures, diagnosis):
    """The skull is as full after six years as before."""
    whole, full = sum(brain.volumes.values()), brain.maps.data.sum(dim=0)
    for visit in futures[diagnosis].visits:
        assert sum(visit.regions.volumes.values()) == pytest.approx(whole, rel=1e-6)
        torch.testing.assert_close(visit.regions.maps.data.sum(dim=0), full, atol=1e-5, rtol=0)
        assert float(jacobian_determinant(visit.displacement, affine=brain.maps.affine).min()) > 0
        assert bool(torch.isfinite(visit.log_jacobian.data).all())


def test_patients_change_faster_than_controls(brain, futures):
    before = brain.volumes
    slow, fast = (futures[d].visits[-1].regions.volumes for d in ("CN", "AD"))
    for name, structure in zip(brain.names, brain.structures, strict=True):
        if structure not in ("csf", "hindbrain"):
            assert abs(fast[name] - before[name]) > 1.5 * abs(slow[name] - before[name]), name
    assert fast["lateral_ventricle_left"] > before["lateral_ventricle_left"]
    assert sum(fast[f"csf_{s}"] - before[f"csf_{s}"] for s in ("left", "right")) > 0


def test_the_log_jacobian_is_the_truth_about_volumes(brain, futures):
    """∫ map · det Dφ over the baseline anatomy is the volume of the warped map, as well as 4 mm voxels can say."""
    visit = futures["AD"].visits[1]
    growth = visit.log_jacobian.data.double().exp()
    predicted = (brain.maps.data.double() * growth).sum(dim=(1, 2, 3)) * brain.maps.voxel_volume
    before, after = (torch.tensor(list(v.values())) for v in (brain.volumes, visit.regions.volumes))
    fluid = torch.tensor([s == "csf" for s in brain.structures])
    ventricle = torch.tensor([s == "lateral_ventricle" for s in brain.structures])
    for part in (ventricle, ~ventricle & ~fluid):
        expected, found = (float(v[part].sum() / before[part].sum()) - 1 for v in (predicted, after))
        assert found == pytest.approx(expected, rel=0.12)


def test_no_change_asked_no_change_made(brain):
    velocity = velocity_for(brain, dict.fromkeys(mean_rates("CN"), 0.0))
    assert (velocity == 0).all()


def test_time_is_one_flow(brain, futures):
    """Visits compose: a year and five years are six; acceleration only moves visits along the same flow."""
    velocity, affine = futures["AD"].velocity, brain.maps.affine
    one, five, six = (expv(Velocity(t * velocity), affine=affine) for t in (1.0, 5.0, 6.0))
    assert torch.equal(futures["AD"].visits[-1].displacement, six)
    off = (compose(five, one, affine=affine) - six).norm(dim=1)
    assert float(off.max()) < 0.4 and float(off.mean()) < 0.004  # a tenth and a thousandth of a voxel
    quick = simulate_trajectory(brain, Rates(mean_rates("AD"), 0.25), [60, 64])
    assert elapsed(4, 0.25) == 6 and quick.visits[1].time == 6
    assert quick.visits[1].regions.volumes == futures["AD"].visits[-1].regions.volumes


def test_an_onset_turns_the_flow_where_it_stands(brain):
    """The first flow to the onset, then the flow made on the anatomy of then: volumes change as asked there too."""
    slow, fast = Rates(mean_rates("LMCI"), 0.1), Rates(mean_rates("AD"), 0.06)
    turned = simulate_trajectory(brain, slow, [70, 71, 72, 73], onset=(71.5, fast))
    plain = simulate_trajectory(brain, slow, [70, 71, 71.5])
    turn, affine = turned.turn, brain.maps.affine
    assert (turn.age, turn.time) == (71.5, plain.visits[2].time) and plain.turn is None
    assert turned.visits[1].regions.volumes == plain.visits[1].regions.volumes
    later = turned.visits[3]
    assert later.time == pytest.approx(turn.time + elapsed(1.5, 0.06))
    parts = expv(Velocity(turn.time * turned.velocity), affine=affine), expv(
        Velocity((later.time - turn.time) * turn.velocity), affine=affine)
    assert torch.equal(later.displacement, compose(*parts, affine=affine))
    yearly = realised_change(plain.visits[2].regions, turn.velocity)
    for name, structure in zip(brain.names, brain.structures, strict=True):
        if structure != "csf":
            assert yearly[name] == pytest.approx(fast.yearly[structure], rel=TOLERANCE), name
    undone = compose(later.displacement, _undone(turned, later), affine=affine)
    deep = torch.from_numpy(ndimage.binary_erosion(brain.maps.data.sum(dim=0).numpy() > 0.5, iterations=2))
    assert float(undone.norm(dim=1)[0, deep].quantile(0.999)) < 0.2  # a twentieth of a voxel
    growth = jacobian_determinant(_undone(turned, later), affine=affine)
    torch.testing.assert_close(later.log_jacobian.data, growth.log())


def _undone(trajectory, visit) -> torch.Tensor:
    """The way back, from the two velocities alone."""
    turn = trajectory.turn
    steps = ((visit.time - turn.time) * turn.velocity, turn.time * trajectory.velocity)
    back = [expv(Velocity(-step), affine=visit.log_jacobian.affine) for step in steps]
    return compose(*back, affine=visit.log_jacobian.affine)


def test_an_onset_at_baseline_is_refused(brain):
    rates = Rates(mean_rates("LMCI"))
    with pytest.raises(NbkitError, match="onset: expected an age above 70, found 70"):
        simulate_trajectory(brain, rates, [70, 71], onset=(70, rates))


def test_the_first_visit_is_the_baseline(brain, futures):
    first = futures["CN"].visits[0]
    assert first.age == 65 and first.time == 0
    assert (first.displacement == 0).all()
    torch.testing.assert_close(first.regions.maps.data, brain.maps.data, atol=1e-4, rtol=0)


def test_whatever_lies_on_the_grid_is_carried_along(brain, futures):
    visit = futures["AD"].visits[1]
    index = brain.names.index("temporal_left")
    carried = visit.carry(brain.maps.with_data(brain.maps.data[index]))
    assert torch.equal(carried.data[0], brain.moved(visit.displacement).maps.data[index])
    labels = brain.maps.with_data(brain.maps.data.argmax(dim=0).float())
    assert set(visit.carry(labels, mode="nearest").data.unique().tolist()) <= set(labels.data.unique().tolist())
    with pytest.raises(NbkitError, match="Visit.carry: baseline regions and image"):
        visit.carry(Volume(torch.zeros(1, 4, 4, 4)))


BANDS = ("hippocampus_right", "hippocampus_left", "amygdala_right", "thalamus_right", "temporal_right", "frontal_right",
         "lateral_ventricle")
INTRACRANIAL = 1421.0  # mL, median of the youngest


def with_both_ventricles(volumes: dict[str, float]) -> dict[str, float]:
    both = volumes["lateral_ventricle_left"] + volumes["lateral_ventricle_right"]
    return {**volumes, "lateral_ventricle": both}


def normal(brain, tissues, age):
    """Regions and tissues of the young templates as they normally are at an age."""
    return carried(brain, tissues, expv(velocity_for(brain, norm_change(age, AGEING)), affine=brain.maps.affine))


@pytest.fixture(scope="module")
def controls(brain):
    """Volumes (mL) at 55 to 85 years of the normal anatomy, and of a control followed for six years from there."""
    scale = INTRACRANIAL / sum(brain.volumes.values())
    tissues = brain.maps.with_data(brain.maps.data.sum(dim=0))
    norms = [normal(brain, tissues, age)[0] for age in (55, 65, 75, 85)]
    later = [simulate_trajectory(norm, Rates(mean_rates("CN")), [0, 6]).visits[1].regions for norm in norms]
    return [
        [{n: v * scale for n, v in with_both_ventricles(regions.volumes).items()} for regions in group]
        for group in (norms, later)
    ]


def test_a_baseline_keeps_tissues_and_regions_together(brain):
    tissues = brain.maps.with_data(torch.stack([brain.maps.data[::2].sum(dim=0), brain.maps.data[1::2].sum(dim=0)]))
    regions, moved = normal(brain, tissues, 60)
    total = moved.data.sum(dim=0)
    torch.testing.assert_close(regions.maps.data[::2].sum(dim=0), moved.data[0], atol=1e-5, rtol=0)
    assert float(torch.minimum(total.abs(), (total - 1).abs()).max()) < 1e-5
    change = regions.volumes["lateral_ventricle_left"] / brain.volumes["lateral_ventricle_left"] - 1
    assert change == pytest.approx(15 * AGEING["norm.lateral_ventricle"] / 100, rel=TOLERANCE)
    assert sum(regions.volumes.values()) == pytest.approx(sum(brain.volumes.values()), rel=0.01)


@pytest.mark.parametrize("name", BANDS)
def test_controls_stay_within_the_population_bands(controls, name):
    """The normal anatomy of every age is inside its band; six years of mean control rates do not lead out of it."""
    norms, later = ([volumes[name] for volumes in visits] for visits in controls)
    bands = [band_at(name, age) for age in (55, 65, 75, 85)]
    for k, (low, _, high) in enumerate(bands):
        assert low < 1000 * norms[k] < high
        lowest, _, highest = bands[min(k + 1, 3)]
        assert min(low, lowest) < 1000 * later[k] < max(high, highest)


# bad input


@pytest.mark.parametrize("ages", [[], [70, 70], [70, 69]])
def test_ages_must_rise(brain, ages):
    with pytest.raises(NbkitError, match="expected rising ages"):
        simulate_trajectory(brain, Rates(mean_rates("CN"), 0.0), ages)


def test_every_number_has_its_source_and_every_structure_its_rate():
    assert isinstance(AGEING, Parameters)
    assert all(entry["source"] for entry in AGEING.entries.values())
    assert AGEING.groups("rate") == DIAGNOSES
    rows = set(AGEING.section("structure").values())
    assert all(set(AGEING.section(f"rate.{d}")) == rows for d in DIAGNOSES)
