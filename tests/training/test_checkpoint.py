"""Checkpoints come back whole, and anything that does not fit is refused by name."""

import json
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from nbkit.core.checks import NbkitError
from nbkit.core.config import Settings
from nbkit.training.checkpoint import Saved, check_tensors, load_checkpoint, load_weights, save_checkpoint


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


@dataclass(frozen=True)
class Config(Settings):
    """Settings of the line."""

    width: int = 4
    kinds: tuple[str, ...] = ("a", "b")


class Line(Saved):
    """The smallest system: one layer and what it learned besides."""

    settings = Config

    def __init__(self, config: Config) -> None:
        self.config, self.net, self.mean = config, nn.Linear(config.width, len(config.kinds)), 0.0

    def _tensors(self):
        return self.net.state_dict()

    def _constants(self):
        return {"mean": self.mean, "bins": [1, 2]}

    def _restore(self, tensors, constants, where):
        load_weights(self.net, tensors, where)
        self.mean = constants["mean"] / constants["bins"][0]


@pytest.mark.parametrize("change", [
    {"config": {"width": "wide"}}, {"config": {"width": -1}}, {"config": {"width": 4, "kinds": 7}},
    {"constants": {"mean": "x", "bins": [1]}}, {"constants": {"mean": 1.0, "bins": [0]}},
    {"constants": {"mean": 1.0, "bins": []}},
    {"config": []}, {"constants": None}, {"training_subjects": 3},
])
def test_settings_that_a_constructor_cannot_take_are_refused(tmp_path, change):
    Line(Config()).save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(NbkitError, match=r"model.*Save the model again"):
        Line.load(tmp_path / "model")


def test_one_bit_of_a_weight_is_noticed_and_models_without_sums_are_read(tmp_path):
    model = Line(Config())
    model.save(tmp_path / "model")
    file, record = tmp_path / "model" / "weights.safetensors", tmp_path / "model" / "model.json"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(NbkitError, match="weights.safetensors: expected what was saved, to the last bit"):
        Line.load(tmp_path / "model")
    file.write_bytes(whole)
    older = {k: v for k, v in json.loads(record.read_text()).items() if k not in ("weights", "checksum")}
    record.write_text(json.dumps(older))
    assert torch.equal(Line.load(tmp_path / "model").net.weight, model.net.weight)
