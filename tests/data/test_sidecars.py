"""The JSON of a scan: encodings, what it inherits, and what is no object."""

from __future__ import annotations

import json

import pytest

from nbkit.core.checks import NbkitError
from nbkit.data.sidecars import entities_of, sidecar


def test_names_fall_into_entities_and_a_suffix():
    assert entities_of("sub-01_trc-18FFDG_pet") == ({"sub": "01", "trc": "18FFDG"}, "pet")
    assert entities_of("pet") == ({}, "pet")


def write(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_the_nearest_file_wins_and_others_scans_files_do_not_count(tmp_path):
    folder = tmp_path / "sub-01" / "ses-1" / "pet"
    image = folder / "sub-01_ses-1_trc-18FFDG_pet.nii.gz"
    write(tmp_path / "pet.json", a="root", b="root", c="root", d="root")
    write(tmp_path / "trc-18FFDG_pet.json", b="tracer", c="tracer", d="tracer")
    write(tmp_path / "sub-01" / "sub-01_pet.json", c="person", d="person")
    write(folder / "sub-01_ses-1_trc-18FFDG_pet.json", d="scan")
    write(tmp_path / "trc-18FAV45_pet.json", a="other tracer")
    write(folder / "sub-01_ses-1_T1w.json", a="other suffix")
    write(tmp_path / "sub-02" / "pet.json", a="other person")
    write(folder / "sub-01_ses-1_run-1_pet.json", a="other run")
    assert sidecar(tmp_path, image) == {"a": "root", "b": "tracer", "c": "person", "d": "scan"}


@pytest.mark.parametrize(("content", "found"), [
    (b"[1, 2]", "a list"), (b"3", "a int"), (b"null", "a NoneType"), (b"{Units: SUVR", "Expecting property name"),
    (b"", "Expecting value"), (b"[" * 100_000, "recursion|Expecting value"),
])
def test_what_is_no_object_is_refused_by_name(tmp_path, content, found):
    (tmp_path / "sub-01_pet.json").write_bytes(content)
    with pytest.raises(NbkitError, match=rf"sub-01_pet\.json: expected a JSON object.*{found}"):
        sidecar(tmp_path, tmp_path / "sub-01_pet.nii")
