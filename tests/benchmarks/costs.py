"""What training costs, from the models themselves: ``python -m tests.benchmarks.costs`` prints README's table.

One true training step of each system runs on tensors without content, in bfloat16 where a GPU would use it: so its
parameters, its largest memory and its multiplications are counted, and nothing is computed. Hours assume a GPU that
reaches a stated share of its peak.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from nbkit.cohorts import ms_phantom
from nbkit.core.device import one_thread
from nbkit.losses.perceptual import find_features
from nbkit.nets.discriminators import PatchDiscriminator
from nbkit.nets.unet import UNet
from nbkit.papers.brlp import brlp
from nbkit.papers.brlp.latent_diffusion import LatentDiffusion
from nbkit.papers.countersynth import countersynth, networks
from nbkit.papers.countersynth.conditions import Conditions
from nbkit.papers.daninet import daninet
from nbkit.papers.flair import conv_synthesis
from nbkit.papers.inbrainsyn import atlas_gan
from nbkit.papers.mrextrap import mrextrap
from nbkit.papers.myelin import synthesis
from nbkit.papers.pet_dcgan import dcgan, settings
from nbkit.papers.trajectories import regional_segmenter
from nbkit.phantom.longitudinal import GRIDS
from nbkit.phantom.myelin_records import GRIDS as MYELIN_GRIDS
from nbkit.phantom.parameters import load_parameters
from nbkit.training.steps import AdversarialStep

PEAK, SHARE, SINGLE = 990e12, 0.10, 0.5
"""FLOP/s of an H100's dense bfloat16 (data sheet), the share of it assumed for 3D convolutions of few maps, and the
part of it that is left in TF32, which systems without bfloat16 use."""
LAUNCH_S = 5e-6
"""What it takes to launch a kernel: where maps are small, steps take no less than all launches."""
PROFILES = ("laptop", "overnight", "paper")
CARD = 0.9 * 24e9
"""Bytes of a card of 24 GB, but for the tenth that the allocator and CUDA itself take."""
PEOPLE = {"FCN": 15, "CF-SAGAN": 21, "ageing": 300, "PET": 400}
"""Training scans or people where a profile counts epochs over all of them: those of the embedded cohorts."""


@dataclass(frozen=True)
class Cost:
    """Of one profile: parameters, bytes at the peak of a step, FLOPs of a step, number of steps, in bfloat16 or not."""

    parameters: int
    peak: int
    flops: int
    steps: int
    half: bool
    kernels: int

    @property
    def hours(self) -> float:
        """On one H100-class GPU at :data:`SHARE` of its peak, no kernel shorter than :data:`LAUNCH_S`."""
        seconds = self.flops / (PEAK * SHARE * (1 if self.half else SINGLE))
        return self.steps * max(seconds, self.kernels * LAUNCH_S) / 3600


class _Counting(TorchDispatchMode):
    """Bytes of storages that live, and multiplications of what runs."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.now = self.peak = self.flops = self.kernels = 0

    def _drop(self, key: int) -> None:
        self.now -= self.live.pop(key, 0)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if function._overloadpacket in flop_registry:
            self.flops += flop_registry[function._overloadpacket](*args, **(kwargs or {}), out_val=made)
        self.kernels += not function.is_view
        for tensor in (t for t in tree_leaves(made) if isinstance(t, torch.Tensor)):
            storage = tensor.untyped_storage()
            if storage._cdata not in self.live:
                self.live[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._drop, storage._cdata)
        return made


@contextmanager
def _without_content() -> Iterator[None]:
    """What looks at values, or moves networks, leaves things as they are; local correlation costs next to nothing."""
    with mock.patch.object(nn.Module, "to", lambda self, *_, **__: self), \
            mock.patch.object(nn.init, "trunc_normal_", lambda tensor, *_, **__: tensor), \
            mock.patch.object(networks, "_built", lambda kind, *given, **options: kind(*given, **options)), \
            mock.patch.object(atlas_gan, "jitter", lambda images, *_, **__: images.clone()), \
            mock.patch.object(atlas_gan, "lncc", lambda a, b, **_: (a * b).flatten(1).mean(1)):
        yield


