"""Stages: trained once per key by whoever comes first, read back by all; scheduled rates of both sides."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import nn

from nbkit.core.checks import NbkitError
from nbkit.core.config import Settings
from nbkit.core.files import Cache
from nbkit.core.protocols import Cohort, Subject
from nbkit.papers.myelin.stages import StageSettings, kept_stage, stage_key, train_stage
from nbkit.training.steps import NonFiniteLoss


class Scale(nn.Module):
    """One number that multiplies."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x):
        return x * self.value


class Tug:
    """The generator wants (d·) g·z small, the critic wants it large."""

    def generate(self, net, batch):
        return {"x": net(batch)}

    def plain(self, net, batch):
        return {"total": net(batch)}

    def generator(self, critic, batch, made):
        return {"total": critic(made["x"])}

    def critic(self, critic, batch, made):
        return {"total": -critic(made["x"])}


COHORT = Cohort("few", tuple(Subject(f"s{i}", None, "MS", ()) for i in range(3)), "embedded", {"data_hash": "abc"})


def run(critic=None, **settings):
    net = Scale(9.0)
    values = {"epochs": 4, "learning_rate": 0.1, "validate_every": 2} | settings
    seen = []
    history = train_stage(
        net, critic, Tug(), StageSettings(**values), batches=lambda epoch: [torch.ones(2)] * 2,
        device=torch.device("cpu"), validate=lambda: seen.append(net.value.item()) or len(seen), label="tug",
    )
    return net, history, seen


@pytest.mark.parametrize(("schedule", "way"), [("constant", 0.8), ("linear", 0.5)])
def test_the_rate_stays_or_falls_to_zero(schedule, way):
    """The first steps of Adam on a steady gradient are as long as the rate."""
    net, history, _ = run(schedule=schedule)
    assert net.value.item() == pytest.approx(9 - way, abs=1e-3) and len(history.loss) == 4


def test_the_critic_moves_as_often_as_told():
    critic = Scale(2.0)
    net, _, _ = run(critic, critic_steps=2)
    assert net.value.item() == pytest.approx(9 - 0.8, abs=2e-2)
    assert critic.value.item() == pytest.approx(2 + 1.6, abs=2e-2)


def test_errors_are_recorded_and_stop_nothing():
    _, history, seen = run()
    assert history.epochs == [0, 2, 4] and history.validation == [1, 2, 3] and not history.stopped_early
    assert seen[0] == 9.0 and seen[-1] < 8.5


def test_a_loss_that_is_not_finite_is_named():
    net = Scale(float("nan"))
    with pytest.raises(NonFiniteLoss, match="training step 0: loss term 'total'"):
        train_stage(net, None, Tug(), StageSettings(epochs=1), batches=lambda epoch: [torch.ones(2)],
                    device=torch.device("cpu"), validate=None, label="tug")


def test_settings_are_checked():
    with pytest.raises(NbkitError, match="schedule.*Did you mean 'linear'"):
        StageSettings(schedule="liner")
    with pytest.raises(NbkitError, match="crops_per_epoch: expected at least 1"):
        StageSettings(crop=(4, 4, 4), crops="focus")
    assert not StageSettings().on(torch.device("cpu")) and StageSettings(half=True).on(torch.device("cpu"))


class Fit:
    """Sets the weight, counts how often, and waits for the others if there are any."""

    def __init__(self, net: Scale, value: float, log: list) -> None:
        self.net, self.value, self.log = net, value, log

    def __call__(self):
        self.log.append(self.value)
        self.net.value.data.fill_(self.value)
        return {"loss": [self.value]}


def keep(cache, key, value, log, stages=(Settings(),)):
    net = Scale(0.0)
    history = kept_stage(net, key, Fit(net, value, log), stages=stages, system="toy", cache=cache)
    return net.value.item(), history


def test_a_stage_is_trained_once_and_read_back(tmp_path):
    cache, log, key = Cache(tmp_path), [], stage_key(COHORT, None, source="a")
    assert keep(cache, key, 1.0, log) == keep(cache, key, 2.0, log) == (1.0, {"loss": [1.0]})
    assert log == [1.0]


@pytest.mark.parametrize("other", [
    lambda: stage_key(COHORT.subset(["s0"]), None, source="a"), lambda: stage_key(COHORT, COHORT, source="a"),
    lambda: stage_key(COHORT, None, source="b"),
    lambda: stage_key(replace(COHORT, provenance={"data_hash": "x"}), None, source="a"),
    lambda: stage_key(replace(COHORT, name="null"), None, source="a"),
])
def test_anything_else_is_trained_again(tmp_path, other):
    cache, log = Cache(tmp_path), []
    keep(cache, stage_key(COHORT, None, source="a"), 1.0, log)
    assert keep(cache, other(), 2.0, log)[0] == 2.0


def test_stages_with_another_past_are_others(tmp_path):
    cache, log, key = Cache(tmp_path), [], stage_key(COHORT, None, source="a")
    first, other = StageSettings(epochs=1), StageSettings(epochs=2)
    keep(cache, key, 1.0, log, (first, first))
    assert keep(cache, key, 2.0, log, (other, first))[0] == 2.0
    assert keep(cache, key, 3.0, log, (first,))[0] == 3.0
    assert keep(cache, key, 4.0, log, (first, first))[0] == 1.0


def test_without_a_hash_nothing_is_kept(tmp_path):
    log, key = [], stage_key(replace(COHORT, provenance={}), None, source="a")
    assert key is None
    assert [keep(Cache(tmp_path), key, v, log)[0] for v in (1.0, 2.0)] == [1.0, 2.0] and not any(tmp_path.iterdir())


def test_threads_that_need_one_stage_train_it_once(tmp_path):
    cache, log, key = Cache(tmp_path), [], stage_key(COHORT, None, source="a")
    gate = threading.Barrier(4)

    def work(value):
        gate.wait()
        return keep(cache, key, value, log)[0]

    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(work, [1.0, 2.0, 3.0, 4.0]))
    assert len(log) == 1 and values == log * 4
