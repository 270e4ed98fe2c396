"""The committed manifests: complete, well-formed, and true of the files that are here."""

from __future__ import annotations

import os
import re

import pytest

from nbkit.data.manifest import MANIFESTS, Manifest, list_manifests, load_manifest


@pytest.mark.parametrize("name", list_manifests())
def test_every_manifest_says_what_it_is_and_under_which_licence(name):
    manifest = load_manifest(name)
    assert manifest.name == name
    assert manifest.title and manifest.licence and manifest.attribution and manifest.citation
    assert manifest.expected.get("subjects", 0) > 0
    text = "".join(f.read_text(encoding="utf-8") for f in (MANIFESTS / name).iterdir())
    assert not re.search(r"(?m)(^|[\s\"'])/(home|work|tmp|root|Users)/", text)


@pytest.mark.parametrize("name", [n for n in list_manifests() if load_manifest(n).access == "open"])
def test_open_manifests_can_be_fetched_at_one_commit_or_release(name):
    manifest = load_manifest(name)
    if manifest.release:
        assert re.fullmatch(r"\d+\.\d+\.\d+", manifest.release) and not manifest.commit
        # no version ids are known of sleepy_brain: its hashes alone hold it to the release
        assert name == "sleepy_brain" or all(file.version or file.unverified for file in manifest.files)
    else:
        assert re.fullmatch(r"[0-9a-f]{40}", manifest.commit) and "{commit}" in manifest.base_url
    assert manifest.base_url.startswith("https://") and manifest.base_url.endswith("/")
    assert manifest.folder and manifest.files
    assert list(manifest.by_path) == sorted(manifest.by_path)


def test_open_ms_lists_five_files_of_each_of_thirty_patients():
    manifest = load_manifest("open_ms")
    subjects = manifest.subjects()
    assert list(subjects) == [f"patient{n:02d}" for n in range(1, 31)]
    assert {tuple(roles) for roles in subjects.values()} == {("T1w", "T1wCE", "T2w", "FLAIR", "mask:lesions")}
    assert "cross_sectional/LICENSE.txt" in manifest.by_path
    assert all(file.git_sha1 for file in manifest.files)


@pytest.mark.skipif(not os.environ.get("NBKIT_MIRROR"), reason="set NBKIT_MIRROR to check the real files")
def test_the_mirrored_files_of_open_ms_are_the_published_ones():
    manifest = load_manifest("open_ms")
    states = [row.state for row in manifest.verify()]
    assert states.count("ok") > 0
    assert set(states) <= {"ok", "missing"}
    # a file with both hashes must satisfy each of them
    both = [f for f in manifest.files if f.sha256 and f.git_sha1 and manifest.find(f.path)]
    by_git = [f.model_copy(update={"sha256": None}) for f in both]
    only = Manifest(**manifest.model_dump() | {"files": by_git, "expected": {}})
    assert {row.state for row in only.verify()} == {"ok"}
