"""The Dallas cohort: ages from decimal years, what is missing, and the committed list against that of upstream."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from nbkit.cohorts import dlbs
from nbkit.core.checks import NbkitError
from nbkit.data.manifest import Manifest, ManifestFile, load_manifest

LISTS = Path(os.environ.get("NBKIT_MIRROR") or "/nowhere") / "openneuro" / "manifests"
upstream = pytest.mark.skipif(not LISTS.is_dir(), reason="set NBKIT_MIRROR to a folder with openneuro/manifests")


def rows(name: str) -> list[dict[str, str]]:
    with (LISTS / name).open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def listed(*facts: dict[str, str]) -> Manifest:
    files = [ManifestFile(path=f"w{k}.nii", sha256="0" * 64, participant="sub-1", session=f"wave{k}", facts=told)
             for k, told in enumerate(facts, start=1)]
    return Manifest(name="dlbs", title="t", access="open", licence="l", attribution="a", files=tuple(files))


def test_ages_are_the_first_whole_year_plus_the_published_years():
    people = {subject.id: subject for subject in dlbs.roster(load_manifest("dlbs"))}
    assert [scan.age for scan in people["sub-1007"].scans] == [73.0, 77.03, 82.03]
    assert people["sub-1007"].sex == "M" and people["sub-1007"].covariates["mmse"] == [29.0, 30.0, 28.0]
    assert [scan.age for scan in people["sub-1058"].scans] == [33.0, 42.57], "waves 1 and 3: MRIW1toW3"
    assert people["sub-1058"].covariates["mmse"] == [28.0, 28.0]
    assert {scan.diagnosis for s in people.values() for scan in s.scans} == {"CN"}
    assert not any(s.covariates["converter"] for s in people.values())
    assert list(people) == sorted(people) and len(people) == 314


@pytest.mark.parametrize("missing", ["n/a", "NA", "xx", ""])
def test_what_is_missing_is_missing(missing):
    (person,) = dlbs.roster(listed(
        {"age": "60", "years": "0", "sex": missing, "mmse": missing},
        {"age": "64", "years": missing, "sex": "f", "mmse": "30"},
        {"age": "69", "years": "9,25", "sex": "f", "mmse": "27,5"},
    ))
    assert [(scan.session, scan.age) for scan in person.scans] == [("wave1", 60.0), ("wave3", 69.25)]
    assert person.sex is None and person.covariates["mmse"] == [None, 27.5]


def test_a_wave_without_a_time_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_MIRROR", str(tmp_path))
    (tmp_path / "w2.nii").write_bytes(b"x")
    facts = ({"age": "60", "years": "0"}, {"age": "64", "years": "n/a"}, {"age": "69", "years": "n/a"})
    manifest = listed(*facts)
    assert dlbs._undated(manifest, dlbs.roster(manifest)) == {"sub-1 wave2": "its time is not published"}


def test_years_start_at_the_first_scan_that_is_listed():
    (person,) = dlbs.roster(listed({"age": "64", "years": "4.5", "sex": "m"}, {"age": "70", "years": "10", "sex": "m"}))
    assert [scan.age for scan in person.scans] == [64.0, 69.5]


@pytest.mark.parametrize(("facts", "message"), [
    ({"age": "sixty", "years": "0"}, r"dlbs sub-1 wave1: age: expected a number, or n/a, found 'sixty'"),
    ({"age": "60", "years": "0", "sex": "2"}, r"dlbs sub-1: sex"),
])
def test_a_cell_that_cannot_be_read_is_refused(facts, message):
    with pytest.raises(NbkitError, match=message):
        dlbs.roster(listed(facts))


def test_the_default_set_is_three_waves_from_55_on():
    manifest = load_manifest("dlbs")
    assert manifest.counts() == {"subjects": 314, "files": 807, "default_subjects": 104, "default_files": 312}
    for subject in dlbs.roster(manifest):
        default = len(subject.scans) == 3 and subject.baseline.age >= 55
        assert (subject.id in manifest.subjects(everybody=False)) == default
    size = sum(manifest.by_path[path].bytes for path in manifest.wanted(list(manifest.subjects(everybody=False))[:20]))
    assert size < 0.5e9, "twenty people in half a gigabyte"


@upstream
def test_every_address_size_and_hash_is_upstreams():
    manifest, theirs = load_manifest("dlbs"), {row["path"]: row for row in rows("dlbs_T1w_ge2waves.tsv")}
    assert set(manifest.by_path) == set(theirs) and len(theirs) == 807
    for path, row in theirs.items():
        file = manifest.by_path[path]
        assert (manifest.address(path), str(file.bytes)) == (row["url"], row["bytes"])
        assert file.digest == f"sha256:{row['hash']}"
        assert (file.participant, file.session) == (row["participant"], f"wave{row['wave']}")
        assert file.run == int(row["run"])
        assert [file.facts[c] for c in ("age", "sex", "mmse")] == [row["AgeMRI"], row["Sex"], row["MMSE"]]
    assert set(manifest.wanted()) == {row["path"] for row in rows("dlbs_T1w_ge55_3waves.tsv")}
    assert len(manifest.wanted()) == 312 and len(manifest.wanted(everybody=True)) == 807


@upstream
def test_years_are_those_of_the_published_table():
    with (LISTS.parent / "ds004856" / "participants.tsv").open(encoding="utf-8") as stream:
        table = {row["participant_id"]: row for row in csv.DictReader(stream, delimiter="\t")}
    for file in load_manifest("dlbs").files:
        row, years = table[file.participant], float(file.facts["years"])
        told = {"wave1": "0", "wave2": row["MRIW1toW2"], "wave3": row["MRIW1toW3"]}[file.session]
        assert years == pytest.approx(float(told), abs=0.015)
        parts = row["MRIW1toW2"], row["MRIW2toW3"]
        if file.session == "wave3" and "n/a" not in parts:
            assert years == pytest.approx(sum(map(float, parts)), abs=1e-6)


@upstream
@pytest.mark.parametrize(("name", "list_name", "people"), [
    ("sleepy_brain", "ds000201_1.0.3_T1w.tsv", 81), ("hrv_er", "ds003823_1.3.5_T1w_wholebrain.tsv", 151),
])
def test_test_retest_files_are_upstreams(name, list_name, people):
    manifest, theirs = load_manifest(name), {row["path"]: row for row in rows(list_name)}
    ours = [file for file in manifest.files if not file.unverified]
    for file in ours:
        row = theirs[file.path]
        assert (manifest.address(file.path), str(file.bytes)) == (row["url"], row["bytes"])
        assert file.digest == f"md5:{row['hash']}"
    sessions: dict[str, set[str]] = {}
    for path in theirs:
        sessions.setdefault(path.split("/")[0], set()).add(path.split("/")[1])
    twice = {who for who, found in sessions.items() if len(found) == 2}
    assert {file.path for file in ours} == {path for path in theirs if path.split("/")[0] in twice}
    assert len(manifest.subjects()) == len(twice) == people
