"""FLAIR synthesis by convolutional networks: the 3D FCN of Wei et al., the 3D U-Net and the voxelwise MLP.

Wei Y. et al., "FLAIR MR image synthesis by using 3D fully convolutional networks for multiple sclerosis",
thesis chapter 2. The three networks differ by one switch; training, stopping and scaling are shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import nn

from nbkit.core.checks import known, require
from nbkit.core.device import autocast, fast_half, pick_device
from nbkit.core.protocols import Cohort
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.data.intensity import Standardiser
from nbkit.data.splits import inner_split, subject_hash
from nbkit.data.synthesis import brain_box, brain_channels, on_grid
from nbkit.nets.fcn import fcn, initialise
from nbkit.nets.unet import UNet
from nbkit.papers.synthesis.patches import Contrasts
from nbkit.training.checkpoint import Constants, Saved, load_weights
from nbkit.training.crops import CropSampler, Example
from nbkit.training.loop import StripRule, train
from nbkit.training.schedules import rate_share
from nbkit.training.steps import PlainStep

NETWORKS = ("fcn", "unet", "mlp")
SHORT = {"learning_rate": 0.03, "momentum": 0.9, "clip": 0.5, "schedule": "linear"}
BRAIN = {"over": "brain", "loss_over": "brain"}
"""What few steps are spent on: the empty half of an image teaches nothing."""


@dataclass(frozen=True)
class Config(Contrasts):
    """Settings; defaults as published (thesis 2.2.3) where stated.

    Attributes
    ----------
    network : {"fcn", "unet", "mlp"}
    width : int
        Published feature maps: of each hidden layer (fcn 64), of the first block (unet 16), hidden neurons (mlp 100).
    slim : int
        Small profiles divide the feature maps of fcn and unet by this (never those of the cheap mlp).
    depth : int
        Hidden layers of the fcn (3) and mlp (2); poolings of the unet (2).
    loss_over : {"image", "brain"}
        Voxels that the network sees and that count in its loss: all of the image (published, Eq. 2.1), or those of the
        brain, cut out and set to zero around.
    output : {"linear", "relu"}
        The text puts a ReLU after every layer; half of the z-scored targets are negative, hence linear.
    learning_rate, momentum : float
        Plain SGD at 0.0005 as published. Smaller profiles make far fewer steps than the published 1.5 GPU-days,
        hence their larger rate with momentum; the same for the three networks.
    clip : float or None
        Largest gradient norm; the larger rate needs it (bright vessels give rare, long gradients).
    schedule : {"constant", "linear"}
        Published: constant. Small profiles let the rate fall linearly to zero, or their last steps would only jitter.
    epochs : int
        The most epochs; 1 700 is what 1.5 days hold at the published inference time (derived, not stated).
    strip, patience : int
        The published early stopping rule, q and p.
    crop, batch, crops_per_epoch
        None and 1: whole images one by one, as published. Smaller profiles draw crops.
    validation_fraction : float
        Share of the training subjects that early stopping watches when no validation cohort is given. The paper takes
        none: it watches the fold that it tests on, and calls that a limitation.
    keep : {"best", "last"}
        Weights kept at the end: of the lowest validation error (not stated in the paper) or the last.
    half : bool or None
        bfloat16 autocast; None: where this machine is faster with it.
    """

    network: str = "fcn"
    width: int = 64
    slim: int = 1
    depth: int = 3
    loss_over: str = "image"
    output: str = "linear"
    learning_rate: float = 5e-4
    momentum: float = 0.0
    clip: float | None = None
    schedule: str = "constant"
    epochs: int = 1700
    strip: int = 5
    patience: int = 3
    crop: tuple[int, int, int] | None = None
    batch: int = 1
    crops_per_epoch: int = 0
    validation_fraction: float = 0.2
    keep: str = "best"
    half: bool | None = None
    device: str = "auto"
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {**SHORT, **BRAIN, "slim": 8, "epochs": 10, "crop": (16, 16, 8), "batch": 4, "crops_per_epoch": 12},
        "laptop": {**SHORT, **BRAIN, "slim": 4, "epochs": 25, "crop": (24, 24, 16), "batch": 4, "crops_per_epoch": 40},
        "overnight": {"slim": 1, "epochs": 50, "crop": (48, 48, 16), "crops_per_epoch": 80},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        known(self.network, NETWORKS, "Config: network")
        known(self.keep, ("best", "last"), "Config: keep")
        known(self.output, ("linear", "relu"), "Config: output")
        known(self.loss_over, ("image", "brain"), "Config: loss_over")
        known(self.schedule, ("constant", "linear"), "Config: schedule")


def build_network(config: Config) -> nn.Module:
    """The network of a Config, freshly drawn from its seed."""
    channels, width = len(config.inputs), max(1, config.width // config.slim)
    if config.network == "unet":
        net = UNet(channels, first=width, levels=config.depth, up_convs=3)
    elif config.network == "mlp":
        net = fcn(channels, width=config.width, depth=config.depth, kernel=1)
    else:
        net = fcn(channels, width=width, depth=config.depth)
    if config.output == "relu":
        net = nn.Sequential(net, nn.ReLU())
    return initialise(net, torch_generator(config.seed, "weights", config.network))


def masked_mse(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean squared error inside the mask, one value per subject (Eq. 2.1); tensors (B, 1, X, Y, Z) -> (B,)."""
    inside = mask.flatten(1)
    squares = (prediction.float() - target).flatten(1).square() * inside
    return squares.sum(1) / inside.sum(1).clamp(min=1)