@contextmanager
def _halves(half: bool) -> Iterator[None]:
    with torch.autocast("cpu", dtype=torch.bfloat16) if half else nullcontext():
        yield


def measured(build: Callable[[], tuple[list[nn.Module], Callable[[], Iterator[tuple[nn.Module, torch.Tensor]]]]], *,
             steps: int, half: bool) -> Cost:
    """Cost of a system: `build` gives its networks, and what yields each network with the loss it is to follow."""
    with _without_content(), FakeTensorMode(allow_non_fake_inputs=True), _Counting() as counting:
        nets, updates = build()
        optimisers = {id(net): torch.optim.Adam(net.parameters(), foreach=False) for net in nets}
        for net in nets:  # moments exist from the second step on
            for p in (p for p in net.parameters() if p.requires_grad):
                p.grad = torch.zeros_like(p)
            optimisers[id(net)].step()
            net.zero_grad(set_to_none=True)
        counting.peak, counting.flops, counting.kernels = counting.now, 0, 0
        with _halves(half):
            todo = updates()
        while True:
            with _halves(half):
                found = next(todo, None)
            if found is None:
                break
            net, loss = found
            loss.float().mean().backward()
            optimisers[id(net)].step()
            for each in nets:
                each.zero_grad(set_to_none=True)
            del loss, found
    parameters = sum(p.numel() for net in nets for p in net.parameters())
    return Cost(parameters, counting.peak, counting.flops, steps, half, counting.kernels)


def _against(net: nn.Module, critic: nn.Module, losses: Any, batch: Any) -> Callable[[], Iterator]:
    """The turns of an adversarial step."""

    def updates() -> Iterator[tuple[nn.Module, torch.Tensor]]:
        made = losses.generate(net, batch)
        seen = {name: value.detach() for name, value in made.items()}
        yield critic, losses.critic(critic, batch, seen)["total"]
        yield net, losses.generator(critic, batch, made)["total"]

    return updates


def _plain(net: nn.Module, loss: Callable[[], torch.Tensor]) -> tuple[list[nn.Module], Callable[[], Iterator]]:
    return [net], lambda: iter([(net, loss())])


