"""People scanned twice within weeks: who is old says a table that is fetched, and whatever it says otherwise."""

from __future__ import annotations

import hashlib

import pytest

from nbkit import cohorts
from nbkit.cohorts import retest
from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort
from nbkit.data.manifest import Manifest, ManifestFile
from tests.data.loopback import serving

QC = "QC_ses-{}_anat-wholebrain_1excludeRecommend_0goodTouse"
TABLES = {
    "sleepy_brain": (
        "participant\tSex\tAgeGroup\tBMI1\tMMSE\n"
        "9001\tFemale\tOld\t24,5\t28,5\n9002\tMale\tYoung\t22,1\tn/a\n9003\tMale\told\t21,9\tNA\n"
        "9004\tn/a\tOld\t20,0\t30\n"
    ),
    "hrv_er": (
        f"participant_id\tage_group\tgender\t{QC.format('pre')}\t{QC.format('post')}\n"
        "sub-9001\tOA\tF\t0\t0\nsub-9002\tYA\tM\t0\t0\nsub-9003\tOA\tM\t0\t1\nsub-9004\tOA\tF\tn/a\tn/a\n"
    ),
}
OLDER = {"sleepy_brain": ["sub-9001", "sub-9003", "sub-9004"], "hrv_er": ["sub-9001", "sub-9004"]}


def study(name: str, address: str = "http://127.0.0.1:1") -> tuple[Manifest, dict[str, bytes]]:
    """Five people with two sessions, of whom the table knows four."""
    content = {"participants.tsv": TABLES[name].encode()}
    files = [ManifestFile(path="participants.tsv", unverified=True)]
    for k in range(1, 6):
        for session in retest.DESIGNS[name].sessions:
            path = f"sub-900{k}/{session}.nii"
            content[path] = f"{k} {session}".encode()
            files.append(ManifestFile(path=path, md5=hashlib.md5(content[path]).hexdigest(), session=session,
                                      participant=f"sub-900{k}"))
    manifest = Manifest(name=name, title="t", access="open", licence="l", attribution="a", folder=name, partial=True,
                        base_url=f"{address}/", repository="r", release="1", files=tuple(files))
    return manifest, content


@pytest.fixture
def table(tmp_path):
    def written(name: str, text: str | None = None):
        place = tmp_path / "participants.tsv"
        place.write_text(text or TABLES[name], encoding="utf-8")
        return place

    return written


@pytest.mark.parametrize("name", retest.NAMES)
def test_older_people_are_those_of_the_table(name, table):
    people, left_out = retest.roster(name, study(name)[0], table(name))
    assert [subject.id for subject in people] == OLDER[name]
    assert {tuple(scan.session for scan in s.scans) for s in people} == {retest.DESIGNS[name].sessions}
    assert {scan.age for s in people for scan in s.scans} == {None}
    assert left_out.pop("sub-9005") == "not in participants.tsv"
    if name == "hrv_er":
        assert left_out == {"sub-9003": "session post: its authors recommend to exclude the scan"}
        assert [s.sex for s in people] == ["F", "F"]
    else:
        assert left_out == {} and [s.sex for s in people] == ["F", "M", None]
        assert [s.covariates for s in people] == [{"mmse": [28.5, 28.5]}, {}, {"mmse": [30.0, 30.0]}]


@pytest.mark.parametrize(("name", "text", "message"), [
    ("sleepy_brain", "<html>log in</html>\n", "no participant_id, AgeGroup, Sex, MMSE.*fetch it again"),
    ("hrv_er", "participant_id\tage_group\tgender\nsub-9001\tOA\tF\n", "no QC_ses-pre_anat.*fetch it again"),
    ("sleepy_brain", TABLES["sleepy_brain"].replace("Old", "65-75").replace("old", "65-75"), "people of the group Old"),
    ("sleepy_brain", TABLES["sleepy_brain"].replace("Female", "2"), "sub-9001: Sex"),
    ("sleepy_brain", TABLES["sleepy_brain"].replace("28,5", "high"), "sub-9001: MMSE: expected a number"),
])
def test_a_table_that_is_another_is_refused(name, text, message, table):
    with pytest.raises(NbkitError, match=message):
        retest.roster(name, study(name)[0], table(name, text))


