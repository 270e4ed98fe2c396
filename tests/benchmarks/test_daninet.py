"""What the constraints on progression cost in training, and what tuning people together saves, at the laptop Config."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nbkit.core.seeds import torch_generator
from nbkit.papers.daninet.constraints import AgeingBatch, AgeingObjective
from nbkit.papers.daninet.caae import ConditionalAutoencoder, LatentCritic, SliceCritic, diagnosis_codes
from nbkit.nets.weights import draw_weights
from nbkit.papers.daninet.config import Config
from nbkit.papers.daninet.personalise import Tuning, personalise
from nbkit.training.steps import AdversarialStep

CONFIG, DIAGNOSES, PEOPLE, STEPS = Config.for_profile("laptop"), 4, 8, 4
CPU = torch.device("cpu")


class Slices:
    """As many slices as asked, with labels."""

    def __init__(self, count: int) -> None:
        g, c = torch_generator(1, count), CONFIG
        self.image = F.avg_pool2d(torch.randn(count, c.size + 8, c.size + 8, generator=g), 9, 1).mul(4).tanh()
        self.inside, self.alpha = self.image > -0.5, torch.rand(count, generator=g)
        self.own = self.lower = torch.arange(count) % c.ages
        self.diagnosis = torch.arange(count) % DIAGNOSES


def told(diagnoses: int) -> torch.Tensor | None:
    return diagnosis_codes(diagnoses, CONFIG.diagnosis_form) if diagnoses else None


def autoencoder(diagnoses: int) -> ConditionalAutoencoder:
    c = CONFIG
    net = ConditionalAutoencoder(c.size, c.widths, latent=c.latent, ages=c.ages, told=told(diagnoses))
    return draw_weights(net, torch_generator(2), sd=c.weight_sd)


def objective(constrained: bool) -> AgeingObjective:
    c = CONFIG
    names = ("deformation", "latent", "image", "voxel", "region")
    masks = (torch.rand(c.regions, c.size, c.size, generator=torch_generator(3)) > 0.97).float()
    tables = {"masks": masks, "ratios": torch.full((DIAGNOSES, c.ages, c.ages, c.regions), 0.95)}
    return AgeingObjective(c.ages, {n: getattr(c, f"{n}_weight") for n in names}, **(tables if constrained else {}))


def training_step(constrained: bool) -> Callable[[], object]:
    """One step of P-C, or of [9], on a batch of the same size."""
    c, diagnoses = CONFIG, DIAGNOSES * constrained
    judge = SliceCritic(c.size, c.critic_widths, ages=c.ages, told=told(diagnoses), features=c.critic_features)
    critics = draw_weights(nn.ModuleDict({"latent": LatentCritic(c.latent), "image": judge}), torch_generator(4))
    nets, losses = (autoencoder(diagnoses), critics), objective(constrained)
    step = AdversarialStep(
        *nets, tuple(torch.optim.Adam(n.parameters(), lr=c.learning_rate) for n in nets), generate=losses.generate,
        generator_loss=losses.generator, discriminator_loss=losses.critic, device=CPU,
    )
    prior = torch.rand(c.batch, c.latent, generator=torch_generator(5))
    batch = AgeingBatch(Slices(c.batch), prior, max(1, round(c.constrained * c.batch)) if constrained else 0)
    return lambda: step(batch)


def one_by_one(net: nn.Module, people: dict[str, torch.Tensor], tuning: Tuning) -> None:
    """Plain PyTorch: a copy and an optimiser of its own for each."""
    for k in range(PEOPLE):
        mine, person = copy.deepcopy(net), {name: value[k] for name, value in people.items()}
        optimiser = torch.optim.Adam(mine.parameters(), lr=tuning.learning_rate, betas=tuning.betas, fused=True)
        for _ in range(tuning.steps):
            optimiser.zero_grad(set_to_none=True)
            tuning.loss(mine, person).backward()
            optimiser.step()


def tuned(constrained: bool, *, together: bool) -> Callable[[], object]:
    net, people = autoencoder(DIAGNOSES), vars(Slices(PEOPLE))
    tuning = Tuning(loss=objective(constrained).personal, steps=STEPS, learning_rate=1e-3)
    return lambda: personalise(net, people, tuning=tuning) if together else one_by_one(net, people, tuning)


@pytest.mark.benchmark(group="DaniNet training step")
@pytest.mark.parametrize("who", ["nbkit P-C", "[9]"])
def test_training_step(benchmark, who):
    """What the constraints on progression cost."""
    benchmark.pedantic(training_step(who != "[9]"), rounds=9, warmup_rounds=1)


@pytest.mark.parametrize("who", ["nbkit together", "one by one"])
@pytest.mark.parametrize("constrained", [
    pytest.param(variant == "P-C-T", id=variant, marks=pytest.mark.benchmark(group=f"tuning 8 people, {variant}"))
    for variant in ("C-T", "P-C-T")
])
def test_tuning(benchmark, constrained, who):
    benchmark.pedantic(tuned(constrained, together=who == "nbkit together"), rounds=5, warmup_rounds=1)
