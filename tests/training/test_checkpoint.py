"""Checkpoints come back whole, and anything that does not fit is refused by name."""

import json

import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.training.checkpoint import check_tensors, load_checkpoint, save_checkpoint


def save(path, tensors=None):
    save_checkpoint(
        path, tensors or {"a": torch.arange(3.0)}, system="toy", config={"width": 2}, constants={"mean": 1.5},
        training_subjects="abc",
    )


def test_round_trip(tmp_path):
    save(tmp_path / "model")
    tensors, record = load_checkpoint(tmp_path / "model", system="toy")
    assert torch.equal(tensors["a"], torch.arange(3.0))
    assert (record["config"], record["constants"], record["training_subjects"]) == ({"width": 2}, {"mean": 1.5}, "abc")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["model.json", "weights.safetensors"]


def test_saving_again_replaces(tmp_path):
    save(tmp_path / "model")
    save(tmp_path / "model", {"b": torch.ones(1)})
    assert list(load_checkpoint(tmp_path / "model", system="toy")[0]) == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_another_system_is_refused(tmp_path):
    save(tmp_path / "model")
    with pytest.raises(NbkitError, match=r"model\.json.*'other'.*'toy'"):
        load_checkpoint(tmp_path / "model", system="other")


@pytest.mark.parametrize("damage", ["truncate", "remove", "json"])
def test_damage_is_named(tmp_path, damage):
    save(tmp_path / "model")
    weights = tmp_path / "model" / "weights.safetensors"
    if damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:20])
    elif damage == "remove":
        weights.unlink()
    else:
        (tmp_path / "model" / "model.json").write_text("{")
    with pytest.raises(NbkitError, match="model.*Save the model again"):
        load_checkpoint(tmp_path / "model", system="toy")


def test_missing_unexpected_and_misshapen_weights_are_named():
    good = {"conv.weight": torch.zeros(2, 3), "conv.bias": torch.zeros(2)}
    check_tensors(good, good, "here")
    with pytest.raises(NbkitError, match=r"conv\.bias.*no such tensor"):
        check_tensors({"conv.weight": good["conv.weight"]}, good, "here")
    with pytest.raises(NbkitError, match=r"only tensors of this network.*extra"):
        check_tensors({**good, "extra": torch.zeros(1)}, good, "here")
    with pytest.raises(NbkitError, match=r"\(2, 3\).*\(3, 2\)"):
        check_tensors({**good, "conv.weight": torch.zeros(3, 2)}, good, "here")


def test_no_pickle_in_the_folder(tmp_path):
    save(tmp_path / "model")
    json.loads((tmp_path / "model" / "model.json").read_text())
    assert (tmp_path / "model" / "weights.safetensors").read_bytes()[8:9] == b"{"
