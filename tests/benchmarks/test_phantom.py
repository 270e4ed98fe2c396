"""One patient simulated with six contrasts at the laptop grid, templates loaded."""

from __future__ import annotations

import pytest

from nbkit.cohorts.ms_phantom import GRIDS, roster
from nbkit.phantom.ms import simulate
from nbkit.phantom.parameters import load_parameters


@pytest.fixture(scope="module")
def people():
    """Three patients of the laptop cohort."""
    return [p for p in roster("laptop", seed=7, parameters=load_parameters()) if p.diagnosis == "MS"][:3]


def make(person):
    return simulate(person, grid=GRIDS["laptop"], seed=7, parameters=load_parameters())


@pytest.mark.benchmark(group="MS phantom, laptop subject")
def test_phantom(benchmark, people):
    benchmark.pedantic(make, args=(people[0],), rounds=3, warmup_rounds=1)
