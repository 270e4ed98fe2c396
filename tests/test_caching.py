"""What finished work takes on disk, shown and cleared."""

from __future__ import annotations

import os

from nbkit.core.files import Cache, write_text
from tests.test_cli import home  # noqa: F401 - a fixture


def test_cache_shows_and_clears_finished_work_but_no_downloads(nbkit, home):
    Cache().get("phantom", {"seed": 7}, lambda p: (p / "x").write_bytes(b"1" * 2_000_000), lambda p: p)
    (home / "cache" / "data").mkdir()
    (home / "cache" / "data" / "scan.nii").touch()
    code, out, _ = nbkit("cache")
    assert code == 0 and "phantom" in out and "2.0 MB" in out
    assert nbkit("cache", "clear")[1] == "removed phantom\n"
    assert (home / "cache" / "data" / "scan.nii").exists() and not (home / "cache" / "phantom").exists()


def test_cache_tells_limit_logs_and_leftovers_and_clears_what_is_ours(nbkit, home, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE_GB", "3")
    root = home / "cache"
    for kind in ("phantom", "fitted"):
        Cache().get(kind, 1, lambda p: (p / "x").touch(), lambda p: p)
    (root / "phantom" / "mine").mkdir()
    (root / "phantom" / "mine" / "thesis.txt").touch()
    (root / "training" / "0123" / "net-1").mkdir(parents=True)
    (root / "fitted" / ".abc.x.new").mkdir()
    os.utime(root / "fitted" / ".abc.x.new", (1e9, 1e9))
    write_text(root / "logs" / "smoke-embedded.01_a.log", "boom")
    code, out, _ = nbkit("cache")
    assert code == 0 and "of 3 GB (NBKIT_CACHE_GB)" in out and "1 logs" in out and "1 leftovers" in out
    kinds = [line.split()[:2] for line in out.splitlines()[1:4]]
    assert kinds == [["fitted", "1"], ["phantom", "1"], ["training", "1"]]
    assert nbkit("cache", "clear", "fitted")[1] == "removed fitted\n" and not (root / "fitted").exists()
    assert nbkit("cache", "clear")[1] == "removed phantom\nremoved training\n"
    left = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and ".live" not in str(p)]
    assert left == ["phantom/mine/thesis.txt"]
