"""Ten people ten times against a hundred at once, by two dask workers: the cost of one must not grow with all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import distributed
import pytest

from nbkit.core.cluster import on_cluster
from nbkit.core.files import Cache
from nbkit.phantom.study import made_folders
from tests.core.test_cluster import simulated

AT_ONCE = {"nbkit a hundred at once": 100, "ten times ten": 10}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with distributed.LocalCluster(2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.mark.benchmark(group="a hundred people on two workers")
@pytest.mark.parametrize("who", list(AT_ONCE))
def test_cost_of_a_person_is_constant(benchmark, who, address, tmp_path_factory):
    many = AT_ONCE[who]

    def act() -> None:
        cache = Cache(tmp_path_factory.mktemp("people"))
        for first in range(0, 100, many):
            people = list(range(first, first + many))
            jobs = [partial(simulated, k) for k in people]
            made_folders("toy", "smoke", people, jobs, cache=cache, prefer="processes", progress=False)

    with on_cluster(address):
        benchmark.pedantic(act, rounds=3, warmup_rounds=1)
