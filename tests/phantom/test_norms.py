"""The simulated controls run inside the published bands, at the published slopes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from joblib import Parallel, delayed
from scipy import stats

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.phantom import norms
from nbkit.phantom.ageing import Participant
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.longitudinal import Plan, ageing_parameters, follow, person_at_first_visit
from nbkit.phantom.norms import band_at, band_summary, control_bands, definition_scales
from nbkit.phantom.parameters import load_parameters
from nbkit.phantom.regions import template_maps
from tests.phantom.boxes import four_mm

NORMS = load_parameters(norms.NORM_PARAMETERS)
PEOPLE = 28


def plan_of(k: int) -> Plan:
    """Controls from 56 to 83 years, followed for 3 to 10."""
    first, span = 56.0 + k, 3.0 + 7 * (k * 5 % PEOPLE) / (PEOPLE - 1)
    span = min(span, 89.9 - first)
    person = Participant(f"c{k}", "FM"[k % 2], first, "CN")
    return Plan(person, tuple(first + span * np.array([0, 1 / 3, 2 / 3, 1])))


def volumes_of(plan: Plan) -> list[dict[str, float]]:
    parameters, template = ageing_parameters(), load_template(load_parameters())
    regions, _ = person_at_first_visit(
        plan, template_maps(template, parameters, spacing=4), grid=four_mm(parameters), template=template,
        parameters=parameters, seed=1,
    )
    return [v.regions.volumes for v in follow(plan, regions, parameters=parameters, seed=1).trajectory.visits]


def as_cohort(plans: list[Plan], volumes: list[list[dict[str, float]]], diagnosis: str = "CN") -> Cohort:
    subjects = tuple(
        Subject(p.person.id, p.person.sex, diagnosis, tuple(Scan(p.person.id, str(a), a, {}) for a in p.ages))
        for p in plans
    )
    truth = {p.person.id: SimpleNamespace(volumes=v) for p, v in zip(plans, volumes, strict=True)}
    return Cohort("controls", subjects, "embedded", {}, truth)


@pytest.fixture(scope="module")
def bands():
    plans = [plan_of(k) for k in range(PEOPLE)]
    volumes = Parallel(n_jobs=2, prefer="threads")(delayed(volumes_of)(plan) for plan in plans)
    return control_bands(as_cohort(plans, volumes))


@pytest.fixture(scope="module")
def summary(bands):
    return band_summary(bands).set_index("structure")


@pytest.mark.slow
@pytest.mark.parametrize("structure", NORMS.groups("band"))
def test_controls_run_inside_the_bands(summary, structure):
    """The band holds .90 of people; that less two standard errors of a share of 28 people was fixed beforehand."""
    assert NORMS["share.inside"] == pytest.approx(0.9 - 2 * np.sqrt(0.9 * 0.1 / PEOPLE), abs=0.02)
    assert summary.loc[structure, "inside"] >= NORMS["share.inside"]


@pytest.mark.slow
@pytest.mark.parametrize("structure", NORMS.groups("band"))
def test_people_of_different_ages_differ_as_the_norms_do(bands, structure):
    """A line through what people are over the norm of their age is level, within three standard errors."""
    rows = bands[bands["structure"] == structure]
    own = rows.assign(over=np.log(rows["mm3"] / rows["median"])).groupby("subject")[["age", "over"]].mean()
    line = stats.linregress(own["age"], own["over"])
    assert abs(line.slope) < 3 * line.stderr
    assert abs(own["over"].mean()) < 3 * own["over"].std() / np.sqrt(PEOPLE)


@pytest.mark.slow
@pytest.mark.parametrize(("structure", "row"), [
    ("hippocampus_right", "hippocampus"), ("hippocampus_left", "hippocampus"), ("temporal_right", "temporal"),
    ("frontal_right", "cortex"), ("white_matter", "white_matter"), ("lateral_ventricle", "lateral_ventricle"),
])
def test_people_change_at_the_rates_of_controls(bands, structure, row):
    """Steeper than the norms fall; three standard errors of the mean of 28 people with the spread of the table."""
    rows = bands[bands["structure"] == structure]
    slopes = [100 * np.polyfit(one["age"], np.log(one["mm3"]), 1)[0] for _, one in rows.groupby("subject")]
    mean, sd = ageing_parameters()[f"rate.CN.{row}"]
    assert abs(np.mean(slopes) - mean) < 3 * sd / np.sqrt(PEOPLE)


# the table and the arithmetic


def test_bands_are_read_between_the_ages_of_the_table():
    assert band_at("hippocampus_right", 65) == (3388, 3991, 4710)
    assert band_at("lateral_ventricle", 70)[1] == pytest.approx((25000 + 35500) / 2)
    assert band_at("thalamus_right", 90)[1] == pytest.approx(6864 - (7187 - 6864) / 2)
    for structure in NORMS.groups("band"):
        for age in (45, 58.3, 77, 89):
            low, median, high = band_at(structure, age)
            assert 0 < low < median < high


def test_scales_give_the_templates_the_median_of_their_age():
    regions, _ = template_maps(load_template(load_parameters()), ageing_parameters(), spacing=3)
    head = NORMS["head.median"] / sum(regions.volumes.values())
    for structure, scale in definition_scales().items():
        ours = sum(regions.volumes[name] for name in NORMS[f"band.{structure}.regions"]) * head * scale
        assert ours == pytest.approx(band_at(structure, 45)[1], rel=1e-3)
        assert 0.85 < scale < 1.3


def planted(scale: float = 1.0) -> Cohort:
    """One person on the median at every visit, times `scale`."""
    plan = Plan(Participant("m", "F", 60.0, "CN"), (60.0, 66.0, 72.0))
    volumes = []
    for age in plan.ages:
        one = {}
        for structure in NORMS.groups("band"):
            parts = NORMS[f"band.{structure}.regions"]
            one |= {name: scale * band_at(structure, age)[1] / len(parts) for name in parts}
        volumes.append(one)
    return as_cohort([plan], [volumes])


def test_who_is_on_the_median_is_inside_and_twice_it_outside():
    on, above = (control_bands(planted(s), scales={}) for s in (1.0, 2.0))
    assert list(on.columns) == list(norms.COLUMNS)
    assert on["inside"].all() and np.allclose(on["mm3"], on["median"]) and len(on) == 3 * len(NORMS.groups("band"))
    small = above["structure"] != "lateral_ventricle"
    assert not above.loc[small, "inside"].any()
    scaled = control_bands(planted(2.0), scales=dict.fromkeys(NORMS.groups("band"), 0.5))
    assert scaled["inside"].all() and np.allclose(scaled["raw_mm3"], 2 * scaled["mm3"])
    lines = band_summary(on)
    np.testing.assert_allclose(lines["slope_within"], lines["norm_slope"])
    np.testing.assert_allclose(lines["over_norm"], 1)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: band_at("hippocampus_rigth", 60), "Did you mean 'hippocampus_right'"),
    (lambda: band_at("hippocampus_right", 91), "expected 45 to 90 years, found 91"),
    (lambda: band_at("hippocampus_right", 40), "expected 45 to 90 years, found 40"),
    (lambda: control_bands(as_cohort([plan_of(0)], [[{}] * 4], "AD")), "people with diagnosis CN, found none"),
])
def test_what_has_no_norm_is_refused(call, message):
    with pytest.raises(NbkitError, match=message):
        call()
