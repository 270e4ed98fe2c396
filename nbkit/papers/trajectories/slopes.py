"""Linear change with age: least squares for one person, a prior over slopes from many, the posterior that joins them.

Values are tensors of any shape (latents, voxels), every element by itself; only random draws know that elements err
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from nbkit.core.checks import known, require

_LEAST_SPREAD = 0.1
"""A group's slopes are never taken for more alike than a tenth of the pooled variance: few people look alike by luck"""
_MOST_ROWS = 512


@dataclass(frozen=True, eq=False)
class Line:
    """A least-squares line through one person's values.

    Parameters
    ----------
    age, value
        Means over the scans: years, and a tensor (...).
    slope : torch.Tensor
        (...) per year; zero where all ages are the same.
    spread : float
        Sum of squared distances of the ages from their mean, in years².
    residuals : torch.Tensor
        (k, ...), one row per scan.
    """

    age: float
    value: torch.Tensor
    slope: torch.Tensor
    spread: float
    residuals: torch.Tensor

    @property
    def count(self) -> int:
        """Number of scans."""
        return self.residuals.shape[0]


def fit_line(ages: Sequence[float], values: torch.Tensor) -> Line:
    """Least-squares line of each element of `values` (k, ...) on `ages` (k years)."""
    require(
        len(ages) == len(values) > 0, "fit_line: values", expected=f"a row for each of {len(ages)} ages, at least one",
        found=len(values), remedy="Give one age per scan.",
    )
    years = torch.tensor(list(ages), dtype=torch.float64)
    centred = (years - years.mean()).to(values)
    spread = float(centred.square().sum())
    value = values.mean(dim=0)
    apart = values - value
    slope = torch.tensordot(centred, apart, dims=1) / spread if spread > 0 else torch.zeros_like(value)
    fitted = centred.view(-1, *[1] * value.ndim) * slope
    return Line(float(years.mean()), value, slope, spread, apart - fitted)


@dataclass(frozen=True, eq=False)
class SlopePrior:
    """What is known of slopes before a person is seen, and of the noise of one scan.

    Parameters
    ----------
    slopes, variances : mapping of str to torch.Tensor
        By group: population slope β0 (...) per year, and the variance of a new person's slope about it (that between
        people, τ², and that of β0 itself).
    noise : torch.Tensor
        Variance σ² (...) of one scan about the person's line.
    slope_loadings, noise_loadings : torch.Tensor
        (r, ...): how deviations of slopes and noise go together; squares sum to at most 1 over r, what is left to 1
        is each element's own.
    """

    slopes: Mapping[str, torch.Tensor]
    variances: Mapping[str, torch.Tensor]
    noise: torch.Tensor
    slope_loadings: torch.Tensor
    noise_loadings: torch.Tensor

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of it under flat names, for a checkpoint."""
        named = {f"prior.slope.{g}": t for g, t in self.slopes.items()}
        named |= {f"prior.variance.{g}": t for g, t in self.variances.items()}
        shared = {"noise": self.noise, "slope_loadings": self.slope_loadings, "noise_loadings": self.noise_loadings}
        return named | {f"prior.{name}": t for name, t in shared.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], groups: Sequence[str]) -> SlopePrior:
        """Inverse of :meth:`tensors`."""
        slopes, variances = ({g: tensors[f"prior.{kind}.{g}"] for g in groups} for kind in ("slope", "variance"))
        return cls(slopes, variances, *(tensors[f"prior.{n}"] for n in ("noise", "slope_loadings", "noise_loadings")))


def estimate_prior(lines: Sequence[Line], groups: Sequence[str], *, factors: int) -> SlopePrior:
    """Prior over slopes by moments: σ² from residuals, τ² from what slopes differ by beyond it.

    τ² is the estimator of DerSimonian & Laird (1986) pooled over groups, of each element; the ratio of a group's τ² to
    the pooled one is shared by all elements. People with one scan tell nothing here and are passed over.

    Parameters
    ----------
    lines : sequence of Line
        One per person.
    groups : sequence of str
        The group (diagnosis) of each person.
    factors : int
        Most loadings kept for slopes and for noise.

    Raises
    ------
    NbkitError
        If no group has two people with two ages, or nobody has three scans.
    """
    pairs = [(line, group) for line, group in zip(lines, groups, strict=True) if line.spread > 0]
    freedom = sum(max(line.count - 2, 0) for line, _ in pairs)
    people = {g: [line for line, other in pairs if other == g] for g in sorted({g for _, g in pairs})}
    require(
        len(pairs) > len(people) and freedom > 0, "estimate_prior: lines",
        expected="two people of one group scanned at two ages or more, and somebody three times",
        found=f"{len(pairs)} people with two ages in {len(people)} groups, {freedom} scans beyond the second",
        remedy="Train on more people with follow-up scans.",
    )
    noise = _floored(sum(line.residuals.square().sum(dim=0) for line, _ in pairs) / freedom)
    pooled, ratios = _between(people, noise)
    means = {g: _population(people[g], pooled * ratios[g], noise) for g in people}
    deviations = [(line, (line.slope - means[g][0]) / ratios[g] ** 0.5) for g in people for line in people[g]]
    noise_loadings = _noise_loadings([line for line, _ in pairs], noise, freedom, factors)
    return SlopePrior(
        {g: slope for g, (slope, _) in means.items()},
        {g: pooled * ratios[g] + error for g, (_, error) in means.items()},
        noise, _slope_loadings(deviations, pooled, noise, noise_loadings, factors), noise_loadings,
    )


def _floored(variance: torch.Tensor) -> torch.Tensor:
    """A variance that can be divided by: at least a millionth of its mean."""
    return variance.clamp(min=max(1e-6 * float(variance.clamp(min=0).mean()), 1e-12))


def _between(people: Mapping[str, Sequence[Line]], noise: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    """τ² pooled over groups (...), and each group's ratio to it."""
    excess, weight = {}, {}
    for group, lines in people.items():
        spreads = torch.tensor([line.spread for line in lines])
        slopes = torch.stack([line.slope for line in lines])
        rows = spreads.to(slopes).view(-1, *[1] * noise.ndim)
        apart = slopes - (rows * slopes).sum(dim=0) / rows.sum()
        excess[group] = (rows * apart.square()).sum(dim=0) - (len(lines) - 1) * noise
        weight[group] = float(spreads.sum() - spreads.square().sum() / spreads.sum())
    raw = sum(excess.values()) / sum(weight.values())
    total = float(raw.clamp(min=0).sum())
    ratios = {
        g: max(float(excess[g].sum()) / weight[g] / total, _LEAST_SPREAD) if len(people[g]) > 2 and total > 0 else 1.0
        for g in people
    }
    return _floored(raw), ratios


