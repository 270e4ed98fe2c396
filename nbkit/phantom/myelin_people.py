"""Who is in the myelin cohorts: ages, sexes, lesions, rates of remyelination, and disability that goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from nbkit.core.checks import known, require
from nbkit.core.config import PROFILES
from nbkit.core.seeds import numpy_generator
from nbkit.phantom import ms
from nbkit.phantom.lesion_myelin import Rates
from nbkit.phantom.lesions import draw_burdens
from nbkit.phantom.ms import exact_ages
from nbkit.phantom.parameters import MS_PARAMETERS, Parameters, load_layers

MYELIN_PARAMETERS = Path(__file__).with_name("myelin_parameters.toml")
MONTHS = 12


@dataclass(frozen=True)
class Person(ms.Person):
    """Who is simulated; for controls `load_ml`, `lesions` (count) and `rates` are 0.

    Parameters
    ----------
    id, sex : str
    age : float
        Years at t0.
    diagnosis : {"MS", "HC"}
    load_ml : float
        Lesion load at t0, mL.
    lesions : int
    rates : Rates
    months : float or None
        From t0 to t1; None for those who have no t1.
    """

    rates: Rates
    months: float | None


@lru_cache(maxsize=1)
def myelin_parameters() -> Parameters:
    """Every number of the myelin phantom over those of the MS phantom, which has anatomy, lesion sizes and T1w."""
    return load_layers(MS_PARAMETERS, MYELIN_PARAMETERS)


def roster(profile: str, *, seed: int, parameters: Parameters) -> tuple[Person, ...]:
    """Patients, then controls: published numbers, ages and sexes, measured lesion loads, rates of change.

    Profile "smoke" has fewer people. Rates are drawn one per equal share of their range, so that a small cohort
    covers it.

    Raises
    ------
    NbkitError
        For an unknown profile.
    """
    known(profile, PROFILES, "roster: profile")
    c = parameters.section("cohort")
    counts = c["smoke"] if profile == "smoke" else (c["patients"], c["controls"])
    rng = numpy_generator(seed, "myelin", "roster")
    sick, well = (_identities(rng, kind, n, c) for kind, n in zip(("patient", "control"), counts, strict=True))
    n = counts[0]
    load, number = draw_burdens(rng, n, parameters=parameters)
    load = np.maximum(load, c["load_min"])
    burdens = zip(load, np.minimum(number, load / c["lesion_min"]), strict=True)
    shares = (_spread(rng, n, parameters[f"course.{k}"]) for k in ("demyelinated", "remyelinating", "demyelinating"))
    rates = [Rates(*map(float, row)) for row in zip(*shares, strict=True)]
    months = _months(rng, n, c)
    patients = [
        Person(*who, "MS", float(ml), int(count), rate, wait)
        for who, (ml, count), rate, wait in zip(sick, burdens, rates, months, strict=True)
    ]
    return (*patients, *(Person(*who, "HC", 0.0, 0, Rates(0.0, 0.0, 0.0), None) for who in well))


def _identities(rng: np.random.Generator, kind: str, n: int, c: dict) -> list[tuple[str, str, float]]:
    """Id, sex and age of one group."""
    women = round(n * c[f"{kind}_women"] / c[f"{kind}s"])
    sexes = rng.permutation(["F"] * women + ["M"] * (n - women))
    ages = exact_ages(rng, n, kind, c)
    prefix = {"patient": "ms", "control": "hc"}[kind]
    return [(f"{prefix}{i + 1:02d}", str(sexes[i]), float(ages[i])) for i in range(n)]


def _spread(rng: np.random.Generator, n: int, limits: tuple[float, float]) -> np.ndarray:
    """`n` values, one per n-th of the range, in random order."""
    return limits[0] + (limits[1] - limits[0]) * (rng.permutation(n) + rng.random(n)) / n


def _months(rng: np.random.Generator, n: int, c: dict) -> list[float | None]:
    """Months to t1: one range for every other patient; None for those who were not followed."""
    ranges = [c["intervals"][i % len(c["intervals"])] for i in range(n)]
    waits = [round(float(rng.uniform(*r)), 1) for r in ranges]
    lost = set(rng.permutation(n)[: n - round(n * c["followed"] / c["patients"])].tolist())
    return [None if i in lost else wait for i, wait in enumerate(waits)]


def draw_edss(
    rng: np.random.Generator, remyelination: Sequence[float], demyelination: Sequence[float], *, parameters: Parameters
) -> np.ndarray:
    """EDSS scores that go with remyelination as published, and not with demyelination.

    The part of remyelination that demyelination does not explain has the published standardised coefficient; the rest
    of the variance is noise, made uncorrelated with both indices in these patients. So every draw has an association
    of the stated size and none with demyelination, each taken alone as in the thesis, but for rounding.

    Parameters
    ----------
    rng : numpy.random.Generator
    remyelination, demyelination : sequence of float
        True indices, one per patient.
    parameters : Parameters
        ``edss``.

    Returns
    -------
    numpy.ndarray
        Points, steps of .5.

    Raises
    ------
    NbkitError
        For fewer than 4 patients.
    """
    n, p = len(remyelination), parameters.section("edss")
    require(
        n >= 4, "draw_edss", expected="at least 4 patients", found=n, remedy="Draw scores for a whole cohort at once.",
    )
    ones = np.ones(n)
    noise = _unexplained(rng.standard_normal(n), ones, remyelination, demyelination)
    own = _unexplained(np.asarray(remyelination, dtype=float), ones, demyelination)
    z = p["beta"] * own / own.std() + np.sqrt(1 - p["beta"] ** 2) * noise / noise.std()
    return np.clip(np.round(2 * (p["mean"] + p["sd"] * z)) / 2, *p["range"])


def _unexplained(values: np.ndarray, *by: Sequence[float]) -> np.ndarray:
    """What is left of `values` after their least-squares fit by others."""
    others = np.stack(by, axis=1)
    return values - others @ np.linalg.lstsq(others, values, rcond=None)[0]
