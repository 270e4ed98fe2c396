"""What is given out and what stays behind."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nbkit.benchmark import ageing
from nbkit.benchmark.ageing import open_task
from nbkit.benchmark.write import write
from nbkit.core.checks import NbkitError
from nbkit.data.bids import read_bids
from nbkit.data.derivatives import read_derivatives
from nbkit.papers.trajectories import scan_segmenter
from nbkit.systems import Bench
from tests.benchmark.little import AGES, Reader, opened, people


@pytest.mark.parametrize("history, seen", [("one", 1), ("several", 2)])
def test_no_true_future_is_given_out(monkeypatch, tmp_path, history, seen):
    task = opened(monkeypatch, history=history)
    write(tmp_path / "task", task)
    root = tmp_path / "task"
    assert task.seen == seen and len(task.by_label) == 6
    for label, person in task.by_label.items():
        sessions = {p.name for p in root.glob(f"sub-{label}/ses-*")}
        assert sessions == {f"ses-{scan.session.replace('.', '')}" for scan in person.scans[:seen]}
    held = {f"{age:g}" for age in AGES[seen:]}
    for file in (f for f in root.rglob("*") if f.suffix in (".tsv", ".json")):
        text = file.read_text(encoding="utf-8")
        tested = [label for label in task.by_label if label in text or label in file.as_posix()]
        if not tested or file.name == "wanted.tsv":
            continue
        rows = [line for line in text.splitlines() if any(label in line + file.as_posix() for label in tested)]
        words = {word for row in rows for word in re.split(r"[\s,:\"]+", row)}
        assert not held & words, f"{file.name}: an age of a held visit"
    volumes = pd.read_csv(root / "volumes.tsv", sep="\t")
    for label, person in task.by_label.items():
        own = volumes[volumes["subject"] == f"sub-{label}"]
        assert sorted(set(own["age"])) == list(AGES[:seen])
        future = [mm3 for visit in task.volumes[person.id][seen:] for mm3 in visit.values()]
        assert not np.isin(own["value"], future).any()
    assert sorted(set(volumes[volumes["subject"] == f"sub-{task.labels[task.train.ids[0]]}"]["age"])) == list(AGES)


def test_what_is_wanted_is_every_later_visit_of_everybody_tested(task, tmp_path):
    write(tmp_path / "task", task)
    wanted = pd.read_csv(tmp_path / "task" / "wanted.tsv", sep="\t")
    asked = wanted[wanted["what"] == "forecast"]
    assert list(asked["age"]) == [66.5, 70.25] * 6 and list(asked["years_ahead"]) == [4.5, 8.25] * 6
    assert set(asked["session"]) == {"ses-62"} and list(wanted[wanted["what"] == "start"]["age"]) == [62.0] * 6
    people = pd.read_csv(tmp_path / "task" / "participants.tsv", sep="\t").set_index("participant_id")
    assert {name for name, row in people.iterrows() if row["split"] == "test"} == set(wanted["subject"])
    assert people["split"].value_counts().to_dict() == {"training": 6, "test": 6}
    visits = pd.read_csv(tmp_path / "task" / "visits.tsv", sep="\t")
    assert len(visits) == 6 * 3 + 6 and len(visits.drop_duplicates(["participant_id", "session_id"])) == len(visits)


def test_our_own_readers_accept_it(task, tmp_path):
    write(tmp_path / "task", task)
    reading = read_bids(tmp_path / "task")
    assert not reading.findings and reading.table.groupby("contrast").size().to_dict() == {"T1w": 24, "mask:brain": 24}
    assert sorted(set(reading.table["age_years"])) == list(AGES)
    assert len(read_derivatives(tmp_path / "task").images) == 3 * 24


def test_the_split_is_that_of_our_systems(task):
    bench = Bench(task.people, "smoke", 7)
    assert task.train.ids == bench.train.ids and set(task.test.ids) == set(bench.split[1].ids)


def test_it_goes_on_where_it_was_and_nothing_else_is_overwritten(task, monkeypatch, tmp_path):
    root = tmp_path / "task"
    assert "(72 images written)" in write(root, task)
    next(root.rglob("*_desc-preproc_T1w.json")).unlink()
    assert "(1 images written)" in write(root, task)
    with pytest.raises(NbkitError, match="Seed 7, not 8"):
        write(root, opened(monkeypatch, seed=8))
    write(root, opened(monkeypatch, seed=8), overwrite=True)
    told = json.loads((root / "dataset_description.json").read_text())["nbkit"]
    assert told["Seed"] == 8 and told["Task"] == "ageing-1" and told["TaskSHA256"] == task.rules.hash


def test_the_page_to_read_first_says_what_is_asked(task, tmp_path):
    write(tmp_path / "task", task)
    text = (tmp_path / "task" / "README.md").read_text()
    assert "open truth" in text and "6 people" in text and "12 later ones" in text and task.rules.hash[:12] in text
    assert (tmp_path / "task" / "task.toml").read_text() == task.rules.text


@pytest.mark.parametrize("word, said", [
    ({"level": "elsewhere"}, "--cohort"), ({"history": "two"}, "--history"), ({"task": "agein"}, "ageing-1"),
])
def test_an_unknown_word_is_refused(word, said):
    with pytest.raises(NbkitError, match=said):
        open_task(**({"level": "embedded", "profile": "smoke"} | word))


def test_scans_without_labels_are_read_by_the_segmenter_that_comes_with_the_project(monkeypatch):
    bare = tuple(replace(p, scans=tuple(replace(s, labels=None, label_names={}) for s in p.scans)) for p in people())
    monkeypatch.setattr(ageing, "cohort_for", lambda *_, **__: replace(people(), subjects=bare))
    reader = Reader()
    monkeypatch.setattr(scan_segmenter, "shipped", lambda **_: reader)
    task = open_task("dlbs", profile="smoke", device="cpu")
    assert task.reader is reader and task.structures == ("hippocampus", "lateral_ventricle")
    scan = task.test.subjects[0].baseline
    dark = (scan.image("T1w").data[scan.mask("brain").data.bool()] <= 0.8).sum()
    assert task.volumes[task.test.ids[0]][0]["hippocampus"] == pytest.approx(64 * float(dark))
    assert task.bench.needs(["mrextrap_bayes"]) == ["mrextrap"], "what found the labels reads what is painted"
    assert "OpenNeuro" in task.truth_said and task.identity["DataHash"] != "abc"
