"""Work that is killed, or finds a disk full or read-only, is refused in words, and done again comes out the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.attacks import PLACES
from tests.attacks.works import WORKS

ROOT = Path(__file__).parents[2]
LIGHT = [work for work in WORKS if work != "notebook"]
MAY_MOUNT = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("unshare") and not subprocess.run(
    ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/tmp"], capture_output=True).returncode
mounting = pytest.mark.skipif(not MAY_MOUNT, reason="mounting a small disk needs the right to")


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """``tried("kill", "cache")`` is what tests/attacks/tried.py tells; one process does all works of a kind."""
    folder, told = tmp_path_factory.mktemp("attacks"), {}
    (folder / "place").mkdir()

    def of(how: str, works: Sequence[str], places: int) -> dict:
        command = [sys.executable, "-m", "tests.attacks.tried", how, str(folder / "place"), str(places), *works]
        given = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NBKIT_CACHE": str(folder / "c")}
        done = subprocess.run(
            [*(["unshare", "-m"] if how != "kill" else []), *command], capture_output=True, text=True, cwd=ROOT,
            env=given,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    def look(how: str, work: str, places: int = PLACES) -> list[dict]:
        together = LIGHT if work in LIGHT else [work]
        if (how, *together) not in told:
            told[how, *together] = of(how, together, places)
        found = told[how, *together][work]
        assert "value" in found["whole"], found["whole"]
        assert all(o["same"] for o in found["outcomes"]), [o for o in found["outcomes"] if not o["same"]]
        assert [o["left"] for o in found["outcomes"]] == [[]] * len(found["outcomes"])
        return found["outcomes"]

    return look


@pytest.mark.slow
@pytest.mark.parametrize("work", LIGHT)
def test_killed_anywhere_it_comes_out_the_same(tried, work):
    assert [o["ended"] for o in tried("kill", work)] == [{"killed": -9}] * PLACES


@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_comes_out_the_same(tried):
    assert [o["ended"] for o in tried("kill", "notebook", PLACES - 3)] == [{"killed": -9}] * (PLACES - 3)


@pytest.mark.slow
@mounting
@pytest.mark.parametrize("work", LIGHT)
def test_on_a_full_disk_it_says_so_and_goes_on_with_room(tried, work):
    for outcome in tried("full", work):
        assert "/place" in outcome["ended"].get("refused", ""), outcome["ended"]
        assert [name for name in outcome["half"] if not name.endswith(".part")] == [], outcome


@pytest.mark.slow
@mounting
@pytest.mark.parametrize("work", LIGHT)
def test_on_a_disk_that_can_only_be_read_it_says_so(tried, work):
    (outcome,) = tried("readonly", work, 1)
    assert "/place" in outcome["ended"].get("refused", ""), outcome["ended"]
