"""Myelin PET from MRI: 2-layer DNN, 3D U-Net, cGAN, Sketcher-Refiner GANs, CF-SAGAN, in one vocabulary.

Wei W., thesis chapters 3 (Sketcher-Refiner GANs) and 4 (CF-SAGAN). Every system is a chain of stages: the first (the
Sketcher) sees the MR images, each Refiner after it sees them and the image of the stage before, which is frozen by
then. Systems differ by a few settings (:data:`VARIANTS`) and share the stages that they have in common.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import nn

from nbkit.core.checks import known, require
from nbkit.core.device import autocast, pick_device
from nbkit.core.protocols import Cohort, Scan
from nbkit.core.seeds import torch_generator
from nbkit.core.source import module_digest
from nbkit.core.volume import Volume
from nbkit.data.intensity import Standardiser
from nbkit.data.splits import inner_split, subject_hash
from nbkit.data.synthesis import brain_box
from nbkit.losses.regions import adaptive_weights
from nbkit.papers.myelin.inputs import (
    ContrastReader, RoiClassifier, Segment, draw_poses, drop_contrasts, has_rois, posed_batch, roi_masks,
)
from nbkit.papers.myelin.losses import WEIGHTINGS, ConditionalObjective, regions, voxelwise
from nbkit.papers.myelin.networks import NORMS, seed_dropout
from nbkit.papers.myelin.staged import PUBLISHED, Box, StagedGenerator, build_critic, build_generator
from nbkit.papers.myelin.stages import StageSettings, kept_stage, stage_key, train_stage
from nbkit.papers.myelin.tiles import PatchGrid, patches_of
from nbkit.training.checkpoint import Constants, Saved, load_weights
from nbkit.training.crops import CropSampler, Example

MOST_REFINEMENTS = 3
_LAYOUT, _COPIES = torch.channels_last_3d, 3
"""Copies of a training scan with contrasts missing, beside the scan as it is, under ``incomplete``."""

_CGAN = {"network": "unet", "adversarial": True}
_SAGAN = {"network": "sagan", "adversarial": True, "critic_steps": 2, "label_smoothing": 0.1, "augment": True}
_ROI, _ADAPTIVE = {"weighting": "roi"}, {"weighting": "adaptive"}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "dnn": {"network": "dnn"},
    "unet": {}, "unet_w": _ROI, "unet_a": _ADAPTIVE,
    "cgan": _CGAN, "cgan_w": _CGAN | _ROI, "cgan_a": _CGAN | _ADAPTIVE,
    **{f"refiner{k}".rstrip("1"): _CGAN | {"refinements": k} for k in range(1, MOST_REFINEMENTS + 1)},
    "sagan": _SAGAN, "sagan_w": _SAGAN | _ROI, "sagan_a": _SAGAN | _ADAPTIVE,
    "sagan_refiner": _SAGAN | {"refinements": 1, "refiner_weighting": "adaptive"},
    "sagan_refiner2": _SAGAN | {"refinements": 2, "refiner_weighting": "adaptive"},
}
"""System -> what it sets. "_w": weighted L1 (Eq. 3.5), "_a": adaptive (Eq. 4.4); "cgan" is the Sketcher alone."""
_SMALL = {
    "crops": "focus", "patch_loss": "mean", "head": "linear", "zscores": "brain", "norm": "none", "dropout": 0.0,
    "learning_rate": 3e-3, "refiner_learning_rate": 3e-3, "schedule": "linear", "clip": 1.0, "batch": 2,
    "patch": (8, 8, 8),
}
"""What small profiles do otherwise: crops instead of whole images, every second one at a lesion; notebook 02 tells of
the last layer, the z-scores and the discriminator's loss, which their few steps fit better to."""
_SIZES: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("paper", "sagan"): {"epochs": 370, "crop": (64, 64, 64), "window": (64, 64, 64), "patch": (32, 32, 32)},
    ("overnight", "sagan"): {"slim": 1, "levels": 3, "norm": "batch"},
    ("laptop", "sagan"): {"slim": 2, "levels": 3, "norm": "batch"}, ("smoke", "sagan"): {"norm": "batch"},
    **{(p, "dnn"): {"slim": n, "learning_rate": 6e-4} for p, n in (("overnight", 4), ("laptop", 8), ("smoke", 16))},
}
"""Settings of one network in one profile. Paper: chapter 4. Laptop: 8 maps at full resolution, as the U-Net has;
a crop of 24³ can be halved three times; the large kernels of the dnn need a smaller rate."""


