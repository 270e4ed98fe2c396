"""PET images of three disease stages by deep convolutional generative adversarial networks.

Islam and Zhang, "GAN-based synthetic brain PET image generation", Brain Informatics 2020: one DCGAN for normal
controls, one for mild cognitive impairment, one for Alzheimer's disease. What they name as future work is here too: one
conditional network for all stages, and volumes instead of slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Self

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nbkit.core.checks import check_disjoint, check_keys, known, require
from nbkit.core.device import pick_device, spread
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.data.pet_slices import STAGES, SUVR_MAX, Slices, field_grid, levels_of
from nbkit.data.splits import subject_hash
from nbkit.papers.pet_dcgan.dcgan import Critic, Generator, draw_weights, stacked, unstacked
from nbkit.papers.pet_dcgan.losses import GanBatch, GanLosses
from nbkit.papers.pet_dcgan.settings import Config
from nbkit.training.adversarial import train_adversarial
from nbkit.training.checkpoint import Constants, Saved, load_weights

ALL = "all stages"
"""Name of the one network of kind "conditional"."""
TRIES = 16
"""Draws among which an image of the asked view is looked for, where views are not told."""
_AT_ONCE, _SNAPSHOT, _TYPICAL, _LATEST = 64, "snapshot.", "typical", "latest."


class PetDCGAN(Saved):
    """An :class:`~nbkit.core.protocols.ImageGenerator` that learns from a table of slices or volumes.

    Published networks are told nothing. Where slices have several views, they draw images of any: an image of a view is
    then the first of :data:`TRIES` draws that is nearer to the training slices' mean of that view than to that of
    another (or the nearest, where none is). The paper does not say how it knew its axial, coronal and sagittal images
    apart. With ``views_told`` the view is a class that the networks know.

    Attributes
    ----------
    images : dict of str to int
        Training images of every network.
    losses : torch.Tensor
        (steps, 2, K): of generator and critic at every step, of every network.
    snapshots : dict of int to torch.Tensor
        By number of steps (K, n, 1, S, ...): what every network made of the same noise.
    """

    settings = Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.device = pick_device(self.config.device)
        self.generators, self.latest = nn.ModuleDict(), nn.ModuleDict()
        self.stages: tuple[str, ...] = ()
        self.views: tuple[str, ...] = ()
        self.suvr_max = SUVR_MAX
        self.seen: tuple[str, ...] = ()
        self.images: dict[str, int] = {}
        self.typical = torch.empty(0)
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
        self.images = {name: len(table) if name == ALL else table.stage.count(name) for name in self.networks}
        if self._any_view:
            own = [[table.select(stages=stage, view=view).images for view in self.views] for stage in self.stages]
            self.typical = torch.stack([torch.stack([x.mean(dim=0) for x in views]) for views in own])
        groups = [self.networks] if self._grouped else [(name,) for name in self.networks]
        # a thread for each: the digits then depend on no number of threads, and small steps wait for nobody
        runs = spread(lambda names: self._train(names, table), groups, self.device)
        self.generators = nn.ModuleDict({name: net for nets, *_ in runs for name, net in nets.items()})
        self.latest = nn.ModuleDict({name: net for _, nets, *_ in runs for name, net in nets.items()})
        self.losses = torch.cat([losses for *_, losses, _ in runs], dim=2)
        self.snapshots = {step: torch.cat([seen[step] for *_, seen in runs]) for step in runs[0][-1]}
        return self

    def of_last_weights(self) -> Self:
        """The same model, drawing by its last weights where averaged ones draw."""
        other = copy(self)
        other.generators = self.latest or self.generators
        return other

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks: the stages, or one for all."""
        return self.stages if self.config.kind == "separate" else (ALL,)

    @property
    def steps_to_see_all(self) -> int:
        """Batches that the images of the largest network fill."""
        return -(-max(self.images.values()) // self.config.batch)

    def noise(self, n: int, name: str = "") -> torch.Tensor:
        """(batch, latent): what the generator of network `name` starts from in step `n`."""
        return _uniform((self.config.batch, self.config.latent), torch_generator(self.config.seed, "noise", name, n))

    def untrained(self) -> tuple[Generator, Critic]:
        """Generator and critic of the first network as they are before the first step; of any, before :meth:`fit`."""
        first = self.networks[:1] or ("",)
        return self._started(Generator, first), self._started(Critic, first)

    @property
    def _grouped(self) -> bool:
        return self.device.type != "cpu" if self.config.grouped is None else self.config.grouped

    @property
    def _any_view(self) -> bool:
        """Whether a network draws images of any view."""
        return len(self.views) > 1 and not self.config.views_told

    @property
    def _classes(self) -> tuple[tuple[str, str], ...]:
        """Stage and view of every class that a network is told, empty where it is not."""
        stages = ("",) if self.config.kind == "separate" else self.stages
        return tuple((stage, view) for stage in stages for view in (("",) if self._any_view else self.views))

    def _decks(self, name: str, table: Slices) -> list[Deck]:
        """The images of each class of network `name`."""
        keys = list(zip(table.stage, table.view, strict=True))
        asked = [(stage or name, view) for stage, view in self._classes]
        return [
            Deck([i for i, key in enumerate(keys) if key == (stage, view or key[1])], self.config.seed, stage, view)
            for stage, view in asked
        ]

    def _train(
        self, names: tuple[str, ...], table: Slices
    ) -> tuple[dict[str, Generator], dict[str, Generator], torch.Tensor, dict[int, torch.Tensor]]:
        """Networks that are computed together: generators by name, those of the last weights where averaged ones draw,
        losses (steps, 2, K), and snapshots by step."""
        c = self.config
        net, critic = (self._started(kind, names) for kind in (Generator, Critic))
        decks = {name: self._decks(name, table) for name in names}
        steps, drawing = c.batches_per_epoch or self.steps_to_see_all, net
        state: dict[str, Any] = {f"{name} {k}": deck for name, own in decks.items() for k, deck in enumerate(own)}
        if c.averaged:
            average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(c.averaged), use_buffers=True)
            drawing = average.module
            state["average"] = average
        when, losses, seen = moments(c.epochs * steps, c.snapshots), [], {0: self._snapshot(net, names)}
        state |= {"losses": losses, "seen": seen}

        def noted(record: Mapping[str, float]) -> None:
            losses.append([[record[side + name] for name in names] for side in ("", "critic_")])
            if drawing is not net:
                average.update_parameters(net)
            if len(losses) in when:
                seen[len(losses)] = self._snapshot(drawing, names)

        train_adversarial(
            net, critic, GanLosses(names), epochs=c.epochs, learning_rate=c.learning_rate, betas=(c.beta1, c.beta2),
            schedule=c.schedule, device=self.device, half=False, label=f"DCGAN {', '.join(names)}", noted=noted,
            state=state,
            batches=lambda e: (self._batch(decks, table.images, (e - 1) * steps + n) for n in range(steps)),
        )
        latest = {} if drawing is net else self._apart(net, names)
        return self._apart(drawing, names), latest, torch.tensor(losses), seen

    def _apart(self, net: Generator, names: tuple[str, ...]) -> dict[str, Generator]:
        """Generators that were computed together, each by itself."""
        apart = {name: self._build(Generator).to(self.device).eval() for name in names}
        for own, state in zip(apart.values(), unstacked(net.state_dict(), net.groups), strict=True):
            own.load_state_dict(state)
        return apart

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

    def _batch(self, decks: Mapping[str, Sequence[Deck]], images: torch.Tensor, n: int) -> GanBatch:
        """Batch `n`, counted from 0; every draw depends on the seed, its network and n alone."""
        c, classes = self.config, len(self._classes)
        told = torch.randint(classes, (c.batch,), generator=torch_generator(c.seed, "classes", n))
        real, noise = [], []
        for name, own in decks.items():
            real.append(images[[next(own[k]) for k in told.tolist()]].expand(-1, c.channels, *(-1,) * c.dims))
            noise.append(self.noise(n, name))
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
        separate, tries = self.config.kind == "separate", TRIES if self._any_view else 1
        known(view, self.views, "PetDCGAN.sample: view")
        index = self._classes.index(("" if separate else stage, "" if self._any_view else view))
        noise = _uniform((n * tries, 1, self.config.latent), torch_generator(seed, "sample", stage, view))
        images = self._generate(self.generators[stage if separate else ALL], noise, torch.full((n * tries,), index))
        if not self._any_view:
            return images[:, 0]
        typical, asked = self.typical[self.stages.index(stage)], self.views.index(view)
        ahead = _ahead(images[:, 0], typical, asked).view(n, tries)
        first = torch.where((ahead > 0).any(dim=1), (ahead > 0).int().argmax(dim=1), ahead.argmax(dim=1))
        return images[:, 0].unflatten(0, (n, tries))[torch.arange(n), first]

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
        latest = {f"{_LATEST}{name}": value for name, value in self.latest.state_dict().items()}
        return {**self.generators.state_dict(), **latest, **seen, "losses": self.losses, _TYPICAL: self.typical}

    def _constants(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("stages", "views", "suvr_max", "seen", "images")}

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        self.stages, self.views, self.seen = (tuple(constants[name]) for name in ("stages", "views", "seen"))
        self.suvr_max, self.images = constants["suvr_max"], constants["images"]
        self.losses, self.typical = (tensors.pop(name) for name in ("losses", _TYPICAL))
        steps = sorted(int(name.removeprefix(_SNAPSHOT)) for name in tensors if name.startswith(_SNAPSHOT))
        self.snapshots = {step: tensors.pop(f"{_SNAPSHOT}{step}") for step in steps}
        last = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_LATEST)}
        self.generators = self._read(tensors, where)
        self.latest = self._read(last, where, prefix=_LATEST) if last else nn.ModuleDict()

    def _read(self, tensors: dict[str, torch.Tensor], where: str, *, prefix: str = "") -> nn.ModuleDict:
        nets = nn.ModuleDict({name: self._build(Generator) for name in self.networks}).to(self.device).eval()
        load_weights(nets, tensors, where, prefix=prefix)
        return nets


