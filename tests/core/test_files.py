"""Files appear whole or not at all; finished work is not done again."""

import json
import os

import pytest

from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache, atomic, source_digest, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    target = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), atomic(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_folders_are_replaced_whole(tmp_path):
    for name in ("one", "two"):
        with atomic(tmp_path / "folder") as part:
            part.mkdir()
            (part / name).touch()
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["two"]


def test_nan_is_refused_in_json(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not (tmp_path / "x.json").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(NbkitError, match="can be written to"):
        write_text(tmp_path / "x", "")


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NbkitError, match="file.*can be written to.*another output folder"):
        write_text(tmp_path / "file" / "x", "")


def test_cache_makes_once_and_again_after_an_interrupted_make(tmp_path):
    cache, calls = Cache(tmp_path), []

    def make(folder):
        calls.append(1)
        (folder / "value").write_text("7")
        if len(calls) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("kind", {"a": 1}, make, lambda f: (f / "value").read_text())
    for _ in range(2):
        assert cache.get("kind", {"a": 1}, make, lambda f: (f / "value").read_text()) == "7"
    assert len(calls) == 2
    (entry,) = (tmp_path / "kind").iterdir()
    assert json.loads((entry / "key.json").read_text()) == {"a": 1}


def test_other_keys_are_other_entries(tmp_path):
    cache = Cache(tmp_path)
    for key in (1, 2):
        cache.get("k", key, lambda f: (f / "v").write_text(str(key)), lambda f: f)
    assert len(list((tmp_path / "k").iterdir())) == 2


def test_source_digest_sees_content_and_names(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.py").write_text("1")
    first = source_digest(tmp_path)
    (tmp_path / "a" / "x.py").write_text("2")
    second = source_digest(tmp_path)
    (tmp_path / "a" / "x.py").rename(tmp_path / "a" / "y.py")
    third = source_digest(tmp_path)
    (tmp_path / "b.txt").write_text("ignored")
    assert len({first, second, third}) == 3
    assert third == source_digest(tmp_path)
