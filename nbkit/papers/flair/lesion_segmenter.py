"""A small U-Net that segments white-matter lesions on FLAIR.

It stands in for the pipeline of Coupé et al. 2018 that the thesis ran on true and on synthetic FLAIR (Fig. 2.5):
trained on true FLAIR only, applied to both, the two segmentations compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import nn

from nbkit.core.checks import require
from nbkit.core.config import Settings
from nbkit.core.device import autocast, fast_half, pick_device
from nbkit.core.protocols import Cohort, Scan
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.data.intensity import Standardiser
from nbkit.data.splits import subject_hash
from nbkit.data.synthesis import brain_box, brain_channels, on_grid
from nbkit.losses.regions import masked_bce, soft_dice_loss
from nbkit.nets.fcn import initialise
from nbkit.nets.unet import UNet
from nbkit.training.checkpoint import Constants, Saved, load_weights
from nbkit.training.crops import CropSampler, Example
from nbkit.training.loop import StripRule, train
from nbkit.training.steps import PlainStep


@dataclass(frozen=True)
class Config(Settings):
    """Settings; the thesis used an external pipeline, so every value is our choice.

    Attributes
    ----------
    contrast : str
        The image it segments, z-scored within each subject's brain so that true and synthetic images meet alike.
    first, levels : int
        Feature maps of the first U-Net block, and poolings.
    learning_rate : float
        Of Adam, on binary cross-entropy plus soft Dice.
    epochs, crop, batch, crops_per_epoch
        Length of training; every second crop is centred on a lesion voxel.
    """

    contrast: str = "FLAIR"
    first: int = 16
    levels: int = 2
    learning_rate: float = 2e-3
    epochs: int = 120
    crop: tuple[int, int, int] = (48, 48, 24)
    batch: int = 4
    crops_per_epoch: int = 40
    device: str = "auto"
    seed: int = 7

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"first": 4, "learning_rate": 5e-3, "epochs": 40, "crop": (16, 16, 8), "crops_per_epoch": 16},
        "laptop": {"first": 8, "epochs": 40, "crop": (24, 24, 16), "batch": 2, "crops_per_epoch": 24},
        "overnight": {"first": 16, "epochs": 80, "crop": (48, 48, 16), "crops_per_epoch": 40},
    }


class LesionSegmenter(Saved):
    """Fit on scans with a ``lesions`` mask, then segment any image of the same contrast."""

    settings = Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        net = UNet(1, first=self.config.first, levels=self.config.levels)
        self.net = initialise(net, torch_generator(self.config.seed, "weights", "segmenter"))
        self.device = pick_device(self.config.device)
        self.history: dict[str, Any] = {}

    def fit(self, cohort: Cohort) -> Self:
        """Train on the true images of every subject; subjects without lesions count as examples of none."""
        c = self.config
        sampler = CropSampler(
            [self._example(s.baseline) for s in cohort], crop=c.crop, batch=c.batch,
            crops_per_epoch=c.crops_per_epoch, seed=c.seed,
        )
        self.net.to(self.device, memory_format=torch.channels_last_3d)
        optimiser = torch.optim.Adam(self.net.parameters(), lr=c.learning_rate)
        step = PlainStep(self.net, optimiser, loss=self._loss, device=self.device, half=fast_half(self.device))
        history = train(
            step, sampler.epoch, epochs=c.epochs, rule=StripRule(), state={"step": step}, label="lesion segmenter"
        )
        self.history, self.trained_on = history.as_dict(), subject_hash(cohort.ids)
        return self

    def _example(self, scan: Scan) -> Example:
        mask = scan.mask("brain")
        box = (slice(None), *brain_box(mask))
        lesions = scan.mask("lesions").data.bool()[box]
        image = self._input(scan.image(self.config.contrast), mask)
        return Example(image, lesions.float(), mask.data.bool()[box], lesions)

    def _input(self, image: Volume, mask: Volume) -> torch.Tensor:
        name = self.config.contrast
        own = Standardiser.fit({name: [image]}, [mask])
        return brain_channels({name: image}, (name,), mask=mask, standardiser=own)

    def _loss(self, net: nn.Module, batch: Example) -> dict[str, torch.Tensor]:
        logits = net(batch.inputs.to(self.device, memory_format=torch.channels_last_3d))
        target, mask = batch.target.to(self.device), batch.mask.to(self.device)
        bce, dice = masked_bce(logits, target, mask), soft_dice_loss(logits, target, mask)
        return {"total": bce + dice, "cross_entropy": bce, "dice": dice}

    @torch.inference_mode()
    def segment(self, image: Volume, *, mask: Volume) -> Volume:
        """Lesion mask (bool) of an image: voxels whose lesion probability is at least one half."""
        require(
            bool(self.trained_on), "LesionSegmenter.segment", expected="a fitted model", found="an unfitted one",
            remedy="Call fit(cohort) or LesionSegmenter.load(path) first.",
        )
        self.net.eval().to(self.device)
        with autocast(self.device, fast_half(self.device)):
            logits = self.net(self._input(image, mask)[None].to(self.device))
        found = on_grid((logits[0, 0].float() >= 0).float(), mask=mask, step="lesion segmentation")
        return found.with_data(found.data > 0.5)

    def _tensors(self) -> Mapping[str, torch.Tensor]:
        return self.net.state_dict()

    def _restore(self, tensors: dict[str, torch.Tensor], constants: Constants, where: str) -> None:
        load_weights(self.net, tensors, where)
