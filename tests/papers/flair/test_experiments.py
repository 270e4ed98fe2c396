"""Tidy frames of the tables and figures: right ids, right people, numbers that follow from the masks and maps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort
from nbkit.core.tidy import by_subject, stacked, where
from nbkit.papers.flair import experiments
from nbkit.papers.flair.conv_synthesis import Config, ConvSynthesizer
from nbkit.training.crossval import Result, scores_frame
from tests.papers.flair.test_lesion_segmenter import TINY
from tests.papers.flair.test_lesion_segmenter import subject as patient
from tests.papers.flair.test_metrics import subject

INPUTS = ("T1w", "T1SE", "T2w", "PDw", "DIR")
SMALL = Config(slim=16, device="cpu")
EVERY = (*experiments.METHODS, *experiments.CONTROLS, "own_scale", "width32", "width96", "no_dir", "rf_no_dir",
         "mlp_no_dir", "unet_no_dir", *(f"no_{n}" for n in ("t1", "t1se", "t2", "pd")),
         "t1_dir", "t2_dir", "t1_t2", "t1_t2_dir", "t1_t2_pd")


def result(offset: float = 0.0) -> Result:
    """Three people, "c" without lesions; scores that tell systems and people apart."""
    metrics = {m: {s: offset + i + k / 10 for i, s in enumerate("abc")} for k, m in enumerate(("mse", "mse_rescaled"))}
    ratios = {m: {s: offset + 1.0 for s in "ab"} for m in ("ratio1", "ratio2")}
    history = {"epochs": [0, 5], "validation": [1.0, 0.5]}
    return Result(
        ConvSynthesizer, {**metrics, "ssim": {s: 0.5 for s in "abc"}, **ratios},
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


def test_every_number_has_its_id_and_folds_have_their_own(scores):
    errors = experiments.table_2_2(scores)
    assert where(errors, id="wei2019.table2_2a.mse.fcn")["value"].tolist() == [4.0, 5.0, 6.0]
    assert set(where(errors, metric="ssim")["unit"]) == {"SSIM"}
    folds = experiments.by_fold(errors)
    assert where(folds, id="wei2019.table2_2a.mse.mp.fold2")["subject"].tolist() == ["b", "c"]
    assert set(experiments.gain_free(scores)["id"].str.split(".").str[2]) == {"mse_rescaled"}


def test_ablations_stand_under_the_part_of_the_table_that_prints_them(scores):
    ids = set(experiments.table_2_4(scores, INPUTS)["id"])
    assert {"wei2019.table2_4a.mse.no_dir", "wei2019.table2_4b.mse.fcn", "wei2019.table2_4b.mse.unet"} < ids
    assert "wei2019.table2_4c.mse.t1_t2_pd" in ids and len(ids) == 14
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


def test_lesions_on_true_and_synthetic_images_are_compared(tmp_path):
    cohort = Cohort("toy", tuple(patient(f"s{i}") for i in range(4)), "embedded", {"data_hash": "x"})
    folds = [SimpleNamespace(name="fold1", train_ids=cohort.ids[:3], test_ids=cohort.ids[3:])]
    blank = {s.id: s.baseline.image("FLAIR").with_data(torch.rand(1, 16, 16, 10)) for s in cohort}
    found = experiments.lesions_found(cohort, folds, blank, config=TINY, cache=Cache(tmp_path))
    assert set(found) == {"s3"} and found["s3"]["truth"].data.any()
    mask = cohort.subject("s3").baseline.mask("lesions")
    half = mask.data.clone().flatten()
    half[half.nonzero()[::2]] = False
    found = {"s3": {"truth": mask, "synthetic": mask.with_data(half.view(mask.data.shape))}}
    agreement = experiments.figure_2_5(cohort, found).set_index("id")["value"]
    a, b = int(mask.data.sum()), int(half.sum())
    assert agreement["wei2019.fig2_5.dice_truth.lesions"] == 1
    assert agreement["wei2019.fig2_5.dice.lesions"] == pytest.approx(2 * b / (a + b), abs=1e-6)
    empty = mask.with_data(torch.zeros_like(mask.data))
    none = experiments.figure_2_5(cohort, {"s3": {"truth": empty, "synthetic": empty}})
    assert none["value"].tolist() == [0, 0, 0]
    assert experiments.dice_table(none).loc["true vs synthetic", "count"] == 1


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
    lines = experiments.about_gain(scores)
    assert "5.000 z²" in lines[0] and "5.100" in lines[1]
    table = experiments.gain_table(scores)
    assert table.loc["fcn"].tolist() == pytest.approx([5.0, 5.1]) and len(table) == 9
    sizes = experiments.sizes(SMALL.changed(crop=(8, 8, 4), crops_per_epoch=3))
    assert sizes.loc["this run", "an epoch"] == "3 crops of 8×8×4" and sizes.loc["published", "most epochs"] == 1700
    assert list(experiments.choices().index) == ["watch_test", "own_scale", "relu", "last"]


def test_the_largest_lesions_are_found():
    cohort = Cohort("toy", (subject("c", lesions=False), subject("a")), "embedded")
    assert experiments.most_lesions(cohort).id == "a"
