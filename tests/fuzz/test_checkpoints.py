"""Checkpoints and finished work: one named error, or the very weights; a damaged entry of the cache is made again."""

from __future__ import annotations

import logging

import pytest
import torch

from nbkit.core import shelf
from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.training.checkpoint import load_checkpoint
from nbkit.training.resume import Progress, resumable
from tests.fuzz.damage import Door
from tests.training.test_checkpoint import Config, Line

WORDS = (b'"F32"', b'"data_offsets":[0,9]', b'"__metadata__"', b'"shape":[1]')


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL)


@pytest.mark.slow
def test_checkpoints(tmp_path):
    torch.manual_seed(0)
    model = Line(Config())
    model.mean = 1.5
    model.save(tmp_path / "model")
    files = [tmp_path / "model" / name for name in ("model.json", "weights.safetensors")]
    door = Door("checkpoints", [file.read_bytes() for file in files], words=WORDS)
    for which, raw in door:
        files[which].write_bytes(raw)
        door.tries(which, raw, lambda: _same(Line.load(tmp_path / "model"), model))
        door.tries(which, raw, lambda: load_checkpoint(tmp_path / "model", system="Line"))
        files[which].write_bytes(door.wholes[which])
    door.close(least=0.0)
    _same(Line.load(tmp_path / "model"), model)


def _same(found: Line, model: Line) -> None:
    assert torch.equal(found.net.weight, model.net.weight) and (found.mean, found.config) == (1.5, model.config)


@pytest.mark.slow
def test_states_of_trainings(tmp_path):
    """A training that was stopped goes on from what it wrote, or begins again."""
    def state():
        return {"net": torch.nn.Linear(2, 2), "seen": [1, 2]}

    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt), resumable(tmp_path / "t", every_s=0.0):
        wrote = state()
        Progress("a", wrote).note({"epoch": 3})
        raise KeyboardInterrupt
    files = [tmp_path / "t" / "a-1" / name for name in ("state.json", "state.safetensors", shelf.SUMS)]
    door = Door("training", [file.read_bytes() for file in files], words=(*WORDS, b"$tensor", b"$pairs"), share=4)
    for which, raw in door:
        files[which].write_bytes(raw)
        door.tries(which, raw, lambda: _resumed(tmp_path / "t", state(), wrote))
        files[which].write_bytes(door.wholes[which])
    door.close(least=0.0)


def _resumed(folder, mine, wrote) -> None:
    before = mine["net"].weight.clone()
    try:
        with resumable(folder):
            noted = Progress("a", mine).read()
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert noted in (None, {"epoch": 3})
    assert torch.equal(mine["net"].weight, wrote["net"].weight if noted else before)


@pytest.mark.slow
def test_entries_of_the_cache(tmp_path):
    """Whatever lies there, what is loaded is what was made."""
    cache, made = Cache(tmp_path), []

    def make(folder):
        made.append(1)
        (folder / "value.txt").write_text("the value")

    def get():
        return cache.get("kind", {"a": 1}, make, lambda folder: (folder / "value.txt").read_text())

    assert get() == "the value"
    (entry,) = shelf.entries_of(tmp_path / "kind")
    files = [entry / name for name in ("value.txt", shelf.SUMS, shelf.KEY)]
    door = Door("cache", [file.read_bytes() for file in files], share=4)
    for which, raw in door:
        files[which].write_bytes(raw)
        door.tries(which, raw, lambda: _is_value(get))
    door.close(least=0.0)
    assert len(made) > door.cases / 2


def _is_value(get) -> None:
    try:
        found = get()
    except NbkitError as error:
        raise AssertionError(f"refused: {error}") from error
    assert found == "the value"
