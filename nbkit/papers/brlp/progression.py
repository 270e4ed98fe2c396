"""How regional volumes go with age: one mixed-effects model over all people, its mean course one per group.

The logarithm of each volume is a straight line in age, so that a person loses (or gains) a constant percentage a year:
the group's line plus the person's own deviation in level and slope, normally distributed, plus noise of one scan
(Laird and Ware 1982). A person's course is the group's, drawn towards the volumes seen of the person as far as their
number and noise allow; one scan is enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nbkit.core.checks import known, require
from nbkit.training.checkpoint import Constants

_DECADE = 10.0
_ROUNDS = 1000
_SETTLED = 1e-5


@dataclass(frozen=True, eq=False)
class Progression:
    """Courses of regional volumes with age.

    Parameters
    ----------
    regions : tuple of str
    centre : float
        Age in years at which lines have their level.
    courses : mapping of str to numpy.ndarray
        By group: level and slope of the logarithm of each volume (mm³), per decade, (R, 2).
    spread : numpy.ndarray
        Covariance of people's own level and slope, (R, 2, 2).
    noise : numpy.ndarray
        Variance of one scan about the person's line, (R,).
    """

    regions: tuple[str, ...]
    centre: float
    courses: Mapping[str, np.ndarray]
    spread: np.ndarray
    noise: np.ndarray

    def predict(
        self, group: str, *, seen_ages: Sequence[float], seen: np.ndarray, ages: Sequence[float]
    ) -> np.ndarray:
        """Volumes (n, R) in mm³ expected of one person at `ages` (n years).

        Parameters
        ----------
        group : str
            Whose course the person is expected to take.
        seen_ages : sequence of float
            Years of the scans seen; none: the group's course itself.
        seen : numpy.ndarray
            Their volumes (k, R) in mm³.

        Raises
        ------
        NbkitError
            For an unknown group, or volumes that are not positive.
        """
        course = self.courses[known(group, self.courses, "Progression.predict: group")]
        line = course
        if len(seen_ages):
            logs = _logs(seen, self.regions, "the person's scans")
            line = course + _deviations(
                _sums([seen_ages], [logs], self.centre), course[None], self.spread, self.noise
            )[0][0]
        return np.exp(_design(ages, self.centre) @ line.T)

    def yearly_change(self, group: str) -> dict[str, float]:
        """Change of each region in a group's course, % a year."""
        course = self.courses[known(group, self.courses, "Progression.yearly_change: group")]
        return dict(zip(self.regions, (100 * np.expm1(course[:, 1] / _DECADE)).tolist(), strict=True))

    def constants(self) -> dict[str, object]:
        """All of it as plain values, for JSON."""
        return {
            "regions": list(self.regions), "centre": self.centre, "spread": self.spread.tolist(),
            "courses": {g: c.tolist() for g, c in self.courses.items()}, "noise": self.noise.tolist(),
        }

    @classmethod
    def from_constants(cls, constants: Mapping[str, object], *, where: str) -> Progression:
        """Inverse of :meth:`constants`; a missing one is refused by name."""
        kept = Constants(constants, f"{where}: progression")
        courses = {group: np.array(course) for group, course in kept["courses"].items()}
        return cls(tuple(kept["regions"]), kept["centre"], courses, np.array(kept["spread"]), np.array(kept["noise"]))


@dataclass(frozen=True)
class _People:
    """What the likelihood needs: sums over scans of x xᵀ (P, 2, 2), y x (P, R, 2), y² (P, R), and counts (P,)."""

    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray
    count: np.ndarray