def fcn(profile: str) -> Cost:
    c = conv_synthesis.Config.for_profile(profile)
    box = c.crop or ms_phantom.GRIDS[profile].target(load_parameters())[0]
    steps = c.epochs * (-(-c.crops_per_epoch // c.batch) if c.crop else PEOPLE["FCN"])

    def build():
        net = conv_synthesis.build_network(c)
        x, y = torch.empty(c.batch, len(c.inputs), *box), torch.empty(c.batch, 1, *box)
        return _plain(net, lambda: conv_synthesis.masked_mse(net(x), y, torch.ones_like(y, dtype=torch.bool)))

    return measured(build, steps=steps, half=True)


def sagan(profile: str) -> Cost:
    c = synthesis.Config.named("sagan_a", profile)
    grid = synthesis_grid(profile)
    box = c.crop or grid
    per_epoch = -(-c.crops_per_epoch // c.batch) if c.crops == "focus" else PEOPLE["CF-SAGAN"] * _tiles(grid, box)

    def build():
        net, critic = c.generator(0), c.critic(0)
        objective = synthesis.ConditionalObjective(
            synthesis.voxelwise("l1", torch.ones(3)), weight=c.weight, total=True, condition=len(c.inputs),
            smoothing=0.0, draws=None)
        batch = synthesis.Example(
            torch.empty(c.batch, len(c.inputs) + int(c.noisy), *box), torch.empty(c.batch, 1, *box),
            torch.ones(c.batch, 3, *box, dtype=torch.bool))
        for module in net.modules():
            if hasattr(module, "draws"):
                module.rate = 0.0  # draws of the CPU have no place among tensors without content
        return [net, critic], _against(net, critic, objective, batch)

    return measured(build, steps=c.epochs * per_epoch // c.batch, half=True)


def synthesis_grid(profile: str) -> tuple[int, ...]:
    """Voxels of a simulated myelin map."""
    return MYELIN_GRIDS[profile].target(load_parameters())[0]


def _tiles(shape: tuple[int, ...], box: tuple[int, ...]) -> int:
    count = 1
    for n, k in zip(shape, box, strict=True):
        count *= max(1, -(-2 * (n - k) // k) + 1)
    return count


def autoencoder(profile: str) -> Cost:
    c, (_, shape) = mrextrap.Config.for_profile(profile), GRIDS[profile]

    def build():
        net, critic = mrextrap.build_autoencoder(c), PatchDiscriminator(widths=c.critic_widths)
        losses = mrextrap.AutoencoderObjective(
            find_features("random"), perceptual=c.perceptual_weight, adversarial=c.adversarial_weight,
            kl=c.kl_weight, gradient=c.gradient_weight, late=c.perceptual_late, slices=c.slices, seed=7,
            critic=c.critic_loss)
        return [net, critic], _against(net, critic, losses, torch.empty(c.batch, 1, *shape))

    return measured(build, steps=c.epochs * -(-(c.scans_per_epoch or 4 * PEOPLE["ageing"]) // c.batch), half=True)


def diffusion(profile: str) -> Cost:
    c, space = brlp.Config.for_profile(profile), mrextrap.Config.for_profile(profile)
    cells = tuple(n // (space.stem * 2 ** (len(space.widths) - 1)) for n in GRIDS[profile][1])

    def build():
        net = LatentDiffusion(
            space.latent_channels, covariates=3 + len(c.regions), widths=c.widths, attention=c.attention,
            res_blocks=c.res_blocks, groups=c.groups, embedding=c.embedding, betas=c.betas, prediction=c.prediction,
            seed=7)
        net.control.requires_grad_(False)
        z = torch.empty(c.batch, space.latent_channels, *cells)
        given = (z, z, torch.zeros(c.batch, dtype=torch.long), torch.empty(c.batch, 3 + len(c.regions)))
        return _plain(net, lambda: net.loss(*given, start=None))

    return measured(build, steps=c.diffusion_steps + c.control_steps, half=True)


def segmenter(profile: str) -> Cost:
    c, (_, shape) = regional_segmenter.Config.for_profile(profile), GRIDS[profile]

    def build():
        net = UNet(1, 22, first=c.first, levels=c.levels, norm=True)
        x = torch.empty(c.batch, 1, *shape)
        return _plain(net, lambda: net(x).float().log_softmax(1).square().flatten(1).mean(1))

    return measured(build, steps=c.steps, half=True)


def dcgan_(profile: str) -> Cost:
    c = settings.Config.for_profile(profile)

    def build():
        net = dcgan.Generator(c.size, c.widths, channels=c.channels, groups=3, dims=2, kernel=c.kernel, latent=c.latent)
        critic = dcgan.Critic(
            c.size, c.critic_widths, channels=c.channels, groups=3, dims=2, kernel=c.kernel, norm_first=c.norm_first)
        noise, real = torch.empty(c.batch, 3, c.latent), torch.empty(c.batch, 3, c.channels, c.size, c.size)

        def updates() -> Iterator[tuple[nn.Module, torch.Tensor]]:
            made = net(noise)
            yield critic, nn.functional.softplus(critic(made.detach())) + nn.functional.softplus(-critic(real))
            yield net, nn.functional.softplus(-critic(made))

        return [net, critic], updates

    return measured(build, steps=c.epochs * (c.batches_per_epoch or PEOPLE["PET"] * 3 // c.batch), half=False)


def _turns(step: AdversarialStep, batch: Any) -> tuple[list[nn.Module], Callable[[], Iterator]]:
    """The turns of a step that a system built."""
    net, critic, (of_net, of_critic) = step.generator, step.discriminator, step.losses

    def updates() -> Iterator[tuple[nn.Module, torch.Tensor]]:
        made = step.generate(net, batch)
        seen = {name: value.detach() for name, value in made.items()}
        yield critic, of_critic(critic, batch, seen)["total"]
        yield net, of_net(critic, batch, made)["total"]

    return [net, critic], updates


def countersynth_(profile: str) -> Cost:
    c, (spacing, shape) = countersynth.Config.for_profile(profile, device="cpu"), GRIDS[profile]

    def build():
        model = countersynth.CounterSynth(c)
        model.shape, model.affine = shape, np.diag([spacing] * 3 + [1.0])
        model.conditions = Conditions(70.0, 10.0, 55.0, 90.0, ("AD", "CN", "MCI"))
        model.net = model._network()
        told = torch.empty(c.batch, model.conditions.size)
        batch = {"image": torch.empty(c.batch, 1, *shape), "told": told, "labels": told, "target": told}
        return _turns(model._step(), batch | ({"kept": told} if c.anchored else {}))

    scans = 4 * PEOPLE["ageing"]
    return measured(build, steps=c.epochs * (c.steps_per_epoch or -(-scans // c.batch)), half=True)


def daninet_(profile: str) -> Cost:
    c = daninet.Config.variant("P-C", profile, device="cpu")

    def build():
        model = daninet.DaniNet(c)
        codes = torch.ones(daninet.CODES, c.ages, c.ages, c.regions)
        model.rates = daninet.RegionalRates(
            torch.ones(c.regions, c.size, c.size), codes, daninet.AgeBins(55.0, 90.0, c.ages))
        net = model._build()
        judge = daninet.SliceCritic(
            c.size, c.critic_widths, ages=c.ages, told=model._told(), features=c.critic_features)
        critics = nn.ModuleDict({"latent": daninet.LatentCritic(c.latent), "image": judge})
        plane, zero = torch.empty(c.batch, c.size, c.size), torch.zeros(c.batch, dtype=torch.long)
        slices = daninet.AgedSlices(plane, plane > 0, zero, zero, torch.ones(c.batch), zero)
        batch = daninet.AgeingBatch(slices, torch.empty(c.batch, c.latent), model._full(c.batch))
        return [net, critics], _against(net, critics, model.objective_of(), batch)

    per_epoch = c.batches_per_epoch or 4 * PEOPLE["ageing"] // c.batch
    return measured(build, steps=c.epochs * per_epoch, half=True)


def atlas(profile: str) -> Cost:
    c, (spacing, shape) = atlas_gan.Config.for_profile(profile, device="cpu"), GRIDS[profile]

    def build():
        model = atlas_gan.AtlasGAN(c)
        affine = tuple(map(tuple, np.diag([spacing] * 3 + [1.0]).tolist()))
        model.frame = atlas_gan.GroupFrame(shape, affine, 1.0, 55.0, 90.0, 10, "x")
        model.net = model._network(torch.zeros(1, 1, *shape))
        losses = atlas_gan.AtlasLosses(c, model.net.half_affine)
        batch = {"image": torch.empty(c.batch, 1, *shape), "condition": torch.empty(c.batch, 1),
                 "draws": torch.rand(4, c.batch, 3)}
        return _turns(model._step(losses), batch)

    return measured(build, steps=c.epochs * c.steps_per_epoch, half=True)


SYSTEMS: dict[str, tuple[str, Callable[[str], Cost]]] = {
    "FCN": ("01", fcn), "CF-SAGAN, one stage": ("03", sagan), "DaniNet P-C": ("04", daninet_),
    "MRExtrap, autoencoder": ("05, 08, 09", autoencoder), "regional segmenter": ("05, 08, 09", segmenter),
    "Atlas-GAN": ("06, 08", atlas), "DCGAN, three stages": ("07", dcgan_), "BrLP, diffusion": ("08, 09", diffusion),
    "CounterSynth": ("08", countersynth_),
}


def table() -> str:
    """Markdown: a row for every system, with laptop, overnight and paper side by side in each cell."""
    rows = [
        "| notebook | system | parameters, M | memory of a step, GB | TFLOP a step | hours on one GPU | in 24 GB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (notebooks, cost_of) in SYSTEMS.items():
        with one_thread():  # what is done side by side takes more launches
            costs = [cost_of(profile) for profile in PROFILES]
        cells = (
            " / ".join(_short(of(c)) for c in costs)
            for of in (
                lambda c: c.parameters / 1e6, lambda c: c.peak / 1e9, lambda c: c.flops / 1e12, lambda c: c.hours)
        )
        fits = [profile for profile, c in zip(PROFILES, costs, strict=True) if c.peak < CARD]
        rows.append(f"| {notebooks} | {name} | {' | '.join(cells)} | {'all' if len(fits) == 3 else ', '.join(fits)} |")
    return "\n".join(rows)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.1g}".replace("0.", ".")


if __name__ == "__main__":
    print(table())
