"""Lines, priors and posteriors: closed forms, independent references, and coverage where the truth is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.core.seeds import numpy_generator, torch_generator
from nbkit.papers.trajectories.slopes import (
    Line, SlopePrior, correlated, estimate_prior, fit_line, line_at, posterior,
)

AGES = st.lists(st.integers(500, 900), min_size=2, max_size=6, unique=True).map(lambda a: [x / 10 for x in a])
NONE = torch.zeros(0, 1, dtype=torch.float64)


def values(*rows: float) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)[:, None]


def known_prior(slope: float, variance: float, noise: float) -> SlopePrior:
    """A prior over one element, without loadings."""
    one = torch.ones(1, dtype=torch.float64)
    return SlopePrior({"CN": slope * one}, {"CN": variance * one}, noise * one, NONE, NONE)


# lines


@given(AGES, st.integers(0, 10**6))
def test_a_line_is_that_of_numpy(ages, seed):
    z = numpy_generator(seed).normal(size=(len(ages), 2, 3))
    line = fit_line(ages, torch.from_numpy(z))
    slope, level = np.polyfit(np.array(ages) - np.mean(ages), z.reshape(len(ages), -1), 1)
    np.testing.assert_allclose(line.slope.flatten(), slope, atol=1e-9)
    np.testing.assert_allclose(line.value.flatten(), level, atol=1e-9)
    fitted = torch.stack([line_at(line, line.value, line.slope, age=a) for a in ages])
    np.testing.assert_allclose(fitted + line.residuals, z, atol=1e-9)


def test_two_scans_give_the_line_through_both():
    line = fit_line([70.0, 72.5], values(1.0, 2.0))
    assert float(line.slope) == pytest.approx(0.4)
    assert float(line.residuals.abs().max()) < 1e-12
    assert float(line_at(line, line.value, line.slope, age=80.0)) == pytest.approx(5.0)


def test_one_age_has_no_slope_but_a_mean():
    line = fit_line([70.0, 70.0], values(1.0, 3.0))
    assert (line.spread, float(line.slope), float(line.value), line.count) == (0.0, 0.0, 2.0, 2)


def test_as_many_ages_as_rows():
    with pytest.raises(NbkitError, match="a row for each of 2 ages"):
        fit_line([70.0, 71.0], values(1.0))


# posterior


@given(AGES, st.floats(-2, 2), st.floats(1e-3, 10), st.floats(1e-3, 10), st.integers(0, 10**6))
def test_the_posterior_is_that_of_conjugate_regression(ages, population, between, noise, seed):
    """Against the joint posterior of intercept and slope with design [1, a − ā] and precisions (0, 1/τ²)."""
    z = numpy_generator(seed).normal(size=len(ages))
    design = np.stack([np.ones(len(ages)), np.array(ages) - np.mean(ages)], axis=1)
    precision = design.T @ design / noise + np.diag([0, 1 / between])
    mean = np.linalg.solve(precision, design.T @ z / noise + np.array([0, population / between]))
    covariance = np.linalg.inv(precision)
    found = posterior(fit_line(ages, values(*z)), known_prior(population, between, noise), "CN", estimator="bayes")
    assert float(found.slope) == pytest.approx(mean[1], rel=1e-6, abs=1e-9)
    assert float(found.variance) == pytest.approx(covariance[1, 1], rel=1e-6)
    ahead = np.array([1.0, 5.0 + ages[0] - np.mean(ages)])
    assert float(found.at(5 + ages[0])) == pytest.approx(ahead @ mean, rel=1e-6, abs=1e-9)
    assert float(found.variance_at(5 + ages[0])) == pytest.approx(ahead @ covariance @ ahead, rel=1e-6)


def test_the_posterior_in_figures():
    """S = 2, σ² = 1, τ² = 0.5: half the person's slope of 1 and half the population's of 0.2; variance 1/(2 + 2)."""
    found = posterior(fit_line([70, 71, 72], values(0, 1, 2)), known_prior(0.2, 0.5, 1.0), "CN", estimator="bayes")
    assert (float(found.slope), float(found.variance)) == (pytest.approx(0.6), pytest.approx(0.25))


@pytest.mark.parametrize(("variance", "like"), [(1e12, "ols"), (1e-12, "population")])
def test_limits_of_the_prior(variance, like):
    line, prior = fit_line([70, 71, 73], values(0.0, 1.0, 1.5)), known_prior(-0.3, variance, 0.4)
    bayes, limit = (posterior(line, prior, "CN", estimator=e) for e in ("bayes", like))
    assert float(bayes.slope) == pytest.approx(float(limit.slope), abs=1e-9)
    assert float(bayes.variance) == pytest.approx(float(limit.variance), rel=1e-6)


def test_one_scan_is_carried_on_by_the_population():
    line, prior = fit_line([70], values(4.0)), known_prior(-0.3, 0.04, 0.01)
    for estimator in ("bayes", "population"):
        found = posterior(line, prior, "CN", estimator=estimator)
        assert float(found.at(75)) == pytest.approx(4.0 - 1.5)
        assert float(found.variance_at(75)) == pytest.approx(0.01 + 25 * 0.04)


@pytest.mark.parametrize(("group", "estimator", "words"), [
    ("CN", "ols", "two ages or more for 'ols', found 1 at one age"), ("AC", "bayes", "Did you mean 'CN'"),
    ("CN", "bayess", "Did you mean 'bayes'"),
])
def test_what_cannot_be_joined_is_refused(group, estimator, words):
    with pytest.raises(NbkitError, match=words):
        posterior(fit_line([70], values(4.0)), known_prior(0, 1, 1), group, estimator=estimator)


# prior


def people(
    count: int, *, seed: int, elements: int = 30, shared: float = 0.9, groups=("CN", "AD"), visits=(3, 6)
) -> tuple[list[tuple[list[float], torch.Tensor]], list[str], torch.Tensor]:
    """(ages, noisy values) per person, groups and true slopes; slopes deviate together by the share `shared`.

    Population slopes are -1 (CN) and -3 (AD), standard deviations 0.5 and 1.0, noise 0.2 with a shared part too.
    """
    rng = numpy_generator(seed, "people")
    pattern, disturbance = rng.choice([-1.0, 1.0], (2, elements))
    data, names, true = [], [], []
    for i in range(count):
        group = groups[i % len(groups)]
        mix = np.sqrt(shared) * rng.standard_normal() * pattern + np.sqrt(1 - shared) * rng.standard_normal(elements)
        slope = {"CN": -1.0, "AD": -3.0}[group] + {"CN": 0.5, "AD": 1.0}[group] * mix
        ages = 60 + 20 * rng.random() + np.arange(rng.integers(*visits)) * rng.uniform(0.8, 1.2)
        noise = 0.6 * rng.standard_normal((len(ages), 1)) * disturbance
        noise = noise + 0.8 * rng.standard_normal((len(ages), elements))
        line = rng.normal(size=elements) + (ages - 70)[:, None] * slope
        data.append((ages.tolist(), torch.from_numpy(line + 0.2 * noise)))
        names.append(group)
        true.append(np.stack([line[0], slope]))
    return data, names, torch.from_numpy(np.stack(true))


def lines_of(data) -> list[Line]:
    return [fit_line(ages, z) for ages, z in data]


def test_moments_recover_what_was_planted():
    data, groups, _ = people(600, seed=1)
    prior = estimate_prior(lines_of(data), groups, factors=8)
    assert float(prior.noise.mean()) == pytest.approx(0.04, rel=0.05)
    for group, slope, sd in (("CN", -1, 0.5), ("AD", -3, 1.0)):
        assert float(prior.slopes[group].mean()) == pytest.approx(slope, abs=3 * sd / 300**0.5)
        assert float(prior.variances[group].mean()) == pytest.approx(sd**2, rel=0.15)
    assert float(prior.slope_loadings[0].square().mean()) == pytest.approx(0.9, abs=0.05)
    assert float(prior.noise_loadings[0].square().mean()) == pytest.approx(0.36, abs=0.05)


def test_the_variance_between_people_is_that_of_dersimonian_and_laird():
    data, _, _ = people(40, seed=2, groups=("CN",))
    lines = lines_of(data)
    prior = estimate_prior(lines, ["CN"] * 40, factors=4)
    noise = sum(line.residuals[:, 0].square().sum() for line in lines) / sum(line.count - 2 for line in lines)
    within = np.array([float(noise) / line.spread for line in lines])
    slopes = np.array([float(line.slope[0]) for line in lines])
    fixed = np.average(slopes, weights=1 / within)
    excess = ((slopes - fixed) ** 2 / within).sum() - 39
    between = excess / ((1 / within).sum() - (within**-2.0).sum() / (1 / within).sum())
    weights = 1 / (between + within)
    assert float(prior.slopes["CN"][0]) == pytest.approx(np.average(slopes, weights=weights))
    assert float(prior.variances["CN"][0]) == pytest.approx(between + 1 / weights.sum())


def test_people_seen_once_do_not_matter():
    data, groups, _ = people(20, seed=3)
    lines = lines_of(data)
    once = fit_line([70.0], data[0][1][:1] + 100)
    a, b = estimate_prior(lines, groups, factors=4), estimate_prior([*lines, once], [*groups, "CN"], factors=4)
    assert all(torch.equal(x, b.tensors()[name]) for name, x in a.tensors().items())


def test_identical_people_leave_a_small_variance_not_a_negative_one():
    rng = numpy_generator(4)
    data = [([70.0, 71.0, 72.0], torch.from_numpy(rng.normal(size=(3, 5)))) for _ in range(10)]
    prior = estimate_prior(lines_of(data), ["CN"] * 10, factors=4)
    assert all(bool((t > 0).all()) for t in (prior.noise, prior.variances["CN"]))


@pytest.mark.parametrize("visits", [(1, 2), (2, 3)])
def test_too_few_scans_for_a_prior(visits):
    data, groups, _ = people(10, seed=5, visits=visits)
    with pytest.raises(NbkitError, match="two people of one group scanned at two ages or more, and somebody three"):
        estimate_prior(lines_of(data), groups, factors=4)


def test_one_person_per_group_says_nothing_of_people():
    data, _, _ = people(2, seed=5)
    with pytest.raises(NbkitError, match="found 2 people with two ages in 2 groups"):
        estimate_prior(lines_of(data), ["CN", "AD"], factors=4)


def test_a_group_of_one_borrows_the_spread_of_the_others():
    data, _, _ = people(41, seed=6, groups=("CN",))
    prior = estimate_prior(lines_of(data), ["CN"] * 40 + ["AD"], factors=4)
    # what is known of its population is one slope, as far from it as people are from theirs
    assert bool((prior.variances["AD"] > 1.5 * prior.variances["CN"]).all())


def test_a_prior_survives_its_tensors():
    data, groups, _ = people(20, seed=6)
    prior = estimate_prior(lines_of(data), groups, factors=4)
    again = SlopePrior.from_tensors(prior.tensors(), list(prior.slopes))
    assert all(torch.equal(x, again.tensors()[name]) for name, x in prior.tensors().items())


# draws


def test_draws_have_the_asked_correlation():
    loadings = torch.tensor([[0.8, 0.6, 0.0], [0.0, 0.5, 0.3]], dtype=torch.float64)
    drawn = correlated(loadings, 20_000, generator=torch_generator(0))
    wanted = loadings.T @ loadings
    wanted.fill_diagonal_(1.0)
    # standard error of a correlation of 20 000 draws is at most 0.0071 (0.01 for a variance): four of them
    assert float((drawn.T @ drawn / 20_000 - wanted).abs().max()) < 0.04


@pytest.mark.parametrize("estimator", ["ols", "bayes", "population"])
def test_draws_have_the_variance_of_the_posterior(estimator):
    data, groups, _ = people(30, seed=7)
    prior = estimate_prior(lines_of(data), groups, factors=4)
    found = posterior(fit_line(*data[0]), prior, "CN", estimator=estimator)
    ahead = line_at(found.line, *found.draw(4000, generator=torch_generator(1)), age=80.0)
    np.testing.assert_allclose(ahead.var(dim=0) / found.variance_at(80.0), 1.0, atol=4 * (2 / 4000) ** 0.5 * 1.2)
    assert float((ahead.mean(dim=0) - found.at(80.0)).abs().max()) < 4 * float((ahead.var(dim=0) / 4000).sqrt().max())


@pytest.mark.parametrize(("estimator", "seen"), [("bayes", 1), ("bayes", 2), ("bayes", 3), ("ols", 3)])
def test_intervals_cover_the_truth_at_their_nominal_rate(estimator, seen):
    """New people, five years ahead: each element, and the sum of all (a region's volume), lie within 90 % intervals.

    With 300 people a rate of .9 has a standard error of .017: three of them, and .01 for the prior being estimated.
    """
    known, groups, _ = people(300, seed=8)
    prior = estimate_prior(lines_of(known), groups, factors=8)
    data, names, true = people(600, seed=8)  # the first 300 are those of the prior; the others are new
    pattern = torch.sign(prior.slope_loadings[0])
    inside = {"element": [], "region": []}
    for (ages, z), group, (level, slope) in zip(data[300:], names[300:], true[300:], strict=True):
        found = posterior(fit_line(ages[:seen], z[:seen]), prior, group, estimator=estimator)
        age = ages[seen - 1] + 5
        ahead = level + (age - ages[0]) * slope
        element = (found.at(age) - ahead)[0].abs() < 1.645 * found.variance_at(age)[0].sqrt()
        lines = found.draw(100, generator=torch_generator(2, len(inside["region"])))
        drawn = line_at(found.line, *lines, age=age)
        region = ((found.at(age) - ahead) @ pattern).abs() < 1.645 * (drawn @ pattern).std()
        inside["element"].append(bool(element))
        inside["region"].append(bool(region))
    for rate in map(np.mean, inside.values()):
        assert rate == pytest.approx(0.9, abs=3 * 0.0173 + 0.01)


def test_draws_of_independent_elements_would_be_far_too_sure_of_a_region():
    """Why loadings exist: people's slopes deviate together, and a sum over elements keeps what they share."""
    data, groups, _ = people(300, seed=9)
    prior = estimate_prior(lines_of(data), groups, factors=8)
    found = posterior(fit_line(data[0][0][:1], data[0][1][:1]), prior, "CN", estimator="bayes")
    pattern, (_, drawn) = torch.sign(prior.slope_loadings[0]), found.draw(400, generator=torch_generator(3))
    assert float((drawn @ pattern).std()) > 3 * float(drawn.var(dim=0).sum().sqrt())
