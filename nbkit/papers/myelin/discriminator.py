"""A discriminator that judges every patch of a grid by itself, with its condition (chapters 3 and 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from nbkit.core.checks import require
from nbkit.nets.conv import Conv3d
from nbkit.nets.film import LEAK
from nbkit.papers.myelin.attention import FlexibleSelfAttention
from nbkit.papers.myelin.residual_unet import ResidualBlock, normalisation

Shape = tuple[int, int, int]


class TiledDiscriminator(nn.Module):
    """Judges every patch of a fixed, non-overlapping grid by itself, against its condition (Fig. 3.3 B, Fig. 4.2).

    Patches are folded into the batch, so that no score depends on voxels of another patch (batch normalisation shares
    only its two moments). Each level is a 3³ convolution, normalisation, leaky ReLU and a halving by max pooling; in
    chapter 4 a ResDown block with attention after the first. A dense layer on all that is left gives one logit, which
    is the two-way softmax of the text up to a shift of both logits.

    Parameters
    ----------
    in_channels : int
        Of condition and image together.
    patch : tuple of int
        Patch in voxels, each edge a multiple of 2 to the number of `widths`. Images are padded with zeros at the far
        ends to whole patches. (32, 40, 32) divides the published 128×160×128; the text does not state it.
    widths : sequence of int
        Feature maps of the levels; not in the text.
    residual : bool
        ResDown blocks and self-attention, as in CF-SAGAN.
    attention_pool : int
        p of the attention; 0 leaves it out.
    norm : {"batch", "instance", "none"}
        Batch normalisation as printed: the patches are the batch, and the level of myelin in a patch stays visible.
    """

    def __init__(
        self, in_channels: int, *, patch: Shape = (32, 40, 32), widths: Sequence[int] = (32, 64, 128),
        residual: bool = False, attention_pool: int = 1, norm: str = "batch",
    ) -> None:
        super().__init__()
        self.patch, halved = tuple(patch), 2 ** len(widths)
        require(
            all(n % halved == 0 for n in patch), "TiledDiscriminator: patch", expected=f"multiples of {halved} voxels",
            found=self.patch, remedy="Change the patch, or the number of widths.",
        )
        level = self._residual_level if residual else self._level
        layers = [level(a, b, norm) for a, b in zip((in_channels, *widths), widths)]
        if residual and attention_pool:
            layers.insert(1, FlexibleSelfAttention(widths[0], pool=attention_pool))
        left = widths[-1] * math.prod(n // halved for n in patch)
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(left, 1))

    @staticmethod
    def _level(a: int, b: int, norm: str) -> nn.Module:
        conv = Conv3d(a, b, 3, padding=1)
        return nn.Sequential(conv, normalisation(norm, b), nn.LeakyReLU(LEAK), nn.MaxPool3d(2))

    @staticmethod
    def _residual_level(a: int, b: int, norm: str) -> nn.Module:
        return ResidualBlock(a, b, up=False, norm=norm, dropout=0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, patches) of condition and image (B, in_channels, X, Y, Z), patches in the order of x, y, z."""
        tiles = self.tiles(x)
        return self.body(tiles.flatten(0, 1)).view(tiles.shape[:2])

    def tiles(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, X, Y, Z) -> (B, patches, C, *patch)."""
        x = F.pad(x, [side for n, p in zip(reversed(x.shape), reversed(self.patch)) for side in (0, -n % p)])
        for axis, p in zip((2, 3, 4), self.patch):
            x = x.unfold(axis, p, p)
        return x.flatten(2, 4).transpose(1, 2).contiguous()
