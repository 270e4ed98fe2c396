"""What a conditional generator of images loses: an adversarial and λ times a voxelwise term (Wei thesis 3.2, 4.2).

The minus sign between the two expectations of Eqs. 3.1-3.3 must be a plus. Every term is one value per subject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from nbkit.losses.adversarial import bce_discriminator, bce_generator, smooth_labels
from nbkit.losses.regions import adaptive_l1, mean_l1, roi_l1
from nbkit.training.crops import Example
from nbkit.training.steps import Terms

WEIGHTINGS = ("l1", "roi", "adaptive")


def voxelwise(weighting: str, weights: torch.Tensor | None = None) -> Callable[..., torch.Tensor]:
    """``loss(prediction, target, mask) -> (B,)`` by name: "l1" (Eq. 3.4), "roi" (3.5) or "adaptive" (4.4).

    `mask` (B, 3, X, Y, Z) is bool, its channels brain, lesions and NAWM. Prediction and target are set to 0 outside the
    brain first, where an image without skull is known, so that the formulas count every voxel of the image as printed.
    `weights` are the ω.
    """

    def loss(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        inside = mask[:, :1]
        pair = (prediction * inside, target * inside)
        if weighting == "l1":
            return mean_l1(*pair)
        rois = regions(mask)
        return roi_l1(*pair, rois) if weighting == "roi" else adaptive_l1(*pair, rois, weights=weights)

    return loss


def regions(mask: torch.Tensor) -> torch.Tensor:
    """(B, 3, X, Y, Z) bool, disjoint and covering: lesions, NAWM without them, everything else of the image."""
    lesions, nawm = mask[:, 1:2].bool(), mask[:, 2:3].bool()
    return torch.cat([lesions, nawm & ~lesions, ~(nawm | lesions)], dim=1)


@dataclass(frozen=True)
class ConditionalObjective:
    """Losses of a generator of one image from a condition, with a discriminator or without.

    Parameters
    ----------
    voxel_loss : callable
        See :func:`voxelwise`.
    weight : float
        λ.
    total : bool
        Sum the cross-entropy over the patches of an image, as printed (3.2.4); else their mean, which weighs the
        voxelwise loss by the number of patches more.
    condition : int
        How many of the first input channels the discriminator sees beside the image.
    smoothing : float
        Spread of the discriminator's labels, see :func:`~nbkit.losses.adversarial.smooth_labels`; 0 for 0 and 1.
    draws : torch.Generator
        Of the labels.
    """

    voxel_loss: Callable[..., torch.Tensor]
    weight: float
    total: bool
    condition: int
    smoothing: float
    draws: torch.Generator

    def generate(self, net: nn.Module, batch: Example) -> Terms:
        """The image, 0 outside the brain."""
        return {"image": net(batch.inputs) * batch.mask[:, :1]}

    def plain(self, net: nn.Module, batch: Example) -> Terms:
        """Without a discriminator."""
        return {"total": self.voxel_loss(net(batch.inputs), batch.target, batch.mask)}

    def generator(self, critic: nn.Module, batch: Example, made: Mapping[str, torch.Tensor]) -> Terms:
        """−ln D + λ times the voxelwise loss."""
        scores = self._scores(critic, batch, made["image"])
        adversarial = self._patches(scores) * bce_generator(scores)
        voxels = self.voxel_loss(made["image"], batch.target, batch.mask)
        return {"total": adversarial + self.weight * voxels, "adversarial": adversarial, "voxels": voxels}

    def critic(self, critic: nn.Module, batch: Example, made: Mapping[str, torch.Tensor]) -> Terms:
        """Cross-entropy of true and made images over patches."""
        real = self._scores(critic, batch, batch.target * batch.mask[:, :1])
        fake = self._scores(critic, batch, made["image"])
        labels = None
        if self.smoothing:
            labels = smooth_labels(real, fake, spread=self.smoothing, generator=self.draws)
        return {"total": self._patches(real) * bce_discriminator(real, fake, labels=labels)}

    def _patches(self, scores: torch.Tensor) -> int:
        """What a mean over patches is to be multiplied by."""
        return scores.shape[1] if self.total else 1

    def _scores(self, critic: nn.Module, batch: Example, image: torch.Tensor) -> torch.Tensor:
        return critic(torch.cat([batch.inputs[:, : self.condition], image.to(batch.inputs)], dim=1))