class ConvSynthesizer(Saved):
    """A :class:`~nbkit.core.protocols.ModalitySynthesizer` around one convolutional network.

    ``history`` is that of the training loop, and under "watched" the validation errors of each person by themselves.
    """

    settings = Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.net = build_network(self.config)
        self.device = pick_device(self.config.device)
        self.half = fast_half(self.device) if self.config.half is None else self.config.half
        self.standardiser: Standardiser | None = None
        self.history: dict[str, Any] = {}

    def fit(self, cohort: Cohort, *, validation: Cohort | None = None) -> Self:
        """Train on `cohort`; early stopping watches `validation`, else subjects held out from `cohort`.

        Scaling constants come from the training subjects only. A single training subject leaves nobody to watch:
        then the full number of epochs is run.
        """
        c = self.config
        self.trained_on = subject_hash(cohort.ids)
        ids, held_out = cohort.ids, ()
        if validation is None and len(cohort) > 2:
            ids, held_out = inner_split(cohort.ids, c.validation_fraction, seed=c.seed)
        training, watched = cohort.subset(ids), validation if validation is not None else cohort.subset(held_out)
        self.standardiser = c.standardiser(training)
        sampler = CropSampler(
            self._examples(training), crop=c.crop, batch=c.batch, crops_per_epoch=c.crops_per_epoch, seed=c.seed
        )
        self._train(sampler, dict(zip(watched.ids, self._examples(watched))))
        return self

    def _examples(self, cohort: Cohort) -> list[Example]:
        out = []
        for scan in (subject.baseline for subject in cohort):
            channels, inside = self.seen(scan.images, (*self.config.inputs, self.config.target), scan.mask("brain"))
            out.append(Example(channels[:-1], channels[-1:], inside))
        return out

    def seen(
        self, images: Mapping[str, Volume], names: Sequence[str], brain: Volume
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """z-scored contrasts (C, X, Y, Z) as the network sees them, and the voxels that count (1, X, Y, Z)."""
        if self.config.loss_over == "image":
            channels = self.standardiser.stack(images, names, mask=brain, outside=True)
            return channels, torch.ones_like(channels[:1], dtype=torch.bool)
        channels = brain_channels(images, names, mask=brain, standardiser=self.standardiser)
        return channels, brain.data.bool()[(slice(None), *brain_box(brain))]

    def placed(self, values: torch.Tensor, brain: Volume, step: str) -> Volume:
        """Values of the voxels that the network sees (X, Y, Z), on the scan's grid; 0 outside the brain."""
        if self.config.loss_over == "brain":
            return on_grid(values, mask=brain, step=step)
        return brain.with_data((values.detach().float().cpu() * brain.data[0].bool())[None], step)

    def _train(self, sampler: CropSampler, watched: Mapping[str, Example]) -> None:
        c = self.config
        self.net.to(self.device, memory_format=torch.channels_last_3d)
        optimiser = torch.optim.SGD(self.net.parameters(), lr=c.learning_rate, momentum=c.momentum)
        step = PlainStep(self.net, optimiser, loss=self._loss, device=self.device, half=self.half, clip=c.clip)
        best: dict[str, torch.Tensor] = {}
        errors: dict[str, list[float]] = {name: [] for name in watched}

        def begin(epoch: int) -> None:
            optimiser.param_groups[0]["lr"] = c.learning_rate * rate_share(c.schedule, epoch, c.epochs)

        def keep() -> None:
            best.update({k: v.detach().clone() for k, v in self.net.state_dict().items()})

        def validate() -> float:
            for name, example in watched.items():
                errors[name].append(self._error(example))
            return sum(each[-1] for each in errors.values()) / len(errors)

        history = train(
            step, sampler.epoch, epochs=c.epochs, rule=StripRule(c.strip, c.patience), keep=keep, begin=begin,
            validate=validate if watched else None, label=f"{c.network} {c.width}×{c.depth}",
            state={"step": step, "best": best, "errors": errors},
        )
        if best and c.keep == "best":
            self.net.load_state_dict(best)
        self.history = history.as_dict() | {"watched": errors}

    def _loss(self, net: nn.Module, batch: Example) -> dict[str, torch.Tensor]:
        inputs = batch.inputs.to(self.device, memory_format=torch.channels_last_3d)
        return {"total": masked_mse(net(inputs), batch.target.to(self.device), batch.mask.to(self.device))}

    def _error(self, e: Example) -> float:
        return float(masked_mse(self.forward(e.inputs)[None], e.target[None], e.mask[None]))

    @torch.inference_mode()
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply the network to one subject's z-scored inputs (C, X, Y, Z); gives (1, X, Y, Z) on the CPU."""
        self.net.eval().to(self.device, memory_format=torch.channels_last_3d)
        with autocast(self.device, self.half):
            out = self.net(inputs[None].to(self.device, memory_format=torch.channels_last_3d))
        return out[0].float().cpu()

    def synthesize(self, contrasts: Mapping[str, Volume], *, mask: Volume) -> Volume:
        """Predict the target inside `mask`, in the target's own intensity unit; 0 outside."""
        require(
            self.standardiser is not None, "ConvSynthesizer.synthesize", expected="a fitted model",
            found="an unfitted one", remedy="Call fit(cohort) or ConvSynthesizer.load(path) first.",
        )
        z = self.forward(self.seen(contrasts, self.config.inputs, mask)[0])
        raw = z[0] * self.standardiser.sd[self.config.target] + self.standardiser.mean[self.config.target]
        return self.placed(raw, mask, f"{self.config.network} synthesis of {self.config.target}")

    def _tensors(self) -> Mapping[str, torch.Tensor]:
        return self.net.state_dict()

    def _constants(self) -> dict[str, Any]:
        return self.standardiser.to_dict()

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        load_weights(self.net, tensors, where)
        self.net.to(self.device, memory_format=torch.channels_last_3d)
        self.standardiser = Standardiser.from_dict(constants)
