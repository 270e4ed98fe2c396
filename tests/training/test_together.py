"""Two processes that train one model end with the weights that the mean of their gradients gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from nbkit.training import together
from tests.training import shared_training as shared


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each of two processes said, and the folder they worked in."""
    folder = tmp_path_factory.mktemp("two")
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", shared.__name__, str(folder)]
    done = subprocess.run([sys.executable, *words], env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, done.stdout
    return [json.loads((folder / f"told-{rank}.json").read_text()) for rank in (0, 1)], folder


def test_they_end_alike_and_as_one_that_sees_both_batches(told):
    (first, second), _ = told
    assert first["processes"] == 2 and first["weights"] == second["weights"] and first["fitted"] == second["fitted"]
    alone = shared.learner()
    for odd in (1, 3, 5):  # an odd epoch has two batches, an even one a single one: the second is left
        alone(torch.cat([*shared.batches(odd), *shared.batches(odd + 1)]))
    assert first["steps"] == 3 and first["weights"] == pytest.approx(shared.weights(alone), abs=1e-6)


def test_every_epoch_has_its_loss_once(told):
    (first, second), _ = told
    assert first["loss"] == second["loss"] and len(first["loss"]) == shared.EPOCHS - 1
    start = shared.learner()
    losses = [start.loss(start.net, next(shared.batches(epoch)))["total"].mean().item() for epoch in (1, 2)]
    assert first["loss"][:2] == pytest.approx(losses, rel=1e-6)


def test_the_first_alone_writes(told):
    _, folder = told
    assert len([p for p in (folder / "cache" / "fitted").iterdir() if not p.name.startswith(".")]) == 1
    assert not (folder / "state").exists() and not any((folder / "cache" / "training").glob("*"))


def test_alone_nothing_is_averaged_and_nobody_is_waited_for():
    gradient = torch.ones(2)
    with together.joined():
        together.average([gradient, None])
        together.wait()
        assert (together.count(), together.rank(), together.gathered(2.0)) == (1, 0, [2.0])
        assert list(together.in_step(iter("abc"))) == ["a", "b", "c"] and gradient.tolist() == [1.0, 1.0]
