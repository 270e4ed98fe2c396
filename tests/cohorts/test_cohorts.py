"""The one door: names, levels and paths."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from nbkit import cohorts
from nbkit.cohorts import NULLS
from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort
from nbkit.core.volume import Volume
from nbkit.data import nifti


@pytest.mark.parametrize(
    ("level", "name"),
    [("embedded", "ms_phantom"), ("open", "open_ms"), ("ms_phantom", "ms_phantom"), ("my/scans.csv", "my/scans.csv")],
)
def test_a_level_means_one_cohort_per_task(level, name):
    assert cohorts.cohort_name(level, task="flair") == name


@pytest.mark.parametrize(("level", "name"), [("embedded", "ageing_phantom"), ("open", "ixi_ageing")])
def test_ageing_has_cohorts_of_its_own(level, name):
    assert cohorts.cohort_name(level, task="ageing") == name
    assert name in cohorts.NAMES


@pytest.mark.parametrize(
    ("level", "task", "name"),
    [("embedded", "myelin", "myelin_phantom"), ("open", "myelin", "myelin_open_ms"),
     ("embedded", "myelin_null", "myelin_phantom_null"), ("open", "myelin_null", "myelin_open_ms_null"),
     ("myelin_open_ms", "myelin_null", "myelin_open_ms_null"),
     ("myelin_open_ms_null", "myelin", "myelin_open_ms_null")],
)
def test_myelin_has_cohorts_with_and_without_change(level, task, name):
    assert cohorts.cohort_name(level, task=task) == name


@pytest.mark.parametrize("name", ["myelin_phantom", "myelin_open_ms"])
def test_a_null_experiment_is_its_cohort_without_change(name, monkeypatch):
    monkeypatch.setattr(getattr(cohorts, name), "build", lambda profile, *, seed, changed, n_jobs: SimpleNamespace(
        access="embedded", told=(profile, seed, changed, n_jobs)))
    assert cohorts.open_cohort(name, profile="smoke", seed=3, n_jobs=2).told == ("smoke", 3, True, 2)
    assert cohorts.cohort_for(name, task="myelin_null", profile="smoke").told == ("smoke", 7, False, 1)


@pytest.mark.parametrize("given", ["my/scans.csv", "ms_phantom", "."])
def test_what_is_not_simulated_for_it_has_no_null_experiment(given):
    with pytest.raises(NbkitError, match="A null experiment needs a simulated cohort"):
        cohorts.cohort_for(given, task="myelin_null")


@pytest.mark.parametrize("name", ["ageing_phantom", "ixi_ageing", "ms_phantom"])
def test_a_simulated_cohort_is_handed_profile_seed_and_jobs(name, monkeypatch):
    monkeypatch.setattr(getattr(cohorts, name), "build", lambda profile, *, seed, n_jobs: (profile, seed, n_jobs))
    assert cohorts.open_cohort(name, profile="smoke", seed=3, n_jobs=2) == ("smoke", 3, 2)


@pytest.mark.parametrize("task", ["flair", "myelin", "ageing", "pet"])
def test_strangers_come_where_people_are_simulated(task, monkeypatch):
    monkeypatch.setitem(
        cohorts._STRANGERS, cohorts.cohort_name("embedded", task=task),
        lambda profile, *, seed, times, n_jobs: (profile, seed, times, n_jobs))
    assert cohorts.strangers("embedded", task=task, profile="smoke", seed=3, times=2) == ("smoke", 3, 2, 1)
    assert set(cohorts._STRANGERS) == {cohorts.cohort_name("embedded", task=t) for t in cohorts.LEVELS} - set(NULLS)


def test_real_people_have_no_strangers():
    for given, task in (("open", "flair"), ("open", "myelin"), ("my/scans.csv", "flair")):
        assert cohorts.strangers(given, task=task, profile="smoke", seed=3) is None


def test_real_scans_have_none_without_noise():
    assert cohorts.noise_free(Cohort("open_ms", (), "open"), "FLAIR") == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cohorts.cohort_name("embeded"), "Did you mean 'embedded'"),
        (lambda: cohorts.cohort_name("open", task="flare"), "Did you mean 'flair'"),
        (lambda: cohorts.open_cohort("open_mss"), "Did you mean 'open_ms'"),
        (lambda: cohorts.open_cohort("nowhere.csv"), r"nowhere\.csv.*no such file"),
    ],
)
def test_what_is_no_cohort_is_refused(call, message):
    with pytest.raises(NbkitError, match=message):
        call()


def test_a_folder_is_read_as_bids(tmp_path, monkeypatch):
    monkeypatch.setattr(cohorts.own_scans, "build", lambda path, profile: (path, profile))
    assert cohorts.open_cohort(tmp_path, profile="smoke") == (tmp_path, "smoke")


def test_own_scans_are_preprocessed_for_ageing_only(tmp_path, monkeypatch):
    read = SimpleNamespace(access="restricted")
    monkeypatch.setattr(cohorts.own_scans, "build", lambda path, profile: read)
    monkeypatch.setattr(
        cohorts.own_ageing, "on_template", lambda cohort, path, profile, n_jobs: (cohort, path, profile, n_jobs))
    given = cohorts.cohort_for(tmp_path, task="ageing", profile="smoke", n_jobs=2)
    assert given == (read, tmp_path, "smoke", 2)


def test_own_scans_come_through_the_same_door(tmp_path):
    nifti.save_image(tmp_path / "t1.nii.gz", Volume(torch.rand(6, 6, 6)))
    path = tmp_path / "mine.csv"
    path.write_text("subject,session,age_years,sex,diagnosis,contrast,path\ns1,m00,35,F,MS,T1w,t1.nii.gz\n")
    cohort = cohorts.cohort_for(path, task="pet", profile="paper")
    assert (cohort.name, cohort.ids) == ("own-mine", ("s1",))


def test_the_list_says_what_is_here(tmp_path, monkeypatch):
    monkeypatch.delenv("NBKIT_MIRROR", raising=False)
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path))
    listed = {info.name: info for info in cohorts.list_cohorts()}
    assert set(cohorts.NAMES) <= set(listed)
    assert listed["open_ms"].present == "0 of 30 subjects"
    assert (listed["open_ms"].level, listed["open_ms"].licence) == ("open", "CC-BY")
    assert (listed["ms_phantom"].level, listed["ms_phantom"].subjects) == ("embedded", 24)
    assert (listed["ageing_phantom"].level, listed["ageing_phantom"].subjects) == ("embedded", 100)
    assert all(info.title for info in listed.values())