def _population(lines: Sequence[Line], between: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Slope of a group, people weighted by how well theirs is known, and its variance."""
    weights = [1 / (between + noise / line.spread) for line in lines]
    total = sum(weights)
    return sum(w * line.slope for w, line in zip(weights, lines, strict=True)) / total, 1 / total


def _noise_loadings(lines: Sequence[Line], noise: torch.Tensor, freedom: int, factors: int) -> torch.Tensor:
    rows = torch.cat([line.residuals for line in lines if line.count > 2])
    step = -(-len(rows) // _MOST_ROWS)
    vectors, values = _principal(rows[::step] * (step / freedom) ** 0.5, factors)
    return _capped(vectors * _column(values.sqrt(), vectors), noise)


def _slope_loadings(
    deviations: Sequence[tuple[Line, torch.Tensor]], between: torch.Tensor, noise: torch.Tensor,
    noise_loadings: torch.Tensor, factors: int,
) -> torch.Tensor:
    """Loadings of slopes, less what the noise of their lines adds to each."""
    spreads = torch.tensor([line.spread for line, _ in deviations])
    rows = torch.stack([apart for _, apart in deviations])
    vectors, values = _principal(rows * _column((spreads / spreads.sum()).sqrt().to(rows), rows), factors)
    shared = (vectors.flatten(1) @ (noise_loadings * noise.sqrt()).flatten(1).T).square().sum(dim=1)
    own = vectors.flatten(1).square() @ (noise * _own(noise_loadings)).flatten()
    values = (values - (shared + own) * (len(deviations) / float(spreads.sum()))).clamp(min=0)
    return _capped(vectors * _column(values.sqrt(), vectors), between)


def _principal(rows: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Leading unit vectors (r, ...) of rows (n, ...) and their shares of the sum of squares, by the Gram matrix."""
    flat = rows.flatten(1).double()
    values, vectors = torch.linalg.eigh(flat @ flat.T)
    keep = values.flip(0)[:count] > 1e-12 * values.clamp(min=0).sum().clamp(min=1e-300)
    values, vectors = values.flip(0)[:count][keep], vectors.flip(1)[:, :count][:, keep]
    units = (vectors.T @ flat) / values.sqrt()[:, None]
    return units.view(-1, *rows.shape[1:]).to(rows), values.to(rows)


def _column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


def _capped(factors: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Factors over the standard deviation of their element, shrunk where they would explain more than all of it."""
    loadings = factors / variance.sqrt()
    return loadings / loadings.square().sum(dim=0).sqrt().clamp(min=1)


def _own(loadings: torch.Tensor) -> torch.Tensor:
    return (1 - loadings.square().sum(dim=0)).clamp(min=0)


@dataclass(frozen=True, eq=False)
class Posterior:
    """One person's line given their scans and, unless least squares are asked for, the prior of their group.

    Parameters
    ----------
    line : Line
    prior : SlopePrior
    group : str
    gain : torch.Tensor
        (...) in [0, 1]: weight of the person's own slope against the population's; 1 is least squares, 0 the
        population slope.
    """

    line: Line
    prior: SlopePrior
    group: str
    gain: torch.Tensor

    @property
    def slope(self) -> torch.Tensor:
        """β̂ (...) per year."""
        return self.gain * self.line.slope + (1 - self.gain) * self.prior.slopes[self.group]

    @property
    def variance(self) -> torch.Tensor:
        """Variance of the slope about β̂ (...): that of the prior and that of the scans, each by its weight."""
        own = self.gain.square() * self.prior.noise / self.line.spread if self.line.spread > 0 else 0.0
        return (1 - self.gain).square() * self.prior.variances[self.group] + own

    def at(self, age: float) -> torch.Tensor:
        """Expected values (...) at an age (years)."""
        return line_at(self.line, self.line.value, self.slope, age=age)

    def variance_at(self, age: float) -> torch.Tensor:
        """Variance (...) of the person's noise-free values at an age: of the level and of the slope."""
        return self.prior.noise / self.line.count + (age - self.line.age) ** 2 * self.variance

    def draw(self, count: int, *, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Levels and slopes (count, ...) that the scans allow; :func:`line_at` gives their values at an age.

        The marginal variances are those of :attr:`variance`; elements err together as people's slopes and the noise
        of their scans did in training.
        """
        prior = self.prior
        level, own, people = (
            correlated(loadings, count, generator=generator)
            for loadings in (prior.noise_loadings, prior.noise_loadings, prior.slope_loadings)
        )
        slopes = self.slope + (1 - self.gain) * prior.variances[self.group].sqrt() * people
        if self.line.spread > 0:
            slopes = slopes + self.gain * (prior.noise / self.line.spread).sqrt() * own
        return self.line.value + (prior.noise / self.line.count).sqrt() * level, slopes


def line_at(line: Line, level: torch.Tensor, slope: torch.Tensor, *, age: float) -> torch.Tensor:
    """Values (...) at an age (years) of a line with this level at the person's mean age, and this slope."""
    return level + (age - line.age) * slope


def correlated(loadings: torch.Tensor, count: int, *, generator: torch.Generator) -> torch.Tensor:
    """Standard normal draws (count, ...) whose elements go together as `loadings` (r, ...) say."""
    shared = torch.randn(count, len(loadings), generator=generator).to(loadings)
    own = torch.randn(count, *loadings.shape[1:], generator=generator).to(loadings)
    return torch.tensordot(shared, loadings, dims=1) + _own(loadings).sqrt() * own


ESTIMATORS = ("ols", "bayes", "population")


def posterior(line: Line, prior: SlopePrior, group: str, *, estimator: str) -> Posterior:
    """Join a person's line with the prior of a group.

    The slope of ``bayes`` is (Σ(a−ā)(z−z̄)/σ² + β0/τ²) / (Σ(a−ā)²/σ² + 1/τ²), the conjugate posterior mean.

    Parameters
    ----------
    line : Line
    prior : SlopePrior
    group : str
    estimator : {"ols", "bayes", "population"}
        The person's own least-squares slope (two ages at least), the posterior, or the population's slope.

    Raises
    ------
    NbkitError
        For an unknown group or estimator, or least squares through a single age.
    """
    known(estimator, ESTIMATORS, "posterior: estimator")
    known(group, prior.slopes, "posterior: diagnosis")
    require(
        estimator != "ols" or line.spread > 0, "posterior: history", expected="scans at two ages or more for 'ols'",
        found=f"{line.count} at one age", remedy="Give earlier scans too, or use estimator='bayes', which needs one.",
    )
    if estimator == "bayes":
        gain = line.spread / (line.spread + prior.noise / prior.variances[group])
    else:
        gain = torch.full_like(prior.noise, 1.0 if estimator == "ols" else 0.0)
    return Posterior(line, prior, group, gain)
