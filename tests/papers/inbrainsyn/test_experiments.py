"""Every table and figure of notebook 06 as a tidy frame: on scores made by hand, and on balls whose future is known."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.claims.ledger import load_paper
from nbkit.claims.observe import Observation
from nbkit.claims.room import Room
from nbkit.claims.verdicts import judge
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.tidy import by_subject, where
from nbkit.core.volume import Volume
from nbkit.geometry.warp import grid_positions
from nbkit.papers.inbrainsyn import InBrainSyn, KernelTemplate, experiments
from nbkit.papers.inbrainsyn.inbrainsyn import Config
from nbkit.papers.inbrainsyn.known_truth import transport_experiment
from nbkit.papers.trajectories.experiments import futures_of
from tests.papers.inbrainsyn.scores import HEALTHY, MODELS, Turning
from tests.papers.trajectories.ageing_balls import AFFINE, RATES, SHAPE, cohort, people, person

IDS = load_paper("inbrainsyn").ids


def test_table_1_is_the_mean_over_a_persons_visits_under_the_ids_of_the_ledger(visits):
    frame = experiments.table1(visits, diagnoses=HEALTHY)
    found = by_subject(frame, metric="ssim", system="no_pt")
    assert found == pytest.approx({f"s{k}": 0.2 + 0.01 * k for k in range(7)})
    assert set(where(frame, metric="dice")["system"]) == set(MODELS) - {"no_change"}, "nobody has a value"
    assert set(frame["id"]) - set(IDS) == {f"inbrainsyn.table1.{m}.gan_templates" for m in experiments.UNITS}
    assert dict(zip(frame["metric"], frame["unit"])) == experiments.UNITS


@pytest.mark.parametrize(("diagnosis", "labelled", "why"), [
    ("AD", True, None), ("AD", False, "the scans carry no labels of structures"),
    ("CN", True, "nobody in this cohort is ill"), ("CN", False, "nobody in this cohort is ill"),
])
def test_what_is_not_here_is_known_to_the_ledger(diagnosis, labelled, why):
    labels = Volume(torch.ones(1, 2, 2, 2, dtype=torch.uint8), np.eye(4)) if labelled else None
    visits = tuple(Scan("a", told, 70.0, {}, labels=labels, diagnosis=told) for told in ("CN", diagnosis))
    people = Cohort("toy", (Subject("a", "F", "CN", visits),), "open")
    unknown = {"inbrainsyn.precision", "inbrainsyn.transport"}
    for truth, more in (({"a": 1}, set()), ({}, unknown)):
        reasons = experiments.not_here(replace(people, truth=truth))
        assert {reasons.get(prefix) for prefix in experiments.OF_THE_ILL} == {why}
        expected = more | (set() if labelled else {"inbrainsyn.table1.dice"})
        expected |= set(experiments.OF_THE_ILL) if why else set()
        assert set(reasons) - set(experiments.NOT_HERE) == expected
        assert all(any(i.startswith(prefix) for i in IDS) for prefix in reasons)


def test_both_courses_side_by_side(visits):
    table = experiments.courses(visits, healthy=HEALTHY)
    assert table.loc[("AD", "full"), "ssim"] == pytest.approx(0.5 + 0.07 + 0.01 - 0.1)
    assert table.loc[("HC", "full"), "seconds"] == 4.0 and list(table.loc["HC"].index) == list(MODELS)


def test_volumes_stand_beside_what_could_be_won_at_all(regions):
    ends = pd.DataFrame({"structure": "hippocampus", "subject": ["a", "b"], "system": "floor", "value": [0.0, 1.0]})
    table = experiments.volume_errors(regions, ends)
    assert table.loc["hippocampus", "inbrainsyn"] == 4.0 and table.loc["hippocampus", "floor"] == 0.5
    assert np.isnan(table.loc["thalamus", "floor"]) and list(table.index) == list(regions["structure"].unique())


def test_the_room_of_volumes_is_told_by_the_ledgers_ids():
    """Balls whose labels are counted: the population's slope is known, and the truth is the floor."""
    train, test = cohort(people(4, "HC", seed=0) + people(3, "AD", seed=1)), cohort(people(2, "HC", seed=5))
    test = replace(test, subjects=tuple(replace(s, id=f"t{s.id}") for s in test.subjects))
    relabelled = {1: "hippocampus_left", 2: "lateral_ventricle_left"}
    train, test = (replace(c, subjects=tuple(
        replace(s, scans=tuple(replace(x, label_names=relabelled) for x in s.scans)) for s in c.subjects
    )) for c in (train, test))
    found = experiments.room(train, test)
    assert set(found["id"]) <= set(IDS) and set(where(found, system="floor")["value"]) == {0.0}
    made, other = (Room.of_frame(**room) for room in reversed(experiments.rooms(found)))
    assert made.covers(["inbrainsyn.volumes.hippocampus.no_pt"]) and not other.covers(made.controls)
    assert made.controls["inbrainsyn.volumes.hippocampus.diagnosis_slope"] < made.mean


