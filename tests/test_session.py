"""What every notebook begins and ends with: people counted, tables recorded and shown, verdicts of the folder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit import session
from nbkit.claims.observe import load_artefacts, load_observations
from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.tidy import stacked, tidy
from nbkit.core.volume import Volume
from nbkit.entrants import Entrants
from nbkit.session import Session, begin

FCN, FOREST = "wei2019.table2_2a.mse.fcn", "wei2019.table2_2a.mse.rf"


def person(name: str, diagnosis: str, *ages: float | None) -> Subject:
    image = Volume(torch.rand(1, 2, 2, 2), np.eye(4))
    scans = tuple(Scan(name, f"M{k}", age, {"T1w": image}) for k, age in enumerate(ages))
    return Subject(name, "F", diagnosis, scans)


@pytest.fixture
def people() -> Cohort:
    made = [person(f"s{k}", "MS" if k else "HC", 40.0 + k, 42.0 + 2 * k) for k in range(7)]
    return Cohort("toy", tuple(made), "open", {"data_hash": "x", "attribution": "Somebody, CC-BY"})


@pytest.fixture
def run(people, tmp_path) -> Session:
    return Session(tmp_path, people=people, notebook="01_a", profile="smoke", seed=7, paper="wei2019_flair")


def test_people_are_counted_by_diagnosis_with_their_groups(run, people):
    shown = run.who(training=people.subset(["s0", "s1"]), test=people.subset(["s2"]))
    assert shown.data.loc["HC"].to_dict() == {
        "people": 1, "scans": 2, "youngest": 40.0, "oldest": 42.0, "mean years of follow-up": 2.0, "training": 1,
        "test": 0,
    }
    assert shown.data.loc["MS", ["people", "training", "test"]].tolist() == [6, 1, 1]
    assert shown.data.loc["MS", "oldest"] == 54.0
    assert "Somebody, CC-BY" in shown.to_html() and "toy (real scans), open data, smoke profile" in shown.to_html()


def test_what_a_cohort_says_of_its_people_stands_under_their_table(people, tmp_path):
    told = replace(people, provenance={**people.provenance, "who": ["3 of 7 people", "Nobody is ill"]})
    run = Session(tmp_path, people=told, notebook="01_a", profile="smoke", seed=7)
    assert run.who_said == "People by diagnosis at the first scan. 3 of 7 people. Nobody is ill. Somebody, CC-BY"
    assert run.who_said in run.who().to_html()


def test_a_place_with_nothing_printed_or_measured_says_why(people, tmp_path):
    run = Session(tmp_path, people=people, notebook="06_a", profile="smoke", seed=7, paper="inbrainsyn")
    assert run.beside("Early signs", name="before").data.to_dict() == {
        "not run": {"Early signs": "nothing of it was measured here"}}
    run.not_run("inbrainsyn.early", "nobody in this cohort is ill")
    assert run.beside("Early signs", name="early").data.loc["Early signs", "not run"] == "nobody in this cohort is ill"


def test_people_scanned_twice_are_asked_for_with_the_runs_settings(people, tmp_path, monkeypatch):
    asked = {}

    def scanned_twice(cohort, **told):
        asked.update(told, who=cohort.ids)
        return []

    monkeypatch.setattr(session.cohorts, "scanned_twice", scanned_twice)
    given = {"level": "open", "task": "ageing", "profile": "smoke", "seed": 3, "n_jobs": 2}
    run = Session(tmp_path, people=people, asked=given, notebook="01_a", profile="smoke", seed=3)
    assert run.scanned_twice(people.subset(["s1"])) == []
    assert asked == {"profile": "smoke", "seed": 3, "n_jobs": 2, "who": ("s1",)}
    run.scanned_twice()
    assert asked["who"] == people.ids


def test_ages_that_nobody_knows_are_no_columns(tmp_path):
    cohort = Cohort("toy", (person("a", "MS", None),), "embedded", {})
    shown = Session(tmp_path, people=cohort, notebook="01_a", profile="smoke", seed=7).who()
    assert list(shown.data.columns) == ["people", "scans"]


def test_a_table_is_recorded_and_shown_with_its_source(run):
    shown = run.table("ages", run.who().data, caption="Ages & more")
    assert "Ages &amp; more. toy (real scans)" in shown.to_html()
    (entry,) = load_artefacts(run.out_dir)["artefacts"]
    assert (entry["name"], entry["caption"]) == ("ages", "Ages & more")


def test_published_and_ours_stand_together_and_are_judged(run, people):
    low, high = ({s.id: base + 0.01 * k for k, s in enumerate(people)} for base in (0.2, 0.4))
    run.record(stacked(tidy(low, id=FCN, unit="z²"), tidy(high, id=FOREST, unit="z²")))
    assert run.value(FCN) == pytest.approx(0.23)
    assert "0.23" in run.beside("Table 2.2a").to_html()
    assert {a["name"] for a in load_artefacts(run.out_dir)["artefacts"]} == {"table2_2a"}
    verdicts = run.verdicts().data.set_index("claim")["verdict"]
    assert len(verdicts) == len(run.paper.claim) == len(run.claims().data)
    assert (verdicts == "reproduced").sum() >= 1 and verdicts.str.startswith("not run").any()


def test_provenance_names_cohort_seed_and_versions(run):
    told = run.provenance().data["this run"]
    assert told["seed"] == "7" and told["data_hash"] == "x" and "packages" in told


def test_several_sentences_make_a_list(run):
    assert run.tell("One.").data == "One." and run.tell("One.", "Two.").data == "- One.\n- Two."


def test_the_cohort_of_the_task_is_opened(people, tmp_path, monkeypatch):
    asked = {}
    opened = lambda level, **options: asked.update(options, level=level) or people  # noqa: E731
    monkeypatch.setattr(session.cohorts, "cohort_for", opened)
    run = begin("01_a", task="flair", profile="smoke", cohort="open", seed=3, out_dir=tmp_path, n_jobs=2)
    assert asked == {"level": "open", "task": "flair", "profile": "smoke", "seed": 3, "n_jobs": 2}
    assert run.people is people and (run.seed, run.notebook) == (3, "01_a")
    run.record(tidy({"s1": 1.0}, id="mine.number"))
    assert load_observations(tmp_path)["mine.number"].cohort == "toy"
    others = {}
    monkeypatch.setattr(session.cohorts, "strangers", lambda **options: others.update(options), raising=False)
    run.strangers()
    assert others == {**asked, "times": 2}
    begin("01_a", task="flair", profile="laptop", cohort="open", seed=3, out_dir=tmp_path, n_jobs=2).strangers()
    assert others == {**asked, "profile": "laptop", "times": 10}


def test_a_paper_that_nobody_knows_is_refused(people, tmp_path):
    with pytest.raises(NbkitError, match="Did you mean 'daninet'"):
        Session(tmp_path, people=people, notebook="04_a", profile="smoke", seed=7, paper="daninett")


def test_what_could_be_won_is_shown_from_what_was_kept(run):
    roles = {"mean": 4.0, "control": 1.0, "reach": 0.5, "floor": 0.1}
    frames = [tidy({"s1": v, "s2": v}, system=role, metric="mse", role=role) for role, v in roles.items()]
    run.room(stacked(*frames), of="wei2019.table2_2a.mse.", measure="squared error, z²")
    shown = run.rooms(name="rooms").data
    assert shown.loc["squared error, z²", ["mean", "best control", "which", "reach"]].tolist() == [4, 1, "control", 0.5]
    assert shown["for a better method"].tolist() == ["room"] and shown["share left"].iloc[0] == pytest.approx(0.5 / 3.5)


def test_users_models_are_told_and_recorded_though_no_ledger_knows_them(run, people, monkeypatch):
    shown, found = [], Entrants({"Mine": object()}, ["**Mine** learned from 7 people."])
    monkeypatch.setattr(session, "display", lambda said: shown.append(said.data))
    monkeypatch.setattr(session.entrants, "enter", lambda text, train, **told: shown.append((text, told)) or found)
    mine = "wei2019.table2_2a.mse.Mine"
    with pytest.raises(NbkitError, match="an id of wei2019_flair"):
        run.number(mine, value=1.0)
    assert run.enter("mine.py:Mine", people, device="cpu") is found and run.entered == ["Mine"]
    told = {"seed": 7, "device": "cpu", "profile": "smoke"}
    assert shown == [("mine.py:Mine", told), "**Mine** learned from 7 people."]
    run.number(mine, [0.5] * 7, unit="z²")
    run.number(FCN, [0.25] * 7, unit="z²")
    assert "Mine" in run.beside("Table 2.2a").data.columns
    with pytest.raises(NbkitError, match="an id of wei2019_flair"):
        run.number("wei2019.table2_2a.mse.Other", value=1.0)


def test_users_models_of_a_contrast_stand_among_ours(run, monkeypatch):
    monkeypatch.setattr(session, "display", lambda said: None)
    monkeypatch.setattr(session, "cross_validate", lambda systems, people, **given: {"fcn": given})
    monkeypatch.setattr(session.entrants, "cross_validated", lambda text, people, **given: ({"Mine": given}, ["said"]))
    found = run.validated({}, "mine.py:Mine", folds=(1,), score=len, target="FLAIR", n_jobs=2)
    assert found["fcn"] == {"folds": (1,), "score": len, "n_jobs": 2} and run.entered == ["Mine"]
    assert found["Mine"] == {"target": "FLAIR", "folds": (1,), "score": len, "seed": 7, "profile": "smoke"}


def test_the_same_people_can_be_asked_for_another_task(people, tmp_path, monkeypatch):
    monkeypatch.setattr(session.cohorts, "cohort_for", lambda level, **asked: (level, asked))
    told = {"level": "embedded", "task": "myelin", "profile": "smoke", "seed": 7, "n_jobs": 1}
    run = Session(tmp_path, people=people, asked=told, notebook="03_a", profile="smoke", seed=7)
    level, asked = run.another("myelin_null")
    assert level == "embedded" and asked == {"task": "myelin_null", "profile": "smoke", "seed": 7, "n_jobs": 1}
