"""Copies tuned together beside copies tuned one after the other, by torch's own Adam."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nbkit.core.seeds import torch_generator
from nbkit.papers.daninet.constraints import AgeingObjective
from nbkit.papers.daninet.caae import ConditionalAutoencoder
from nbkit.nets.weights import draw_weights
from nbkit.papers.daninet.personalise import Tuning, at_all, at_every_age, personalise
from nbkit.training.steps import NonFiniteLoss

SIZE, AGES, PEOPLE = 16, 4, 3
WEIGHTS = {"deformation": 0.2, "voxel": 0.3, "region": 0.3}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    bare = ConditionalAutoencoder(SIZE, (4, 6), latent=5, ages=AGES, told=2 * torch.eye(2) - 1)
    return draw_weights(bare, torch_generator(3), sd=None)


@pytest.fixture(scope="module")
def people() -> dict[str, torch.Tensor]:
    g = torch_generator(4)
    return {
        "image": F.avg_pool2d(torch.randn(PEOPLE, SIZE + 4, SIZE + 4, generator=g), 5, 1).tanh(),
        "inside": torch.rand(PEOPLE, SIZE, SIZE, generator=g) > 0.3, "own": torch.tensor([0, 2, 3]),
        "lower": torch.tensor([0, 1, 3]), "alpha": torch.tensor([0.7, 0.4, 1.0]), "diagnosis": torch.tensor([0, 1, 1]),
    }


def objective(constrained: bool) -> AgeingObjective:
    masks = (torch.rand(5, SIZE, SIZE, generator=torch_generator(5)) > 0.7).float()
    tables = {"masks": masks, "ratios": torch.full((2, AGES, AGES, 5), 0.9)} if constrained else {}
    return AgeingObjective(AGES, WEIGHTS, **tables)


def one_by_one(net: nn.Module, people: dict[str, torch.Tensor], tuning: Tuning) -> torch.Tensor:
    """Plain PyTorch: a copy, its own optimiser, a loop."""
    made = []
    for k in range(PEOPLE):
        mine, person = copy.deepcopy(net), {name: value[k] for name, value in people.items()}
        optimiser = torch.optim.Adam(mine.parameters(), lr=tuning.learning_rate, betas=tuning.betas)
        for _ in range(tuning.steps):
            optimiser.zero_grad()
            tuning.loss(mine, person).backward()
            optimiser.step()
        with torch.no_grad():
            bins = torch.arange(AGES)
            made.append(mine(person["image"][None, None], torch.zeros_like(bins), bins, person["diagnosis"][None])[1])
    return torch.stack(made)


@pytest.mark.parametrize("constrained", [True, False])
def test_together_is_one_by_one(net, people, constrained):
    tuning = Tuning(loss=objective(constrained).personal, steps=20, learning_rate=2e-3, betas=(0.5, 0.999))
    before = copy.deepcopy(net.state_dict())
    found = at_every_age(net, people, ages=AGES, tuning=tuning)
    assert found.shape == (PEOPLE, AGES, SIZE, SIZE) and not found.requires_grad
    torch.testing.assert_close(found, one_by_one(net, people, tuning), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert (found - at_every_age(net, people, ages=AGES)).abs().max() > 0.05


def test_company_does_not_matter(net, people):
    tuning = Tuning(loss=objective(True).personal, steps=5, learning_rate=2e-3)
    together = at_every_age(net, people, ages=AGES, tuning=tuning)
    for k in range(PEOPLE):
        alone = at_every_age(net, {n: v[k : k + 1] for n, v in people.items()}, ages=AGES, tuning=tuning)
        torch.testing.assert_close(alone[0], together[k], rtol=1e-4, atol=1e-5)


def test_tuning_brings_everybody_nearer_to_their_own_slice(net, people):
    loss = objective(False).personal
    weights = personalise(net, people, tuning=Tuning(loss=loss, steps=60, learning_rate=5e-3))
    before = torch.stack([loss(net, {n: v[k] for n, v in people.items()}) for k in range(PEOPLE)])
    assert (at_all(net, weights, people, act=loss) < 0.3 * before).all()


def test_no_steps_change_nothing(net, people):
    still = Tuning(loss=objective(True).personal, steps=0, learning_rate=1.0)
    torch.testing.assert_close(
        at_every_age(net, people, ages=AGES, tuning=still), at_every_age(net, people, ages=AGES), rtol=1e-5, atol=1e-6
    )


def test_without_tuning_it_is_the_network_itself(net, people):
    found = at_every_age(net, people, ages=AGES)
    for k in range(PEOPLE):
        for age in range(AGES):
            _, made = net(people["image"][k][None, None], torch.tensor([0]), torch.tensor([age]),
                          people["diagnosis"][k : k + 1])
            torch.testing.assert_close(found[k, age], made[0])


def test_what_cannot_be_tuned_is_refused(net, people):
    tuning = Tuning(loss=objective(False).personal, steps=1, learning_rate=1e-3)
    with pytest.raises(ValueError, match="same size in the mapped dimension"):
        personalise(net, people | {"own": people["own"][:2]}, tuning=tuning)
    broken = people | {"alpha": torch.tensor([0.5, torch.nan, 0.5])}
    with pytest.raises(NonFiniteLoss, match="training step 0: loss term 'total'"):
        personalise(net, broken, tuning=tuning)


def test_the_network_stays_whole_while_copies_of_it_are_asked():
    """Another thread may be asking the same network meanwhile."""
    seen = []

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(net.slope is slope)
            return x * self.slope

    net = Line()
    slope = net.slope
    tuning = Tuning(loss=lambda call, e: (call(e["x"]) - 3).square().sum(), steps=2, learning_rate=0.1)
    weights = personalise(net, {"x": torch.ones(2, 1)}, tuning=tuning)
    at_all(net, weights, {"x": torch.ones(2, 1)}, act=lambda call, e: call(e["x"]))
    assert len(seen) == 3 and all(seen) and float(net.slope.detach()) == 1.0
