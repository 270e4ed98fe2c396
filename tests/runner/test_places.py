"""Where a run writes is looked at before it starts, and left tidy."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import types

import pytest

from nbkit.core.checks import NbkitError
from nbkit.runner import places
from nbkit.runner.execute import reproduce
from nbkit.runner.places import NAME, check_places, clear_leftovers, scratch_folder


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A place of its own for temporary files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "tmp"


def test_a_folder_of_somebody_elses_files_is_refused_before_anything_runs(recorder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").write_text("my page")
    with pytest.raises(NbkitError, match="out: expected a results folder, or none yet, found a folder with index.html"):
        reproduce([recorder("01_a")], out_dir=tmp_path / "out", profile="smoke")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["index.html"]


@pytest.mark.parametrize("ours", [".run.lock", "observations.jsonl", ""])
def test_an_empty_folder_and_one_of_a_notebook_are_taken(tmp_path, ours):
    (tmp_path / "out").mkdir()
    if ours:
        (tmp_path / "out" / ours).touch()
    check_places(tmp_path / "out")


@pytest.mark.parametrize(("place", "remedy"), [("out", "OUT"), ("cache", "NBKIT_CACHE"), ("tmp", "TMPDIR")])
def test_a_disk_without_room_is_named_before_anything_runs(recorder, tmp_path, monkeypatch, place, remedy):
    for name in ("out", "cache"):
        (tmp_path / name).mkdir()
    full = str(tmp_path / place)
    free = {full: 10**6}
    monkeypatch.setattr(places.shutil, "disk_usage", lambda p: types.SimpleNamespace(free=free.get(str(p), 10**12)))
    with pytest.raises(NbkitError, match=f"{place}: expected at least .* MB of room, found 1 MB free.*{remedy}"):
        reproduce([recorder("01_a")], out_dir=tmp_path / "out", profile="smoke")
    assert list((tmp_path / "out").iterdir()) == []


def test_without_a_temporary_folder_the_variable_is_named(monkeypatch):
    def none():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(places.tempfile, "gettempdir", none)
    with pytest.raises(NbkitError, match="TMPDIR: expected a folder for temporary files"):
        places.temporary_folder()


def test_a_temporary_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(NbkitError, match="nowhere: expected a folder for temporary files.*TMPDIR"), scratch_folder():
        pass


def test_temporary_files_go_with_their_notebook_and_those_of_the_dead_at_the_next_start(tmp_path, temporary):
    with pytest.raises(RuntimeError), scratch_folder() as scratch:
        (scratch / "x").touch()
        raise RuntimeError
    assert list(temporary.iterdir()) == []
    code = (
        "import os\nfrom nbkit.runner.places import scratch_folder\n"
        "with scratch_folder() as s:\n (s / 'x').touch(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(temporary)})
    (left,) = temporary.iterdir()
    assert left.name.startswith(f".{NAME}.")
    (temporary / ".other.lock").touch()
    with scratch_folder() as mine:
        clear_leftovers(tmp_path / "out")
        assert mine.exists() and not left.exists()
    assert [p.name for p in temporary.iterdir()] == [".other.lock"], "what others left is theirs"


def test_what_a_dead_run_left_in_the_cache_goes(tmp_path):
    (tmp_path / "cache" / "fitted" / ".a.x.new").mkdir(parents=True)
    (tmp_path / "cache" / ".seconds.json.x.new").mkdir()
    (tmp_path / "cache" / "seconds.json").write_text("{}")
    clear_leftovers(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "cache").rglob("*")) == ["fitted", "seconds.json"]


def test_a_folder_whose_first_run_was_killed_at_once_is_still_a_results_folder(tmp_path):
    (tmp_path / "out" / "..run.lock.x.new").mkdir(parents=True)
    check_places(tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("")
    with pytest.raises(NbkitError, match="found a folder with mine.txt"):
        check_places(tmp_path / "out")
