"""What an image autoencoder and its critic lose: L1 + β1 perceptual + β2 adversarial + β3 divergence."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from nbkit.core.checks import known
from nbkit.core.seeds import torch_generator
from nbkit.losses.adversarial import bce_discriminator, bce_generator, lsgan_discriminator, lsgan_generator
from nbkit.losses.perceptual import SliceFeatures, draw_slices, kl_to_standard_normal, perceptual_distance

Terms = dict[str, torch.Tensor]
CRITICS = {
    "cross_entropy": (bce_generator, bce_discriminator), "least_squares": (lsgan_generator, lsgan_discriminator),
}
"""By name, what the autoencoder and what its critic loses by the critic's scores."""


class AutoencoderObjective:
    """The losses of latent image models (Rombach et al. 2022; Pinaya et al. 2022; MRExtrap Eq. 1).

    Every term is one value per subject: absolute differences averaged over voxels, the perceptual distance as
    :func:`~nbkit.losses.perceptual.perceptual_distance`, the adversarial term averaged over patches, the divergence
    summed over latents. The network gives (reconstruction, mean, standard deviation).

    Parameters
    ----------
    features : SliceFeatures
    perceptual, adversarial, kl : float
        Weights β1, β2, β3.
    slices : int
        Slices along each axis that the perceptual term looks at in one step.
    seed : int
        Which slices: a draw depends on it and on the number of steps before.
    gradient : float
        Weight of the absolute differences of slopes between neighbouring voxels; none in Eq. 1.
    late : bool
        Whether the perceptual term joins with the adversarial one, and not from the start.
    critic : {"cross_entropy", "least_squares"}
        The adversarial loss: of Isola et al. 2016, or of Mao et al. 2017.
    """

    def __init__(
        self, features: SliceFeatures, *, perceptual: float, adversarial: float, kl: float, slices: int, seed: int,
        gradient: float = 0.0, late: bool = False, critic: str = "cross_entropy",
    ) -> None:
        self.fooled, self.caught = CRITICS[known(critic, CRITICS, "AutoencoderObjective: critic")]
        self.features, self.slices, self.seed, self.count = features, slices, seed, 0
        self.weights = {"perceptual": perceptual, "adversarial": adversarial, "kl": kl, "gradient": gradient}
        self.late = late

    def state_dict(self) -> dict[str, int]:
        """The number of steps, on which draws of slices depend."""
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.count = state["count"]

    @staticmethod
    def generate(net: nn.Module, image: torch.Tensor) -> Terms:
        """What the losses need, of images (B, 1, X, Y, Z)."""
        reconstruction, mean, sd = net(image)
        return {"reconstruction": reconstruction.float(), "mean": mean, "sd": sd}

    def plain(self, net: nn.Module, image: torch.Tensor) -> Terms:
        """The autoencoder's loss before the adversarial term joins."""
        return self._total(self._terms(image, self.generate(net, image), perceptual=not self.late))

    def generator(self, critic: nn.Module, image: torch.Tensor, made: Mapping[str, torch.Tensor]) -> Terms:
        """The autoencoder's loss with the adversarial term."""
        terms = self._terms(image, made)
        return self._total(terms | {"adversarial": self.fooled(critic(made["reconstruction"]))})

    def critic(self, critic: nn.Module, image: torch.Tensor, made: Mapping[str, torch.Tensor]) -> Terms:
        """The critic's own loss."""
        return {"total": self.caught(critic(image), critic(made["reconstruction"]))}

    def _terms(self, image: torch.Tensor, made: Mapping[str, torch.Tensor], *, perceptual: bool = True) -> Terms:
        x, self.count = made["reconstruction"], self.count + 1
        apart = x - image
        terms = {"l1": apart.abs().flatten(1).mean(dim=1), "kl": kl_to_standard_normal(made["mean"], made["sd"])}
        if self.weights["gradient"]:
            slopes = [apart.diff(dim=axis).abs().flatten(1).mean(dim=1) for axis in range(2, apart.ndim)]
            terms["gradient"] = sum(slopes) / len(slopes)
        if perceptual:
            slices = draw_slices(image.shape[2:], self.slices, torch_generator(self.seed, "slices", self.count))
            terms["perceptual"] = perceptual_distance(self.features, x, image, slices=slices)
        return terms

    def _total(self, terms: Terms) -> Terms:
        return {"total": sum(self.weights.get(name, 1.0) * value for name, value in terms.items()), **terms}
