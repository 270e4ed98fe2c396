"""The training of an autoencoder: when the critic joins, what the rate does."""

import pytest
import torch
from torch import nn

from nbkit.training.autoencoding import train_autoencoder


class Objective:
    """Without state. One weight learns to be 3, the critic's to be 1; counts who was asked."""

    def __init__(self):
        self.asked = []

    def state_dict(self):
        return {}

    def generate(self, net, batch):
        return {"value": net(batch)}

    def plain(self, net, batch):
        self.asked.append("plain")
        return {"total": (net(batch) - 3).square().flatten()}

    def generator(self, critic, batch, made):
        self.asked.append("generator")
        return {"total": (made["value"] - 3).square().flatten() + 0 * critic(batch).flatten()}

    def critic(self, critic, batch, made):
        self.asked.append("critic")
        return {"total": (critic(batch) - 1).square().flatten()}


def run(**more):
    torch.manual_seed(0)
    net, critic, objective = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False), Objective()
    before = float(critic.weight.detach())
    options = {"epochs": 6, "adversarial_from": 2, "learning_rate": 0.1, "schedule": "constant"} | more
    history = train_autoencoder(
        net, critic, objective, lambda epoch: [torch.ones(1, 1)] * 2, device=torch.device("cpu"), half=False, **options
    )
    return net, abs(before - float(critic.weight.detach())), objective, history


def test_the_critic_joins_after_its_epoch():
    _, moved, objective, history = run()
    assert objective.asked == ["plain"] * 4 + ["critic", "generator"] * 8
    assert moved > 0.01 and len(history.loss) == 6 and history.loss[-1] < history.loss[0]


def test_a_critic_that_never_joins_learns_nothing():
    _, moved, objective, _ = run(adversarial_from=6)
    assert set(objective.asked) == {"plain"} and moved == 0


def test_the_average_of_the_weights_is_what_stays():
    last, seen = run(epochs=4)[0], []
    torch.manual_seed(0)
    net, objective = nn.Linear(1, 1, bias=False), Objective()
    critic = nn.Linear(1, 1, bias=False)

    def batches(epoch):
        for _ in range(2):
            yield torch.ones(1, 1)
            seen.append(float(net.weight.detach()))

    train_autoencoder(
        net, critic, objective, batches, epochs=4, adversarial_from=2, learning_rate=0.1, schedule="constant",
        device=torch.device("cpu"), half=False, averaged=0.75,
    )
    mean = seen[0]
    for weight in seen[1:]:
        mean = 0.75 * mean + 0.25 * weight
    assert seen[-1] == pytest.approx(float(last.weight.detach()), rel=1e-6)
    assert float(net.weight.detach()) == pytest.approx(mean, rel=1e-6) != pytest.approx(seen[-1], rel=1e-3)


@pytest.mark.parametrize(("schedule", "last"), [("constant", 0.1), ("linear", 0.1 / 6)])
def test_the_rate_of_the_last_epoch(schedule, last):
    """Adam's first steps are as long as the rate; with a constant gradient sign, so is every other."""
    rates = []
    net, critic, objective = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False), Objective()
    nn.init.constant_(net.weight, -1000.0)

    def batches(epoch):
        start = float(net.weight.detach())
        yield torch.ones(1, 1)
        rates.append(float(net.weight.detach()) - start)

    train_autoencoder(
        net, critic, objective, batches, epochs=6, adversarial_from=6, learning_rate=0.1, schedule=schedule,
        device=torch.device("cpu"), half=False,
    )
    assert rates[0] == pytest.approx(0.1, rel=1e-2) and rates[-1] == pytest.approx(last, rel=1e-2)