def test_who_is_asked_has_a_later_visit_and_is_covered_by_all():
    balls = cohort(people(2, "HC", seed=0) + people(1, "AD", seed=1))
    single = replace(balls.subjects[0], id="single", scans=balls.subjects[0].scans[:1])
    balls = replace(balls, subjects=(*balls.subjects, single))
    every = SimpleNamespace(config=Config(), covers=lambda s: True)
    some = SimpleNamespace(config=Config(), covers=lambda s: s.id != "HC1")
    assert experiments.who_is_asked([every, every], balls) == (["HC0", "HC1"], ["AD0"])
    assert experiments.who_is_asked([every, some], balls) == (["HC0"], ["AD0"])
    assert experiments.who_is_asked([every], balls, (1, 0)) == (["HC0"], [])


def test_volumes_of_two_structures(regions):
    frame = experiments.regional_volumes(regions)
    assert set(frame["structure"]) == {"lateral_ventricle", "hippocampus"}
    assert set(by_subject(frame, system="full", structure="hippocampus").values()) == {3.0}
    assert where(frame, system="no_pt")["id"].unique().tolist() == [
        "inbrainsyn.volumes.ventricle.no_pt", "inbrainsyn.volumes.hippocampus.no_pt"]


def test_topology_is_the_worst_of_a_persons_predictions(visits):
    frame = experiments.topology(visits)
    assert by_subject(frame, metric="folds") == pytest.approx({f"s{k}": 0.01 * k for k in range(8)})
    assert set(by_subject(frame, metric="smallest_jacobian").values()) == {0.4}
    assert set(frame["id"]) <= set(IDS)
    assert experiments.topology_said(frame) == (
        "Smallest determinant of all predictions: 0.40; folded voxels: at most 7.000 %; 4.5 s per predicted scan.")


def test_each_open_point_is_a_paired_difference_of_the_healthy(visits, regions):
    frame = experiments.open_points(visits, regions, healthy=HEALTHY, templates="kernel", rival="gan")
    assert set(frame["subject"]) == {f"s{k}" for k in range(7)}
    mean = frame.pivot_table("value", "left open", "metric", sort=False)
    ssim, error = "other − ours, SSIM", "other − ours, ventricle error in %"
    assert mean[ssim].to_dict() == pytest.approx({
        "How far the ladder carries": 0.01, "Whether it carries at all": 0.02,
        "Sign of the way, for fields that pull back": 0.03, "Where SSIM is taken": 0.3, "Templates": 0.04})
    assert mean[error].dropna().to_dict() == pytest.approx({
        "How far the ladder carries": -1, "Whether it carries at all": -2,
        "Sign of the way, for fields that pull back": -3, "Templates": -4})
    alone = experiments.open_points(visits, None, healthy=HEALTHY, templates="kernel", rival="gan")
    assert set(alone["metric"]) == {ssim}


def test_the_reasons_carry_the_numbers_of_the_run(regions):
    errors = pd.DataFrame([("half", 0.5), ("full", 0.1), ("none", 0.9), ("wrong", 1.4)], columns=["system", "value"])
    lines = experiments.why(regions, errors.assign(metric="field", structure="brain"), rival="gan")
    assert lines[1].startswith("With gan templates it lets the ventricles grow by 8.0 % where the truth is 10.0 %")
    assert lines[3] == "Repeating the baseline misses them by -6.0 %."
    assert "half leaves 50 % of the displacement wrong, full transport 10 %, none 90 %" in lines[4]
    assert experiments.why(None, None, rival="gan") == ["No structures are known here."]


# balls


def test_what_if_paces_are_those_of_the_groups(ball):
    futures = futures_of(Turning(), [ball], experiments.what_if_courses(turn=2.0), years=(2, 4))
    frame = experiments.what_if(futures)
    assert set(frame["id"]) == {i for i in IDS if i.startswith("inbrainsyn.fig.")}
    slow, fast = (by_subject(frame, setting=c, structure="hippocampus")["p"] for c in ("HC", "AD"))
    assert slow == pytest.approx(-100 * 3 * RATES["HC"], rel=0.15) and fast < 3 * slow
    curves = experiments.volume_curves(futures["p"])
    assert curves.groupby("model")["age"].unique().map(list).to_dict() == {
        course: [64.0, 66.0, 68.0] for course in ("HC", "AD", "HC→AD")}


