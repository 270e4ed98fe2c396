"""TOML: settings of a data set, manifests, ledgers."""

from __future__ import annotations

import pytest

from nbkit.claims.ledger import PAPERS, read_ledger
from nbkit.data.manifest import MANIFESTS, read_manifest
from nbkit.data.own_settings import SETTINGS, read_settings
from tests.fuzz.damage import Door

WORDS = (b'"""', b"'''", b"[[", b"]]", b"1979-05-27", b"true", b"inf", b"0x", b"{a = 1}", b"a.b.c = 1")


@pytest.mark.slow
def test_settings_of_a_data_set(tmp_path):
    text = 'diagnosis = "CN"  # all\nsex_codes = {1 = "M", 2 = "F"}\n'
    door = Door("settings", [text.encode(), b"\xef\xbb\xbf" + text.encode()], words=WORDS)
    for which, raw in door:
        (tmp_path / SETTINGS).write_bytes(raw)
        door.tries(which, raw, lambda: _sound(read_settings(tmp_path)))
    door.close()


def _sound(told) -> None:
    assert told.diagnosis is None or isinstance(told.diagnosis, str)
    assert all(isinstance(text, str) for pair in told.sex_codes.items() for text in pair)


@pytest.mark.slow
def test_manifests(tmp_path):
    files = [tmp_path / "cohort.toml", tmp_path / "files.tsv"]
    for file in files:
        file.write_bytes((MANIFESTS / "open_ms" / file.name).read_bytes())
    files[1].write_bytes(b"".join(files[1].read_bytes().splitlines(keepends=True)[:9]))
    head = files[0].read_text(encoding="utf-8")
    files[0].write_text(head[: head.index("[expected]")] if "[expected]" in head else head, encoding="utf-8")
    door = Door("manifests", [file.read_bytes() for file in files], words=(*WORDS, b"../x", b"/etc/passwd"), share=4)
    for which, raw in door:
        files[which].write_bytes(raw)
        read_manifest.cache_clear()
        door.tries(which, raw, lambda: _inside(read_manifest(tmp_path)))
        files[which].write_bytes(door.wholes[which])
    read_manifest.cache_clear()
    door.close()


def _inside(manifest) -> None:
    for path in manifest.by_path:
        assert not path.startswith("/") and ".." not in path.split("/")


@pytest.mark.slow
def test_ledgers(tmp_path):
    text = (PAPERS / "daninet" / "published.toml").read_bytes()
    path, door = tmp_path / "published.toml", Door("ledgers", [text], words=WORDS, share=20)
    for which, raw in door:
        path.write_bytes(raw)
        read_ledger.cache_clear()
        door.tries(which, raw, lambda: _complete(read_ledger(path)))
    read_ledger.cache_clear()
    door.close()


def _complete(paper) -> None:
    assert all(number.id.startswith(f"{paper.prefix}.") for number in paper.number)
