"""Damaged, too large, left behind: what happens to finished work on disk."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
import time

import pytest

from nbkit.core import files, shelf
from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache, atomic, cache_folder, sole, write_text
from tests.attacks.tried import forked, fresh
from tests.attacks.works import WORKS


def value(folder):
    return (folder / "value").read_text()


class Maker:
    """Fills an entry with `text`; counts how often."""

    def __init__(self, text: str = "7" * 1000) -> None:
        self.text, self.calls = text, 0

    def __call__(self, folder):
        self.calls += 1
        (folder / "inner").mkdir()
        (folder / "inner" / "more").write_bytes(b"\0" * 100)
        (folder / "value").write_text(self.text)


@pytest.fixture
def made(tmp_path):
    """A cache with one entry, as a later process meets it."""
    make = Maker()
    Cache(tmp_path).get("kind", 1, make, value)
    (entry,) = (p for p in (tmp_path / "kind").iterdir())
    shelf._checked.clear()
    return entry, make


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def forget():
    """As a process that has just begun."""
    while shelf._live:
        os.close(shelf._live.popitem()[1])


HARM = {
    "flipped": lambda e: flip(e / "value"), "cut": lambda e: (e / "value").write_text("7" * 10),
    "emptied": lambda e: (e / "inner" / "more").write_bytes(b""), "gone": lambda e: (e / "value").unlink(),
    "foreign": lambda e: (e / "more.csv").write_text("a"), "key": lambda e: flip(e / "key.json"),
    "sums cut": lambda e: (e / "SHA256SUMS").write_text((e / "SHA256SUMS").read_text()[:30]),
    "sums empty": lambda e: (e / "SHA256SUMS").write_text(""),
    "sums binary": lambda e: (e / "SHA256SUMS").write_bytes(b"\xff\0"),
}


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
def test_a_damaged_entry_is_made_again_with_a_warning(tmp_path, made, harm, caplog):
    entry, make = made
    harm(entry)
    assert Cache(tmp_path).get("kind", 1, make, value) == make.text and make.calls == 2
    assert [r for r in caplog.records if r.levelname == "WARNING" and "damaged" in r.message]
    assert Cache(tmp_path).get("kind", 1, make, value) == make.text and make.calls == 2
    assert shelf.damage(entry) == ""


def test_a_sound_entry_is_hashed_once_per_process(tmp_path, made, monkeypatch):
    entry, make = made
    seen = []
    digest = shelf._digest
    monkeypatch.setattr(shelf, "_digest", lambda file: seen.append(file.name) or digest(file))
    for _ in range(3):
        Cache(tmp_path).get("kind", 1, make, value)
    assert sorted(seen) == ["key.json", "more", "value"] and make.calls == 1


def test_digests_are_those_of_sha256sum(made):
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=made[0], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("OK") == 3


def test_an_entry_of_an_earlier_version_counts_and_gets_its_digests(tmp_path, made):
    entry, make = made
    (entry / "SHA256SUMS").unlink()
    assert Cache(tmp_path).get("kind", 1, make, value) == make.text and make.calls == 1
    assert (entry / "SHA256SUMS").exists()
    flip(entry / "value")
    assert Cache(tmp_path).get("kind", 1, make, value) == make.text and make.calls == 2


def test_one_of_an_earlier_version_that_cannot_be_read_is_made_again(tmp_path, made, caplog):
    entry, make = made
    (entry / "SHA256SUMS").unlink()
    (entry / "value").unlink()
    assert Cache(tmp_path).get("kind", 1, make, value) == make.text and make.calls == 2
    assert "cannot be read" in caplog.text


def test_two_who_want_the_same_work_do_it_once(tmp_path, monkeypatch):
    make, waiting, begun = Maker(), threading.Event(), threading.Event()
    monkeypatch.setattr(files.log, "info", lambda text, *_: waiting.set() if "waiting" in text else None)

    def slowly(folder):
        begun.set()
        assert waiting.wait(20)
        make(folder)

    first = threading.Thread(target=Cache(tmp_path).get, args=("kind", 1, slowly, value))
    first.start()
    assert begun.wait(20)
    assert Cache(tmp_path).get("kind", 1, make, value) == make.text
    first.join()
    assert make.calls == 1


def aged(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    for name, age in ((".a.x.new", 5), (".b.x.part", 3600), (".old.x.part", 8 * 86400)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "inner").write_text("")
        aged(tmp_path / name, age)
    for name in (".c.lock", ".run.lock", "scan.part", "mine.new", "d.txt"):
        aged(write_text(tmp_path / name, "x"), 3600)
    aged(tmp_path / "scan.part", 8 * 86400)
    with atomic(tmp_path / "mine") as part, sole(tmp_path / ".held.lock"):
        part.mkdir()
        aged(part.parent, 3600)
        aged(tmp_path / ".held.lock", 3600)
        gone = shelf.sweep(tmp_path)
        assert sorted(p.name for p in gone) == [".a.x.new", ".c.lock", ".old.x.part", "scan.part"]
        assert part.is_dir() and (tmp_path / ".held.lock").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.x.part", ".run.lock", "d.txt", "mine", "mine.new"]


def test_what_somebody_else_owns_stays(tmp_path, monkeypatch):
    (tmp_path / ".a.x.new").mkdir()
    aged(tmp_path / ".a.x.new", 3600)
    monkeypatch.setattr(shelf.os, "getuid", lambda: 12345)
    assert shelf.sweep(tmp_path) == []


def test_a_process_that_was_killed_leaves_nothing_at_the_next_start(tmp_path):
    code = (
        "import os; from nbkit.core.files import Cache\n"
        f"Cache({str(tmp_path)!r}).get('kind', 1, lambda f: os.kill(os.getpid(), 9), str)"
    )
    (tmp_path / "kind").mkdir()
    subprocess.run([sys.executable, "-c", code])
    left = list((tmp_path / "kind").iterdir())
    assert len(left) == 2
    forget()
    Cache(tmp_path).get("kind", 2, Maker(), value)
    assert len(list((tmp_path / "kind").iterdir())) == 1
    assert [p.name.rpartition("-")[2] for p in (tmp_path / ".live").iterdir()] == [str(os.getpid())]


def filled(root, count):
    """Entries used one after the other, `count` hours ago and later, and their folders in that order."""
    folders = []
    for i in range(count):
        Cache(root).get("kind", i, Maker("x" * 10_000), value)
        folders.append(root / "kind" / files.digest(i))
        aged(folders[-1] / "SHA256SUMS", 3600 * (count - i))
    return folders


def test_killed_at_every_step_of_a_write_nothing_is_left(tmp_path, monkeypatch):
    def write(folder):
        shelf.sweep(folder)
        write_text(folder / "a.txt", "whole")
        return sorted(p.name for p in folder.iterdir())

    monkeypatch.setitem(WORKS, "write", write)
    steps = forked("write", fresh(tmp_path / "x"), count=True)["events"]
    assert steps > 5
    for step in range(steps):
        assert forked("write", fresh(tmp_path / "x"), kill_at=step) == {"killed": -9}
        assert forked("write", tmp_path / "x")["value"] == ["a.txt"], step


def test_what_is_unfinished_is_written_into(tmp_path):
    """In a thread: where it waited for itself, it would wait for ever."""
    def write():
        with shelf.unfinished(tmp_path, "scratch") as folder:
            read.append(write_text(folder / "job.json", "1").read_text())

    read: list[str] = []
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(timeout=60)
    assert read == ["1"] and not writer.is_alive()


def test_the_least_recently_used_go_until_the_rest_fits(tmp_path):
    a, b, c, d = filled(tmp_path, 4)
    Cache(tmp_path).get("kind", 0, Maker(), value)
    assert shelf.evict(tmp_path, 2.5 * shelf.size(a)) == [b, c]
    assert a.exists() and d.exists() and len(list((tmp_path / "kind").iterdir())) == 2


def test_what_a_process_uses_that_still_works_stays_however_large(tmp_path):
    a, b = filled(tmp_path, 2)
    (tmp_path / ".live").mkdir(exist_ok=True)
    with open(tmp_path / ".live" / "other-1", "w") as other:
        shelf.fcntl.flock(other, shelf.fcntl.LOCK_SH)
        aged(tmp_path / ".live" / "other-1", 1.5 * 3600)
        assert shelf.evict(tmp_path, 0) == [a]
    assert b.exists()
    assert shelf.evict(tmp_path, 0) == [b], "whoever held the file has ended"
    assert not (tmp_path / ".live" / "other-1").exists()


def test_trainings_that_were_stopped_count_and_go_too(tmp_path):
    (a,) = filled(tmp_path, 1)
    state = tmp_path / "training" / "0123" / "net-1"
    state.mkdir(parents=True)
    (state / "state.json").write_text("1")
    for folder in (state, state.parent):
        aged(folder, 7200)
    assert shelf.entries_of(tmp_path / "training") == [state.parent]
    assert shelf.evict(tmp_path, shelf.size(a)) == [state.parent] and a.exists()


def test_the_limit_holds_at_the_start_of_a_process(tmp_path, monkeypatch):
    a, b = filled(tmp_path, 2)
    forget()
    monkeypatch.setenv("NBKIT_CACHE_GB", str(1.5 * shelf.size(a) / 1e9))
    Cache(tmp_path).get("kind", 1, Maker(), value)
    assert not a.exists() and b.exists()


@pytest.mark.parametrize("text", ["many", "-1", "nan", "20GB"])
def test_a_limit_that_is_none_is_refused(text, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE_GB", text)
    with pytest.raises(NbkitError, match="NBKIT_CACHE_GB: expected a number of gigabytes"):
        shelf.limit_bytes()


def test_where_folders_cannot_be_locked_age_decides(tmp_path, monkeypatch):
    def no(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(shelf.fcntl, "flock", no)
    for name, age in ((".a.x.new", 3600), (".b.x.new", 8 * 86400)):
        (tmp_path / name).mkdir()
        aged(tmp_path / name, age)
    assert Cache(tmp_path / "cache").get("kind", 1, Maker(), value)
    assert [p.name for p in shelf.sweep(tmp_path)] == [".b.x.new"]


FULL = {
    "system": OSError(errno.ENOSPC, "No space left on device"), "quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
    "numpy": OSError("12500 requested and 3968 written"),
    "safetensors": Exception("I/O error: No space left on device (os error 28)"),
}


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_a_full_disk_is_one_clear_error_and_nothing_half_written(tmp_path, error):
    def make(folder):
        (folder / "half").write_text("h")
        raise error

    with pytest.raises(NbkitError, match="expected room for .*MB free.*goes on from here.*nbkit cache.*NBKIT_CACHE"):
        Cache(tmp_path).get("kind", 1, make, value)
    assert list((tmp_path / "kind").iterdir()) == []
    assert Cache(tmp_path).get("kind", 1, Maker(), value), "it goes on when there is room"


def test_a_full_disk_inside_an_entry_is_told_by_the_folder_that_people_know(tmp_path):
    def make(folder):
        with atomic(folder / "model" / "weights"):
            raise FULL["system"]

    with pytest.raises(NbkitError) as told:
        Cache(tmp_path).get("kind", 1, make, value)
    assert str(told.value).startswith(f"{tmp_path / 'kind'}: expected room for ") and ".new" not in str(told.value)
    assert str(told.value).count("MB free") == 1


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "a") as part:
        (part / "no" / "such").read_text()


def test_a_limit_on_file_sizes_is_told_too(tmp_path):
    old, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(NbkitError, match="expected room for big.txt"):
            write_text(tmp_path / "big.txt", "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (old, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_can_only_be_read_is_read(tmp_path, made, monkeypatch):
    entry, make = made

    def no(*_, **__):
        raise PermissionError(errno.EROFS, "Read-only file system")

    forget()
    monkeypatch.setattr(os, "utime", no)
    monkeypatch.setattr(shelf.Path, "mkdir", no)
    assert Cache(tmp_path).get("kind", 1, make, value) == make.text
    with pytest.raises(NbkitError, match="can be written to, found Read-only"):
        Cache(tmp_path).get("kind", 2, make, value)


def test_without_a_home_the_variable_is_named(monkeypatch):
    monkeypatch.delenv("NBKIT_CACHE", raising=False)
    monkeypatch.setattr(files.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(NbkitError, match="HOME: expected a home folder.*Set NBKIT_CACHE"):
        cache_folder()
