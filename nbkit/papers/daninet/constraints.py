"""What a slice generated at many ages loses: brightening with age, other regional rates than expected, another face.

Ravi et al., "Degenerative Adversarial NeuroImage Nets", MICCAI 2019. As printed, Eq. 3 counts signs, which have no
slope, and Eq. 4 sums signed differences, which have no lowest value; both are read here as what they are meant to
prevent. Every loss gives one value per subject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from nbkit.losses.adversarial import bce_discriminator, bce_generator
from nbkit.papers.daninet.aged_slices import AgedSlices
from nbkit.papers.daninet.regional_rates import EPSILON

Terms = dict[str, torch.Tensor]


def monotone_loss(images: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """How much brighter pixels get with age, between a person's own age and each other (Eq. 3).

    Parameters
    ----------
    images : torch.Tensor
        (B, A, S, S), one per age bin, youngest first.
    own : torch.Tensor
        Whole numbers (B,): the bin of the person's own age.

    Returns
    -------
    torch.Tensor
        (B,): max(0, older − younger), mean over all pixels of the slice and the A − 1 pairs.
    """
    here = torch.take_along_dim(images, own.view(-1, 1, 1, 1), dim=1)
    bins = torch.arange(images.shape[1], device=images.device)
    sign = (own[:, None] - bins).sign().to(images)
    risen = (sign[..., None, None] * (here - images)).clamp(min=0)
    return risen.mean(dim=(2, 3)).sum(dim=1) / max(images.shape[1] - 1, 1)


def regional_loss(
    images: torch.Tensor, own: torch.Tensor, diagnosis: torch.Tensor, *, masks: torch.Tensor, ratios: torch.Tensor
) -> torch.Tensor:
    """How far regional sums change otherwise than expected, between a person's own age and each other (Eq. 4).

    Parameters
    ----------
    images : torch.Tensor
        (B, A, S, S) between 0 and 1, one per age bin, youngest first.
    own, diagnosis : torch.Tensor
        Whole numbers (B,): the bin of the person's own age, and the row of `ratios`.
    masks : torch.Tensor
        (R, S, S) of 0 and 1, or (B, R, S, S).
    ratios : torch.Tensor
        (D, A, A, R): expected sum in the second bin over that in the first, the first being the younger.

    Returns
    -------
    torch.Tensor
        (B,): |expected − (Σ older + ε) / (Σ younger + ε)| with ε = 0.1, averaged over regions and the A − 1 pairs.
    """
    with torch.autocast(images.device.type, enabled=False):  # a bfloat16 sum is off by more than a year's change
        sums = images.flatten(2).float() @ masks.flatten(-2).mT.float()
    here = torch.take_along_dim(sums, own.view(-1, 1, 1), dim=1)
    bins, mine = torch.arange(images.shape[1], device=images.device), own[:, None]
    earlier = (bins < mine)[..., None]
    older, younger = torch.where(earlier, here, sums), torch.where(earlier, sums, here)
    expected = ratios.to(sums)[diagnosis[:, None], torch.minimum(bins, mine), torch.maximum(bins, mine)]
    apart = (expected - (older + EPSILON) / (younger + EPSILON)).abs()
    return apart.mean(dim=2).sum(dim=1) / max(images.shape[1] - 1, 1)


def mixed_age(images: torch.Tensor, lower: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """A person between two bins: α · image of `lower` + (1 − α) · image of the next bin (Eq. 5).

    Parameters
    ----------
    images : torch.Tensor
        (B, A, S, S).
    lower : torch.Tensor
        Whole numbers (B,); after the last bin comes none, and it stands for both.
    alpha : torch.Tensor
        (B,) from 0 to 1; 1 gives the image of `lower` itself.

    Returns
    -------
    torch.Tensor
        (B, S, S).
    """
    upper = (lower + 1).clamp(max=images.shape[1] - 1)
    first, second = (torch.take_along_dim(images, k.view(-1, 1, 1, 1), dim=1)[:, 0] for k in (lower, upper))
    weight = alpha.view(-1, 1, 1).to(first)
    return weight * first + (1 - weight) * second


class AgeingBatch(NamedTuple):
    """What a step of training sees.

    Attributes
    ----------
    slices : AgedSlices
    prior : torch.Tensor or None
        (B, latent) drawn uniformly from −1 to 1, where critics look on.
    full : int
        The first so many slices are generated at every age, which the constraints on progression need.
    """

    slices: AgedSlices
    prior: torch.Tensor | None
    full: int


class AgeingObjective:
    """Eq. 6, for the autoencoder, its two critics, and the tuning to one person.

    The autoencoder is called as ``net(x, rows, ages, diagnosis)``, see
    :class:`nbkit.papers.daninet.caae.ConditionalAutoencoder`; ``critics["latent"]`` and ``critics["image"]`` judge.

    Parameters
    ----------
    ages : int
        Number of bins A.
    weights : mapping of str to float
        Of "deformation" (mean squared difference, images from −1 to 1), "latent" and "image" (cross-entropies), "voxel"
        (:func:`monotone_loss`) and "region" (:func:`regional_loss`), both of images from 0 to 1.
    masks, ratios : torch.Tensor or None
        Of :func:`regional_loss`; None: without either constraint on progression. Masks (L, R, S, S) are those of L
        levels, and the diagnosis then stands for the pair of diagnosis and level, ``diagnosis * L + level``.
    """

    def __init__(
        self, ages: int, weights: Mapping[str, float], *, masks: torch.Tensor | None = None,
        ratios: torch.Tensor | None = None,
    ) -> None:
        self.ages, self.weights, self.masks, self.ratios = ages, dict(weights), masks, ratios

    def generate(self, net: nn.Module, batch: AgeingBatch) -> Terms:
        """Codes, slices at the batch's own ages, and slices at all ages of its first `full` members."""
        x, k, device = batch.slices, batch.full, batch.slices.image.device
        count = len(x.image)
        upper = (x.lower + 1).clamp(max=self.ages - 1)
        rows = torch.arange(count, device=device)
        rows = torch.cat([rows[:k].repeat_interleave(self.ages), rows[k:].repeat_interleave(2)])
        ages = torch.arange(self.ages, device=device).repeat(k)
        ages = torch.cat([ages, torch.stack([x.lower, upper], dim=1)[k:].flatten()])
        z, made = net(x.image[:, None], rows, ages, x.diagnosis)
        everything = made[: k * self.ages].float().unflatten(0, (k, self.ages))
        pairs = made[k * self.ages :].float().unflatten(0, (count - k, 2))
        first = torch.zeros_like(x.lower[k:])
        mixed = torch.cat([mixed_age(everything, x.lower[:k], x.alpha[:k]), mixed_age(pairs, first, x.alpha[k:])])
        return {"latent": z.float(), "image": mixed, "everything": everything}

    def generator(self, critics: nn.ModuleDict, batch: AgeingBatch, made: Terms) -> Terms:
        """The autoencoder's loss; the constraints are estimated without bias from the first `full` members."""
        x = batch.slices
        fooled = {
            "latent": bce_generator(critics["latent"](made["latent"])),
            "image": bce_generator(critics["image"](made["image"][:, None], x.own, x.diagnosis)),
        }
        return self._total(self._alike(batch, made) | fooled | self._constraints(batch, made))

    @staticmethod
    def critic(critics: nn.ModuleDict, batch: AgeingBatch, made: Terms) -> Terms:
        """Both critics' own losses."""
        x, judge = batch.slices, critics["image"]
        real, fake = (judge(images[:, None], x.own, x.diagnosis) for images in (x.image, made["image"]))
        terms = {
            "latent": bce_discriminator(critics["latent"](batch.prior), critics["latent"](made["latent"])),
            "image": bce_discriminator(real, fake),
        }
        return {"total": terms["latent"] + terms["image"], **terms}

    def personal(self, net: Callable[..., Any], person: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Loss of one slice alone, without critics: a number.

        `person` holds "image", "inside" (S, S), and "own", "lower", "alpha", "diagnosis" as numbers without axes.
        """
        one = AgedSlices(**{name: value[None] for name, value in person.items()})
        return self.unjudged(net, one, full=int(self.masks is not None))

    def unjudged(self, net: Callable[..., Any], slices: AgedSlices, *, full: int) -> torch.Tensor:
        """Mean loss of slices without critics, `full` of them at every age."""
        batch = AgeingBatch(slices, None, full)
        made = self.generate(net, batch)
        return self._total(self._alike(batch, made) | self._constraints(batch, made))["total"].mean()

    def _alike(self, batch: AgeingBatch, made: Terms) -> Terms:
        return {"deformation": mean_square(made["image"], batch.slices.image)}

    def _constraints(self, batch: AgeingBatch, made: Terms) -> Terms:
        x, k, count = batch.slices, batch.full, len(batch.slices.image)
        if self.masks is None or not k:
            return {}
        bright, told = (made["everything"] + 1) / 2, x.diagnosis[:k]
        masks = self.masks if self.masks.ndim == 3 else self.masks[told % len(self.masks)]
        few = {
            "voxel": monotone_loss(bright, x.own[:k]),
            "region": regional_loss(bright, x.own[:k], told, masks=masks, ratios=self.ratios),
        }
        return {name: torch.cat([v * (count / k), v.new_zeros(count - k)]) for name, v in few.items()}

    def _total(self, terms: Terms) -> Terms:
        return {"total": sum(self.weights[name] * value for name, value in terms.items()), **terms}


def mean_square(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of each of the first axis, (B,)."""
    return (a - b).square().flatten(1).mean(dim=1)
