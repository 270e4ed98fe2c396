"""Downloads against a server on this machine: verified, resumed, set aside when wrong; and the mirror."""

from __future__ import annotations

import hashlib
import os
import resource
import threading
import types

import pooch
import pytest

from nbkit.core import files
from nbkit.core.checks import NbkitError
from nbkit.data import manifest as m
from tests.data.loopback import serving

CONTENT = {"a/one.bin": bytes(range(256)) * 400, "a/two.bin": b"hello world\n", "b/three.bin": b"x" * 5000}
# git hash-object of "hello world\n"
HELLO_SHA1 = "3b18e512dba79e4c8300dd08aeb37f8e728b8dad"


@pytest.fixture
def server():
    with serving(CONTENT, under="c0ffee/") as running:
        yield running


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("NBKIT_MIRROR", raising=False)
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)
    return tmp_path


@pytest.fixture
def tiny(folders, server):
    files = [m.ManifestFile(path=p, bytes=len(c), sha256=hashlib.sha256(c).hexdigest()) for p, c in CONTENT.items()]
    files[1] = m.ManifestFile(path="a/two.bin", git_sha1=HELLO_SHA1)
    return m.Manifest(
        name="tiny", title="t", access="open", licence="CC0", attribution="a", folder="tiny_data", commit="c0ffee",
        base_url=f"http://127.0.0.1:{server.server_port}/{{commit}}/", files=tuple(files),
    )


def here(folders, path):
    return folders / "data" / "tiny_data" / path


def mirror(folders, monkeypatch, content):
    for path, body in content.items():
        target = folders / "mirror" / "tiny_data" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    monkeypatch.setenv("NBKIT_MIRROR", str(folders / "mirror"))


def test_fetch_brings_everything_once_and_leaves_no_partial_files(folders, tiny, server):
    got = tiny.fetch(progress=False)
    assert {path: file.read_bytes() for path, file in got.items()} == CONTENT
    assert len(server.requests) == 3
    assert tiny.fetch(progress=False) == got
    assert len(server.requests) == 3
    kept = sorted(p.name for p in (folders / "data").rglob("*") if p.is_file())
    assert kept == ["one.bin", "three.bin", "two.bin"]
    assert [row.state for row in tiny.verify()] == ["ok", "ok", "ok"]


def test_a_partial_download_goes_on_where_it_stopped(folders, tiny, server):
    here(folders, "a").mkdir(parents=True)
    here(folders, "a/one.bin.part").write_bytes(CONTENT["a/one.bin"][:70_000])
    got = tiny.fetch(["a/one.bin"], progress=False)
    assert server.requests == [("/c0ffee/a/one.bin", "bytes=70000-")]
    assert got["a/one.bin"].read_bytes() == CONTENT["a/one.bin"]


def test_a_line_that_drops_is_taken_up_again(folders, tiny, server):
    server.cut = 40_000
    got = tiny.fetch(["a/one.bin"], progress=False)
    assert got["a/one.bin"].read_bytes() == CONTENT["a/one.bin"]
    assert len(server.requests) == 2
    assert server.requests[0][1] is None


def test_a_complete_part_needs_no_more_than_its_check(folders, tiny, server):
    here(folders, "b").mkdir(parents=True)
    here(folders, "b/three.bin.part").write_bytes(CONTENT["b/three.bin"])
    assert tiny.fetch(["b/three.bin"], progress=False)["b/three.bin"].read_bytes() == CONTENT["b/three.bin"]


def test_a_server_without_ranges_starts_over(folders, tiny, server):
    server.ranges = False
    here(folders, "a").mkdir(parents=True)
    here(folders, "a/one.bin.part").write_bytes(b"something else")
    assert tiny.fetch(["a/one.bin"], progress=False)["a/one.bin"].read_bytes() == CONTENT["a/one.bin"]


def test_a_download_with_other_content_is_kept_aside_and_not_used(folders, tiny, server):
    server.content["b/three.bin"] = b"y" * 5000
    with pytest.raises(NbkitError, match=r"b/three\.bin: expected a download with sha256:.*three\.bin\.rejected"):
        tiny.fetch(["b/three.bin"], progress=False)
    assert not here(folders, "b/three.bin").exists()
    assert here(folders, "b/three.bin.rejected").read_bytes() == b"y" * 5000
    assert tiny.locate("b/three.bin") is None


