"""PET images of three disease stages by deep convolutional generative adversarial networks.

Islam and Zhang, "GAN-based synthetic brain PET image generation", Brain Informatics 2020: one DCGAN for normal
controls, one for mild cognitive impairment, one for Alzheimer's disease. What they name as future work is here too: one
conditional network for all stages, and volumes instead of slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import nn

from nbkit.core.checks import check_disjoint, check_keys, known, require
from nbkit.core.config import Settings
from nbkit.core.device import pick_device, spread
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.data.pet_slices import STAGES, SUVR_MAX
from nbkit.papers.pet_dcgan.pet_volumes import field_grid
from nbkit.data.splits import subject_hash
from nbkit.papers.pet_dcgan.losses import GanBatch, GanLosses
from nbkit.papers.pet_dcgan.dcgan import Critic, Generator, draw_weights, stacked, unstacked
from nbkit.training.autoencoding import SCHEDULES
from nbkit.training.checkpoint import check_tensors, load_checkpoint, save_checkpoint
from nbkit.papers.pet_dcgan.decks import Deck, deal_classes
from nbkit.papers.pet_dcgan.watched import Watched, train_watched

KINDS = ("separate", "conditional")
ALL = "all stages"
"""Name of the one network of kind "conditional"."""
_AT_ONCE = 64


class StagedImages(Protocol):
    """What a generator learns from: :class:`~nbkit.data.pet_slices.Slices`, or volumes labelled in the same way."""

    images: torch.Tensor
    subject: tuple[str, ...]
    stage: tuple[str, ...]
    view: tuple[str, ...]
    suvr_max: float


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


class PetDCGAN:
    """An :class:`~nbkit.core.protocols.ImageGenerator` that learns from a table of slices or volumes.

    Where slices have several views, the view is told to the networks as a class is: the paper says nothing of how its
    axial, coronal and sagittal images came about, and an image whose view is unknown would be of no use to a
    classifier. On a table of one view (``slices.select(view="axial")``) each network is the published one.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.device = pick_device(self.config.device)
        self.generators: dict[str, Generator] = {}
        self.stages: tuple[str, ...] = ()
        self.views: tuple[str, ...] = ()
        self.suvr_max = SUVR_MAX
        self.seen: tuple[str, ...] = ()
        self.trained_on = ""
        self.losses = torch.empty(0, 2, 0)
        self.snapshots: dict[int, torch.Tensor] = {}

    def fit(self, table: StagedImages) -> Self:
        """Train on all images of the table.

        Raises
        ------
        NbkitError
            For images of another size than the Config's, an unknown stage, or a stage without images of one view.
        """
        self._check_table(table)
        check_keys(dict.fromkeys(table.stage), STAGES, "PetDCGAN: stage")
        self.stages = tuple(stage for stage in STAGES if stage in table.stage)
        self.views, self.suvr_max = tuple(dict.fromkeys(table.view)), table.suvr_max
        people = sorted(set(table.subject))
        self.seen, self.trained_on = tuple(subject_hash([name]) for name in people), subject_hash(people)
        groups = [self._names] if self._grouped else [(name,) for name in self._names]
        # a thread for each: the digits then depend on no number of threads, and small steps wait for nobody
        runs = spread(lambda names: self._train(names, table), groups, self.device)
        self.generators = {name: net for nets, _ in runs for name, net in nets.items()}
        self.losses = torch.cat([_losses(watched, names) for names, (_, watched) in zip(groups, runs)], dim=2)
        self.snapshots = {step: torch.cat([watched.seen[step] for _, watched in runs]) for step in runs[0][1].seen}
        return self

    @property
    def _names(self) -> tuple[str, ...]:
        return self.stages if self.config.kind == "separate" else (ALL,)

    @property
    def _grouped(self) -> bool:
        if self.config.grouped is None:
            return self.device.type != "cpu"
        return self.config.grouped

    @property
    def _classes(self) -> tuple[tuple[str, str], ...]:
        """Stage and view of every class that a network is told; of separate networks, the stage is its own."""
        stages = ("",) if self.config.kind == "separate" else self.stages
        return tuple((stage, view) for stage in stages for view in self.views)

    def _check_table(self, table: StagedImages) -> None:
        c, shape = self.config, tuple(table.images.shape[1:])
        require(
            shape == (1, *(c.size,) * c.dims), "PetDCGAN.fit: images", found=shape,
            expected=f"(1, {', '.join([str(c.size)] * c.dims)}), as Config has it",
            remedy="Cut the table at that size, or change size (and widths) in the Config.",
        )

    def _decks(self, name: str, table: StagedImages) -> list[Deck]:
        """The images of each class of network `name`."""
        rows: dict[tuple[str, str], list[int]] = {}
        for i, key in enumerate(zip(table.stage, table.view, strict=True)):
            rows.setdefault(key, []).append(i)
        return [
            Deck(rows.get((stage or name, view), []), self.config.seed, stage or name, view)
            for stage, view in self._classes
        ]

    def _train(self, names: tuple[str, ...], table: StagedImages) -> tuple[dict[str, Generator], Watched]:
        """Networks that are computed together: generators by name, and what was seen on the way."""
        c = self.config
        net, critic = (self._started(kind, names) for kind in (Generator, Critic))
        decks = {name: self._decks(name, table) for name in names}
        filled = -(-max(sum(len(deck.rows) for deck in own) for own in decks.values()) // c.batch)
        watched = train_watched(
            net, critic, GanLosses(names), batch=lambda n: self._batch(decks, table.images, n),
            steps_per_epoch=c.batches_per_epoch or filled, epochs=c.epochs, learning_rate=c.learning_rate,
            betas=(c.beta1, c.beta2), schedule=c.schedule, device=self.device, looks=c.snapshots,
            look=lambda: self._snapshot(net, names), label=f"DCGAN {', '.join(names)}",
        )
        return dict(zip(names, self._apart(net), strict=True)), watched

    def _started(self, kind: type[nn.Module], names: tuple[str, ...]) -> nn.Module:
        """Networks side by side, the weights of each drawn as if it were alone."""
        c, states = self.config, []
        for name in names:
            rng = torch_generator(c.seed, "weights", kind.__name__, name)
            states.append(draw_weights(self._build(kind), rng, sd=c.weight_sd).state_dict())
        net = self._build(kind, groups=len(names))
        net.load_state_dict(stacked(states))
        # on a CPU half as long again without
        return net.to(self.device, memory_format=torch.channels_last if c.dims == 2 else torch.channels_last_3d)

    def _build(self, kind: type[nn.Module], *, groups: int = 1) -> nn.Module:
        c, classes = self.config, len(self._classes)
        own = {"latent": c.latent} if kind is Generator else {"norm_first": c.norm_first}
        return kind(
            c.size, c.widths if kind is Generator else c.critic_widths, channels=c.channels, groups=groups,
            classes=classes if classes > 1 else 0, dims=c.dims, kernel=c.kernel, **own,
        )

    def _apart(self, net: Generator) -> list[Generator]:
        made = []
        for state in unstacked(net.state_dict(), net.groups):
            made.append(self._build(Generator).to(self.device).eval())
            made[-1].load_state_dict(state)
        return made

    def _batch(self, decks: Mapping[str, Sequence[Deck]], images: torch.Tensor, n: int) -> GanBatch:
        """Batch `n`, counted from 0; every draw depends on the seed, its network and n alone."""
        c, count = self.config, len(self._classes)
        told = torch.randint(count, (c.batch,), generator=torch_generator(c.seed, "classes", n))
        real, noise = [], []
        for name, own in decks.items():
            real.append(images[deal_classes(own, told)].expand(-1, c.channels, *(-1,) * c.dims))
            noise.append(_uniform((c.batch, c.latent), torch_generator(c.seed, "noise", name, n)))
        label = told.to(self.device) if count > 1 else None
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
        stage, view = self._asked(n, stage, view)
        separate = self.config.kind == "separate"
        index = self._classes.index(("" if separate else stage, view))
        noise = _uniform((n, self.config.latent), torch_generator(seed, "sample", stage, view))
        net = self.generators[stage if separate else ALL]
        return self._generate(net, noise[:, None], torch.full((n,), index))[:, 0]

    def _asked(self, n: int, stage: str, view: str | None) -> tuple[str, str]:
        require(
            bool(self.generators), "PetDCGAN", expected="a fitted model", found="an unfitted one",
            remedy="Call fit(slices) or PetDCGAN.load(path) first.",
        )
        require(n >= 1, "PetDCGAN.sample: n", expected="1 or more", found=n, remedy="Ask for at least one image.")
        require(
            view is not None or len(self.views) == 1, "PetDCGAN.sample: view", found="none",
            expected=f"one of {', '.join(self.views)}", remedy="Say which view to draw.",
        )
        known(stage, self.stages, "PetDCGAN.sample: stage")
        return stage, known(view or self.views[0], self.views, "PetDCGAN.sample: view")

    def sample(self, n: int, stage: str, seed: int, *, view: str | None = None) -> list[Volume]:
        """As :meth:`sample_images`, as Volumes of uptake ratios in MNI space: one plane at the middle of the view's
        levels (a drawn slice has no level), or a cube."""
        images = self.sample_images(n, stage, seed, view=view)
        named = view or self.views[0]
        shape, affine = field_grid(self.config.size, view=named if self.config.dims == 2 else None)
        uptake, step = (images + 1) / 2 * self.suvr_max, f"DCGAN {self.config.kind} {stage}"
        return [Volume(image.reshape(1, *shape), affine, (f"{step} {i}",)) for i, image in enumerate(uptake)]

    def history(self) -> dict[str, list[float]]:
        """Loss at every step by network: ``{"CN": [...], "critic CN": [...], ...}``."""
        sides = (("", 0), ("critic ", 1))
        return {text + name: self.losses[:, i, k].tolist() for k, name in enumerate(self._names) for text, i in sides}

    def check_unseen(self, subjects: Iterable[str], where: str = "PetDCGAN.check_unseen") -> None:
        """Refuse, by name, subjects that this model was trained on."""
        asked = list(subjects)
        check_disjoint([name for name in asked if subject_hash([name]) in self.seen], asked, where=where)

    def save(self, path: Path) -> None:
        """Write generators, snapshots, losses and settings into the folder `path`; of subjects, only hashes."""
        constants = {name: getattr(self, name) for name in ("stages", "views", "suvr_max", "seen")}
        save_checkpoint(
            path, self._tensors() | {f"snapshot.{step}": value for step, value in self.snapshots.items()}
            | {"losses": self.losses}, system="PetDCGAN", config=self.config.as_dict(), constants=constants,
            training_subjects=self.trained_on,
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote; missing, unexpected or misshapen weights are refused by name."""
        tensors, record = load_checkpoint(path, system="PetDCGAN")
        model, constants = cls(Config.from_dict(record["config"])), record["constants"]
        for name in ("stages", "views", "seen"):
            setattr(model, name, tuple(constants[known(name, constants, f"{path}: constants")]))
        model.suvr_max, model.trained_on = constants["suvr_max"], record["training_subjects"]
        model.losses = tensors.pop("losses", model.losses)
        steps = sorted(int(name.removeprefix("snapshot.")) for name in tensors if name.startswith("snapshot."))
        model.snapshots = {step: tensors.pop(f"snapshot.{step}") for step in steps}
        model.generators = {name: model._build(Generator).to(model.device).eval() for name in model._names}
        check_tensors(tensors, model._tensors(), str(path))
        for name, net in model.generators.items():
            net.load_state_dict({k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")})
        return model

    def _tensors(self) -> dict[str, torch.Tensor]:
        nets = self.generators.items()
        return {f"{name}.{key}": value for name, net in nets for key, value in net.state_dict().items()}


def _losses(watched: Watched, names: Sequence[str]) -> torch.Tensor:
    """(steps, 2, K) of generator and critic."""
    return torch.tensor([[[r[side + name] for name in names] for side in ("", "critic_")] for r in watched.records])


def _uniform(shape: tuple[int, ...], rng: torch.Generator) -> torch.Tensor:
    """Noise from −1 to 1, as the training section has it (the general one writes: normal)."""
    return 2 * torch.rand(shape, generator=rng) - 1