@pytest.mark.parametrize("name", retest.NAMES)
def test_the_scans_of_older_people_alone_are_fetched(name, tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path))
    monkeypatch.delenv("NBKIT_MIRROR", raising=False)
    content = study(name)[1]
    with serving(content) as server:
        manifest = study(name, server.address)[0]
        paths = cohorts.to_fetch(manifest)
        assert {p.split("/")[0] for p in paths} == {"participants.tsv", *OLDER[name]}
        assert {p.split("/")[0] for p in cohorts.to_fetch(manifest, people=1)} == {"participants.tsv", "sub-9001"}
        assert {path: place.read_bytes() for path, place in manifest.fetch(paths, progress=False).items()} == {
            path: content[path] for path in paths}
        assert [path for path, _ in server.requests].count("/participants.tsv") == 1


def test_without_its_table_nobody_is_known_to_be_old(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path))
    monkeypatch.delenv("NBKIT_MIRROR", raising=False)
    with pytest.raises(NbkitError, match="the table that says who is old.*nbkit data fetch hrv_er"):
        retest.build("hrv_er", "smoke", manifest=study("hrv_er")[0])


def test_without_table_or_pair_nobody_was_scanned_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path))
    monkeypatch.delenv("NBKIT_MIRROR", raising=False)
    real = Cohort("dlbs", (), "open")
    manifest, content = study("hrv_er")
    monkeypatch.setattr(cohorts, "load_manifest", lambda name: manifest.model_copy(update={"name": name}))
    monkeypatch.setattr(retest, "build", lambda name, profile, n_jobs: (name, profile))
    assert cohorts.scanned_twice(real, profile="smoke") == []
    for path in ("sub-9001/pre.nii", "sub-9001/post.nii", "participants.tsv"):
        assert cohorts.scanned_twice(real, profile="smoke") == []
        (tmp_path / "hrv_er" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hrv_er" / path).write_bytes(content[path])
    assert cohorts.scanned_twice(real, profile="smoke") == [("sleepy_brain", "smoke"), ("hrv_er", "smoke")]


@pytest.mark.parametrize("task", ["flair", "myelin", "pet"])
def test_people_who_age_are_no_cohort_of_other_notebooks(task):
    with pytest.raises(NbkitError, match=f"a cohort for {task}.*Notebooks 04, 05"):
        cohorts.cohort_for("dlbs", task=task)


def test_they_are_no_cohort_of_a_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path))
    with pytest.raises(NbkitError, match="people who age.*notebook 08 reads it beside"):
        cohorts.cohort_name("sleepy_brain", task="ageing")


@pytest.mark.parametrize(("people", "name"), [(0, "dlbs"), (-3, "dlbs"), (5, "ixi_ageing")])
def test_a_number_of_people_must_fit_the_cohort(people, name):
    with pytest.raises(NbkitError, match=f"data fetch {name} --people"):
        cohorts.to_fetch(cohorts.load_manifest(name), people=people)


def test_the_first_people_of_the_default_set_or_of_everybody():
    manifest = cohorts.load_manifest("dlbs")
    first, default = cohorts.to_fetch(manifest, people=2), list(manifest.subjects(everybody=False))
    assert sorted({p.split("/")[0] for p in first}) == default[:2] and len(first) == 6
    assert len(cohorts.to_fetch(manifest, everybody=True)) == 807
    more = {p.split("/")[0] for p in cohorts.to_fetch(manifest, people=2, everybody=True)}
    assert sorted(more) == list(manifest.subjects())[:2]
