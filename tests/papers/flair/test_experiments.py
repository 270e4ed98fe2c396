"""Tidy frames of the tables and figures: right ids, right people, numbers that follow from the masks and maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nbkit.claims.ledger import load_paper
from nbkit.claims.room import Room
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.tidy import COLUMNS, by_subject, stacked, where
from nbkit.core.volume import Volume
from nbkit.papers.flair import experiments
from nbkit.papers.flair.conv_synthesis import Config, ConvSynthesizer
from nbkit.papers.flair.metrics import FlairScore
from nbkit.papers.flair.setting_experiments import about_gain
from nbkit.training.crossval import Result, scores_frame
from tests.papers.flair.test_lesion_segmenter import subject as patient
from tests.papers.flair.test_metrics import subject

INPUTS = ("T1w", "T1SE", "T2w", "PDw", "DIR")
SMALL = Config(slim=16, device="cpu")
EVERY = (*experiments.METHODS, *experiments.CONTROLS, *experiments.ENDS, "own_scale", "width32", "width96", "no_dir",
         "rf_no_dir", "mlp_no_dir", "unet_no_dir", *(f"no_{n}" for n in ("t1", "t1se", "t2", "pd")),
         "t1_dir", "t2_dir", "t1_t2", "t1_t2_dir", "t1_t2_pd", "depth2", "depth4", "depth6", "linear_no_dir",
         *(f"reach_no_{n}" for n in ("t1", "t1se", "t2", "pd", "dir")),
         *(f"reach_{n}" for n in ("t1_dir", "t2_dir", "t1_t2", "t1_t2_dir", "t1_t2_pd")))


def result(offset: float = 0.0) -> Result:
    """Three people, "c" without lesions; scores that tell systems and people apart."""
    metrics = {m: {s: offset + i + k / 10 for i, s in enumerate("abc")} for k, m in enumerate(("mse", "mse_own"))}
    higher = {s: 0.5 - offset / 100 for s in "abc"}
    ratios = {m: {s: offset + 1.0 for s in "ab"} for m in ("ratio1", "ratio2")}
    history = {"epochs": [0, 5], "validation": [1.0, 0.5], "watched": {"b": [1.0, 0.5 + offset]}}
    return Result(
        ConvSynthesizer, {**metrics, **dict.fromkeys(("ssim", "sharpness"), higher), **ratios},
        {"a": "fold1", "b": "fold2", "c": "fold2"},
        {"fold1": Path(), "fold2": Path()}, {"fold1": history, "fold2": {"epochs": [], "validation": []}},
        {s: 0.1 for s in "abc"},
    )


@pytest.fixture(scope="module")
def results():
    return {name: result(float(k)) for k, name in enumerate(EVERY)}


@pytest.fixture(scope="module")
def scores(results):
    return scores_frame(results)


def test_rivals_are_the_five_of_the_paper_and_three_controls():
    systems = experiments.rivals(SMALL, profile="smoke")
    assert tuple(systems) == (*experiments.METHODS, *experiments.CONTROLS)
    assert all(systems[n].config.inputs == INPUTS for n in ("rf", "mp", "mlp", "unet", "fcn", "linear"))
    assert [systems[n].config.inputs for n in ("t2_linear", "mean")] == [("T2w",), ()]
    left = experiments.without_dir(systems)
    assert set(left) == {"rf_no_dir", "mlp_no_dir", "unet_no_dir"}
    assert left["unet_no_dir"].config == systems["unet"].config.changed(inputs=INPUTS[:4])
    assert experiments.without_dir(left | {"rf": left["rf_no_dir"]}) == {}


def test_sequences_are_left_out_as_far_as_a_cohort_has_them():
    fewer = experiments.fewer_inputs(INPUTS)
    assert fewer["a"]["no_dir"] == INPUTS[:4] and len(fewer["a"]) == 5
    assert list(fewer["c"]) == ["t1_dir", "t2_dir", "t1_t2", "t1_t2_dir", "t1_t2_pd"]
    assert list(experiments.fewer_inputs(("T1w", "T1wCE"))["c"]) == ["t1_t1ce"]


def test_published_ids_that_need_a_missing_sequence_are_named_with_it():
    ids = ["w.table2_4a.mse.no_t1.fold1", "w.table2_4a.mse.no_t1se", "w.table2_4c.mse.t1_t2_pd", "w.x.mse.no_dir"]
    assert experiments.missing_inputs(ids, INPUTS) == {}
    assert experiments.missing_inputs(ids, ("T1w", "T1SE", "T2w")) == {
        ids[2]: "PDw", ids[3]: "DIR", "wei2019.table2_4b": "DIR",
    }


def test_a_single_input_leaves_nothing_out_and_says_so():
    fewer = experiments.fewer_inputs(("T1w",))
    assert fewer == {"a": {}, "c": {}}
    lacks = experiments.missing_inputs(["wei2019.table2_4a.mse.no_t1", "wei2019.table2_4a.mse.no_t2"], ("T1w",))
    assert lacks == {"wei2019.table2_4a.mse.no_t1": "sequence beside T1w", "wei2019.table2_4a.mse.no_t2": "T2w",
                     "wei2019.table2_4b": "DIR"}
    systems = experiments.rivals(Config.for_profile("smoke", inputs=("T1w",)), profile="smoke")
    assert "t2_linear" not in systems and set(experiments.METHODS) <= set(systems)
    assert "t2_linear" in experiments.rivals(Config.for_profile("smoke", inputs=("T1w", "T2w")), profile="smoke")


def test_sequences_that_the_paper_does_not_know_have_names_of_their_own():
    assert experiments.fewer_inputs(("T1w", "SWI"))["a"] == {"no_t1": ("SWI",), "no_swi": ("T1w",)}


def test_every_number_has_its_id_and_folds_have_their_own(scores):
    errors = experiments.table_2_2(scores)
    assert where(errors, id="wei2019.table2_2a.mse.fcn")["value"].tolist() == [4.0, 5.0, 6.0]
    assert set(where(errors, metric="ssim")["unit"]) == {"SSIM"}
    folds = experiments.by_fold(errors)
    assert where(folds, id="wei2019.table2_2a.mse.mp.fold2")["subject"].tolist() == ["b", "c"]
    assert set(experiments.own_levels(scores)["id"].str.split(".").str[2]) == {"mse_own"}
    assert "wei2019.table2_2b.ssim.reach_tenfold" in set(errors["id"])


def test_ablations_stand_under_the_part_of_the_table_that_prints_them(scores):
    ids = set(experiments.table_2_4(scores, INPUTS)["id"])
    assert {"wei2019.table2_4a.mse.no_dir", "wei2019.table2_4b.mse.fcn", "wei2019.table2_4b.mse.unet"} < ids
    assert {"wei2019.table2_4c.mse.t1_t2_pd", "wei2019.table2_4c.mse_reach.t1_t2_pd", "wei2019.table2_4b.mse.reach",
            "wei2019.table2_4a.mse.floor", "wei2019.table2_4b.mse_own.unet"} < ids
    assert ids <= set(load_paper("wei2019_flair").ids)
    without = experiments.table_2_4(scores[scores["system"] != "no_dir"], INPUTS[:4])
    assert not without["id"].str.contains("dir|table2_4b").any()


def test_widths_and_depths_are_timed_and_followed(scores, results):
    mine = where(scores, system="fcn").assign(system="width16")
    table = experiments.table_2_1(stacked(scores, mine), results | {"width16": results["fcn"]})
    assert by_subject(table, id="wei2019.table2_1.mse.width16") == {"a": 4.0, "b": 5.0, "c": 6.0}
    assert where(table, id="wei2019.table2_1.seconds.width64")["value"].tolist() == [0.1] * 3
    assert by_subject(table, id="wei2019.table2_1.mse.width64") == {"a": 4.0, "b": 5.0, "c": 6.0}
    counts = experiments.parameter_counts().set_index("id")["value"]
    assert counts["wei2019.table2_1.parameters.width64"] == 231_745
    assert counts["wei2019.text.parameters.unet"] == 375_585
    own = by_subject(table, id="wei2019.table2_1.mse_own.linear")
    assert own == {"a": pytest.approx(5.1), "b": pytest.approx(6.1), "c": pytest.approx(7.1)}
    curves = experiments.figure_2_3(results, {"fcn": "3 layers"})
    assert curves.to_dict("list") == {
        "epoch": [0, 5], "setting": ["3 layers"] * 2, "fold": ["fold1"] * 2, "value": [1.0, 0.5],
    }


def test_lesion_contrast_leaves_out_who_has_no_lesions(scores):
    cohort = Cohort("toy", (subject("a"), subject("b"), subject("c", lesions=False)), "embedded")
    table = experiments.table_2_3(scores, cohort)
    truth = by_subject(table, id="wei2019.table2_3.ratio1.truth")
    assert truth == {"a": pytest.approx(1.6, abs=0.05), "b": pytest.approx(1.6, abs=0.05)}
    assert by_subject(table, system="rf", metric="ratio2") == {"a": 1.0, "b": 1.0}


def test_saliency_shares_sum_to_one_for_every_person():
    s = patient("s0")
    brain = s.baseline.mask("brain")
    masks = {**s.baseline.masks, "csf": s.baseline.mask("lesions")}
    scan = SimpleNamespace(mask=masks.get)
    cohort = SimpleNamespace(subject=lambda name: SimpleNamespace(baseline=scan))
    maps = {"s0": {n: brain.with_data(torch.rand(brain.data.shape)) for n in ("T1w", "DIR")}}
    frame = experiments.figure_2_6(cohort, maps)
    assert set(frame["id"]) == {f"wei2019.fig2_6.{m}.{n}" for m in ("saliency", "saliency_csf") for n in ("t1", "dir")}
    assert frame.groupby("metric")["value"].sum().tolist() == [pytest.approx(1)] * 2


def test_sentences_and_small_tables_say_what_the_scores_say(scores):
    lines = experiments.gain_table(scores)
    assert lines.loc["fcn"].tolist() == pytest.approx([5.0, 5.1]) and len(lines) == 12
    said = about_gain(scores)
    assert "5.000 z²" in said[0] and "5.100" in said[1] and "10.000" in said[3] and "12.000" in said[4]
    real = scores[~scores["system"].isin(["floor", "reach_tenfold"])]
    assert len(about_gain(real)) == len(said) - 1 and len(experiments.gain_table(real)) == 10


def test_the_patients_in_the_middle_are_shown():
    """Neither the largest lesions nor the controls."""
    sizes = {"c": 0, "d": 5, "a": 1, "e": 90, "b": 2}
    assert [s.id for s in experiments.middle_patients(sized(sizes))] == ["b", "d"]
    assert [s.id for s in experiments.middle_patients(sized(sizes | {"b": 0}))] == ["d", "e"]
    assert [s.id for s in experiments.middle_patients(sized({"c": 0, "a": 3}))] == ["a"]
    assert [s.id for s in experiments.middle_patients(sized({"c": 0}))] == ["c"]


def sized(volumes):
    def one(name, voxels):
        mask = Volume(torch.arange(125).view(1, 5, 5, 5) < voxels)
        return Subject(name, None, "MS", (Scan(name, "1", None, {}, {"lesions": mask}),))

    return Cohort("toy", tuple(one(*item) for item in volumes.items()), "embedded")


def test_convergence_is_read_from_each_persons_own_curve():
    """From 1 to 0.2: 95 % of the way is 0.24, between the strips that end at 0.4 and 0.2."""
    slow = {"epochs": [0, 5, 10], "validation": [], "watched": {"a": [1.0, 0.4, 0.2], "b": [1.0, 0.2, 0.9]}}
    fast = {"epochs": [0, 5, 10], "validation": [], "watched": {"a": [1.0, 0.2, 0.3]}}
    made = {n: SimpleNamespace(histories={"fold1": slow, "fold2": fast}) for n in ("depth2", "fcn", "depth4", "depth6")}
    found = experiments.convergence(made)
    assert by_subject(found, id="wei2019.fig2_3.mse.depth4") == {"a": pytest.approx(0.25), "b": pytest.approx(0.9)}
    ends = by_subject(found, id="wei2019.fig2_3.epochs.depth3")
    assert ends == {"a": pytest.approx((9 + 4.75) / 2), "b": pytest.approx(4.75)}
    never = {"epochs": [0, 5], "validation": [], "watched": {"a": [0.5, 0.6]}}
    worse = experiments.convergence(made | {"fcn": SimpleNamespace(histories={"fold1": never})})
    assert by_subject(worse, id="wei2019.fig2_3.epochs.depth3") == {"a": 5}
    nobody = {n: SimpleNamespace(histories={"fold1": {"epochs": []}}) for n in made}
    assert experiments.convergence(nobody).empty


def test_folds_won_and_sharpness_come_from_the_scores(scores):
    better = scores.assign(value=scores["value"].where(scores["system"] != "unet", -scores["value"] - 100))
    for frame, won in ((scores, (0, 0)), (better, (2, 0))):
        assert experiments.folds_won(frame)["value"].tolist() == list(won)
    blur = experiments.blur(scores)
    assert by_subject(blur, system="fcn")["a"] == 0.46 and by_subject(blur, system="truth")["a"] == pytest.approx(0.39)
    assert "images 0.46, true ones 0.39" in experiments.about_blur(blur)
    real = experiments.blur(scores[scores["system"] != "floor"])
    assert set(by_subject(real, system="truth").values()) == {1.0}


def test_ends_have_roles_and_make_lines(scores):
    room, alike = (Room.of_frame(**given) for given in experiments.rooms(scores))
    assert alike.better == "higher" and alike.covers(["wei2019.table2_2b.ssim.fcn", "wei2019.table2_2b.ssim.rf"])
    assert room.covers(["wei2019.table2_1.mse.width64", "wei2019.table2_2a.mse.fcn"])
    assert not room.covers(["wei2019.table2_4b.mse.fcn", "wei2019.table2_2a.mse.fcn"])
    assert room.floor == 12 and room.reach == 10 and room.mean == 8 and room.person == 9
    assert room.best_control == "wei2019.table2_2a.mse.linear"
    assert experiments.lines(scores) == {"reach": 10, "floor": 12}
    few = scores[~scores["system"].isin(["floor", "reach"])]
    assert experiments.lines(few, less="fcn") == {"reach_tenfold": 6}


def test_ends_are_fitted_on_the_experiments_own_folds(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path))
    cohort = Cohort("toy", tuple(map(with_t1, "abcd")), "embedded", {"data_hash": "x"})
    folds = [SimpleNamespace(name=f"fold{k}", train_ids=cohort.ids[2 * k:2 * k + 2],
                             test_ids=cohort.ids[2 - 2 * k:4 - 2 * k]) for k in (0, 1)]
    clean = {(s.id, s.baseline.session): s.baseline.image("FLAIR") for s in cohort}
    found = experiments.ends(
        cohort, folds, SMALL.changed(inputs=("T1w",)), profile="smoke", score=FlairScore(cohort), noise_free=clean,
        fewer={"no_dir": ("T1w",)}, strangers=cohort,
    )
    assert set(found["system"]) == {*experiments.ENDS, "reach_no_dir", "linear_no_dir"}
    assert by_subject(found, system="floor", metric="mse") == dict.fromkeys(cohort.ids, 0.0)
    assert list(found.columns) == [*COLUMNS, "fold"]


def with_t1(name):
    scan = subject(name).baseline
    images = {**scan.images, "T1w": scan.image("FLAIR").with_data(900 - 2 * scan.image("FLAIR").data)}
    return Subject(name, None, "MS", (replace(scan, images=images),))


def test_a_users_system_stands_where_it_is_asked_for(scores):
    both = stacked(scores, where(scores, system="fcn").assign(system="Mine"))
    for table, place in ((experiments.table_2_2, "table2_2a.mse"), (experiments.own_levels, "table2_2a.mse_own")):
        found = table(both, ["Mine"]).set_index("id")["value"]
        assert found[f"wei2019.{place}.Mine"].tolist() == found[f"wei2019.{place}.fcn"].tolist()
        assert not table(both)["system"].eq("Mine").any()
    gains = experiments.gain_table(both, ["Mine"])
    assert gains.loc["Mine"].tolist() == gains.loc["fcn"].tolist()
