"""Ageing with known truth: yearly rates per structure, and the trajectory of a person who changes by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nbkit.core.checks import known, require
from nbkit.core.volume import Volume
from nbkit.geometry.flow import Velocity, compose, expv, jacobian_determinant
from nbkit.geometry.warp import Displacement, warp
from nbkit.phantom.growth import aged, velocity_for
from nbkit.phantom.parameters import Parameters
from nbkit.phantom.regions import Regions


@dataclass(frozen=True)
class Participant:
    """Who ages; a `converter` has mild cognitive impairment at baseline and dementia later."""

    id: str
    sex: str
    age: float
    diagnosis: str
    converter: bool = False


@dataclass(frozen=True)
class Rates:
    """How fast one person changes.

    Parameters
    ----------
    yearly : mapping of str to float
        By structure, change of volume in the year after baseline over the volume at baseline (1/year).
    acceleration : float
        Growth of all yearly changes, over those at baseline (1/year).
    """

    yearly: Mapping[str, float]
    acceleration: float = 0.0


@dataclass(frozen=True, eq=False)
class Visit:
    """One age of a person, and the truth about it.

    Parameters
    ----------
    age : float
        Years.
    time : float
        How far along the flow, in years at the baseline pace; after a :class:`Turn`, its time plus years at its pace.
    displacement : torch.Tensor
        (1, 3, X, Y, Z) mm; warping a baseline image by it gives this visit.
    regions : Regions
        As they are at this visit; their ``volumes`` are the truth.
    log_jacobian : Volume
        On the baseline anatomy: ln of mm³ at this visit per mm³ at baseline, negative where tissue is lost.
    """

    age: float
    time: float
    displacement: Displacement
    regions: Regions
    log_jacobian: Volume

    def carry(self, image: Volume, *, mode: str = "linear") -> Volume:
        """A baseline image or map on the same grid as it is at this visit (labels with ``mode="nearest"``)."""
        self.log_jacobian.check_grid(image, "Visit.carry: baseline regions and image")
        moved = warp(image.data[None], self.displacement, affine=image.affine, mode=mode)[0]
        return image.with_data(moved, f"aged to {self.age:g} years")


@dataclass(frozen=True, eq=False)
class Turn:
    """From `age` (years; `time` along the flow) on, another stationary velocity field (mm/year at the pace there)."""

    age: float
    time: float
    velocity: Velocity


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A person's future: a stationary velocity field (mm/year at the baseline pace) and the visits along it.

    After a `turn` another field goes on from there: ``compose(expv(turn.time * velocity),
    expv((visit.time - turn.time) * turn.velocity))`` is the displacement of a later visit.
    """

    velocity: Velocity
    visits: tuple[Visit, ...]
    turn: Turn | None = None


def draw_lasting(parameters: Parameters, rng: np.random.Generator) -> np.ndarray:
    """Standard scores (rows,) of the pace that a person keeps from before baseline on, a score for each row of rates.

    They are what size at baseline tells of the rates to come: see ``lasting.share`` of the parameters.
    """
    return _correlated(parameters, rng)


def draw_scores(
    parameters: Parameters, rng: np.random.Generator, *, lasting: np.ndarray | None = None
) -> np.ndarray:
    """Standard scores (rows,) of the logarithms of one person's rates among people of the diagnosis, correlated.

    `lasting` (:func:`draw_lasting`) is part of them; without it, what a person did before baseline says nothing.
    """
    own = _correlated(parameters, rng)
    share = parameters["lasting.share"]
    return own if lasting is None else np.sqrt(share) * lasting + np.sqrt(1 - share) * own


def rates_at(person: Participant, scores: np.ndarray, parameters: Parameters) -> Rates:
    """One person's yearly rates at the `scores`: mean and spread of the diagnosis, and the factor of the age.

    Sizes are log-normal, so that no score changes the sign. Structures that share a row of the table, and the two
    sides, share a score.

    Raises
    ------
    NbkitError
        For an unknown diagnosis, or a converter without mild cognitive impairment.
    """
    diagnosis = known(person.diagnosis, parameters.groups("rate"), f"rates_at: diagnosis of {person.id}")
    if person.converter:
        known(diagnosis, ("EMCI", "LMCI"), f"rates_at: diagnosis of the converter {person.id}")
    rows = parameters.section(f"rate.{diagnosis}")
    factor = age_factor(person.age, diagnosis, parameters=parameters) / 100
    drawn = {row: factor * log_normal(*rows[row], score) for row, score in zip(rows, scores, strict=True)}
    pace = parameters[f"acceleration.{'converter' if person.converter else diagnosis}"]
    return Rates({name: drawn[row] for name, row in parameters.section("structure").items()}, pace)


def draw_load(
    diagnosis: str, scores: np.ndarray, parameters: Parameters, rng: np.random.Generator
) -> float:
    """Draw a person's amyloid-like load, a standard score among people of the diagnosis, given those of the rates.

    It goes with the scores as ``load`` of the parameters says, and with nothing else: it shows in no image, and at
    baseline in no volume but by the pace that lasts.
    """
    told = parameters.section("load")
    if diagnosis in told["saturated"]:
        return float(rng.standard_normal())
    rows = list(parameters.section(f"rate.{diagnosis}"))
    between = parameters["between.correlation"]
    together = np.full((len(rows), len(rows)), between) + (1 - between) * np.eye(len(rows))
    wanted = np.array([told["hippocampus" if row == "hippocampus" else "elsewhere"] for row in rows])
    weights = np.linalg.solve(together, wanted)
    return float(weights @ scores + np.sqrt(1 - weights @ wanted) * rng.standard_normal())


