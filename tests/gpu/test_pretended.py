"""Every learned system on a CUDA device that this machine does not have: what CUDA would refuse, and what it waits for.

In a process of its own, which has the device before torch is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.gpu.guard import build_guard, stand_in
from tests.gpu.refusals import ALLOWED, BOTH, WAITS, answers
from tests.gpu.systems import CASES, check


MOST = 400
"""Reads of values on the host in all that is done here: those that an optimiser makes at every trial are thousands."""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Iterator[ProcessPoolExecutor]:
    guard = build_guard(tmp_path_factory.mktemp("guard"))
    if guard is None:
        pytest.skip("needs a C++ compiler (c++, g++ or clang++)")
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=stand_in, initargs=(guard,)) as pool:
        yield pool


@pytest.mark.slow
def test_the_pretended_device_does_as_cuda_does(elsewhere):
    found = elsewhere.submit(answers).result()
    assert found["device"] == "cuda" and found["sent"] == 1
    assert found["refused"] == dict.fromkeys(BOTH, True)
    assert found["allowed"] == dict.fromkeys(ALLOWED, True)
    assert set(found["waits"]) == set(WAITS) and all(found["waits"].values()), found["waits"]
    assert found["arithmetic waits"] == 0
    assert all(found["learned"].values()), found["learned"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_system_learns_predicts_and_is_read_back_on_a_gpu(elsewhere, name, tmp_path):
    seen = elsewhere.submit(check, name, tmp_path).result()
    waited = [(updates, dict(step.syncs)) for updates, step in seen.steps if step.syncs.total() > updates]
    assert not waited, "an update waits for the device once: all its losses are read together"
    assert seen.all.syncs.total() < MOST, dict(seen.all.syncs.most_common(5))