def test_no_more_is_taken_than_the_manifest_says(folders, tiny, server):
    server.content["b/three.bin"] = b"x" * 20_000_000
    with pytest.raises(NbkitError, match=r"b/three\.bin: .*found more than its 5000 bytes"):
        tiny.fetch(["b/three.bin"], progress=False)
    assert here(folders, "b/three.bin.rejected").stat().st_size <= 5000 + 2**18


def test_two_processes_do_not_share_a_partial_file(folders, tiny, server, monkeypatch):
    target, waiting, got = here(folders, "b/three.bin"), threading.Event(), []
    target.parent.mkdir(parents=True)
    monkeypatch.setattr(files.log, "info", lambda *_: waiting.set())
    second = threading.Thread(target=lambda: got.append(tiny.fetch(["b/three.bin"], progress=False)))
    with files.sole(target.with_name(".three.bin.lock")):
        second.start()
        assert waiting.wait(20)
        target.write_bytes(CONTENT["b/three.bin"])
    second.join()
    assert got == [{"b/three.bin": target}] and server.requests == []
    assert [p.name for p in target.parent.iterdir()] == ["three.bin"]


def test_a_disk_that_fills_is_named_and_the_download_goes_on_when_there_is_room(folders, tiny, server):
    old, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(NbkitError, match="File too large.*Set NBKIT_DATA.*goes on"):
            tiny.fetch(["a/one.bin"], progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (old, hard))
    assert [p.name for p in here(folders, "a").iterdir()] == ["one.bin.part"]
    assert tiny.fetch(["a/one.bin"], progress=False)["a/one.bin"].read_bytes() == CONTENT["a/one.bin"]
    assert server.requests[-1][1] == "bytes=50000-"


def test_partial_files_given_up_a_week_ago_and_locks_of_the_dead_go(folders, tiny):
    here(folders, "b").mkdir(parents=True)
    for name in ("three.bin.part", "other.bin.part", ".three.bin.lock"):
        here(folders, f"b/{name}").write_bytes(b"x")
        os.utime(here(folders, f"b/{name}"), (1e9, 1e9))
    tiny.fetch(["b/three.bin"], progress=False)
    assert [p.name for p in here(folders, "b").iterdir()] == ["three.bin"]


def test_without_room_nothing_is_begun(folders, tiny, server, monkeypatch):
    monkeypatch.setattr(m.shutil, "disk_usage", lambda place: types.SimpleNamespace(free=100_000))
    assert tiny.fetch(["b/three.bin"], progress=False)
    with pytest.raises(NbkitError, match="GB of room for tiny.*larger disk"):
        tiny.fetch(progress=False)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("path", "body", "state"),
    [("a/one.bin", CONTENT["a/one.bin"][:-1], "wrong size"), ("b/three.bin", b"z" * 5000, "wrong hash"),
     ("a/two.bin", b"hello world", "wrong hash")],
)
def test_a_wrong_file_is_refused_by_name_and_fetch_replaces_it(folders, tiny, path, body, state):
    here(folders, path).parent.mkdir(parents=True)
    here(folders, path).write_bytes(body)
    assert next(row for row in tiny.verify() if row.path == path).state == state
    with pytest.raises(NbkitError, match=rf"{path}.*{state}.*nbkit data fetch tiny"):
        tiny.locate(path)
    assert here(folders, path).read_bytes() == body
    tiny.fetch([path], progress=False)
    assert here(folders, path).read_bytes() == CONTENT[path]
    assert here(folders, f"{path}.rejected").read_bytes() == body


def test_a_file_altered_after_its_check_is_noticed(folders, tiny):
    file = tiny.fetch(["b/three.bin"], progress=False)["b/three.bin"]
    assert tiny.locate("b/three.bin") == file
    file.write_bytes(b"w" * 5000)
    with pytest.raises(NbkitError, match="wrong hash"):
        tiny.locate("b/three.bin")


def test_the_mirror_comes_first_and_is_not_copied(folders, tiny, server, monkeypatch):
    mirror(folders, monkeypatch, {"a/two.bin": CONTENT["a/two.bin"]})
    assert tiny.fetch(["a/two.bin"], progress=False)["a/two.bin"].is_relative_to(folders / "mirror")
    assert tiny.fetch(["b/three.bin"], progress=False)["b/three.bin"].is_relative_to(folders / "data")
    assert [path for path, _ in server.requests] == ["/c0ffee/b/three.bin"]


