"""Who is simulated, and the disability that goes with remyelination."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.phantom.lesion_myelin import Rates
from nbkit.phantom.myelin_people import draw_edss, myelin_parameters, roster
from nbkit.phantom.parameters import Parameters

P = myelin_parameters()


@pytest.mark.parametrize("seed", [0, 7, 12345])
def test_people_are_those_of_the_thesis(seed):
    people = roster("paper", seed=seed, parameters=P)
    assert people == roster("laptop", seed=seed, parameters=P)
    patients, controls = ([p for p in people if p.diagnosis == d] for d in ("MS", "HC"))
    for group, n, women, mean, sd in ((patients, 18, 12, 31.4, 5.6), (controls, 10, 8, 29.4, 6.3)):
        ages = np.array([p.age for p in group])
        assert (len(group), sum(p.sex == "F" for p in group)) == (n, women)
        assert ages.mean() == pytest.approx(mean, abs=0.05) and ages.std(ddof=1) == pytest.approx(sd, abs=0.05)
    months = [p.months for p in patients if p.months is not None]
    assert len(months) == 15 and all(1 <= m <= 2 or 3 <= m <= 4 for m in months)
    assert all(p.months is None and p.rates == Rates(0, 0, 0) and not p.lesions for p in controls)
    assert all(p.load_ml >= 1 and 1000 * p.load_ml / p.lesions >= 40 for p in patients)


def test_rates_cover_their_ranges_one_patient_per_share():
    patients = [p for p in roster("laptop", seed=7, parameters=P) if p.diagnosis == "MS"]
    for name in ("demyelinated", "remyelinating", "demyelinating"):
        low, high = P[f"course.{name}"]
        place = (np.sort([getattr(p.rates, name) for p in patients]) - low) / (high - low) * len(patients)
        assert (np.floor(place) == np.arange(len(patients))).all()


def test_smoke_has_six_patients_five_of_them_twice():
    people = roster("smoke", seed=7, parameters=P)
    assert [p.diagnosis for p in people] == ["MS"] * 6 + ["HC"] * 4
    assert sum(p.months is not None for p in people) == 5
    with pytest.raises(NbkitError, match="Did you mean 'laptop'"):
        roster("labtop", seed=7, parameters=P)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_edss_has_the_planted_association_and_none_with_demyelination(seed):
    """Before rounding, which is switched off by points of a thousandth: exact whatever the draw."""
    fine = Parameters({**P.entries, **{
        f"edss.{name}": {"value": value, "unit": "", "source": "test"}
        for name, value in (("mean", 5e4), ("sd", 1e4), ("range", (0, 1e6)))
    }})
    rng = np.random.default_rng(seed)
    back, lost = rng.random((2, 18))
    edss = draw_edss(rng, back, lost, parameters=fine)
    between = np.corrcoef(back, lost)[0, 1]
    assert np.corrcoef(edss, lost)[0, 1] == pytest.approx(0, abs=1e-3)
    assert np.corrcoef(edss, back)[0, 1] == pytest.approx(P["edss.beta"] * np.sqrt(1 - between**2), abs=1e-3)


def test_edss_is_a_score_in_half_points():
    rng = np.random.default_rng(0)
    edss = draw_edss(rng, rng.random(200), rng.random(200), parameters=P)
    assert np.array_equal(2 * edss, np.round(2 * edss)) and 0 <= edss.min() and edss.max() <= 6.5
    assert edss.mean() == pytest.approx(P["edss.mean"], abs=0.1)
    with pytest.raises(NbkitError, match="at least 4 patients"):
        draw_edss(rng, [0.1, 0.2, 0.3], [0.1, 0.3, 0.2], parameters=P)
