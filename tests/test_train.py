"""What `nbkit train` keeps: half precision that reads as the whole, a table of errors, a listing that is verified."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from nbkit import shipped as shipped_weights
from nbkit import train
from nbkit.core.checks import NbkitError
from nbkit.data import shipped
from nbkit.papers.trajectories import scan_error
from nbkit.papers.trajectories.scan_segmenter import ScanSegmenter
from nbkit.training import offered
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
    assert train.chosen(None, "08, 05") == ["mrextrap", "segmenter", "brlp"]
    assert train.chosen(None, "all") == ["flair", *train.chosen(None, "08")]
    for wrong in (("blrp", "all"), (None, "8")):
        with pytest.raises(NbkitError, match="nbkit train"):
            train.chosen(*wrong)


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
