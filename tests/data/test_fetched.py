"""Downloads by S3 version id, by MD5, without a published hash; parts of a data set; a file that fails by itself."""

from __future__ import annotations

import hashlib

import pooch
import pytest

from nbkit.core.checks import NbkitError
from nbkit.data import manifest as m
from tests.data.loopback import serving

TABLE = b"participant_id\tAgeGroup\nsub-1\tOld\n"
CONTENT = {
    "participants.tsv": TABLE, "sub-1/t1_run-1.bin": b"first" * 900, "sub-1/t1_run-2.bin": b"again" * 900,
    "sub-2/t1.bin": b"second" * 900, "sub-3/t1.bin": b"third" * 900,
}
ONE, TWO, THREE = "sub-1/t1_run-2.bin", "sub-2/t1.bin", "sub-3/t1.bin"


@pytest.fixture
def server():
    with serving(CONTENT) as running:
        yield running


@pytest.fixture
def study(server, tmp_path, monkeypatch):
    """Three people, one of them fetched only when asked for, and a table of which no hash is known."""
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path))
    monkeypatch.delenv("NBKIT_MIRROR", raising=False)
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)
    files = [m.ManifestFile(path="participants.tsv", unverified=True)]
    for path in list(CONTENT)[1:]:
        files.append(m.ManifestFile(
            path=path, bytes=len(CONTENT[path]), md5=hashlib.md5(CONTENT[path]).hexdigest(), version="V.1-x_",
            participant=path.split("/")[0], session="1", more=path == THREE,
        ))
    return m.Manifest(
        name="study", title="t", access="open", licence="CC0", attribution="a", folder="study", release="1.0",
        base_url=f"{server.address}/", partial=True, files=tuple(files),
    )


def test_addresses_carry_the_version_id(study, server):
    assert study.address(TWO) == f"{server.address}/sub-2/t1.bin?versionId=V.1-x_"
    assert study.fetch([TWO], progress=False)[TWO].read_bytes() == CONTENT[TWO]
    assert server.requests == [("/sub-2/t1.bin?versionId=V.1-x_", None)]


@pytest.mark.parametrize("status", [403, 400, 404])
def test_a_refused_version_id_is_left_out_and_the_hash_decides(study, server, status):
    server.versions["*"] = status
    assert study.fetch([TWO], progress=False)[TWO].read_bytes() == CONTENT[TWO]
    assert [path for path, _ in server.requests] == ["/sub-2/t1.bin?versionId=V.1-x_", "/sub-2/t1.bin"]
    server.content[THREE] = b"other" * 900
    with pytest.raises(NbkitError, match=r"expected a download with md5:.*found other content"):
        study.fetch([THREE], progress=False)
    assert study.locate(THREE) is None


def test_a_refusal_goes_on_with_what_is_here(study, server, tmp_path):
    (tmp_path / "study" / "sub-2").mkdir(parents=True)
    (tmp_path / "study" / "sub-2" / "t1.bin.part").write_bytes(CONTENT[TWO][:1000])
    server.versions["V.1-x_"] = 403
    assert study.fetch([TWO], progress=False)[TWO].read_bytes() == CONTENT[TWO]
    assert server.requests[-1] == ("/sub-2/t1.bin", "bytes=1000-")


def test_other_failures_of_a_version_id_are_told(study, server):
    server.versions["*"] = 503
    with pytest.raises(NbkitError, match="503"):
        study.fetch([TWO], progress=False)
    assert {path for path, _ in server.requests} == {"/sub-2/t1.bin?versionId=V.1-x_"}


def test_one_wrong_file_does_not_keep_the_others_from_coming(study, server):
    server.content[ONE] = b"wrong" * 900
    with pytest.raises(NbkitError, match=r"sub-1/t1_run-2\.bin: expected a download with md5"):
        study.fetch(progress=False)
    assert study.locate(TWO) is not None and study.locate(ONE) is None
    del server.content[ONE], server.content[THREE]
    with pytest.raises(NbkitError, match=r"expected 4 files, found sub-1.*404.*sub-3.*404.*2 others are here"):
        study.fetch(study.wanted(everybody=True), progress=False)


def test_a_server_that_fails_every_file_is_left_alone(study, server, monkeypatch):
    monkeypatch.setattr(m, "_REFUSALS", 1)
    server.content.clear()
    with pytest.raises(NbkitError, match="expected 4 files"):
        study.fetch(study.wanted(everybody=True), progress=False)
    assert not any("sub-2" in path or "sub-3" in path for path, _ in server.requests)


def test_the_default_set_everybody_and_the_highest_run(study):
    assert study.wanted() == ["participants.tsv", ONE, TWO]
    assert study.wanted(everybody=True) == ["participants.tsv", ONE, TWO, THREE]
    assert study.wanted(["sub-2"]) == ["participants.tsv", TWO]
    assert study.subjects()["sub-1"] == {"1": ONE}
    assert study.counts() == {"subjects": 3, "files": 5, "default_subjects": 2, "default_files": 4}
    assert study.source.endswith("release 1.0")
    with pytest.raises(NbkitError, match="Did you mean 'sub-2'"):
        study.wanted(["sub-22"])


def test_a_file_without_a_published_hash_must_not_change(study, server, tmp_path, caplog):
    place = study.fetch(["participants.tsv"], progress=False)["participants.tsv"]
    assert "no hash of it was published" in caplog.text
    assert study.status("participants.tsv").state == "unverified" and study.locate("participants.tsv") == place
    assert [row.state for row in study.verify()][0] == "unverified"
    place.write_bytes(TABLE + b"sub-2\tOld\n")
    row = study.status("participants.tsv")
    assert row.state == "wrong hash" and "at its first download" in row.detail
    with pytest.raises(NbkitError, match="at its first download"):
        study.locate("participants.tsv")
    assert study.fetch(["participants.tsv"], progress=False)["participants.tsv"].read_bytes() == TABLE
    assert place.with_name("participants.tsv.rejected").exists() and study.locate("participants.tsv") == place


def test_halves_of_a_file_without_a_hash_are_not_put_together(study, server, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "participants.tsv.part").write_bytes(b"another release\n")
    assert study.fetch(["participants.tsv"], progress=False)["participants.tsv"].read_bytes() == TABLE


def test_further_columns_must_be_declared(tmp_path):
    toml = 'name = "x"\ntitle = "t"\naccess = "open"\nlicence = "l"\nattribution = "a"\n'
    (tmp_path / "files.tsv").write_text(f"path\tsha256\tage\tmore\na\t{'0' * 64}\t70\t1\n")
    (tmp_path / "cohort.toml").write_text(toml)
    with pytest.raises(NbkitError, match=r"files\.0\.age"):
        m.read_manifest(tmp_path)
    m.read_manifest.cache_clear()
    (tmp_path / "cohort.toml").write_text(toml + 'columns = ["age"]\n')
    (file,) = m.read_manifest(tmp_path).files
    assert file.facts == {"age": "70"} and file.more and file.participant == ""
