"""The one door: names, levels and paths."""

from __future__ import annotations

import pytest
import torch

from nbkit import cohorts
from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.data import nifti


@pytest.mark.parametrize(
    ("level", "name"),
    [("embedded", "ms_phantom"), ("open", "open_ms"), ("ms_phantom", "ms_phantom"), ("my/scans.csv", "my/scans.csv")],
)
def test_a_level_means_one_cohort_per_task(level, name):
    assert cohorts.cohort_name(level, task="flair") == name


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


def test_a_folder_is_told_how_to_become_a_table(tmp_path):
    with pytest.raises(NbkitError, match="found the folder.*one row per file: subject,session"):
        cohorts.cohort_for(tmp_path)


def test_own_scans_come_through_the_same_door(tmp_path):
    nifti.save_image(tmp_path / "t1.nii.gz", Volume(torch.rand(6, 6, 6)))
    path = tmp_path / "mine.csv"
    path.write_text("subject,session,age_years,sex,diagnosis,contrast,path\ns1,m00,35,F,MS,T1w,t1.nii.gz\n")
    cohort = cohorts.cohort_for(path, profile="paper")
    assert (cohort.name, cohort.ids) == ("own-mine", ("s1",))


def test_the_list_says_what_is_here(tmp_path, monkeypatch):
    monkeypatch.delenv("NBKIT_MIRROR", raising=False)
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path))
    listed = {info.name: info for info in cohorts.list_cohorts()}
    assert set(cohorts.NAMES) <= set(listed)
    assert listed["open_ms"].present == "0 of 30 subjects"
    assert (listed["open_ms"].level, listed["open_ms"].licence) == ("open", "CC-BY")
    assert (listed["ms_phantom"].level, listed["ms_phantom"].subjects) == ("embedded", 24)
    assert all(info.title for info in listed.values())