def _correlated(parameters: Parameters, rng: np.random.Generator) -> np.ndarray:
    shared, own = rng.standard_normal(), rng.standard_normal(len(parameters.section("rate.CN")))
    correlation = parameters["between.correlation"]
    return np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own


def norm_change(age: float, parameters: Parameters) -> dict[str, float]:
    """Change of volume by structure (1) that leads from the templates to the normal anatomy of `age` (years).

    Norms compare people of different ages; they fall more slowly with age than each person's volume does.
    """
    rows, years = parameters.section("norm"), age - parameters["norm.age"]
    return {name: rows[row] / 100 * years for name, row in parameters.section("structure").items()}


def age_factor(age: float, diagnosis: str, *, parameters: Parameters) -> float:
    """How many times faster than at the reference age people of `age` (years) change, within the limits."""
    slope, reference = parameters[f"modulation.{diagnosis}"]
    return float(np.clip(1 + slope * (age - reference), *parameters["modulation.limits"]))


def log_normal(mean: float, spread: float, score: float, *, share: float = 1.0) -> float:
    """The value at standard score `score` of ± a log-normal variable with this mean and standard deviation.

    With a `share`, of one with the same mean and that share of the variance of the logarithm.
    """
    variance = share * np.log1p((spread / mean) ** 2)
    return float(mean * np.exp(np.sqrt(variance) * score - variance / 2))


def elapsed(years: float, acceleration: float) -> float:
    """Years at the baseline pace that `years` after baseline amount to: t + acceleration · t² / 2."""
    return years + acceleration * years**2 / 2


def simulate_trajectory(
    regions: Regions, rates: Rates, ages: Sequence[float], *, onset: tuple[float, Rates] | None = None
) -> Trajectory:
    """Age a person's regions from the first of `ages` (years, rising) to the others along a flow.

    Every visit is one warp of the baseline, never a warp of a warp. The flow is stationary; acceleration only
    changes how far along it an age lies (:func:`elapsed`), so the velocity field stays the whole truth. Volumes
    change as asked in the first year; after it they follow the flow, which has places, not tissues.

    Parameters
    ----------
    regions : Regions
        At the first age.
    rates : Rates
    ages : sequence of float
    onset : (float, Rates), optional
        An age after the first and the rates from then on, relative to the volumes of then: a second flow, made on
        the anatomy of then and composed with the first.

    Raises
    ------
    NbkitError
        If ages do not rise, the onset is not after the first, a visit folds, or as :func:`velocity_for`.
    """
    require(
        len(ages) > 0 and bool((np.diff(ages) > 0).all()), "simulate_trajectory: ages", expected="rising ages",
        found=list(ages), remedy="Give the age at baseline first and each later age once.",
    )
    age, rates_then = onset or (np.inf, None)
    require(
        age > ages[0], "simulate_trajectory: onset", expected=f"an age above {ages[0]:g}", found=age,
        remedy="Give someone ill from the start the rates of the illness, without an onset.",
    )
    velocity = velocity_for(regions, rates.yearly)
    still = Displacement(torch.zeros_like(velocity))
    path = _Path(regions, still, still, ages[0], 0.0)
    visits = [path.along(velocity, early, rates.acceleration).visit() for early in ages if early <= age]
    if onset is None:
        return Trajectory(velocity, tuple(visits))
    path = path.along(velocity, age, rates.acceleration)
    then = velocity_for(aged(regions, path.there), rates_then.yearly)
    visits += [path.along(then, later, rates_then.acceleration).visit() for later in ages if later > age]
    return Trajectory(velocity, tuple(visits), Turn(float(age), path.time, then))


@dataclass(frozen=True, eq=False)
class _Path:
    """How far a person has come: displacements from baseline to `age` (pulling back) and the other way."""

    regions: Regions
    there: Displacement
    back: Displacement
    age: float
    time: float

    def along(self, velocity: Velocity, age: float, acceleration: float) -> _Path:
        """The path continued along `velocity` to `age`."""
        affine, time = self.regions.maps.affine, elapsed(age - self.age, acceleration)
        step, undo = (expv(Velocity(sign * time * velocity), affine=affine) for sign in (1, -1))
        there, back = compose(self.there, step, affine=affine), compose(undo, self.back, affine=affine)
        return _Path(self.regions, there, back, age, self.time + time)

    def visit(self) -> Visit:
        """The person at the end of the path."""
        affine = self.regions.maps.affine
        growth = jacobian_determinant(self.back, affine=affine)
        folded = sum(int((~(j > 0)).sum()) for j in (growth, jacobian_determinant(self.there, affine=affine)))
        require(
            folded == 0, "simulate_trajectory: rates", expected="a change without folds",
            found=f"{folded} voxels that fold", remedy="Simulate fewer years or slower rates, or use a finer grid.",
        )
        log_jacobian = Volume(growth.log(), affine, ("log Jacobian of ageing",))
        return Visit(float(self.age), float(self.time), self.there, aged(self.regions, self.there), log_jacobian)
