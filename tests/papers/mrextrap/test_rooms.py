"""Room of the four volumes: every structure from all scans and from three; the segmenter's own error is the floor."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from nbkit.claims.ledger import load_paper
from nbkit.claims.room import Room
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.tidy import where
from nbkit.papers.mrextrap.experiments import PLACES
from nbkit.papers.mrextrap.rooms import agreement_told, ends, rooms
from nbkit.papers.mrextrap.volumes import STRUCTURES

REGIONS = {"lateral_ventricle_left": 20e3, "hippocampus_left": 3e3, "frontal_left": 100e3, "white_matter_left": 200e3}
AGES = (70.0, 71.0, 72.5, 74.0, 75.0)


def cohort(first: int, count: int) -> Cohort:
    """People of two diagnoses whose structures change at a rate of their own, steadily."""
    rng, people, truth = np.random.default_rng(first), [], {}
    for k in range(first, first + count):
        name, ill = f"s{k}", k % 2
        rates = {region: (0.01 + 0.02 * ill) * rng.uniform(0.5, 1.5) for region in REGIONS}
        volumes = [{r: v * np.exp(rates[r] * (a - AGES[0])) for r, v in REGIONS.items()} for a in AGES]
        scans = tuple(Scan(name, f"M{i}", age, {}) for i, age in enumerate(AGES))
        people.append(Subject(name, "F", ("CN", "AD")[ill], scans))
        truth[name] = SimpleNamespace(ages=AGES, volumes=volumes)
    return Cohort("rates", tuple(people), "embedded", {}, truth)


@pytest.fixture(scope="module")
def found() -> list[dict]:
    test = cohort(100, 6)
    misses = pd.DataFrame([
        {"id": f"mrextrap.miss.{PLACES[name]}.hindsight", "subject": s, "system": "hindsight", "metric": "miss",
         "structure": name, "unit": "%", "value": 0.5} for name in STRUCTURES for s in test.ids
    ])
    return rooms(cohort(0, 12), test, misses)


def test_every_structure_has_two_rooms_whose_ends_the_ledger_knows(found):
    assert len(found) == 2 * len(STRUCTURES)
    known = load_paper("mrextrap").ids
    for room in found:
        assert set(room["frame"][room["frame"]["role"] != ""]["id"]) - set(known) <= {
            i for i in room["frame"]["id"] if i.endswith((".k3",))}
        made = Room.of_frame(room["frame"], of=room["of"], measure=room["measure"])
        assert made.floor == pytest.approx(0.5), "the segmenter's own error"
        assert made.reach == pytest.approx(0, abs=1e-2), "a steady rate is carried on exactly"
        assert not any("own_slope" in id for id in made.controls) and not made.lacks()


def test_rooms_speak_of_the_ids_that_are_measured_so(found):
    every, three = (Room.of_frame(found[k]["frame"], of=found[k]["of"], measure="") for k in (0, len(STRUCTURES)))
    assert every.covers(["mrextrap.miss.ventricle.ols", "mrextrap.miss.ventricle.no_change"])
    assert not every.covers(["mrextrap.miss.grey.ols"])
    assert three.covers(["mrextrap.fig2c.ventricle.latest.ols.k3", "mrextrap.fig2c.ventricle.daninet"])
    assert not three.covers(["mrextrap.fig2c.ventricle.latest.ols.k2", "mrextrap.fig2c.ventricle.latest.ols.k3"])


def test_the_ends_stand_below_the_systems_of_their_structure(found):
    every = ends(found)
    assert set(every["structure"]) == set(STRUCTURES) and len(where(every, system="floor")) == 4 * 6
    last = pd.DataFrame([
        {"structure": name, "model": "mrextrap_ols", "subject": s, "miss": 1.0, "error_pct": 1.0, "change_pct": x,
         "true_change_pct": x} for name in STRUCTURES for s, x in (("s100", 1.0), ("s101", 2.0))
    ])
    table = agreement_told(last, every)
    assert list(dict.fromkeys(table.index.get_level_values(0))) == list(STRUCTURES)
    assert table.loc[("hippocampus", "floor"), "miss (%)"] == pytest.approx(0.5)
    assert table.index.get_level_values(1)[0] == "mrextrap_ols"
    assert ends([]) is None and len(agreement_told(last, None)) == 4
