"""Discriminators that judge patches, alone or together with a condition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from nbkit.nets.conv import Conv3d
from nbkit.nets.film import LEAK


class PatchDiscriminator(nn.Module):
    """Spectrally normalised 3D patch discriminator with an optional projection of a condition.

    Convolutions 3³ of stride 2 with leaky ReLU halve the grid at each width; one more 3³ convolution gives `features`
    maps f. A patch's score is ψ(f) by a 1³ convolution, plus f · e(c) where e is a dense layer of the condition.

    Parameters
    ----------
    in_channels : int
    widths : sequence of int
        Feature maps of the halvings; 64, 128, 256, 512 in Atlas-GAN.
    features : int
        64 in Atlas-GAN.
    condition : int
        Numbers in the condition; 0 for none.

    References
    ----------
    Miyato et al., ICLR 2018 (spectral normalisation); Miyato & Koyama, ICLR 2018 (projection); Isola et al., CVPR
    2017 (patches); Dey et al., ICCV 2021 (this arrangement).
    """

    def __init__(
        self, in_channels: int = 1, *, widths: Sequence[int] = (64, 128, 256, 512), features: int = 64,
        condition: int = 0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in zip((in_channels, *widths), widths):
            layers += [spectral_norm(Conv3d(a, b, 3, stride=2, padding=1)), nn.LeakyReLU(LEAK)]
        layers += [spectral_norm(Conv3d(widths[-1], features, 3, padding=1)), nn.LeakyReLU(LEAK)]
        self.body = nn.Sequential(*layers)
        self.score = spectral_norm(Conv3d(features, 1, 1))
        self.project = spectral_norm(nn.Linear(condition, features, bias=False)) if condition else None

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (B, 1, x, y, z) of images (B, in_channels, X, Y, Z) under a condition (B, numbers), if it takes one.

        Each axis of the scores is that of the image over 2 to the number of widths, rounded up.
        """
        maps = self.body(x)
        scores = self.score(maps)
        if self.project is None:
            return scores
        return scores + torch.einsum("bcxyz,bc->bxyz", maps, self.project(condition))[:, None]
