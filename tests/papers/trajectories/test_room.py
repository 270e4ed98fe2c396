"""Room of volume forecasts: what inputs tell is reached, what they do not is not, and the truth errs nowhere."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from nbkit.claims.room import Room
from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.tidy import by_subject, where
from nbkit.papers.trajectories import room
from nbkit.papers.trajectories.room import after, forecast_room, last_from

RATES = {"CN": 0.03, "AD": 0.10}


def people(count: int, prefix: str, *, told: float, bend: float = 0.0, visits: int = 4) -> Cohort:
    """Ventricles that grow at the diagnosis's rate times e^(z/2); `told` is how far z shows in their first size."""
    rng, subjects, truth = np.random.default_rng(list(prefix.encode())), [], {}
    for k in range(count):
        name, diagnosis, z = f"{prefix}{k}", ("CN", "AD")[k % 2], rng.normal()
        first = 1e4 * np.exp(0.4 * (told * z + np.sqrt(1 - told**2) * rng.normal()))
        years = 1.3 * np.arange(visits)
        grown = RATES[diagnosis] * np.exp(z / 2) * years + bend * years**2
        ages = 65 + rng.uniform(0, 15) + years
        truth[name] = SimpleNamespace(ages=tuple(ages), volumes=tuple(
            {"lateral_ventricle_left": first * np.exp(g), "hippocampus_left": 3000.0} for g in grown))
        scans = tuple(Scan(name, str(i), age, {}) for i, age in enumerate(ages))
        subjects.append(Subject(name, "FM"[k // 2 % 2], diagnosis, scans))
    return Cohort(prefix, tuple(subjects), "embedded", {}, truth)


def ends(told: float, asked=last_from(1), **options) -> pd.DataFrame:
    train, test, many = (people(n, p, told=told) for n, p in ((60, "train"), (40, "test"), (600, "x")))
    return forecast_room(
        train, test, asked=asked, structures=["lateral_ventricle"], strangers=many, id="t.{place}.{system}", **options)


def means(frame: pd.DataFrame) -> dict[str, float]:
    return frame.groupby("system")["value"].mean().to_dict()


def test_what_the_first_scan_tells_is_reached():
    found = means(ends(0.95))
    assert found["floor"] == 0 < found["reach_tenfold"] < 0.7 * found["diagnosis_slope"]
    assert found["reach"] < found["diagnosis_slope"] < found["mean_slope"] < found["no_change"]
    assert found["reach_tenfold"] < found["reach"]


def test_where_it_tells_nothing_there_is_no_room_and_elsewhere_there_is():
    silent, speaking = (
        Room.of_frame(ends(told), of=["t.ventricle"], measure="error", notebook="") for told in (0.0, 0.95))
    assert silent.lacks(["t.ventricle.a", "t.ventricle.b"]) and silent.share() < 0.1 < speaking.share()
    assert silent.best_control == "t.ventricle.diagnosis_slope"
    assert not silent.lacks(["t.ventricle.a", "t.ventricle.no_change"])  # against no change there is plenty


def test_two_scans_tell_a_steady_person_all():
    frame = ends(0.0, asked=last_from(2))
    found = means(frame)
    told = Room.of_frame(frame, of=["t.ventricle"], measure="error")
    assert told.best_control == "t.ventricle.diagnosis_slope" and told.share() > 0.4
    assert found["own_slope"] == pytest.approx(0, abs=1e-9)
    assert max(found["reach"], found["reach_ridge"], found["reach_tenfold"]) < 0.02 * found["diagnosis_slope"]


def test_slopes_are_those_of_the_training_people_alone():
    """Independent: the mean of (ln last − ln first) over the years, carried on from the last visit seen."""
    train, test = people(8, "train", told=0.0), people(4, "test", told=0.0)
    found = forecast_room(train, test, asked=last_from(1), structures=["lateral_ventricle"])
    logs = {c.name: {s.id: np.log([v["lateral_ventricle_left"] for v in c.truth[s.id].volumes]) for s in c}
            for c in (train, test)}
    ages = {s.id: [scan.age for scan in s.scans] for c in (train, test) for s in c}
    yearly = {name: (x[-1] - x[0]) / (ages[name][-1] - ages[name][0]) for name, x in logs["train"].items()}
    for subject in test:
        own, years = logs["test"][subject.id], ages[subject.id][-1] - ages[subject.id][-2]
        alike = [rate for name, rate in yearly.items() if train.subject(name).diagnosis == subject.diagnosis]
        for system, slope in {
            "no_change": 0.0, "mean_slope": np.mean([*yearly.values()]), "diagnosis_slope": np.mean(alike),
        }.items():
            expected = 100 * abs(np.exp(own[-2] + slope * years - own[-1]) - 1)
            assert by_subject(found, system=system)[subject.id] == pytest.approx(expected)


def test_a_persons_own_scale_takes_away_what_is_the_persons_alone():
    """Straight lines of other slopes: nothing is left; bent ones keep their bend."""
    train, test, bent = (people(20, p, told=0.0, bend=b) for p, b in (("train", 0), ("test", 0), ("bent", 0.01)))
    options = {"asked": after(1), "structures": ["lateral_ventricle"]}
    straight, curved = (means(forecast_room(train, some, **options)) for some in (test, bent))
    assert straight["person"] == pytest.approx(0, abs=1e-9) and straight["diagnosis_slope"] > 3
    assert 0.05 < curved["person"] < curved["diagnosis_slope"]
    alone = forecast_room(train, test, asked=last_from(1), structures=["lateral_ventricle"])
    assert "person" not in set(alone["system"])  # one visit each leaves nothing to fit


def test_roles_ids_and_units():
    frame = ends(0.5)
    assert dict(zip(frame["system"], frame["role"], strict=True)) == {
        "no_change": "control", "mean_slope": "mean", "diagnosis_slope": "control", "reach": "reach",
        "reach_ridge": "reach", "reach_tenfold": "reach", "reach_tenfold_ridge": "reach", "floor": "floor"}
    assert set(frame["unit"]) == {room.UNIT} and set(frame["metric"]) == {"miss"}
    assert set(frame["id"]) == {f"t.ventricle.{name}" for name in frame["system"]}
    assert frame.groupby("system")["subject"].nunique().eq(40).all()


def test_the_same_seed_gives_the_same_numbers():
    pd.testing.assert_frame_equal(ends(0.5, seed=3), ends(0.5, seed=3))


def test_a_floor_that_is_read_takes_the_place_of_the_truth():
    read = pd.DataFrame({"subject": [f"test{k}" for k in range(40)], "value": 2.5, "system": "floor"})
    read = read.assign(id="", unit=room.UNIT, metric="", structure="lateral_ventricle")
    frame = ends(0.5, floor=read)
    assert set(where(frame, role="floor")["value"]) == {2.5}


def test_sums_of_structures_and_given_volumes_are_what_is_judged():
    train, test = people(20, "train", told=0.0), people(6, "test", told=0.0)
    given = {s.id: [{"whole": v["lateral_ventricle_left"]} for v in c.truth[s.id].volumes]
             for c in (train, test) for s in c}
    whole = forecast_room(train, test, asked=last_from(1), structures=["whole"], truth=given, summed=dict)
    plain = forecast_room(train, test, asked=last_from(1), structures=["lateral_ventricle"])
    first, second = (where(f, system="diagnosis_slope")["value"].to_numpy() for f in (whole, plain))
    np.testing.assert_allclose(first, second)


@pytest.mark.parametrize(("asked", "visits", "expected"), [
    (after(1), 3, [((0,), 1), ((0,), 2)]), (after(2, ahead=1), 4, [((0, 1), 2)]), (after(3), 3, []),
    (last_from(), 4, [((0, 1, 2), 3)]), (last_from(2), 5, [((2, 3), 4)]), (last_from(), 3, []),
    (last_from(1, least=2), 2, [((0,), 1)]), (last_from(4), 4, []),
])
def test_questions(asked, visits, expected):
    assert [(tuple(seen), target) for seen, target in asked(visits)] == expected


def test_bad_input_is_refused():
    some = people(6, "train", told=0.0)
    with pytest.raises(NbkitError, match="forecast_room: train and test"):
        forecast_room(some, some, asked=after(1))
    with pytest.raises(NbkitError, match="expected a visit to predict"):
        forecast_room(some, people(2, "test", told=0.0), asked=after(4))