class Deck:
    """Rows dealt without end and without replacement, shuffled anew whenever all have been dealt: an iterator.

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

    def __init__(self, rows: Sequence[int], seed: int, *names: object) -> None:
        self.rows, self.key, self.dealt = list(rows), (seed, "deck", *names), 0
        self._turn, self._order = -1, torch.empty(0, dtype=torch.long)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> int:
        require(
            len(self.rows) > 0, f"deck {' '.join(map(str, self.key[2:]))}: rows", expected="at least one",
            found="none", remedy="Every class that is trained needs an image.",
        )
        turn, place = divmod(self.dealt, len(self.rows))
        if turn != self._turn:
            self._turn, self._order = turn, torch.randperm(len(self.rows), generator=torch_generator(*self.key, turn))
        self.dealt += 1
        return self.rows[int(self._order[place])]

    def state_dict(self) -> dict[str, int]:
        """How many have been dealt."""
        return {"dealt": self.dealt}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.dealt = state["dealt"]


def moments(steps: int, count: int) -> tuple[int, ...]:
    """`count` numbers of steps from 0 to `steps`, denser at the start; fewer where they would coincide."""
    return tuple(dict.fromkeys(round(steps * (i / (count - 1)) ** 2) for i in range(count)))


def _ahead(images: torch.Tensor, typical: torch.Tensor, asked: int) -> torch.Tensor:
    """(N,): how much nearer images (N, 1, S, ...) lie to one of the means (V, 1, S, ...) than to the next other."""
    far = torch.stack([(images - mean).square().flatten(1).mean(dim=1) for mean in typical], dim=1)
    others = [k for k in range(len(typical)) if k != asked]
    return far[:, others].amin(dim=1) - far[:, asked]


def _uniform(shape: tuple[int, ...], rng: torch.Generator) -> torch.Tensor:
    """Noise from −1 to 1, as the training section has it (the general one writes: normal)."""
    return 2 * torch.rand(shape, generator=rng) - 1
