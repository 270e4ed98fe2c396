"""A Python model hands in files: the numbers of a tool that wrote them itself, nobody dropped silently."""

from __future__ import annotations

import json
from functools import partial

import pandas as pd
import pytest

MODEL = """
class Mine:
    name = "mine"

    def fit(self, cohort):
        self.seen = len(cohort)

    def predict(self, history, ages, diagnosis):
        if history[-1].subject in {refused}:
            raise ValueError("not for me")
        return [history[-1].image("T1w").data.numpy()] * len(ages)
"""


@pytest.fixture
def nbkit(nbkit):
    """``nbkit("predict", ...)`` gives exit code, output and errors."""
    return partial(nbkit, "benchmark")


@pytest.fixture
def written(nbkit, task, tmp_path):
    """The folder of the task."""
    assert nbkit("write", "ageing", "--to", tmp_path / "task", "--profile", "smoke")[0] == 0
    return tmp_path / "task"


def model(folder, refused=()) -> str:
    """The address of a model that repeats the last scan, but for some people."""
    (folder / "mine.py").write_text(MODEL.replace("{refused}", repr(tuple(refused))))
    return f"{folder / 'mine.py'}:Mine"


def test_a_model_that_repeats_the_scan_is_no_change_through_files_too(nbkit, written, task, tmp_path):
    code, out, _ = nbkit("predict", written, "--model", model(tmp_path), "--to", tmp_path / "made")
    assert code == 0 and "mine learned from 6 people" in out and "judge with" in out
    told = json.loads((tmp_path / "made" / "entrant.json").read_text())
    assert told["name"] == "mine" and told["seconds_per_forecast"] >= 0
    images = list((tmp_path / "made").glob("sub-*/ses-*/anat/*_desc-predicted*_T1w.nii.gz"))
    assert len(images) == 12 + 6, "every visit that is asked for, and the last scan's own age"
    page, scores = tmp_path / "page.html", tmp_path / "scores.csv"
    assert nbkit("judge", written, tmp_path / "made", "--out", page, "--scores", scores)[0] == 0
    table = pd.read_csv(scores).pivot_table(index=["subject", "metric", "setting"], columns="system", values="value")
    pd.testing.assert_series_equal(table["mine"], table["no_change"], check_names=False, atol=1e-6, rtol=0)


def test_whom_it_does_not_answer_is_named_and_counts_as_no_change(nbkit, written, task, tmp_path):
    made = tmp_path / "made"
    nbkit("predict", written, "--model", model(tmp_path), "--to", made)
    ill = {label: person.id for label, person in task.by_label.items() if person.diagnosis == "AD"}
    code, _, err = nbkit("predict", written, "--model", model(tmp_path, ill.values()), "--to", made)
    assert code == 2 and "the same export" in err, "a changed file is another model"
    code, out, _ = nbkit("predict", written, "--model", model(tmp_path, ill.values()), "--to", made, "--overwrite")
    assert code == 0 and ill and all(f"sub-{label}: predict raised ValueError" in out for label in ill)
    assert {p.name.removeprefix("sub-") for p in made.glob("sub-*")} == set(task.by_label) - set(ill)
    code, out, _ = nbkit("judge", written, made, "--out", tmp_path / "page.html")
    assert code == 0 and f"no forecast of {len(ill)} of 6 people, scored as no change" in out


def test_what_is_no_model_or_no_task_is_refused(nbkit, written, task, tmp_path):
    (tmp_path / "other.py").write_text("class Other:\n    pass\n")
    code, _, err = nbkit("predict", written, "--model", f"{tmp_path / 'other.py'}:Other", "--to", tmp_path / "made")
    assert code == 2 and "has no `predict`" in err and not (tmp_path / "made").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    code, _, err = nbkit("predict", written, "--model", model(tmp_path), "--to", tmp_path / "full")
    assert code == 2 and "this one is not touched" in err
