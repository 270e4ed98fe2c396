"""What the article says in words, on balls whose future is known."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from nbkit.claims.ledger import load_paper
from nbkit.core.tidy import by_subject
from nbkit.core.volume import Volume
from nbkit.geometry.flow import Velocity, expv
from nbkit.geometry.warp import grid_positions
from nbkit.papers.inbrainsyn import experiments, in_words
from nbkit.papers.trajectories.experiments import futures_of
from tests.papers.inbrainsyn.scores import Turning
from tests.papers.trajectories.ageing_balls import AFFINE, RATES, SHAPE, cohort, person

IDS = load_paper("inbrainsyn").ids


def test_early_signs_are_what_disease_takes_by_the_first_age(ball):
    ball = replace(ball, label_names={1: "hippocampus_left", 2: "white_matter_left"})
    futures = futures_of(Turning(), [ball], experiments.what_if_courses(turn=2.0), years=(2, 4))
    found = by_subject(in_words.early_signs(futures), structure="hippocampus")
    left = [1 - 6 * RATES["AD"], 1 - 4 * RATES["HC"] - 2 * RATES["HC"]]
    ill, well = ((r / b) ** 3 for r, b in zip(left, (1 - 4 * RATES["AD"], 1 - 4 * RATES["HC"]), strict=True))
    assert found["p"] == pytest.approx(100 * (ill - well), rel=0.15) and found["p"] < 0
    ids = set(in_words.early_signs(futures)["id"])
    assert ids <= {"inbrainsyn.early.hippocampus", "inbrainsyn.early.elsewhere"} <= set(IDS)


def test_precision_is_the_distance_from_where_tissue_will_be(ball):
    """The person stretches by 3 %: a system that knows it misses nothing, one that does nothing the mean distance."""
    late = replace(ball, session="late", age=66.0)
    one = replace(person("p", "HC", ages=(64.0,), size=1.0, centre=(0, 0, 0)), scans=(ball, late))
    velocity = Volume(0.015 * grid_positions(SHAPE, AFFINE)[0].float(), AFFINE)
    truth = SimpleNamespace(velocity=velocity, times=(0.0, 2.0), onset=None)
    group = replace(cohort([one]), truth={"p": truth})
    exact = expv(Velocity(2 * velocity.data[None]), affine=AFFINE)

    def model(share: float) -> SimpleNamespace:
        return SimpleNamespace(futures=lambda s, ages, course: SimpleNamespace(displacements=share * exact))

    perfect = in_words.precision(model(1.0), group).set_index("system")["value"]
    assert perfect["error"] == pytest.approx(0, abs=1e-6) and perfect["beyond"] == pytest.approx(-1)
    away = exact[0].norm(dim=0)[late.mask("brain").data[0]].mean()
    assert perfect["no_change"] == pytest.approx(float(away))
    wrong = in_words.precision(model(-1.0), group).set_index("system")["value"]
    assert wrong["error"] == pytest.approx(2 * float(away), rel=1e-5)
    turned = replace(group, truth={"p": SimpleNamespace(**{**vars(truth), "onset": {"age": 65.0}})})
    assert in_words.precision(model(1.0), turned).empty
