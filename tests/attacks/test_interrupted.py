"""Work that is killed, or finds a disk full or read-only, is refused in words, and done again comes out the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attacks import PLACES
from tests.attacks.works import WORKS

ROOT = Path(__file__).parents[2]
LIGHT = [work for work in WORKS if work != "notebook"]
MAY_MOUNT = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("unshare") and not subprocess.run(
    ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/tmp"], capture_output=True).returncode
mounting = pytest.mark.skipif(not MAY_MOUNT, reason="mounting a small disk needs the right to")


def tried(how: str, work: str, folder: Path, places: int) -> dict:
    """What tests/attacks/tried.py tells."""
    place = folder / "place"
    place.mkdir()
    command = [sys.executable, "-m", "tests.attacks.tried", how, work, str(place), str(places)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NBKIT_CACHE": str(folder / "c")}
    done = subprocess.run([*(["unshare", "-m"] if how != "kill" else []), *command], capture_output=True, text=True,
                          cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert "value" in told["whole"], told["whole"]
    return told


@pytest.mark.slow
@pytest.mark.parametrize(("work", "places"), [*((work, PLACES) for work in LIGHT), ("notebook", max(1, PLACES - 3))])
def test_killed_anywhere_it_comes_out_the_same(tmp_path, work, places):
    told = tried("kill", work, tmp_path, places)
    assert [o["ended"] for o in told["outcomes"]] == [{"killed": -9}] * places
    assert [o["at"] for o in told["outcomes"] if not o["same"]] == [], told["outcomes"]
    assert [o["left"] for o in told["outcomes"]] == [[]] * places


@pytest.mark.slow
@mounting
@pytest.mark.parametrize("work", LIGHT)
def test_on_a_full_disk_it_says_so_and_goes_on_with_room(tmp_path, work):
    told = tried("full", work, tmp_path, PLACES)
    place = str(tmp_path / "place")
    for outcome in told["outcomes"]:
        assert place in outcome["ended"].get("refused", ""), outcome["ended"]
        assert outcome["same"] and outcome["left"] == [], outcome
        assert [name for name in outcome["half"] if not name.endswith(".part")] == [], outcome


@pytest.mark.slow
@mounting
@pytest.mark.parametrize("work", LIGHT)
def test_on_a_disk_that_can_only_be_read_it_says_so(tmp_path, work):
    (outcome,) = tried("readonly", work, tmp_path, 1)["outcomes"]
    assert str(tmp_path / "place") in outcome["ended"].get("refused", ""), outcome["ended"]
    assert outcome["same"] and outcome["left"] == [], outcome
