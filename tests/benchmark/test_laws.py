"""What must hold whoever enters: no change is the control, the truth is the floor, who forgets gains nothing."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.benchmark.controls import yearly_slopes
from nbkit.benchmark.entries import read_entrants
from nbkit.benchmark.scoring import judged
from nbkit.benchmark.tables import forecast_rows, forgotten_lines, pairs_table, three_numbers
from nbkit.core.checks import NbkitError
from nbkit.papers.trajectories import NoChange
from nbkit.papers.trajectories.head_to_head import TITLES
from nbkit.papers.trajectories.ranking import standings
from tests.benchmark.little import brighter, hand_in, hand_in_images, opened, still, truth, volume_rows


def scores(found, name):
    rows = found.scored[found.scored["system"] == name].set_index(["metric", "reading", "unit", "subject"])["value"]
    return rows[~rows.index.duplicated()].drop(index=["seconds"], errors="ignore")


def entered(task, *folders):
    return [entrant for folder in folders for entrant in read_entrants(folder, task)]


def test_no_change_gets_the_numbers_of_the_control_through_images_and_through_volumes(task, tmp_path):
    folders = hand_in_images(tmp_path / "pictures", task, still), hand_in(
        tmp_path / "numbers", volume_rows(task, lambda last, true: last))
    found = judged(task, entered(task, *folders))
    control = scores(found, "no_change")
    for name in ("pictures", "numbers"):
        own = scores(found, name)
        own = own[own.index.get_level_values("reading") != "own"]
        assert len(own) >= 2 * 2 * 6 and set(own.index) <= set(control.index)
        assert np.abs(own - control[own.index]).max() <= 1e-6
    assert set(control[control.index.get_level_values(0) == "ventricle"] > 0) == {True}
    ranks = standings(found.main, control="no_change").set_index(["metric", "system"])
    assert ranks.loc["ssim"].loc["pictures", "mean"] == ranks.loc["ssim"].loc["no_change", "mean"] < 1


def test_the_truth_gets_the_floor(task, tmp_path):
    folders = hand_in_images(tmp_path / "pictures", task, truth), hand_in(
        tmp_path / "numbers", volume_rows(task, lambda last, true: true))
    found = judged(task, entered(task, *folders))
    bound, own = scores(found, "hindsight"), scores(found, "pictures")
    alike = own[own.index.get_level_values("reading") == "alike"]
    assert len(alike) and np.abs(alike - bound[alike.index]).max() <= 1e-6
    pictures = found.scores.visits[found.scores.visits["model"] == "pictures"]
    assert np.allclose(pictures["ssim"], 1, atol=1e-6) and (pictures["mae"] == 0).all()
    assert np.abs(scores(found, "numbers")).max() < 1e-6
    ranks = standings(found.main, control="no_change")
    assert list(ranks.drop_duplicates("metric").set_index("metric").loc[["ventricle", "hippocampus"], "system"]) == [
        "numbers"] * 2


def test_who_is_forgotten_counts_as_no_change_and_is_named(task, tmp_path):
    lost = list(task.by_label)[:2]
    folders = [
        hand_in_images(tmp_path / "pictures", task, brighter, without=lost),
        hand_in(tmp_path / "numbers", volume_rows(task, lambda last, true: true, without=lost)),
        hand_in_images(tmp_path / "nobody but one", task, still, without=list(task.by_label)[1:]),
    ]
    found = judged(task, entered(task, *folders))
    control = scores(found, "no_change")
    gone = [task.by_label[label].id for label in lost]
    for name in ("pictures", "numbers"):
        assert found.forgotten(name) == dict.fromkeys(lost, 2)
        own = scores(found, name)
        own = own[own.index.get_level_values("subject").isin(gone) & (own.index.get_level_values("reading") != "own")]
        assert len(own) and np.abs(own - control[own.index]).max() == 0
        rest = scores(found, name)
        rest = rest[~rest.index.get_level_values("subject").isin(gone)]
        rest = rest[rest.index.get_level_values("reading") != "own"]
        assert (rest != control[rest.index]).any(), "the others keep their own"
    assert all(sum(f"sub-{label} (2)" in line for line in forgotten_lines(found)) >= 2 for label in lost)
    ranks = standings(found.main, control="no_change").set_index(["metric", "system"])
    for metric in ("ventricle", "hippocampus", "ssim"):
        one = ranks.loc[metric].loc["nobody but one"]
        assert one["gain"] == pytest.approx(0, abs=1e-6) and one["against control"] == "not told apart"


def test_without_images_nothing_is_read(monkeypatch, tmp_path):
    task = opened(monkeypatch)
    monkeypatch.setattr(type(task), "reader", property(lambda self: pytest.fail("a segmenter was asked for")))
    found = judged(task, entered(task, hand_in(tmp_path / "numbers", volume_rows(task, lambda last, true: true))))
    assert not len(found.scores.visits) and {"no_change", "mean_slope", "reach"} <= set(found.main["system"])


def test_volumes_told_rank_and_what_images_show_stands_beside_them(task, tmp_path):
    folder = hand_in_images(tmp_path / "both", task, still)
    hand_in(folder, volume_rows(task, lambda last, true: true))
    found = judged(task, entered(task, folder))
    rows = found.scores.regions[found.scores.regions["model"] == "both"]
    assert (rows.loc[rows["reading"] == "alike", "error_pct"].abs() < 1e-9).all()
    control = found.scores.regions[(found.scores.regions["model"] == "no_change")
                                   & (found.scores.regions["reading"] == "alike")]
    assert np.allclose(rows.loc[rows["reading"] == "own", "mm3"], control["mm3"])


def test_the_picture_of_the_last_scans_age_is_the_start(task, tmp_path):
    folder = hand_in_images(tmp_path / "mine", task, truth)
    plain = judged(task, entered(task, folder))
    # its own picture of the start is that of the first later visit: growth is read from there
    for path in sorted(folder.rglob("*Age66p5_T1w.nii.gz")):
        (path.parent / path.name.replace("Age66p5", "Age62")).write_bytes(path.read_bytes())
    started = judged(task, entered(task, folder))
    first = started.scores.regions
    first = first[(first["model"] == "mine") & (first["reading"] == "alike") & (first["age"] == 66.5)]
    assert np.allclose(first["change_pct"], 0), "from the same picture to the same picture nothing grows"
    other = plain.scores.regions
    other = other[(other["model"] == "mine") & (other["reading"] == "alike") & (other["age"] == 66.5)]
    assert not np.allclose(other["change_pct"], 0)


def test_a_slope_is_the_mean_change_of_ln_volume_with_quartiles(task):
    slopes = yearly_slopes(task.train, task.volumes)
    person = task.train.subjects[0]
    first, *_, last = task.volumes[person.id]
    expected = np.log(last["hippocampus"] / first["hippocampus"]) / 8.25
    assert slopes["hippocampus"].iloc[0] == pytest.approx(expected)
    found = judged(task, [])
    told = found.told["mean_slope"]
    row = told[(told["label"] == list(task.by_label)[0]) & (told["age"] == 66.5) & (told["region"] == "hippocampus")]
    start = task.volumes[task.test.subjects[0].id][0]["hippocampus"]
    assert float(row["value"].iloc[0]) == pytest.approx(start * np.exp(slopes["hippocampus"].mean() * 4.5))
    assert float(row["lower"].iloc[0]) == pytest.approx(start * np.exp(slopes["hippocampus"].quantile(0.25) * 4.5))


def test_an_interval_that_is_lacking_never_pays(task, tmp_path):
    lost = list(task.by_label)[:1]
    whole = volume_rows(task, lambda last, true: 1.02 * true, half_width=0.05)
    some = volume_rows(task, lambda last, true: 1.02 * true, half_width=0.05, without=lost)
    found = judged(task, entered(task, hand_in(tmp_path / "whole", whole), hand_in(tmp_path / "some", some)))
    rows = forecast_rows(found, "some", "hippocampus")
    assert len(rows) == len(task.asked()) and rows[["lower", "upper"]].notna().all().all()
    gone = rows[rows["subject"] == task.by_label[lost[0]].id]
    assert (gone["lower"] > gone["true"]).all(), "no interval holds what was not forecast"
    numbers = {name: three_numbers(forecast_rows(found, name, "hippocampus")) for name in ("whole", "some")}
    assert numbers["some"]["mae"] > numbers["whole"]["mae"] and numbers["some"]["wes"] > numbers["whole"]["wes"]
    assert numbers["whole"]["cpa"] == 0.5 and numbers["some"]["cpa"] == pytest.approx(0.5 - 1 / 6)


def test_two_entrants_are_compared_by_person_with_holm(task, tmp_path):
    good = hand_in(tmp_path / "good", volume_rows(task, lambda last, true: 1.001 * true))
    bad = hand_in(tmp_path / "bad", volume_rows(task, lambda last, true: 1.05 * true))
    found = judged(task, entered(task, good, bad))
    names = [e.name for e in found.entrants]
    table = pairs_table(found.main, names, TITLES)
    assert list(table.iloc[:, -1]) == ["good is better"] * 2 and len(table) == 2
    assert all(float(p) == pytest.approx(2e-4) for p in table["p (Holm)"]), "twice the least p of ten thousand draws"
    assert pairs_table(found.main, names[:1], TITLES).empty


def test_a_system_that_refuses_everybody_is_left_out_with_its_reason(task):
    assert task.seen == 1
    found = judged(task, [], systems=("pixel_ols",))
    assert found.systems == () and not found.lacking
    assert "pixel_ols" in found.failed and "scan" in found.failed["pixel_ols"]
    assert "pixel_ols" not in set(found.main["system"])


def test_a_system_that_refuses_somebody_is_scored_as_no_change_there(task, monkeypatch):
    class Choosy(NoChange):
        futures = property()

        def predict(self, history, ages, diagnosis):
            if history[-1].subject.startswith("AD"):
                raise NbkitError("Choosy", expected="healthy people", found="AD", remedy="None.")
            return [history[-1].image("T1w").with_data(history[-1].image("T1w").data * 0.9) for _ in ages]

    plain = type(task.bench).model
    monkeypatch.setattr(type(task.bench), "model", lambda self, name: (
        Choosy().fit(self.train) if name == "countersynth" else plain(self, name)))
    found = judged(task, [], systems=("countersynth",))
    ill = [label for label, person in task.by_label.items() if person.diagnosis == "AD"]
    assert found.systems == ("countersynth",) and list(found.forgotten("countersynth")) == ill and ill
    visits = found.scores.visits.set_index(["model", "subject", "session"])["ssim"]
    own, control = visits["countersynth"], visits["no_change"]
    same = own == control[own.index]
    assert set(same[same].index.get_level_values("subject")) == {task.by_label[label].id for label in ill}