@dataclass(frozen=True)
class Config(StageSettings):
    """Settings; defaults as published (thesis 3.2.4, 3.3.1) where stated; those of chapter 4 by :meth:`named`.

    Attributes
    ----------
    network : {"dnn", "unet", "sagan"}
        Generator of every stage: two layers of 7³ convolutions and an output of 1³; Fig. 3.3 A; Fig. 4.2.
    adversarial : bool
        Whether every stage has a discriminator.
    weighting, refiner_weighting : {"l1", "roi", "adaptive"}
        The voxelwise loss of the first stage and of the refiners: Eqs. 3.4, 3.5, 4.4. The ω of the last come from the
        voxels of all training images.
    weight : float
        λ of that loss; not stated, 100 as in pix2pix (Isola et al. 2017).
    refinements : int
        Refiners after the first stage, 0-3.
    refiner_learning_rate : float
        Of the refiners; ``learning_rate`` is the first stage's. All else is the same for every stage.
    inputs, target : contrasts
    width, levels : int or None
        Feature maps of the first level, number of levels; None: :data:`~nbkit.papers.myelin.staged.PUBLISHED`.
    slim : int
        Small profiles divide all feature maps by this, those of the discriminator too.
    norm, critic_norm : {"instance", "batch", "none"}
        Batch normalisation in the text. With one image per step generators get instance normalisation instead. On
        small profiles' two crops a step, running statistics of the plain U-Net now and then fit no whole image: it gets
        none (CONTRIBUTING, Decisions), CF-SAGAN keeps to the text. The discriminator's batch is its patches.
    dropout, dropout_of
        Rate in unet and sagan; "values" as a plain dropout layer has it, or whole "maps".
    head : {"leaky", "linear"}
        Last layer of the unet: leaky ReLU (3.3.2), or none.
    attention_pool : int
        p of the self-attention, which the text does not give; 2 is the least that pools, 1 does not.
    noise : bool
        White noise z as a channel of an adversarial first stage, drawn anew for each training step; synthesis uses
        one fixed draw. Refiners have none.
    patch, critic_widths
        Of the discriminator; not stated.
    patch_loss : {"sum", "mean"}
        The discriminator's loss over patches: the sum as published (3.2.4), or the mean.
    label_smoothing, augment
        0, False in chapter 3; 0.1 and :data:`~nbkit.papers.myelin.inputs.POSES` in chapter 4.
    zscores : {"image", "brain"}
        Voxels whose mean and SD scale a contrast: all of them as published (3.3.1), or the brain's.
    validation : int
        Training subjects kept out of training, whose errors are recorded: 0 in chapter 3, 3 in chapter 4 (4.3.1).
    window : tuple of int or None
        Synthesis by windows of 50 % overlap; None: whole images.
    incomplete : bool
        Train on incomplete contrast sets too, and accept them in synthesis; see :mod:`nbkit.papers.myelin.inputs`.
    roi_source : {"scan", "segmented"}
        Regions of the losses: the masks "lesions" and "nawm" of each scan, or a segmenter's where a scan has none.
    """

    network: str = "unet"
    adversarial: bool = False
    weighting: str = "l1"
    refiner_weighting: str = "roi"
    weight: float = 100.0
    refinements: int = 0
    refiner_learning_rate: float = 5e-5
    inputs: tuple[str, ...] = ("MTR", "FA", "RD", "AD")
    target: str = "DVR"
    width: int | None = None
    levels: int | None = None
    slim: int = 1
    norm: str = "instance"
    critic_norm: str = "batch"
    dropout: float = 0.5
    dropout_of: str = "values"
    head: str = "leaky"
    attention_pool: int = 2
    noise: bool = True
    patch: Box = (32, 40, 32)
    critic_widths: tuple[int, ...] = (32, 64, 128)
    patch_loss: str = "sum"
    label_smoothing: float = 0.0
    augment: bool = False
    zscores: str = "image"
    validation: int = 0
    window: Box | None = None
    incomplete: bool = False
    roi_source: str = "scan"

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": _SMALL | {
            "slim": 8, "levels": 2, "epochs": 3, "crop": (16, 16, 16), "crops_per_epoch": 6, "validate_every": 1},
        "laptop": _SMALL | {
            "slim": 4, "epochs": 24, "crop": (24, 24, 24), "crops_per_epoch": 20, "validate_every": 4},
        "overnight": _SMALL | {
            "slim": 2, "epochs": 60, "crop": (32, 32, 32), "batch": 4, "crops_per_epoch": 80, "patch": (16, 16, 16),
            "learning_rate": 2e-3, "refiner_learning_rate": 2e-3},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, valid in {
            "network": PUBLISHED, "weighting": WEIGHTINGS, "refiner_weighting": WEIGHTINGS, "norm": NORMS,
            "critic_norm": NORMS, "roi_source": ("scan", "segmented"), "head": ("leaky", "linear"),
            "dropout_of": ("values", "maps"), "patch_loss": ("sum", "mean"), "zscores": ("image", "brain"),
        }.items():
            known(getattr(self, name), valid, f"Config: {name}")
        square = not self.augment or self.crop is None or self.crop[0] == self.crop[1]
        for name, good, expected in (
            ("refinements", 0 <= self.refinements <= MOST_REFINEMENTS, f"0 to {MOST_REFINEMENTS}"),
            ("validation", self.validation >= 0, "0 or more subjects"),
            ("inputs", self.inputs and self.target not in self.inputs, f"contrasts other than {self.target!r}"),
            ("crop", square, "as long as wide, because augmentation turns crops by 90°"),
        ):
            require(bool(good), f"Config: {name}", expected=expected, found=getattr(self, name), remedy="Change it.")

    @classmethod
    def named(cls, name: str, profile: str = "paper", **changes: Any) -> Self:
        """Settings of one of :data:`VARIANTS`, at the paper profile with the patches of chapter 4 for CF-SAGAN."""
        switches = VARIANTS[known(name, VARIANTS, "Config.named: name")]
        sizes = _SIZES.get((profile, switches.get("network", cls.network)), {})
        return cls.for_profile(profile, **{**sizes, **switches, **changes})

    def stage(self, number: int) -> Self:
        """What stage `number` (0: the first) depends on besides the stage before it."""
        own = {"weighting": self.refiner_weighting, "learning_rate": self.refiner_learning_rate} if number else {}
        return self.changed(**own, refinements=0, refiner_weighting="l1", refiner_learning_rate=0.0)

    def generator(self, number: int) -> nn.Module:
        """The generator of stage `number`, freshly drawn from the seed."""
        size = PUBLISHED[self.network]
        channels = len(self.inputs) * (1 + self.incomplete) + (1 if number else self.noisy)
        return build_generator(
            self.network, channels, width=max(1, (self.width or size["width"]) // self.slim),
            levels=self.levels or size["levels"], norm=self.norm, dropout=self.dropout,
            attention_pool=self.attention_pool, head=self.head,
            draws=torch_generator(self.seed, "weights", self.network, number),
        )

    def critic(self, number: int) -> nn.Module | None:
        """The discriminator of stage `number`, which sees the contrasts and an image; None without."""
        return build_critic(
            len(self.inputs) + 1, patch=self.patch, widths=[max(1, w // self.slim) for w in self.critic_widths],
            residual=self.network == "sagan", attention_pool=self.attention_pool, norm=self.critic_norm,
            draws=torch_generator(self.seed, "weights", "critic", number),
        ) if self.adversarial else None

    @property
    def noisy(self) -> bool:
        """Whether the first stage has a channel of noise."""
        return self.noise and self.adversarial


class MyelinSynthesizer(Saved):
    """A :class:`~nbkit.core.protocols.ModalitySynthesizer`: DVR from MTR, FA, RD and AD.

    Attributes
    ----------
    net : StagedGenerator
    reader : ContrastReader
        With z-score constants of the training images.
    omega : torch.Tensor
        (3,): the ω of Eq. 4.4 for lesions, NAWM and other.
    history : dict
        Stage ("sketcher", "refiner1", ...) -> training history.
    """

    settings = Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.device = pick_device(self.config.device)
        self.net = StagedGenerator(noisy=self.config.noisy)
        self.reader: ContrastReader | None = None
        self.omega = torch.zeros(3)
        self.history: dict[str, Any] = {}

    def fit(self, cohort: Cohort, *, validation: Cohort | None = None, segment: Segment | None = None) -> Self:
        """Train stage after stage on every subject's first scan; stages that are in the cache are read from there.

        Parameters
        ----------
        validation : Cohort, optional
            Its mean absolute error in z-scores is recorded during training and changes no weight. Without one, as many
            of `cohort` as ``validation`` says are kept out for it.
        segment : callable, optional
            ``segment(scan) -> {"lesions": Volume, "nawm": Volume}`` for scans without these masks, under
            ``roi_source="segmented"``; without it a voxel classifier learned from the training scans that have them.
            Stages trained with it are not kept in the cache.
        """
        c = self.config
        if c.validation and validation is None:
            kept, aside = inner_split(cohort.ids, c.validation / len(cohort), seed=c.seed)
            cohort, validation = cohort.subset(kept), cohort.subset(aside)
        scans = [subject.baseline for subject in cohort]
        self.trained_on, self.net, self.history = subject_hash(cohort.ids), StagedGenerator(noisy=c.noisy), {}
        self.reader = ContrastReader.fit(scans, c.inputs, c.target, incomplete=c.incomplete, over=c.zscores)
        others = [subject.baseline for subject in validation or ()]
        lacking = c.roi_source == "segmented" and not all(map(has_rois, scans + others))
        segmenter = (segment or RoiClassifier(c.inputs).fit(scans)) if lacking else None
        whole, watched = ([self.example(scan, segmenter) for scan in part] for part in (scans, others))
        self.omega = adaptive_weights(_voxels(whole, scans))
        examples = [copy for e, scan in zip(whole, scans) for copy in self._copies(e, scan.subject)]
        key = None if lacking and segment else stage_key(cohort, validation, source=module_digest(__name__))
        for number in range(c.refinements + 1):
            if number:
                examples, watched = ([self._refined(e, number - 1) for e in part] for part in (examples, watched))
            self._add_stage(number, examples, watched, key)
        return self

    def example(self, scan: Scan, segment: Segment | None = None) -> Example:
        """A scan in the brain's box: z-scored inputs and target; mask channels brain, lesions, NAWM."""
        c, brain = self.config, scan.mask("brain")
        needed = c.weighting != "l1" or (c.refinements > 0 and c.refiner_weighting != "l1")
        masks = torch.cat([brain.data[:1].bool(), roi_masks(scan, segment, needed=needed)])
        mask = masks[(slice(None), *brain_box(brain))]
        return Example(
            self.reader.channels(scan.images, brain), self.reader.wanted(scan), mask, focus=mask[1:2] & mask[:1]
        )

    def _copies(self, example: Example, subject: str) -> list[Example]:
        draws = torch_generator(self.config.seed, "missing", subject)
        count = _COPIES if self.config.incomplete else 0
        return [example, *(replace(example, inputs=drop_contrasts(example.inputs, draws)) for _ in range(count))]

    def _add_stage(self, number: int, examples: Sequence[Example], watched: Sequence[Example], key: Any) -> None:
        """Train a stage after the frozen ones before it, or read it from the cache."""
        c, name = self.config, f"refiner{number}" if number else "sketcher"
        self.net.stages.append(c.generator(number).to(self.device, memory_format=_LAYOUT))
        self.history[name] = kept_stage(
            self.net.stages[number], key, lambda: self._train(number, examples, watched),
            stages=[c.stage(k) for k in range(number + 1)], system="MyelinSynthesizer",
        )

    def _train(self, number: int, examples: Sequence[Example], watched: Sequence[Example]) -> dict[str, Any]:
        stage, critic = self.config.stage(number), self.config.critic(number)
        net = self.net.stages[number]
        draws = {name: torch_generator(stage.seed, name, number) for name in ("dropout", "labels")}
        seed_dropout(net, draws["dropout"], whole=stage.dropout_of == "maps")
        objective = ConditionalObjective(
            voxelwise(stage.weighting, self.omega), weight=stage.weight, total=stage.patch_loss == "sum",
            condition=len(stage.inputs), smoothing=stage.label_smoothing,
            draws=draws["labels"],
        )
        sampler = patches_of(examples, stage)
        history = train_stage(
            net, critic and critic.to(self.device, memory_format=_LAYOUT), objective, stage,
            batches=lambda epoch: self._batches(sampler, number, epoch), device=self.device,
            validate=(lambda: self._error(number, watched)) if watched else None, label=f"{stage.network} {number}",
            draws=draws,
        )
        return history.as_dict()

    def _batches(self, sampler: CropSampler | PatchGrid, number: int, epoch: int) -> Iterator[Example]:
        """Batches whose every draw depends on the seed, the stage and the epoch alone."""
        draws = torch_generator(self.config.seed, "batches", number, epoch)
        for batch in sampler.epoch(epoch):
            tensors = (batch.inputs, batch.target, batch.mask)
            if self.config.augment:
                poses = draw_poses(len(batch.target), draws)
                tensors = tuple(posed_batch(t, poses) for t in tensors)
            if self.config.noisy and number == 0:
                noise = torch.randn(tensors[1].shape, generator=draws)
                tensors = (torch.cat([tensors[0], noise], dim=1), *tensors[1:])
            yield Example(*(t.to(self.device, memory_format=_LAYOUT) for t in tensors))

    def _refined(self, example: Example, number: int) -> Example:
        """What stage `number` + 1 sees of a scan: the contrasts, and the image made by stage `number`."""
        bare = example.inputs[: self.reader.width]
        return replace(example, inputs=torch.cat([bare, self._image(example, number)]))

    def _error(self, number: int, examples: Sequence[Example]) -> float:
        gaps = [(self._image(e, number) - e.target).abs()[e.mask[:1]].mean() for e in examples]
        return float(torch.stack(gaps).mean())

    def _image(self, example: Example, number: int) -> torch.Tensor:
        """Stage `number` applied to what it sees of a scan; (1, x, y, z)."""
        count = self.reader.width
        before = example.inputs[None, count:].to(self.device) if number else None
        inputs, inside = example.inputs[None, :count], example.mask[None, :1]
        with torch.no_grad():
            return self._forward(inputs, inside, start=(number, before), stop=number + 1)[0].cpu()

    def _forward(self, inputs: torch.Tensor, inside: torch.Tensor, **more: Any) -> torch.Tensor:
        noise = torch.randn(inside.shape, generator=torch_generator(self.config.seed, "noise", *inside.shape[2:]))
        with autocast(self.device, self.config.on(self.device)):
            return self.net.eval().to(self.device, memory_format=_LAYOUT)(
                inputs.to(self.device, memory_format=_LAYOUT), inside.to(self.device), noise=noise,
                window=self.config.window, **more,
            )

    def loss(self, inputs: torch.Tensor, example: Example) -> torch.Tensor:
        """The last stage's voxelwise loss (1,) as a function of z-scored inputs (1, C, x, y, z), through all stages."""
        c = self.config
        weighting = c.refiner_weighting if c.refinements else c.weighting
        image = self._forward(inputs, example.mask[None, :1])
        target, mask = (t[None].to(self.device) for t in (example.target, example.mask))
        return voxelwise(weighting, self.omega)(image, target, mask)

    def synthesize(self, contrasts: Mapping[str, Volume], *, mask: Volume) -> Volume:
        """DVR predicted inside the brain `mask`, 0 outside.

        A missing contrast is refused by name, or under ``incomplete`` done without, as long as there is one.
        """
        require(
            self.reader is not None, "MyelinSynthesizer.synthesize", expected="a fitted model",
            found="an unfitted one", remedy="Call fit(cohort) or MyelinSynthesizer.load(path) first.",
        )
        inside = mask.data[None, :1].bool()[(..., *brain_box(mask))]
        with torch.no_grad():
            z = self._forward(self.reader.channels(contrasts, mask)[None], inside)[0, 0].cpu()
        return self.reader.image(z, mask, f"{self.config.network} synthesis of {self.config.target}")

    def _tensors(self) -> Mapping[str, torch.Tensor]:
        return self.net.state_dict()

    def _constants(self) -> dict[str, Any]:
        return {"standardiser": self.reader.standardiser.to_dict(), "omega": self.omega.tolist()}

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        c, scale = self.config, Standardiser.from_dict(constants["standardiser"])
        self.net.stages.extend(c.generator(k) for k in range(c.refinements + 1))
        load_weights(self.net, tensors, where)
        self.reader = ContrastReader(c.inputs, c.target, c.incomplete, scale)
        self.omega = torch.tensor(constants["omega"])


def _voxels(examples: Sequence[Example], scans: Sequence[Scan]) -> list[float]:
    """Voxels of lesions, NAWM and other over whole images, background included."""
    lesions, nawm, _ = sum(regions(e.mask[None]).flatten(2).sum(2)[0] for e in examples).tolist()
    whole = sum(math.prod(scan.mask("brain").shape) for scan in scans)
    return [lesions, nawm, whole - lesions - nawm]
