"""Atlas-GAN: templates over age that a discriminator cannot tell from warped to real scans. One model per group.

Dey et al., "Generative adversarial registration for improved conditional deformable templates", ICCV 2021, as
InBrainSyn (Fu et al., Medical Image Analysis 2025) trains it, once on healthy and once on diseased scans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from nbkit.core.checks import require
from nbkit.core.config import Settings
from nbkit.core.device import autocast, fast_half, pick_device
from nbkit.core.protocols import Scan
from nbkit.core.seeds import derive, numpy_generator
from nbkit.papers.inbrainsyn.aged import AgedTemplate, GroupFrame, persons
from nbkit.geometry.flow import Velocity, expv
from nbkit.geometry.pyramid import block_affine
from nbkit.geometry.similarity import lncc
from nbkit.geometry.warp import Displacement, warp
from nbkit.losses.adversarial import lsgan_discriminator, lsgan_generator, r1_penalty
from nbkit.losses.deformation import MovingAverage, magnitude, smoothness
from nbkit.papers.inbrainsyn.atlas_net import TemplateBranch, VelocityBranch
from nbkit.nets.discriminators import PatchDiscriminator
from nbkit.training.checkpoint import Constants, load_weights
from nbkit.training.loop import StripRule, train
from nbkit.training.steps import AdversarialStep

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Config(Settings):
    """Settings; defaults as published, where InBrainSyn's own training differs from Atlas-GAN's its value.

    Attributes
    ----------
    width, blocks : int
        Feature maps of template and registration branch (32), residual blocks of the template branch (5).
    critic_widths, critic_features
        Of the discriminator: 64-128-256-512, then 64.
    scaling : {"minmax", "bright"}
        How intensities are read (:class:`~nbkit.papers.inbrainsyn.aged.GroupFrame`); "minmax" as in the code of the
        article on InBrainSyn, where one bright voxel sets the scale of its scan.
    squarings : int
        Integration steps of the velocity field: 7 in that code, 5 in Atlas-GAN's.
    window : int
        Cube of the local correlation, in voxels (9).
    adversarial, similarity, smooth, size, drift : float
        Weights of the generator's terms: (D − 1)² (0.1), 1 − squared local correlation (1), :func:`smoothness` (1),
        :func:`magnitude` (0.01) and the magnitude of the moving average (1). The last two are per mm², published in
        voxels of 1 mm.
    drift_memory : int
        Fields in the moving average (100).
    r1 : float
        λ of the gradient penalty: 1e-4 (InBrainSyn; the public code of Atlas-GAN has 1e-3, its text 5e-4).
    average_scans : int
        Scans in the linear average (100), drawn at random.
    generator_rate, critic_rate, betas
        Of Adam: 1e-4, 3e-4, (0, 0.9). Smaller profiles make some hundred steps instead of 300 000, hence their
        larger rates.
    film_decay : float
        Weight of the squared weights of the FiLM layers (1e-5).
    shift : float
        Largest translation, as a share of each axis, by which real and fake images are moved before they are judged
        (0.05); each axis is also flipped at random.
    batch, epochs, steps_per_epoch : int
        1, 300 and 1 000. A step draws a person, then one of their scans, so that many scans do not make many people.
    beyond_years : float
        How far outside the group's ages a template may be asked for.
    half : bool or None
        bfloat16 autocast; None: where this machine is faster with it.
    """

    width: int = 32
    blocks: int = 5
    critic_widths: tuple[int, ...] = (64, 128, 256, 512)
    critic_features: int = 64
    scaling: str = "minmax"
    squarings: int = 7
    window: int = 9
    adversarial: float = 0.1
    similarity: float = 1.0
    smooth: float = 1.0
    size: float = 0.01
    drift: float = 1.0
    drift_memory: int = 100
    r1: float = 1e-4
    average_scans: int = 100
    generator_rate: float = 1e-4
    critic_rate: float = 3e-4
    betas: tuple[float, float] = (0.0, 0.9)
    film_decay: float = 1e-5
    shift: float = 0.05
    batch: int = 1
    epochs: int = 300
    steps_per_epoch: int = 1000
    beyond_years: float = 5.0
    half: bool | None = None
    device: str = "auto"
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "width": 4, "blocks": 1, "critic_widths": (4, 8), "critic_features": 8, "batch": 2, "epochs": 2,
            "steps_per_epoch": 6, "generator_rate": 2e-3, "critic_rate": 2e-3, "beyond_years": 40.0, "half": False,
        },
        "laptop": {
            "width": 16, "blocks": 2, "critic_widths": (16, 32, 64), "critic_features": 32, "batch": 2,
            "epochs": 4, "steps_per_epoch": 40, "generator_rate": 1e-3, "critic_rate": 1e-3,
        },
        "overnight": {"epochs": 30, "steps_per_epoch": 100},
    }

    def __post_init__(self) -> None:
        counts = (self.width, self.batch, self.epochs, self.steps_per_epoch, self.average_scans, self.drift_memory)
        require(
            min(counts) >= 1 and 0 <= self.shift < 0.5, "atlas_gan.Config",
            expected="counts of at least 1 and a shift below 0.5", found=(*counts, self.shift),
            remedy="Leave the defaults, or raise what is 0.",
        )


class AtlasGenerator(nn.Module):
    """Template of a condition, and the template as a person's image wants it.

    Parameters
    ----------
    shape, affine
        The grid.
    average : torch.Tensor
        (1, 1, X, Y, Z), the linear average; the template is 0 where it is (below 0.01).
    config : Config
    """

    def __init__(self, shape: tuple[int, int, int], affine: np.ndarray, average: torch.Tensor, config: Config) -> None:
        super().__init__()
        self.affine, self.half_affine, self.squarings = affine, block_affine(affine, (2, 2, 2)), config.squarings
        self.register_buffer("average", average)
        self.template_branch = TemplateBranch(shape, width=config.width, blocks=config.blocks)
        self.velocity_branch = VelocityBranch(width=config.width)

    def template(self, condition: torch.Tensor) -> torch.Tensor:
        """Condition (B, 1) -> template (B, 1, X, Y, Z), 1 being bright white matter."""
        return (self.average + self.template_branch(condition).float()) * (self.average > 1e-2)

    def forward(self, image: torch.Tensor, condition: torch.Tensor) -> dict[str, torch.Tensor]:
        """``moved``, the template warped to `image` (B, 1, X, Y, Z), and ``displacement`` (mm, half resolution)."""
        template = self.template(condition)
        voxels = self.velocity_branch(torch.cat([image, template], dim=1)).float()
        to_mm = torch.as_tensor(self.half_affine[:3, :3]).to(voxels)
        velocity = Velocity(torch.einsum("ij,bjxyz->bixyz", to_mm, voxels))
        flow = expv(velocity, affine=self.half_affine, steps=self.squarings)
        fine = Displacement(F.interpolate(flow, scale_factor=2, mode="trilinear"))
        return {"moved": warp(template, fine, affine=self.affine), "displacement": flow}


class AtlasGAN(AgedTemplate):
    """A :class:`~nbkit.core.protocols.TemplateModel` learned adversarially. ``history`` keeps the losses by epoch."""

    settings, title = Config, "Atlas-GAN template"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.device = pick_device(self.config.device)
        self.half = fast_half(self.device) if self.config.half is None else self.config.half
        self.net: AtlasGenerator | None = None
        self.history: dict[str, list[float]] = {}

    def fit(self, scans: Sequence[Scan]) -> Self:
        """Learn from skull-stripped T1w `scans` on one grid with even numbers of voxels, each with its age.

        Raises
        ------
        NbkitError
            For scans without age or on another grid.
        NonFiniteLoss
            Naming the step and the term.
        """
        frame = self._learn_from(scans, scaling=self.config.scaling)
        order = numpy_generator(self.config.seed, "average").permutation(len(scans))
        order = order[: self.config.average_scans]
        self.net = self._network(sum(frame.read(scans[i]) for i in order) / len(order))
        losses, count = AtlasLosses(self.config, self.net.half_affine), self.config.steps_per_epoch
        step = self._step(losses)
        records: list[dict[str, float]] = []

        def logged(batch: Tensors) -> dict[str, float]:
            records.append(step(batch))
            return records[-1]

        train(
            logged, lambda epoch: self._batches(scans, epoch), epochs=self.config.epochs, rule=StripRule(),
            state={"step": step, "drift": losses.drift, "records": records}, label="Atlas-GAN",
        )
        rows = [records[i : i + count] for i in range(0, len(records), count)]
        self.history = {name: [float(np.mean([r[name] for r in row])) for row in rows] for name in records[0]}
        return self

    def _network(self, average: torch.Tensor) -> AtlasGenerator:
        with _drawn(self.config.seed, "generator"):
            net = AtlasGenerator(self.frame.shape, self.frame.matrix, average, self.config)
        return net.to(self.device, memory_format=torch.channels_last_3d)

    def _step(self, losses: AtlasLosses) -> AdversarialStep:
        c = self.config
        with _drawn(c.seed, "discriminator"):
            critic = PatchDiscriminator(widths=c.critic_widths, features=c.critic_features, condition=1)
        critic = critic.to(self.device)
        film = [p for name, p in self.net.named_parameters() if ".film.dense." in f".{name}"]
        rest = [p for name, p in self.net.named_parameters() if ".film.dense." not in f".{name}"]
        # Adam's decay adds decay · w to the slope, which is that of decay/2 · w²
        groups = [{"params": rest}, {"params": film, "weight_decay": 2 * c.film_decay}]
        optimisers = (
            torch.optim.Adam(groups, lr=c.generator_rate, betas=c.betas),
            torch.optim.Adam(critic.parameters(), lr=c.critic_rate, betas=c.betas),
        )
        return AdversarialStep(
            self.net, critic, optimisers, generate=lambda net, batch: net(batch["image"], batch["condition"]),
            generator_loss=losses.generator, discriminator_loss=losses.discriminator, device=self.device,
            half=self.half,
        )

    def _batches(self, scans: Sequence[Scan], epoch: int) -> Iterator[Tensors]:
        people, rng = list(persons(scans).values()), numpy_generator(self.config.seed, "batches", epoch)
        for _ in range(self.config.steps_per_epoch):
            drawn = [people[rng.integers(len(people))] for _ in range(self.config.batch)]
            chosen = [visits[rng.integers(len(visits))] for visits in drawn]
            image = torch.cat([self.frame.read(scan) for scan in chosen])
            yield {
                "image": image.to(self.device), "condition": self._condition([scan.age for scan in chosen]),
                "draws": torch.from_numpy(rng.uniform(-1, 1, (4, self.config.batch, 3))),
            }

    def _condition(self, ages: Sequence[float]) -> torch.Tensor:
        """Ages (years) over the oldest of the group (97.17 for the published OASIS-3 models), (B, 1)."""
        return torch.tensor(ages, dtype=torch.float32, device=self.device)[:, None] / self.frame.oldest

    def _made(self, age: float) -> torch.Tensor:
        self.net.eval()
        with autocast(self.device, self.half):
            return self.net.template(self._condition([age]))

    def _tensors(self) -> Tensors:
        """The generator; the discriminator is not kept."""
        return self.net.state_dict()

    def _constants(self) -> dict[str, Any]:
        return {"frame": asdict(self.frame), "history": self.history}

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        self.frame, self.history = GroupFrame.from_dict(constants["frame"]), constants["history"]
        self.net = self._network(torch.zeros(1, 1, *self.frame.shape))
        load_weights(self.net, tensors, where)


class AtlasLosses:
    """What generator and discriminator lose; keeps the moving average of the deformations.

    Parameters
    ----------
    config : Config
    affine : numpy.ndarray
        Of the displacements.
    """

    def __init__(self, config: Config, affine: np.ndarray) -> None:
        self.config, self.affine = config, affine
        self.drift = MovingAverage(config.drift_memory)

    def discriminator(self, critic: nn.Module, batch: Tensors, made: Tensors) -> dict[str, torch.Tensor]:
        """LSGAN and the gradient penalty on real images."""
        real = jitter(batch["image"], batch["draws"][:2], shift=self.config.shift).requires_grad_()
        fake = jitter(made["moved"], batch["draws"][2:], shift=self.config.shift)
        scores = critic(real, batch["condition"])
        terms = {
            "adversarial": lsgan_discriminator(scores, critic(fake, batch["condition"])),
            "r1": r1_penalty(scores, real),
        }
        return {"total": terms["adversarial"] + self.config.r1 * terms["r1"], **terms}

    def generator(self, critic: nn.Module, batch: Tensors, made: Tensors) -> dict[str, torch.Tensor]:
        """LSGAN, similarity to the person's image, and the cost of the deformation."""
        c, moved, u = self.config, made["moved"], Displacement(made["displacement"])
        fake = jitter(moved, batch["draws"][2:], shift=c.shift)
        terms = {
            # the public code halves the discriminator's squares only
            "adversarial": 2 * lsgan_generator(critic(fake, batch["condition"])),
            "similarity": 1 - lncc(moved.float(), batch["image"], window=c.window),
            "smooth": smoothness(u, affine=self.affine), "size": magnitude(u), "drift": self.drift(u),
        }
        return {"total": sum(getattr(c, name) * value for name, value in terms.items()), **terms}


def jitter(images: torch.Tensor, draws: torch.Tensor, *, shift: float) -> torch.Tensor:
    """Flip and translate every image (B, C, X, Y, Z) by its draws; differentiable, intensities are untouched.

    Parameters
    ----------
    draws : torch.Tensor
        (2, B, 3) in (−1, 1): an axis is flipped where the first is positive, and moved by the second times `shift`
        of its length, in whole voxels; 0 comes in from outside.
    shift : float
    """
    moved = []
    for image, flips, moves in zip(images, *draws.tolist(), strict=True):
        image = image.flip([axis + 1 for axis in range(3) if flips[axis] > 0])
        steps = [round(m * shift * n) for m, n in zip(moves, image.shape[1:])]
        # a negative pad crops
        moved.append(F.pad(image, [side for s in reversed(steps) for side in (s, -s)]))
    return torch.stack(moved)


@contextmanager
def _drawn(seed: int, name: str) -> Iterator[None]:
    """Torch's own draws depend on (seed, name) inside, and go on outside as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "atlas_gan", name))
        yield
