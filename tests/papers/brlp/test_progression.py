"""Courses of volumes with age: planted rates, statsmodels' own fit, and what one scan or many say of a person."""

import json

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from nbkit.core.checks import NbkitError
from nbkit.papers.brlp.progression import Progression, fit_progression

REGIONS = ("hippocampus", "lateral_ventricle")
LEVEL = {"CN": (8.0, 10.0), "AD": (7.7, 10.4)}
RATE = {"CN": (-0.01, 0.03), "AD": (-0.04, 0.07)}
"""Logarithm of mm³ at 70 years, and its change per year."""


def people(count: int, *, noise: float, own_level: float, own_rate: float, seed: int = 3):
    rng = np.random.default_rng(seed)
    ages, volumes, groups = [], [], []
    for k in range(count):
        group = ("CN", "AD")[k % 2]
        years = rng.uniform(60, 80) + np.cumsum(rng.uniform(0.5, 2.5, size=1 + k % 5))
        level = np.array(LEVEL[group]) + own_level * rng.standard_normal(2)
        rate = np.array(RATE[group]) + own_rate * rng.standard_normal(2)
        logs = level + (years[:, None] - 70) * rate + noise * rng.standard_normal((len(years), 2))
        ages.append(years.tolist())
        volumes.append(np.exp(logs))
        groups.append(group)
    return ages, volumes, groups


@pytest.fixture(scope="module")
def cohort():
    return people(60, noise=0.02, own_level=0.12, own_rate=0.006)


@pytest.fixture(scope="module")
def model(cohort) -> Progression:
    return fit_progression(*cohort, regions=REGIONS)


def test_planted_rates_are_found_exactly_without_noise():
    exact = fit_progression(*people(20, noise=0.0, own_level=0.0, own_rate=0.0), regions=REGIONS)
    for group, rates in RATE.items():
        found = exact.yearly_change(group)
        assert list(found.values()) == pytest.approx([100 * np.expm1(r) for r in rates], rel=1e-6)
        at = exact.predict(group, seen_ages=(), seen=np.empty((0, 2)), ages=[70.0])
        assert np.log(at[0]) == pytest.approx(LEVEL[group], rel=1e-6)


def test_it_is_the_mixed_model_of_statsmodels(cohort, model):
    # in tenths of a logarithm: statsmodels calls variances below 0.01 a boundary, whatever the unit
    ages, volumes, groups = cohort
    rows = [
        (who, (age - model.centre) / 10, groups[who], *(10 * np.log(v)))
        for who in range(len(ages)) for age, v in zip(ages[who], volumes[who], strict=True)
    ]
    table = pd.DataFrame(rows, columns=["who", "x", "group", *REGIONS])
    for k, region in enumerate(REGIONS):
        peer = smf.mixedlm(f"{region} ~ 0 + group + group:x", table, groups="who", re_formula="~x").fit(reml=False)
        for group in ("AD", "CN"):
            wanted = [peer.params[f"group[{group}]"], peer.params[f"group[{group}]:x"]]
            assert model.courses[group][k] == pytest.approx(np.array(wanted) / 10, abs=1e-4)
        assert model.noise[k] == pytest.approx(peer.scale / 100, rel=1e-3)
        assert model.spread[k].ravel() == pytest.approx(peer.cov_re.to_numpy().ravel() / 100, abs=2e-5)


def test_volumes_seen_are_met_as_closely_as_noise_allows():
    ages, volumes, groups = people(40, noise=1e-4, own_level=0.12, own_rate=0.006)
    close = fit_progression(ages, volumes, groups, regions=REGIONS)
    for who in (3, 4):
        found = close.predict(groups[who], seen_ages=ages[who], seen=volumes[who], ages=ages[who])
        assert found == pytest.approx(volumes[who], rel=1e-3)


def test_one_scan_gives_the_level_and_the_group_the_slope(model):
    seen = 1.3 * model.predict("CN", seen_ages=(), seen=np.empty((0, 2)), ages=[72.0])
    later = model.predict("CN", seen_ages=[72.0], seen=seen, ages=[72.0, 77.0])
    assert (later[0] > 0.85 * seen[0]).all() and (later[0] < seen[0]).all()
    sick = model.predict("AD", seen_ages=[72.0], seen=seen, ages=[72.0, 77.0])
    assert sick[1, 0] / sick[0, 0] < later[1, 0] / later[0, 0]


def test_more_scans_draw_the_slope_to_the_persons_own(model):
    years = np.array([66.0, 68.0, 70.0, 72.0, 74.0])
    own = np.exp(np.array([8.0, 10.0]) + (years[:, None] - 70) * np.array([-0.03, 0.06]))
    forecasts = [model.predict("CN", seen_ages=years[:n], seen=own[:n], ages=[84.0])[0] for n in (1, 3, 5)]
    truth = np.exp(np.array([8.0, 10.0]) + 14 * np.array([-0.03, 0.06]))
    misses = [np.abs(np.log(f / truth)).max() for f in forecasts]
    assert misses[0] > misses[1] > misses[2]


def test_the_order_of_people_and_scans_does_not_matter(cohort, model):
    turned = ([a[::-1] for a in cohort[0][::-1]], [v[::-1] for v in cohort[1][::-1]], cohort[2][::-1])
    again = fit_progression(*turned, regions=REGIONS)
    assert again.noise == pytest.approx(model.noise, rel=1e-6)
    assert again.courses["AD"] == pytest.approx(model.courses["AD"], rel=1e-6)


def test_constants_go_through_json(model):
    again = Progression.from_constants(json.loads(json.dumps(model.constants())), where="here")
    seen = np.array([[2500.0, 30000.0]])
    before, after = (m.predict("AD", seen_ages=[70.0], seen=seen, ages=[75.0]) for m in (model, again))
    assert np.array_equal(before, after)
    lacking = {k: v for k, v in model.constants().items() if k != "noise"}
    with pytest.raises(NbkitError, match="here: progression.*'noise'"):
        Progression.from_constants(lacking, where="here")


def test_bad_input_is_refused(cohort, model):
    ages, volumes, groups = (part[:6] for part in cohort)
    empty = [volumes[0] * [0, 1], *volumes[1:]]
    with pytest.raises(NbkitError, match="hippocampus of person 1 of group CN.*positive volumes.*found 0"):
        fit_progression(ages, empty, groups, regions=REGIONS)
    with pytest.raises(NbkitError, match="scanned at two ages or more, found none"):
        fit_progression([a[:1] for a in ages], [v[:1] for v in volumes], groups, regions=REGIONS)
    with pytest.raises(NbkitError, match="group LMCI: expected scans at two ages or more, found 1"):
        fit_progression([*ages, [70.0]], [*volumes, volumes[0][:1]], [*groups, "LMCI"], regions=REGIONS)
    with pytest.raises(NbkitError, match=r"expected one of AD, CN, found 'cn'"):
        model.predict("cn", seen_ages=(), seen=np.empty((0, 2)), ages=[70.0])