def test_a_wrong_file_in_the_mirror_is_refused_and_not_touched(folders, tiny, server, monkeypatch):
    mirror(folders, monkeypatch, {"b/three.bin": b"short"})
    for call in (lambda: tiny.locate("b/three.bin"), lambda: tiny.fetch(["b/three.bin"], progress=False)):
        with pytest.raises(NbkitError, match=r"mirror.*three\.bin: expected sha256:.*not touched"):
            call()
    assert [p.name for p in (folders / "mirror").rglob("*") if p.is_file()] == ["three.bin"]
    assert server.requests == []


def test_a_mirror_that_is_not_there_is_refused(tiny, monkeypatch, folders):
    monkeypatch.setenv("NBKIT_MIRROR", str(folders / "nowhere"))
    with pytest.raises(NbkitError, match="NBKIT_MIRROR: expected a folder"):
        tiny.locate("a/two.bin")


def test_missing_files_are_none_and_unknown_paths_are_refused(tiny):
    assert tiny.locate("a/one.bin") is None
    assert {row.state for row in tiny.verify()} == {"missing"}
    for call in (tiny.locate, tiny.find, tiny.status, lambda p: tiny.fetch([p])):
        with pytest.raises(NbkitError, match="Did you mean 'a/one.bin'"):
            call("a/one.bim")


def test_without_a_server_the_remedy_is_named(folders, tiny, server):
    nobody = tiny.model_copy(update={"base_url": "http://127.0.0.1:9/"})
    with pytest.raises(NbkitError, match="Check the network.*NBKIT_MIRROR"):
        nobody.fetch(["a/one.bin"], progress=False)


def test_an_unwritable_data_folder_is_named(folders, tiny, monkeypatch):
    (folders / "file").write_text("")
    monkeypatch.setenv("NBKIT_DATA", str(folders / "file"))
    with pytest.raises(NbkitError, match="a folder that can be written to.*NBKIT_DATA"):
        tiny.fetch(["a/one.bin"], progress=False)


def test_restricted_cohorts_are_never_downloaded(tiny, server):
    with pytest.raises(NbkitError, match="Apply for the data"):
        tiny.model_copy(update={"access": "restricted"}).fetch(progress=False)
    assert server.requests == []


TOML = 'name = "x"\ntitle = "t"\naccess = "open"\nlicence = "l"\nattribution = "a"\n'
ROW = f"path\tsha256\ns1/T1.nii\t{'0' * 64}\n"


@pytest.mark.parametrize(
    ("toml", "tsv", "message"),
    [
        (TOML + 'lisence = "x"\n', ROW, "Did you mean 'licence'"),
        (TOML.replace('"open"', '"opne"'), ROW, "access: Input should be"),
        (TOML, "path\tsha255\na\t12\n", "files.0.sha255: .*Did you mean 'sha256'"),
        (TOML, "path\tsha256\na\t12\n", "files.0.sha256"),
        (TOML, "path\tbytes\na\t12\n", "needs sha256 or git_sha1"),
        (TOML, f"path\tsha256\n../a\t{'0' * 64}\n", "leaves the data folder"),
        (TOML, f"path\tsha256\n/etc/a\t{'0' * 64}\n", "files.0.path"),
        (TOML, ROW + f"s1/T1.nii\t{'1' * 64}\n", "a path listed twice"),
        (TOML + "[expected]\nsubjects = 2\n[layout]\nT1w = '{subject}/T1.nii'\n", ROW, "subjects: expected 2, found 1"),
    ],
)
def test_bad_manifests_are_refused_by_entry(tmp_path, toml, tsv, message):
    (tmp_path / "cohort.toml").write_text(toml)
    (tmp_path / "files.tsv").write_text(tsv)
    with pytest.raises(NbkitError, match=message):
        m.read_manifest(tmp_path)


def test_subjects_are_found_by_the_layout():
    files = [m.ManifestFile(path=p, sha256="0" * 64) for p in ("s2/T1.nii", "s1/T1.nii", "s1/gt.nii", "README.txt")]
    layout = {"T1w": "{subject}/T1.nii", "mask:lesions": "{subject}/gt.nii"}
    manifest = m.Manifest(
        name="x", title="t", access="open", licence="l", attribution="a", layout=layout, files=tuple(files),
    )
    assert manifest.subjects() == {
        "s1": {"T1w": "s1/T1.nii", "mask:lesions": "s1/gt.nii"}, "s2": {"T1w": "s2/T1.nii"},
    }
    assert list(manifest.subjects()) == ["s1", "s2"]


def test_unknown_manifests_are_refused():
    with pytest.raises(NbkitError, match="Did you mean 'open_ms'"):
        m.load_manifest("openms")
