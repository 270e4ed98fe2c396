"""People scanned again: whoever is here with two scans, and by name whoever is not."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.manifest import Manifest, ManifestFile
from nbkit.phantom import scanned_again
from nbkit.phantom.scanned_again import any_pair, prepared_cohort

HERE = {"a": (1, 2, 3), "b": (1, 3), "c": (2,), "d": (), "e": (1, 2)}
FAILS = ("a", "2"), ("e", "1")


def path(who: str, wave: int) -> str:
    return f"{who}/{wave}.nii"


@pytest.fixture
def manifest(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path))
    monkeypatch.delenv("NBKIT_MIRROR", raising=False)
    files = []
    for who, waves in HERE.items():
        for wave in (1, 2, 3):
            body = f"{who}{wave}".encode()
            files.append(ManifestFile(path=path(who, wave), sha256=hashlib.sha256(body).hexdigest(), participant=who,
                                      session=str(wave), more=who == "e"))
            if wave in waves:
                (tmp_path / "x" / who).mkdir(parents=True, exist_ok=True)
                (tmp_path / "x" / path(who, wave)).write_bytes(body)
    return Manifest(name="toy", title="t", access="open", licence="CC0", attribution="a", folder="x", repository="r",
                    release="1", files=tuple(files), partial=True)


@pytest.fixture
def prepared(monkeypatch):
    """Stands for preprocessing: an image that holds the wave, and two scans that cannot be prepared."""

    def prepare_files(sources, reference, *, left_out, **settings):
        made = []
        for source in sources:
            assert source.t1w.read_bytes() == f"{source.subject}{source.session}".encode()
            if (source.subject, source.session) in FAILS:
                left_out[source.subject, source.session] = NbkitError("x", expected="a brain", found="3.2 L", remedy="")
                continue
            image = Volume(torch.full((1, 2, 2, 2), float(source.session)), np.eye(4))
            made.append(Scan(source.subject, source.session, None, {"T1w": image}, {"brain": image}))
        return made

    monkeypatch.setattr(scanned_again, "prepare_files", prepare_files)


def roster() -> list[Subject]:
    return [
        Subject(who, "F", "CN", tuple(Scan(who, str(k), 60.0 + k, {}, diagnosis="CN") for k in (1, 2, 3)),
                {"mmse": [30.0, None, 28.0], "converter": False}) for who in HERE
    ]


def made(manifest, **options):
    given = {"asked": ["a", "b", "c", "d"], "progress": False, "kind": "real scans", "who": ["Nobody is ill"]}
    return prepared_cohort(manifest, roster(), "smoke", **given | options)


def test_whoever_has_two_scans_is_in_and_the_others_are_named(manifest, prepared, caplog):
    cohort = made(manifest, left_out={"a 4": "its time is not published"})
    assert {s.id: [scan.session for scan in s.scans] for s in cohort} == {"a": ["1", "3"], "b": ["1", "3"]}
    assert cohort.subject("a").covariates == {"mmse": [30.0, 28.0], "converter": False}
    assert [scan.age for scan in cohort.subject("b").scans] == [61.0, 63.0]
    assert float(cohort.subject("b").scans[1].image("T1w").data.max()) == 3.0
    left = cohort.provenance["left_out"]
    assert set(left) == {"a 4", "c", "a 2", "e 1", "e"}
    assert left["a 2"] == "3.2 L instead of a brain"
    assert left["c"] == "1 of 3 scans here, and change needs two: `nbkit data fetch toy` brings the others"
    assert left["e"] == "1 of 3 scans prepared, and change needs two"
    for who in left:
        assert f"toy: {who} is left out" in caplog.text


def test_how_many_of_how_many_are_here_is_said_first(manifest, prepared):
    said = made(manifest).provenance["who"]
    assert said[0] == "2 of 4 people (4 of 12 scans); `nbkit data fetch toy` brings the missing"
    assert said[1].startswith("Left out: c (1 of 3 scans here") and said[2] == "Nobody is ill"
    everybody = made(manifest, asked=["a"]).provenance["who"][0]
    assert everybody == "1 of 1 people (2 of 3 scans), and 1 of those that --all brings"


def test_the_hash_of_the_data_changes_with_the_scans_and_the_profile(manifest, prepared, tmp_path):
    first = made(manifest).provenance["data_hash"]
    assert made(manifest).provenance["data_hash"] == first
    (tmp_path / "x" / path("b", 2)).write_bytes(b"b2")
    assert made(manifest).provenance["data_hash"] != first


def test_nobody_with_two_scans_is_refused_with_the_command(manifest, prepared, tmp_path):
    for place in (path("a", 1), path("a", 3), path("b", 1), path("e", 2)):
        (tmp_path / "x" / place).unlink()
    with pytest.raises(NbkitError, match=r"two scans or more of somebody, found a: 1 of 3 scans here.*--people 20"):
        made(manifest)


def test_a_wrong_file_is_refused_by_name(manifest, prepared, tmp_path):
    (tmp_path / "x" / path("b", 3)).write_bytes(b"altered")
    with pytest.raises(NbkitError, match=r"b/3\.nii.*wrong hash.*nbkit data fetch toy"):
        made(manifest)


def test_a_pair_is_two_scans_of_one_person(manifest, tmp_path):
    assert any_pair(manifest)
    for who, waves in HERE.items():
        for wave in waves[1:]:
            (tmp_path / "x" / path(who, wave)).unlink()
    assert not any_pair(manifest)