def test_the_bend_lies_at_the_age_asked_for_and_the_pace_changes_there(ball):
    frame = experiments.transition(Turning(), [ball], turn=4.0, until=8)
    found = frame.set_index("metric")["value"]
    assert found["asked_age"] == 68.0 and found["bend_age"] == pytest.approx(68.0, abs=0.3)
    assert found["ventricle.rate.after"] < 2 * found["ventricle.rate.before"] < 0
    assert found["folds_transition"] == 0 and set(frame["id"]) <= set(IDS)
    assert experiments.transition(Turning(), []).empty


def test_who_is_asked_has_labels_is_not_demented_and_stays_inside_the_ages_of_both_groups():
    model = InBrainSyn(Config(margin_years=0.0), templates={"HC": None, "AD": None})
    model.age_ranges = {"HC": (60.0, 80.0), "AD": (63.0, 70.0)}
    ages = {"early": 62.0, "fits": 64.0, "late": 67.0}
    some = [person(name, "HC", ages=(age,), size=1.0, centre=(0, 0, 0)) for name, age in ages.items()]
    ill = person("ill", "AD", ages=(64.0,), size=1.0, centre=(0, 0, 0))
    bare = replace(some[1], id="bare", scans=(replace(some[1].baseline, subject="bare", labels=None),))
    assert [s.subject for s in experiments.who_can_turn(model, cohort([*some, ill, bare]), years=4)] == ["fits"]
    assert experiments.ages_said(model) == (
        "Ages of training visits: HC 60.0 to 80.0, AD 63.0 to 70.0 years. Templates are not extrapolated.")


def test_known_truth_is_the_experiment_of_each_person(ball):
    group = cohort([replace(person("p", "HC", ages=(64.0,), size=1.0, centre=(0, 0, 0)), scans=(ball,))])
    velocity = Volume(0.01 * grid_positions(SHAPE, AFFINE)[0].float(), AFFINE)
    group = replace(group, truth={"p": SimpleNamespace(velocity=velocity)})
    frame = experiments.known_truth(Turning(), group, years=2.0)
    alone = transport_experiment(
        velocity, Turning().way(ball), labels=ball.labels, names=ball.label_names, years=2.0).set_index(
        ["variant", "region"])
    for variant in ("half", "wrong"):
        got = by_subject(frame, system=variant, structure="hippocampus", metric="growth")["p"]
        assert got == alone.loc[(variant, "hippocampus"), "growth_error"]
    assert experiments.field_errors(frame).loc["hippocampus", "wrong"] == pytest.approx(
        alone.loc[("wrong", "hippocampus"), "field_error"], abs=1e-3)
    recorded = frame[frame["id"] != ""]
    assert set(recorded["structure"]) == {"brain"} and set(recorded["id"]) <= set(IDS)
    assert len(recorded) == 10


def test_learned_has_templates_for_both_groups_and_is_read_back():
    balls = cohort(people(3, "HC", seed=0) + people(2, "AD", seed=1))
    balls = replace(balls, provenance={"data_hash": "balls"})
    kernel = KernelTemplate(KernelTemplate.settings(variant="intensity", device="cpu"))
    first, again = (experiments.learned(kernel, Config.for_profile("smoke"), balls) for _ in range(2))
    assert set(first.templates) == {"HC", "AD"} and first.trained_on == again.trained_on != ""
    assert torch.equal(first.templates["AD"].template(65).data, again.templates["AD"].template(65).data)
    table = experiments.people_followed(balls)
    assert table.loc["CN", "longest"] == max(round(s.scans[-1].age - s.scans[0].age, 1) for s in balls.subjects[:3])


def test_settings_are_those_of_the_system_that_ran():
    """Whatever is changed in what ran leaves the tolerance, and nothing else does."""

    def verdicts(config: Config) -> dict[str, str]:
        frame = experiments.settings(InBrainSyn(config, templates={"HC": None}))
        found = {row.id: Observation(row.id, row.value) for row in frame.itertuples()}
        return {n.id.rpartition(".")[2]: n.verdict for n in judge("inbrainsyn", found).numbers if n.id in found}

    everything = dict.fromkeys(experiments.SETTINGS, "within tolerance")
    for profile in ("smoke", "laptop", "paper"):
        assert verdicts(Config.for_profile(profile)) == everything
    for name, value in (("squarings", 5), ("rung_voxels", 0.5), ("smooth_mm", 0.0)):
        assert verdicts(Config().changed(**{name: value})) == everything | {name: "outside tolerance"}
    assert "squarings" not in verdicts(Config(squarings=None))


def test_every_variant_changes_one_setting_and_keeps_the_rest():
    ours = InBrainSyn(Config(), templates={"HC": None})
    for name, variant in experiments.variants(ours).items():
        changed = {k for k, v in variant.config.as_dict().items() if v != ours.config.as_dict()[k]}
        assert changed == set(experiments.VARIANTS[name]) and len(changed) == 1
        assert name == "no_pt" or name in experiments.CHOICES
