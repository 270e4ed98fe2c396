"""Whether what was trained learned enough for verdicts to speak of a method, not of how long it was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from nbkit.claims.observe import Observation
from nbkit.core.stats import ALPHA, MIN_SUBJECTS, Interval, bootstrap_p, holm, paired_difference
from nbkit.core.toml_files import read_toml

LIST = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True)
class Bar:
    """One thing that a training is asked to reach.

    Attributes
    ----------
    system, asked : str
        Who, and what, in words.
    id : str
        The number that is asked about.
    at_least, at_most : float
        Ends of what its value may be.
    beside : str
        The number whose value, times `at_least_times` or `at_most_times`, is such an end.
    below : tuple of str
        Errors that it must lie below, person by person.
    """

    system: str
    asked: str
    id: str
    at_least: float = -np.inf
    at_most: float = np.inf
    beside: str = ""
    at_least_times: float = -np.inf
    at_most_times: float = np.inf
    below: tuple[str, ...] = ()

    @property
    def others(self) -> tuple[str, ...]:
        """Ids of what it is compared with."""
        return (self.beside,) * bool(self.beside) + self.below

    def holds(self, value: float, beside: float) -> bool:
        """Whether a value lies between the ends; without a number beside it, `beside` is not looked at."""
        ends = [(self.at_least, self.at_most)]
        if self.beside:
            ends.append(tuple(times * beside if np.isfinite(times) else times
                              for times in (self.at_least_times, self.at_most_times)))
        return all(low <= value <= high for low, high in ends)


@lru_cache(maxsize=1)
def bars() -> tuple[Bar, ...]:
    """Every bar of ``bars.toml``."""
    return tuple(Bar(**{**raw, "below": tuple(raw.get("below", ()))}) for raw in read_toml(LIST)["bar"])


def bars_table(observations: Mapping[str, Observation], asked: Sequence[Bar] | None = None) -> pd.DataFrame:
    """Every bar, with what was reached.

    A bar against other errors holds where the difference from each, paired by person, lies below zero with p < .05
    after Holm over all such comparisons, for six people at least.

    Returns
    -------
    DataFrame
        Columns "system", "asked", "ours", "beside" (the means it was held against), "people" and "reached": "yes",
        "no", or "not run" where a number is missing.
    """
    asked = bars() if asked is None else asked
    there = {bar: all(id in observations for id in (bar.id, *bar.others)) for bar in asked}
    pairs = [(bar.id, other) for bar in asked if there[bar] for other in bar.below]
    certain = dict(zip(pairs, _below(pairs, observations), strict=True))
    rows = []
    for bar in asked:
        ours, beside = observations.get(bar.id), [observations[i].value for i in bar.others if i in observations]
        reached = there[bar] and bar.holds(ours.value, beside[0] if beside else np.nan)
        reached = reached and all(certain[bar.id, other] for other in bar.below)
        rows.append({
            "system": bar.system, "asked": bar.asked + _ends(bar), "ours": ours.value if ours else np.nan,
            "beside": ", ".join(f"{value:.3g}" for value in beside), "people": ours.n if ours else None,
            "reached": {True: "yes", False: "no"}[bool(reached)] if there[bar] else "not run",
        })
    return pd.DataFrame(rows)


def _ends(bar: Bar) -> str:
    words = [f"{word} {end:g}" for word, end in (("at least", bar.at_least), ("at most", bar.at_most))
             if np.isfinite(end)]
    return f": {' and '.join(words)}" if words else ""


def _below(pairs: Sequence[tuple[str, str]], observations: Mapping[str, Observation]) -> list[bool]:
    """Of each pair of errors, whether the first is certainly the smaller one."""
    found: list[tuple[Interval | None, float]] = []
    for pair in pairs:
        a, b = (observations[i].per_subject for i in pair)
        shared = [person for person in a if person in b]
        values = [[error[person] for person in shared] for error in (a, b)]
        found.append((paired_difference(*values), bootstrap_p(*values)) if shared else (None, 1.0))
    p = holm([value for _, value in found]) if found else []
    return [gap is not None and gap.n >= MIN_SUBJECTS and gap.high < 0 and q < ALPHA
            for (gap, _), q in zip(found, p, strict=True)]
