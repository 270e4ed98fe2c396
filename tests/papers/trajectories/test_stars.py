"""The star table: the rule on numbers whose stars are known."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from nbkit.core.checks import NbkitError
from nbkit.papers.trajectories.head_to_head import PERCENT
from nbkit.papers.trajectories.figures import star_table
from nbkit.papers.trajectories.stars import stars

ERRORS = {"no_change": 20.0, "hindsight": 10.0, "brlp": 11.5, "countersynth": 16.1, "inbrainsyn": 25.0, "floor": 9.0}
SHARP = {"no_change": 1.0, "brlp": 0.41, "countersynth": 1.25, "inbrainsyn": 0.97, "hindsight": 1.0, "floor": 0.7}
SECONDS = {"no_change": 1e-6, "hindsight": 1e-6, "brlp": 30.0, "countersynth": 0.2, "inbrainsyn": 2.1,
           "brlp_one_sample": 0.02}


def rows(values: dict[str, float], **labels: str) -> pd.DataFrame:
    """Two people, one a tenth better and one a tenth worse than the mean."""
    frames = [{"subject": s, "system": k, "value": v * f, **labels}
              for k, v in values.items() for s, f in (("a", 0.9), ("b", 1.1))]
    return pd.DataFrame(frames).assign(id="")


@pytest.fixture()
def found() -> pd.DataFrame:
    told = {"setting": "one", "unit": PERCENT, "reading": "alike"}
    scored = pd.concat([
        rows(ERRORS, metric="ventricle", **told), rows(ERRORS, metric="hippocampus", **told),
        rows({k: 9 * v for k, v in ERRORS.items()}, metric="ventricle", **told | {"reading": "own"}),
        rows({k: 9 * v for k, v in ERRORS.items()}, metric="ventricle", **told | {"setting": "several"}),
        rows(SHARP, metric="sharpness", setting="one", unit="1", reading="brain"),
    ])
    return stars(scored, rows(SECONDS, metric="seconds", setting="one"))


def given(found: pd.DataFrame, quality: str, column: str) -> dict[str, float]:
    part = found[found["metric"] == quality]
    return dict(zip(part["system"], part[column], strict=True))


def test_sharpness_is_how_near_the_gradient_energy_is_to_the_truths(found):
    assert given(found, "sharpness", "value") == {"brlp": 3, "countersynth": 4, "inbrainsyn": 5}
    assert given(found, "sharpness", "rank") == {"brlp": 3, "countersynth": 2, "inbrainsyn": 1}
    assert given(found, "sharpness", "measured")["countersynth"] == pytest.approx(1.25)


def test_accuracy_is_what_is_taken_from_the_error_of_no_change(found):
    """Of the ten that reading the truth would take, BrLP takes 8.5, CounterSynth 3.9, and InBrainSyn adds five."""
    assert given(found, "accuracy", "value") == {"brlp": 5, "countersynth": 2, "inbrainsyn": 1}
    assert given(found, "accuracy", "quality")["brlp"] == pytest.approx(0.85)
    assert given(found, "accuracy", "rank") == {"brlp": 1, "countersynth": 2, "inbrainsyn": 3}


def test_speed_loses_a_star_for_every_factor_of_ten_to_the_fastest_forecast(found):
    assert given(found, "speed", "value") == {"brlp": 3, "countersynth": 5, "inbrainsyn": 4}
    assert given(found, "speed", "rank") == {"brlp": 3, "countersynth": 1, "inbrainsyn": 2}


def test_ids_are_those_of_the_article_and_controls_have_none(found):
    assert "inbrainsyn.stars.accuracy.brlp" in set(found["id"]) and (found["subject"] == "").all()
    assert set(found["system"]) == {"brlp", "countersynth", "inbrainsyn"} and found["value"].between(1, 5).all()


def test_the_articles_stars_stand_beside_ours(found):
    published = {"inbrainsyn.stars.speed.brlp": SimpleNamespace(value=4.0)}
    table = star_table(found, published)
    row = table.loc[("speed", "BrLP")]
    assert row[["published", "ours", "rank"]].tolist() == ["★★★★", "★★★", "3 of 3"]
    assert table.loc[("sharpness", "CounterSynth"), "published"] == "–"
    assert table.loc[("speed", "BrLP"), "measured"] == "30 s a scan"


def test_accuracy_needs_both_ends():
    told = {"setting": "one", "unit": PERCENT, "reading": "alike", "metric": "ventricle"}
    scored = pd.concat([rows({"brlp": 1.0}, **told), rows({"brlp": 1.0}, **told | {"metric": "sharpness"})])
    with pytest.raises(NbkitError, match="hindsight"):
        stars(scored, rows(SECONDS, metric="seconds", setting="one"))