def fit_progression(
    ages: Sequence[Sequence[float]], volumes: Sequence[np.ndarray], groups: Sequence[str], *, regions: Sequence[str]
) -> Progression:
    """Fit by maximum likelihood (EM).

    People's own deviations and noise have the same distribution in all groups: a small group has too few people to tell
    its own. People scanned once count.

    Parameters
    ----------
    ages : sequence of sequence of float
        By person, years of the scans.
    volumes : sequence of numpy.ndarray
        By person, (k, R) in mm³.
    groups : sequence of str
        By person.
    regions : sequence of str
        Names of the R columns.

    Raises
    ------
    NbkitError
        If a volume is not positive, nobody was scanned twice, or a group was seen at one age alone.
    """
    centre = float(np.mean(np.concatenate([np.asarray(a, dtype=np.float64) for a in ages])))
    require(
        any(len(set(a)) > 1 for a in ages), "fit_progression: ages", expected="somebody scanned at two ages or more",
        found="none", remedy="Train on people with follow-up scans.",
    )
    names = sorted(set(groups))
    for name in names:
        met = {float(age) for a, g in zip(ages, groups, strict=True) if g == name for age in a}
        require(
            len(met) > 1, f"fit_progression: group {name}", expected="scans at two ages or more", found=f"{len(met)}",
            remedy="Add people of this group, or leave it out.",
        )
    logs = [
        _logs(v, regions, f"person {i} of group {g}") for i, (v, g) in enumerate(zip(volumes, groups, strict=True), 1)
    ]
    member = np.array([[g == name for g in groups] for name in names], dtype=np.float64)
    courses, spread, noise = _likeliest(_sums(ages, logs, centre), member)
    return Progression(tuple(regions), centre, dict(zip(names, courses, strict=True)), spread, noise)


def _likeliest(people: _People, member: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Courses (G, R, 2), spread (R, 2, 2) and noise (R,), for `member` (G, P) of zeros and ones."""
    start = np.var(people.xy[..., 0] / people.count[:, None], axis=0) + 1e-6
    spread, noise = start[:, None, None] * np.eye(2), 0.1 * start
    for _ in range(_ROUNDS):
        before = spread, noise
        courses = _weighted_courses(people, member, spread, noise)
        lines = np.einsum("gp,gri->pri", member, courses)
        own, cov = _deviations(people, lines, spread, noise)
        spread = (own[..., None] * own[..., None, :] + cov).mean(axis=0)
        noise = np.maximum(_squares(people, lines + own, cov) / people.count.sum(), 1e-12)
        if all(np.allclose(a, b, rtol=_SETTLED, atol=0) for a, b in zip(before, (spread, noise), strict=True)):
            break
    return courses, spread, noise


def _weighted_courses(people: _People, member: np.ndarray, spread: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Generalised least squares: level and slope of each group (G, R, 2)."""
    # Xᵀ V⁻¹ = (σ² I + S D)⁻¹ Xᵀ with S = Xᵀ X
    left = np.linalg.inv(noise[:, None, None] * np.eye(2) + people.xx[:, None] @ spread)
    weight = np.einsum("gp,prij->grij", member, left @ people.xx[:, None])
    pull = np.einsum("gp,pri->gri", member, (left @ people.xy[..., None])[..., 0])
    return np.linalg.solve(weight, pull[..., None])[..., 0]


def _deviations(
    people: _People, lines: np.ndarray, spread: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """People's expected own level and slope (P, R, 2) about `lines`, and their covariance (P, R, 2, 2)."""
    xx = people.xx[:, None]
    cov = spread @ np.linalg.inv(np.eye(2) + xx @ spread / noise[:, None, None])
    apart = people.xy - (xx @ lines[..., None])[..., 0]
    return (cov @ apart[..., None])[..., 0] / noise[:, None], cov


def _squares(people: _People, lines: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """Expected sum of squares (R,) of all scans about lines (P, R, 2) of covariance (P, R, 2, 2)."""
    fitted = np.einsum("pri,pij,prj->r", lines, people.xx, lines) - 2 * (lines * people.xy).sum(axis=(0, 2))
    return fitted + people.yy.sum(axis=0) + np.einsum("pij,prji->r", people.xx, cov)


def _sums(ages: Sequence[Sequence[float]], logs: Sequence[np.ndarray], centre: float) -> _People:
    designs = [_design(a, centre) for a in ages]
    sums = [(x.T @ x, y.T @ x, (y**2).sum(axis=0), len(x)) for x, y in zip(designs, logs, strict=True)]
    return _People(*(np.array(column) for column in zip(*sums, strict=True)))


def _design(ages: Sequence[float], centre: float) -> np.ndarray:
    years = np.asarray(ages, dtype=np.float64)
    return np.stack([np.ones_like(years), (years - centre) / _DECADE], axis=1)


def _logs(volumes: np.ndarray, regions: Sequence[str], whose: str) -> np.ndarray:
    values = np.asarray(volumes, dtype=np.float64)
    for name, column in zip(regions, values.T, strict=True):
        require(
            bool((column > 0).all()), f"Progression: {name} of {whose}", expected="positive volumes in mm³",
            found=f"{column.min():g}", remedy="Use a finer grid, or leave this region out of Config.regions.",
        )
    return np.log(values)
