"""Watched training: what was seen and when, at the rates asked for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nbkit.core.checks import NbkitError
from nbkit.papers.pet_dcgan.watched import moments, train_watched


class Tiny:
    """A generator that pulls one weight to the batch, against a critic that does nothing."""

    def generate(self, net, batch):
        return {"x": net(torch.ones(4, 1))}

    def generator(self, critic, batch, made):
        return {"total": (made["x"][:, 0] - batch).square()}

    def critic(self, critic, batch, made):
        return {"total": critic(made["x"])[:, 0].square()}


def run(schedule="constant", looks=4, epochs=6, rate=0.05):
    torch.manual_seed(0)
    net, critic, asked = nn.Linear(1, 1, bias=False), nn.Linear(1, 1), []
    start = net.weight.item()

    def batch(n):
        asked.append(n)
        return 3.0

    watched = train_watched(
        net, critic, Tiny(), batch=batch, steps_per_epoch=3, epochs=epochs, learning_rate=rate, betas=(0.0, 0.999),
        schedule=schedule, device=torch.device("cpu"), look=lambda: net.weight.detach().clone(), looks=looks, label="x",
    )
    return watched, asked, start, net.weight.item()


def test_batches_are_numbered_and_every_step_is_recorded():
    watched, asked, _, _ = run()
    assert asked == list(range(18)) and len(watched.records) == 18
    assert watched.records[-1].keys() == {"total", "critic_total"}
    assert watched.records[-1]["total"] < watched.records[0]["total"]


def test_it_is_looked_at_before_after_and_at_the_moments_between():
    watched, _, start, end = run()
    assert tuple(watched.seen) == moments(18, 4) == (0, 2, 8, 18)
    assert watched.seen[0].item() == start and watched.seen[18].item() == end != start


def test_a_linear_rate_falls_to_zero():
    # without momentum and with a gradient of one sign, every step of Adam is about the rate
    _, _, start, end = run("linear", epochs=4, rate=1e-3)
    assert end - start == pytest.approx(3e-3 * (1 + 0.75 + 0.5 + 0.25), rel=2e-2)
    _, _, start, end = run(epochs=4, rate=1e-3)
    assert end - start == pytest.approx(12e-3, rel=2e-2)


def test_moments_that_coincide_are_one():
    assert moments(2, 6) == (0, 1, 2)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(NbkitError, match="Did you mean 'linear'"):
        run("liner")
