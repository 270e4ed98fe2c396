"""What `nbkit train` keeps: half precision that reads as the whole, a table of errors, a listing that is verified."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit import shipped as shipped_weights
from nbkit import train
from nbkit.cohorts import cohort_for
from nbkit.core.checks import NbkitError
from nbkit.data import shipped
from nbkit.papers.daninet import DaniNet, trained
from nbkit.papers.daninet.experiments import key_of
from nbkit.papers.pet_dcgan import experiments as pet
from nbkit.papers.pet_dcgan import figures
from nbkit.papers.trajectories import scan_error
from nbkit.papers.trajectories.scan_segmenter import ScanSegmenter
from nbkit.training import offered
from nbkit.training.fitted import fitted
from tests.papers.trajectories.test_scan_segmenter import SMALL, head, heads


@pytest.fixture
def place(tmp_path, monkeypatch):
    listing, folder = tmp_path / "weights.toml", tmp_path / "weights"
    for module, name, value in ((shipped, "LIST", listing), (shipped, "FOLDER", folder)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(train, "weights_list", shipped.weights_list)
    shipped.shipped_folder.cache_clear()
    yield {"folder": folder, "listing": listing}
    shipped.shipped_folder.cache_clear()


def test_what_is_kept_is_listed_and_reads_as_before(place):
    learn = replace(heads("ab"), provenance={"data_hash": "h", "attribution": 'IXI, "CC BY-SA 3.0"'})
    model = ScanSegmenter(SMALL.changed(steps=2)).fit(learn)
    table = pd.DataFrame([("hippocampus", 2.0, 1, 0.5, 1.0, 2.0, 3.0)], columns=scan_error.COLUMNS)
    facts, name = {"never_seen": 1, "finished": False}, place["folder"] / "scan_segmenter"
    train.keep(model, learn, table=table, facts=facts, folder=name, listing=place["listing"])
    entry = shipped.weights_list()["scan_segmenter"]
    assert entry["people"] == 2 and entry["never_seen"] == 1 and entry["finished"] is False
    assert entry["training_subjects"] == model.trained_on and entry["cohort"] == "heads"
    folder = shipped.shipped_folder("scan_segmenter")
    again, scan = ScanSegmenter.load(folder), head("e")
    read = [m.volumes(scan.image("T1w"), mask=scan.mask("brain")) for m in (model, again)]
    assert read[1] == pytest.approx(read[0], rel=0.02)
    assert (folder / "weights.safetensors").stat().st_size < 0.6 * sum(
        4 * v.numel() for v in model._tensors().values())
    assert scan_error.relative_error(2.0, folder=folder) == {"hippocampus": pytest.approx(0.03)}
    train.keep(model, learn, table=table, facts={**facts, "finished": True}, folder=name, listing=place["listing"])
    assert list(shipped.weights_list()) == ["scan_segmenter"] and shipped.weights_list()["scan_segmenter"]["finished"]


def test_there_is_nothing_to_collect_before_a_training(monkeypatch, tmp_path):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(train, "heads", lambda n_jobs: (heads("a"), heads("b")))
    with pytest.raises(NbkitError, match="nbkit train --collect: expected weights of a training.*nbkit train scan_seg"):
        train.scan_segmenter(collect=True)


def test_heads_are_parted_once_and_for_all(monkeypatch):
    monkeypatch.setattr(train.ixi_heads, "build", lambda n_jobs: heads("abcdefgh"))
    learn, unseen = train.heads()
    assert len(learn) == 6 and len(unseen) == 2 and not set(learn.ids) & set(unseen.ids)
    assert train.heads()[1].ids == unseen.ids


def test_trainings_are_chosen_by_name_or_by_notebook():
    assert train.chosen("brlp", "all") == ["brlp"] and train.chosen(None, "05") == ["mrextrap", "segmenter"]
    assert train.chosen(None, "08, 05") == ["mrextrap", "segmenter", "brlp", "countersynth"]
    assert train.chosen(None, "all") == ["flair", "daninet", "mrextrap", "segmenter", "dcgan", "brlp", "countersynth"]
    for wrong in (("blrp", "all"), (None, "8")):
        with pytest.raises(NbkitError, match="nbkit train"):
            train.chosen(*wrong)


def test_real_people_are_learned_from_by_those_who_can(monkeypatch):
    asked = []
    monkeypatch.setattr(train, "TRAININGS", {"mrextrap": lambda **options: asked.append(options)})
    assert list(train.trained(["mrextrap"], profile="smoke", level="open", collect=False, n_jobs=1)) == [None]
    assert asked == [{"collect": False, "n_jobs": 1, "profile": "smoke", "level": "open"}]
    for part, level in (("flair", "open"), ("mrextrap", "opne")):
        with pytest.raises(NbkitError, match="nbkit train.*--cohort"):
            list(train.trained([part], profile="smoke", level=level, collect=False, n_jobs=1))


def test_what_is_built_on_another_part_is_built_on_the_one_that_comes_with_the_project(monkeypatch):
    finders = []

    class Asked:
        train = None

        def __init__(self, *_):
            pass

        def job(self, part, **changes):
            finders.append(offered._FINDER)
            return {}

    monkeypatch.setattr(train, "cohort_for", lambda *_, **__: None)
    monkeypatch.setattr(train, "Bench", Asked)
    monkeypatch.setattr(train, "_made", lambda *_: finders.append(offered._FINDER))
    train.ageing("brlp")
    assert finders == [shipped_weights.find, shipped_weights.find, None], "while it is trained nothing is offered"


def test_networks_of_slices_trained_for_longer_are_offered_where_notebook_04_asks(place, monkeypatch):
    monkeypatch.setattr(train, "FOLDER", place["folder"])
    monkeypatch.setattr(train, "keep", partial(train.keep, listing=place["listing"]))
    monkeypatch.setattr(shipped_weights, "weights_list", shipped.weights_list)
    made = list(train.daninet(profile="smoke")["weights"])
    assert made == [f"daninet-{name}-embedded-smoke" for name in ("caae", "c", "p", "p_c")]
    people = cohort_for("embedded", task="ageing", profile="smoke", seed=train.SEED)
    _, learn, _ = trained.in_slices(people, profile="smoke", seed=train.SEED)
    for name in trained.NETWORKS:
        offer = shipped_weights.find(trained.network(name, "smoke", seed=train.SEED), learn)
        assert offer.name == f"daninet-{key_of(name)}-embedded-smoke"
        assert offer.read(DaniNet.load).config.name == name
    assert shipped_weights.find(trained.network("P", "smoke", seed=8), learn) is None


@pytest.mark.slow
def test_generators_trained_for_longer_are_offered_where_notebook_07_asks(place, monkeypatch, caplog):
    monkeypatch.setattr(train, "FOLDER", place["folder"])
    monkeypatch.setattr(train, "keep", partial(train.keep, listing=place["listing"]))
    monkeypatch.setattr(shipped_weights, "weights_list", shipped.weights_list)
    asked = []
    monkeypatch.setattr(train, "_made", lambda name, learn, *jobs, made=train._made: (
        asked.append((learn, jobs[0])), made(name, learn, *jobs))[1])
    made = list(train.dcgan(profile="smoke")["weights"])
    assert made == [f"dcgan-{kind}-embedded-smoke" for kind in ("separate", "averaged", "conditional")]
    offered.offering(shipped_weights.find)
    caplog.set_level("INFO")
    models = [fitted(**job) for _, job in asked]
    offered.offering(None)
    assert sum("which comes with the project" in line for line in caplog.messages) == 3
    for (learn, job), model in zip(asked, models, strict=True):
        trained, stage, view = fitted(**job), model.stages[0], model.views[0]
        drawn, wanted = (m.sample_images(2, stage, 0, view=view) for m in (model, trained))
        assert drawn.dtype == torch.float32 and (drawn - wanted).abs().max() < 0.05
        assert len(pet.losses(model)) == len(pet.losses(trained))
        shown = figures._uptake(model.snapshots[max(model.snapshots)][0], 2.0)
        assert all(image.dtype == np.float32 for image in shown), "matplotlib draws no half precision"
        assert model.learned_from == {(learn.name, id) for id in learn.ids}
