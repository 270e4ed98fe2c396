"""PET images of three disease stages by deep convolutional generative adversarial networks.

Islam and Zhang, "GAN-based synthetic brain PET image generation", Brain Informatics 2020: one DCGAN for normal
controls, one for mild cognitive impairment, one for Alzheimer's disease. What they name as future work is here too: one
conditional network for all stages, and volumes instead of slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar, Self

import torch
from torch import nn

from nbkit.core.checks import check_disjoint, check_keys, known, require
from nbkit.core.config import Settings
from nbkit.core.device import pick_device, spread
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.data.pet_slices import STAGES, SUVR_MAX, Slices, field_grid, levels_of
from nbkit.data.splits import subject_hash
from nbkit.papers.pet_dcgan.dcgan import Critic, Generator, draw_weights, stacked, unstacked
from nbkit.papers.pet_dcgan.losses import GanBatch, GanLosses
from nbkit.training.adversarial import train_adversarial
from nbkit.training.autoencoding import SCHEDULES
from nbkit.training.checkpoint import Constants, Saved, load_weights

KINDS = ("separate", "conditional")
ALL = "all stages"
"""Name of the one network of kind "conditional"."""
_AT_ONCE, _SNAPSHOT = 64, "snapshot."


@dataclass(frozen=True)
class Config(Settings):
    """Settings; defaults as published where stated.

    Attributes
    ----------
    kind : {"separate", "conditional"}
        Published: a network for each stage. "conditional": one for all, whose normalisation knows the stage and whose
        critic projects it (Miyato and Koyama, ICLR 2018).
    dims : {2, 3}
        Slices as published, or volumes.
    size, channels : int
        Pixels along an edge; 3 channels hold the same grey image thrice, as published.
    latent, kernel : int
    widths, critic_widths : tuple of int
        Not stated; those of DCGAN (Radford et al. 2016) with one layer more for 128 pixels. Assumption.
    norm_first : bool
        Batch normalisation after the critic's first convolution: the text says every layer, the guidelines that it
        follows (DCGAN) all but the first.
    weight_sd : float
    learning_rate, beta1, beta2, schedule
        Of Adam, for both sides. Small profiles take few steps, at a larger rate that falls to zero.
    batch, epochs, batches_per_epoch : int, int, int or None
        None: as many batches as the largest stage fills. All stages take the same number of steps. Small profiles
        count steps.
    snapshots, snapshot_images : int
        Moments of training that are kept as images (Fig. 4), denser at the start; images of each.
    grouped : bool or None
        Separate networks in one pass of grouped convolutions; otherwise each by itself, on a CPU side by side with a
        thread for each. None: grouped on a GPU; on a CPU that saves nothing, because one convolution keeps it busy.
    """

    kind: str = "separate"
    dims: int = 2
    size: int = 128
    channels: int = 3
    latent: int = 100
    kernel: int = 5
    widths: tuple[int, ...] = (1024, 512, 256, 128, 64)
    critic_widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    norm_first: bool = False
    weight_sd: float = 0.02
    learning_rate: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.999
    schedule: str = "constant"
    batch: int = 64
    epochs: int = 500
    batches_per_epoch: int | None = None
    snapshots: int = 6
    snapshot_images: int = 8
    grouped: bool | None = None
    device: str = "auto"
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {
            "size": 32, "channels": 1, "widths": (16, 8, 8), "critic_widths": (8, 8, 16), "batch": 8, "epochs": 24,
            "batches_per_epoch": 1, "learning_rate": 1e-3, "schedule": "linear", "snapshot_images": 4,
        },
        "laptop": {
            "size": 64, "channels": 1, "widths": (64, 32, 16, 8), "critic_widths": (8, 16, 32, 64), "batch": 16,
            "epochs": 1_000, "batches_per_epoch": 1, "learning_rate": 1e-3, "schedule": "linear",
        },
    }
    volumes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"size": 16, "widths": (16, 8), "critic_widths": (8, 16)},
        "laptop": {"size": 32, "widths": (32, 16, 8), "critic_widths": (8, 16, 32), "batch": 12, "epochs": 1_000},
        "paper": {
            "size": 64, "widths": (512, 256, 128, 64), "critic_widths": (64, 128, 256, 512), "learning_rate": 2e-4,
        },
    }
    small: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {},
        "laptop": {"size": 32, "widths": (64, 32, 16), "critic_widths": (16, 32, 64)},
        "paper": {"size": 64, "widths": (512, 256, 128, 64), "critic_widths": (64, 128, 256, 512)},
    }

    def __post_init__(self) -> None:
        known(self.kind, KINDS, "Config: kind")
        known(self.schedule, SCHEDULES, "Config: schedule")
        for name, good, expected in (
            ("dims", self.dims in (2, 3), "2 (slices) or 3 (volumes)"),
            ("batch", self.batch >= 2, "at least 2, because layers are normalised over a batch"),
            ("snapshots", self.snapshots >= 2, "at least 2: before and after training"),
        ):
            require(good, f"Config: {name}", expected=expected, found=getattr(self, name), remedy="Change it.")

    @classmethod
    def volumetric(cls, profile: str, **changes: Any) -> Self:
        """Settings of the same networks for volumes, by kernels of 3³; all their sizes are assumptions."""
        known(profile, cls.volumes, "Config.volumetric: profile")
        return cls.for_profile(profile, **{"dims": 3, "channels": 1, "kernel": 3, **cls.volumes[profile], **changes})

    @classmethod
    def for_study(cls, profile: str, **changes: Any) -> Self:
        """Settings of a conditional network of at most half the edge: the augmentation study trains many."""
        return cls.for_profile(profile, **{"kind": "conditional", **cls.small[profile], **changes})


class PetDCGAN(Saved):
    """An :class:`~nbkit.core.protocols.ImageGenerator` that learns from a table of slices or volumes.

    Where slices have several views, the view is told to the networks as a class is: the paper says nothing of how its
    axial, coronal and sagittal images came about, and an image whose view is unknown would be of no use to a
    classifier. On a table of one view (``slices.select(view="axial")``) each network is the published one.

    Attributes
    ----------
    losses : torch.Tensor
        (steps, 2, K): of generator and critic at every step, of every network.
    snapshots : dict of int to torch.Tensor
        By number of steps (K, n, 1, S, ...): what every network made of the same noise.
    """

    settings = Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.device = pick_device(self.config.device)
        self.generators = nn.ModuleDict()
        self.stages: tuple[str, ...] = ()
        self.views: tuple[str, ...] = ()
        self.suvr_max = SUVR_MAX
        self.seen: tuple[str, ...] = ()
        self.losses = torch.empty(0, 2, 0)
        self.snapshots: dict[int, torch.Tensor] = {}

    def fit(self, table: Slices) -> Self:
        """Train on all images of the table.

        Raises
        ------
        NbkitError
            For images of another size than the Config's, an unknown stage, or a stage without images of one view.
        """
        c, shape = self.config, tuple(table.images.shape[1:])
        require(
            shape == (1, *(c.size,) * c.dims), "PetDCGAN.fit: images", found=shape,
            expected=f"(1, {', '.join([str(c.size)] * c.dims)}), as Config has it",
            remedy="Cut the table at that size, or change size (and widths) in the Config.",
        )
        check_keys(dict.fromkeys(table.stage), STAGES, "PetDCGAN: stage")
        self.stages = tuple(stage for stage in STAGES if stage in table.stage)
        self.views, self.suvr_max = tuple(dict.fromkeys(table.view)), table.suvr_max
        people = sorted(set(table.subject))
        self.seen, self.trained_on = tuple(subject_hash([name]) for name in people), subject_hash(people)
        groups = [self.networks] if self._grouped else [(name,) for name in self.networks]
        # a thread for each: the digits then depend on no number of threads, and small steps wait for nobody
        runs = spread(lambda names: self._train(names, table), groups, self.device)
        self.generators = nn.ModuleDict({name: net for nets, _, _ in runs for name, net in nets.items()})
        self.losses = torch.cat([losses for _, losses, _ in runs], dim=2)
        self.snapshots = {step: torch.cat([seen[step] for _, _, seen in runs]) for step in runs[0][2]}
        return self

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks: the stages, or one for all."""
        return self.stages if self.config.kind == "separate" else (ALL,)

    @property
    def _grouped(self) -> bool:
        return self.device.type != "cpu" if self.config.grouped is None else self.config.grouped

    @property
    def _classes(self) -> tuple[tuple[str, str], ...]:
        """Stage and view of every class that a network is told; of separate networks, the stage is its own."""
        stages = ("",) if self.config.kind == "separate" else self.stages
        return tuple((stage, view) for stage in stages for view in self.views)

    def _decks(self, name: str, table: Slices) -> list[Iterator[int]]:
        """The images of each class of network `name`."""
        keys = list(zip(table.stage, table.view, strict=True))
        asked = [(stage or name, view) for stage, view in self._classes]
        return [deck([i for i, key in enumerate(keys) if key == own], self.config.seed, *own) for own in asked]

    def _train(
        self, names: tuple[str, ...], table: Slices
    ) -> tuple[dict[str, Generator], torch.Tensor, dict[int, torch.Tensor]]:
        """Networks that are computed together: generators by name, losses (steps, 2, K), and snapshots by step."""
        c = self.config
        net, critic = (self._started(kind, names) for kind in (Generator, Critic))
        decks = {name: self._decks(name, table) for name in names}
        images = len(table) if c.kind == "conditional" else max(map(table.stage.count, names))
        steps = c.batches_per_epoch or -(-images // c.batch)
        when, losses, seen = moments(c.epochs * steps, c.snapshots), [], {0: self._snapshot(net, names)}

        def noted(record: Mapping[str, float]) -> None:
            losses.append([[record[side + name] for name in names] for side in ("", "critic_")])
            if len(losses) in when:
                seen[len(losses)] = self._snapshot(net, names)

        train_adversarial(
            net, critic, GanLosses(names), epochs=c.epochs, learning_rate=c.learning_rate, betas=(c.beta1, c.beta2),
            schedule=c.schedule, device=self.device, half=False, label=f"DCGAN {', '.join(names)}", noted=noted,
            batches=lambda e: (self._batch(decks, table.images, (e - 1) * steps + n) for n in range(steps)),
        )
        apart = [self._build(Generator).to(self.device).eval() for _ in names]
        for own, state in zip(apart, unstacked(net.state_dict(), net.groups), strict=True):
            own.load_state_dict(state)
        return dict(zip(names, apart, strict=True)), torch.tensor(losses), seen

    def _started(self, kind: type[nn.Module], names: tuple[str, ...]) -> nn.Module:
        """Networks side by side, the weights of each drawn as if it were alone."""
        c = self.config
        rngs = [torch_generator(c.seed, "weights", kind.__name__, name) for name in names]
        alone = [draw_weights(self._build(kind), rng, sd=c.weight_sd).state_dict() for rng in rngs]
        net = self._build(kind, groups=len(names))
        net.load_state_dict(stacked(alone))
        # on a CPU half as long again without
        return net.to(self.device, memory_format=torch.channels_last if c.dims == 2 else torch.channels_last_3d)

    def _build(self, kind: type[nn.Module], *, groups: int = 1) -> nn.Module:
        c, classes = self.config, len(self._classes)
        own = {"latent": c.latent} if kind is Generator else {"norm_first": c.norm_first}
        return kind(
            c.size, c.widths if kind is Generator else c.critic_widths, channels=c.channels, groups=groups,
            classes=classes if classes > 1 else 0, dims=c.dims, kernel=c.kernel, **own,
        )

    def _batch(self, decks: Mapping[str, Sequence[Iterator[int]]], images: torch.Tensor, n: int) -> GanBatch:
        """Batch `n`, counted from 0; every draw depends on the seed, its network and n alone."""
        c, classes = self.config, len(self._classes)
        told = torch.randint(classes, (c.batch,), generator=torch_generator(c.seed, "classes", n))
        real, noise = [], []
        for name, own in decks.items():
            real.append(images[[next(own[k]) for k in told.tolist()]].expand(-1, c.channels, *(-1,) * c.dims))
            noise.append(_uniform((c.batch, c.latent), torch_generator(c.seed, "noise", name, n)))
        label = told.to(self.device) if classes > 1 else None
        return GanBatch(torch.stack(real, dim=1).to(self.device), torch.stack(noise, dim=1).to(self.device), label)

    def _snapshot(self, net: Generator, names: tuple[str, ...]) -> torch.Tensor:
        """The same noise through every network as it is now, classes in turn: (K, n, 1, S, ...)."""
        c = self.config
        noise = [_uniform((c.snapshot_images, c.latent), torch_generator(c.seed, "snapshot", name)) for name in names]
        label = torch.arange(c.snapshot_images, device=self.device) % len(self._classes)
        return self._generate(net, torch.stack(noise, dim=1), label).transpose(0, 1)

    @torch.no_grad()
    def _generate(self, net: Generator, noise: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Grey images (B, K, 1, S, ...) on the CPU, without a trace on the network."""
        mode = net.training
        net.eval()
        told = len(self._classes) > 1
        parts = zip(noise.to(self.device).split(_AT_ONCE), label.to(self.device).split(_AT_ONCE), strict=True)
        made = torch.cat([net(z, own if told else None).mean(dim=2, keepdim=True).cpu() for z, own in parts])
        net.train(mode)
        return made

    def sample_images(self, n: int, stage: str, seed: int, *, view: str | None = None) -> torch.Tensor:
        """Draw `n` images of a stage.

        Parameters
        ----------
        n : int
        stage : {"CN", "MCI", "AD"}
            One that was trained.
        seed : int
            The same seed draws the same images, and the first of them whatever `n` is.
        view : str, optional
            One that was trained; needed where there were several.

        Returns
        -------
        torch.Tensor
            (n, 1, S, S), or (n, 1, S, S, S) of volumes; from −1, an uptake ratio of 0, to 1, one of `suvr_max`.

        Raises
        ------
        NbkitError
            For an unknown stage or view, with the nearest name, fewer than one image, or a model that is not fitted.
        """
        require(
            bool(self.generators), "PetDCGAN", expected="a fitted model", found="an unfitted one",
            remedy="Call fit(slices) or PetDCGAN.load(path) first.",
        )
        require(n >= 1, "PetDCGAN.sample: n", expected="1 or more", found=n, remedy="Ask for at least one image.")
        known(stage, self.stages, "PetDCGAN.sample: stage")
        view = view or (self.views[0] if len(self.views) == 1 else "")
        separate = self.config.kind == "separate"
        index = self._classes.index(("" if separate else stage, known(view, self.views, "PetDCGAN.sample: view")))
        noise = _uniform((n, self.config.latent), torch_generator(seed, "sample", stage, view))
        net = self.generators[stage if separate else ALL]
        return self._generate(net, noise[:, None], torch.full((n,), index))[:, 0]

    def sample(self, n: int, stage: str, seed: int, *, view: str | None = None) -> list[Volume]:
        """As :meth:`sample_images`, as Volumes of uptake ratios in MNI space: one plane at the middle of the view's
        levels (a drawn slice has no level), or a cube."""
        images = self.sample_images(n, stage, seed, view=view)
        named = view or self.views[0]
        plane = (named, levels_of(named, 1)[0]) if self.config.dims == 2 else None
        shape, affine = field_grid(self.config.size, plane=plane)
        uptake, step = (images + 1) / 2 * self.suvr_max, f"DCGAN {self.config.kind} {stage}"
        return [Volume(image.reshape(1, *shape), affine, (f"{step} {i}",)) for i, image in enumerate(uptake)]

    def check_unseen(self, subjects: Iterable[str], where: str = "PetDCGAN.check_unseen") -> None:
        """Refuse, by name, subjects that this model was trained on."""
        asked = list(subjects)
        check_disjoint([name for name in asked if subject_hash([name]) in self.seen], asked, where=where)

    def _tensors(self) -> dict[str, torch.Tensor]:
        seen = {f"{_SNAPSHOT}{step}": images for step, images in self.snapshots.items()}
        return {**self.generators.state_dict(), **seen, "losses": self.losses}

    def _constants(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("stages", "views", "suvr_max", "seen")}

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        self.stages, self.views, self.seen = (tuple(constants[name]) for name in ("stages", "views", "seen"))
        self.suvr_max, self.losses = constants["suvr_max"], tensors.pop("losses", self.losses)
        steps = sorted(int(name.removeprefix(_SNAPSHOT)) for name in tensors if name.startswith(_SNAPSHOT))
        self.snapshots = {step: tensors.pop(f"{_SNAPSHOT}{step}") for step in steps}
        nets = {name: self._build(Generator) for name in self.networks}
        self.generators = nn.ModuleDict(nets).to(self.device).eval()
        load_weights(self.generators, tensors, where)


def deck(rows: Sequence[int], seed: int, *names: object) -> Iterator[int]:
    """Rows dealt without end and without replacement, shuffled anew whenever all have been dealt.

    Parameters
    ----------
    rows : sequence of int
        At least one.
    seed : int
    names : objects
        What the draws belong to; with the seed they fix every order (:func:`nbkit.core.seeds.derive`).

    Raises
    ------
    NbkitError
        Without rows, when the first is asked for.
    """
    require(
        len(rows) > 0, f"deck {' '.join(map(str, names))}: rows", expected="at least one", found="none",
        remedy="Every class that is trained needs an image.",
    )
    for turn in count():
        rng = torch_generator(seed, "deck", *names, turn)
        yield from (rows[i] for i in torch.randperm(len(rows), generator=rng).tolist())


def moments(steps: int, count: int) -> tuple[int, ...]:
    """`count` numbers of steps from 0 to `steps`, denser at the start; fewer where they would coincide."""
    return tuple(dict.fromkeys(round(steps * (i / (count - 1)) ** 2) for i in range(count)))


def _uniform(shape: tuple[int, ...], rng: torch.Generator) -> torch.Tensor:
    """Noise from −1 to 1, as the training section has it (the general one writes: normal)."""
    return 2 * torch.rand(shape, generator=rng) - 1
