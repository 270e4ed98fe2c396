"""Weights that come with the project are those that are listed."""

from __future__ import annotations

import hashlib

import pytest

from nbkit.core.checks import NbkitError
from nbkit.data import shipped


@pytest.fixture
def listed(tmp_path, monkeypatch):
    folder = tmp_path / "weights" / "reader"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "weights.toml").write_text(f'[reader]\nsystem = "R"\nsha256 = "{digest}"\n', encoding="utf-8")
    monkeypatch.setattr(shipped, "LIST", tmp_path / "weights.toml")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "weights")
    shipped.shipped_folder.cache_clear()
    yield folder
    shipped.shipped_folder.cache_clear()


def test_listed_weights_are_found(listed):
    assert shipped.shipped_folder("reader") == listed and shipped.weights_list()["reader"]["system"] == "R"


def test_an_unknown_name_is_refused_with_the_nearest(listed):
    with pytest.raises(NbkitError, match=r"weights\.toml: weights.*Did you mean 'reader'"):
        shipped.shipped_folder("raeder")


@pytest.mark.parametrize("content", [b"other", None])
def test_other_or_missing_weights_are_refused(listed, content):
    file = listed / "weights.safetensors"
    file.write_bytes(content) if content else file.unlink()
    with pytest.raises(NbkitError, match=r"weights\.safetensors: expected sha256 .*git checkout"):
        shipped.shipped_folder("reader")


def test_every_listed_file_is_in_the_clone():
    shipped.shipped_folder.cache_clear()
    for name, entry in shipped.weights_list().items():
        assert shipped.shipped_folder(name).is_dir() and entry["bytes"] < 8 * 2**20, name
