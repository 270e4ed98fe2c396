"""Names and marks of the ageing figures are readable, and never two of one look in one figure."""

from __future__ import annotations

import pytest

from nbkit.figures.marks import (
    CONFIGURATIONS, DIAGNOSES, ESTIMATES, FUTURES, TRAJECTORIES, TRANSPORTS, marks, region_title, spoken,
)


@pytest.mark.parametrize("known", [TRAJECTORIES, ESTIMATES, FUTURES, TRANSPORTS, DIAGNOSES, CONFIGURATIONS])
def test_colour_is_never_the_only_difference(known):
    assert len({m.colour for m in known.values()}) == len({m.marker for m in known.values()}) == len(known)


def test_estimates_stand_beside_models_without_a_clash():
    beside = {n: m for n, m in TRAJECTORIES.items() if n not in ("mrextrap", "population")}
    both = [*beside.values(), *ESTIMATES.values()]
    assert len({m.colour for m in both}) == len({m.marker for m in both}) == len(both)


def test_a_model_that_is_not_known_gets_a_free_colour_and_its_own_name():
    made = marks(["truth", "inbrainsyn", "mine"])
    assert [m.title for m in made.values()] == ["truth", "InBrainSyn", "mine"]
    assert len({m.colour for m in made.values()}) == 3


@pytest.mark.parametrize("name, title", [
    ("hippocampus_left", "Left hippocampus"), ("lateral_ventricle", "Lateral ventricle"), ("csf_right", "Right CSF"),
    ("frontal", "Frontal cortex"), ("white_matter_left", "Left white matter"), ("csf", "CSF"),
    ("temporal_right", "Right temporal cortex"),
])
def test_region_titles(name, title):
    assert region_title(name) == title


@pytest.mark.parametrize("text, said", [
    ("mrextrap_bayes", "MRExtrap, posterior"), ("brlp", "BrLP"), ("deep_grey", "other deep grey matter"),
    ("hippocampus_left", "left hippocampus"), ("csf_left", "left CSF"), ("no_dir", "without DIR"),
    ("own_scale", "own scale"), ("lateral_ventricle", "lateral ventricle"),
    ("mean", "mean"), ("floor", "floor"), ("AD", "AD"), ("with own_scale", "with own_scale"), ("", ""),
])
def test_a_reader_sees_no_code_names(text, said):
    assert spoken(text) == said


def test_what_is_said_beside_a_title_keeps_its_colour_and_gets_another_marker():
    names = ["BrLP, one scan", "BrLP, several scans", "hippocampus, MRExtrap, posterior", "white matter, left"]
    made = marks(names)
    assert [m.title for m in made.values()] == names
    one, several, posterior, other = made.values()
    assert one.colour == several.colour == TRAJECTORIES["brlp"].colour and one.marker != several.marker
    assert posterior.colour == ESTIMATES["mrextrap_bayes"].colour, "the longest title counts"
    assert other.colour not in {one.colour, posterior.colour}
