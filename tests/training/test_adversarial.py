"""Adversarial training: both sides learn at the scheduled rate, each from its own loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nbkit.core.checks import NbkitError
from nbkit.training.adversarial import train_adversarial


class Scale(nn.Module):
    """One number that multiplies."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x · value."""
        return x * self.value


class Tug:
    """The generator wants d·g·z small, the critic wants it large; gradients keep their signs."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def generate(self, net, batch):
        return {"x": net(batch)}

    def generator(self, critic, batch, made):
        return {"total": critic(made["x"])}

    def critic(self, critic, batch, made):
        self.seen.append((float(made["x"].mean()), float(critic.value.detach())))
        return {"total": -critic(made["x"])}


def run(schedule: str, *, epochs: int = 4, rate: float = 0.1):
    net, critic, tug, met, told = Scale(3.0), Scale(2.0), Tug(), [], []

    def batches(epoch: int):
        met.append(epoch)
        yield from (torch.ones(2), torch.ones(2))

    history = train_adversarial(
        net, critic, tug, batches=batches, epochs=epochs, learning_rate=rate, betas=(0.0, 0.0), schedule=schedule,
        device=torch.device("cpu"), half=False, label="tug", noted=told.append,
    )
    return net, critic, tug, met, history, told


@pytest.mark.parametrize(("schedule", "shares"), [("constant", (1, 1, 1, 1)), ("linear", (1, 0.75, 0.5, 0.25))])
def test_adam_without_memory_moves_by_the_scheduled_rate(schedule, shares):
    """With β = 0 every step of Adam is the rate times the sign of the gradient."""
    net, critic, tug, met, history, _ = run(schedule)
    way = sum(0.1 * share * 2 for share in shares)
    assert net.value.item() == pytest.approx(3 - way, abs=1e-4)
    assert critic.value.item() == pytest.approx(2 + way, abs=1e-4)
    assert met == [1, 2, 3, 4] and len(history.loss) == 4 and len(tug.seen) == 8


def test_the_loss_of_the_history_is_the_generators_and_every_step_is_told():
    *_, history, told = run("constant", epochs=1)
    first, second = 3 * 2.1, 2.9 * 2.2
    assert history.loss == [pytest.approx((first + second) / 2, abs=1e-4)]
    assert [record["total"] for record in told] == pytest.approx([first, second], abs=1e-4)
    assert [record["critic_total"] for record in told] == pytest.approx([-3 * 2.0, -2.9 * 2.1], abs=1e-4)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(NbkitError, match="schedule.*Did you mean 'linear'"):
        run("liner")
