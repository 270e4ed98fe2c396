"""Templates are judged as published where they age, by a test of templates alone: fluid of known size, two outcomes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.papers.inbrainsyn.templates import VentricleFluid, age_enough, ageing, judged_templates

MM, HEAD_MM = 3.0, 45.0
AFFINE = np.diag([MM, MM, MM, 1.0])
PLACES = MM * (np.indices((33, 33, 33)) - np.reshape((16.1, 16.7, 15.6), (3, 1, 1, 1)))
FAR = np.sqrt(np.square(PLACES).sum(axis=0))
PACE = {"HC": 2.0, "AD": 5.0}
"""True growth of fluid, % per year."""


def head(age: float, pace: float, size: float = 1.0) -> Volume:
    """Bright tissue with a dark ball whose volume is e^(pace (age − 70) / 100) times `size` 20 mL, and dark sulci."""
    mL = 20 * size * np.exp(pace * (age - 70) / 100)
    radius = (3 * 1000 * mL / (4 * np.pi)) ** (1 / 3)
    fluid = np.clip((radius - FAR) / MM + 0.5, 0, 1) + (FAR > HEAD_MM - 6)
    return Volume(torch.from_numpy((0.8 - 0.6 * fluid.clip(0, 1)) * (FAR < HEAD_MM)).float()[None], AFFINE)


def scan(person: str, age: float, pace: float, size: float) -> Scan:
    brain = Volume(torch.from_numpy(FAR < HEAD_MM)[None], AFFINE)
    return Scan(person, f"v{age}", age, {"T1w": head(age, pace, size)}, {"brain": brain})


def system(**paces: float) -> SimpleNamespace:
    """A fitted system whose templates grow at these paces (% per year); groups of twelve people grow at :data:`PACE`.

    Every second person was scanned three times; the older ones have the smaller ventricles, so that across people
    they shrink.
    """
    visits = [
        (f"p{k}", 64.0 + 4 * (k // 2) + year, 1 - 0.1 * (k // 2)) for k in range(12) for year in range(1 + 2 * (k % 2))
    ]
    scans = {group: [scan(person, age, true, size) for person, age, size in visits] for group, true in PACE.items()}
    return SimpleNamespace(
        templates={g: SimpleNamespace(template=lambda age, pace=paces[g]: head(age, pace)) for g in PACE},
        age_ranges={g: (64.0, 86.0) for g in PACE}, visits=lambda cohort, group: scans[group],
    )


def test_deep_fluid_is_the_ventricle_and_not_the_sulci():
    fluid = VentricleFluid.of([scan("a", 70.0, 0.0, 1.0)])
    assert fluid(head(70, 0)) == pytest.approx(20_000, rel=0.08)
    for size in (0.8, 1.5):
        assert fluid(head(70, 0, size)) / fluid(head(70, 0)) == pytest.approx(size, rel=0.05)


def test_with_labels_only_the_ventricles_count():
    """A dark cyst, as deep as the ventricle but far from its label, is read where nothing is labelled."""
    plain = scan("a", 70.0, 0.0, 1.0)
    labels = Volume(torch.from_numpy(FAR < 13)[None].to(torch.int16), AFFINE)
    labelled = replace(plain, labels=labels, label_names={1: "lateral_ventricle_left"})
    cyst = np.square(PLACES - np.reshape((0, 0, 22), (3, 1, 1, 1))).sum(axis=0) < 4**2
    image = head(70, 0, 0.2)
    holed = image.with_data(torch.where(torch.from_numpy(cyst)[None], 0.2, image.data))
    read = {name: VentricleFluid.of([one]) for name, one in (("deep", plain), ("labelled", labelled))}
    grown = {name: fluid(holed) / fluid(image) for name, fluid in read.items()}
    assert grown["labelled"] < 1.02 < 1.05 < grown["deep"]


def test_gain_is_no_growth():
    fluid, image = VentricleFluid.of([scan("a", 70.0, 0.0, 1.0)]), head(70, 0)
    assert fluid(image.with_data(1.3 * image.data)) == pytest.approx(fluid(image), rel=1e-5)


def test_templates_and_people_are_read_alike():
    table = ageing(system(HC=2.0, AD=5.0), None)
    assert table["cohort"].to_dict() == pytest.approx(PACE, rel=0.1)
    assert table["share"].to_numpy() == pytest.approx(1.0, abs=0.15)


def test_where_nobody_came_twice_people_are_compared():
    alone = system(**PACE)
    once = {group: [scan(f"p{k}", 64.0 + 2 * k, PACE[group], 1.0) for k in range(12)] for group in PACE}
    alone.visits = lambda cohort, group: once[group]
    assert ageing(alone, None)["cohort"].to_dict() == pytest.approx(PACE, rel=0.1)


@pytest.mark.parametrize(("hc", "ad", "judged"), [
    (2.0, 5.0, "gan"), (1.3, 3.2, "gan"), (0.7, 5.0, "kernel"), (2.0, 1.5, "kernel"), (-2.0, 5.0, "kernel"),
    (0.0, 0.0, "kernel"),
])
def test_both_groups_must_show_half_of_the_cohorts_growth_and_its_sign(hc, ad, judged):
    found = judged_templates({"gan": system(HC=hc, AD=ad), "kernel": system(**PACE)}, None)
    assert (found.name, age_enough(found.table[found.table["kind"] == "gan"])) == (judged, judged == "gan")
    assert {found.name, found.rival} == {"gan", "kernel"} and f"Judged: {judged} templates" in found.said


@pytest.mark.parametrize("asked", ["gan", "kernel"])
@pytest.mark.parametrize("pace", [0.0, 5.0])
def test_a_kind_that_is_asked_for_is_judged_whatever_the_test_says(asked, pace):
    found = judged_templates({"gan": system(HC=pace, AD=pace), "kernel": system(**PACE)}, None, templates=asked)
    assert found.name == asked and "asked for" in found.said


def test_an_unknown_kind_is_refused():
    with pytest.raises(NbkitError, match="templates"):
        judged_templates({"gan": system(**PACE), "kernel": system(**PACE)}, None, templates="gun")
