"""Generators in a row, each with a discriminator of patches: what systems are built of (Wei thesis, ch. 3 and 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from nbkit.core.checks import require
from nbkit.nets.conv import Conv3d
from nbkit.nets.fcn import fcn, initialise
from nbkit.nets.film import LEAK
from nbkit.papers.myelin.networks import (
    NORMS, FlexibleSelfAttention, ResidualAttentionUNet, ResidualBlock, StridedUNet,
)

Box = tuple[int, int, int]
PUBLISHED = {"dnn": {"width": 64, "levels": 2}, "unet": {"width": 32, "levels": 3}, "sagan": {"width": 16, "levels": 4}}
"""Feature maps of the first level, and levels (hidden layers of the dnn), in Wei thesis chapters 3 and 4."""


def build_generator(
    network: str, channels: int, *, width: int, levels: int, norm: str, dropout: float, attention_pool: int,
    head: str, draws: torch.Generator,
) -> nn.Module:
    """A "dnn" (7³ convolutions), "unet" (Fig. 3.3 A) or "sagan" (Fig. 4.2) of `channels` inputs and one output.

    The two layers of the dnn are its hidden ones; a 1³ convolution, which the text leaves out, makes one map of them.
    Glorot weights come from `draws`; norm, dropout, attention and head concern only the networks that have them.
    """
    sizes = {"first": width, "levels": levels, "norm": norm, "dropout": dropout}
    if network == "dnn":
        hidden = fcn(channels, width=width, depth=levels, kernel=7)[:-1]
        net: nn.Module = nn.Sequential(*hidden, Conv3d(width, 1, 1))
    elif network == "unet":
        net = StridedUNet(channels, **sizes, head=head)
    else:
        net = ResidualAttentionUNet(channels, **sizes, attention_pool=attention_pool)
    return initialise(net, draws)


def build_critic(
    channels: int, *, patch: Box, widths: Sequence[int], residual: bool, attention_pool: int, norm: str,
    draws: torch.Generator,
) -> nn.Module:
    """A :class:`TiledDiscriminator` whose Glorot weights come from `draws`."""
    critic = TiledDiscriminator(
        channels, patch=patch, widths=widths, residual=residual, attention_pool=attention_pool, norm=norm
    )
    for module in critic.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=draws)
            nn.init.zeros_(module.bias)
    return initialise(critic, draws)


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
        p of the attention; 1 does not pool, 0 leaves it out.
    norm : {"batch", "instance", "none"}
        Batch normalisation as printed: the patches are the batch, and the level of myelin in a patch stays visible.
    """

    def __init__(
        self, in_channels: int, *, patch: Box = (32, 40, 32), widths: Sequence[int] = (32, 64, 128),
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
        return nn.Sequential(conv, NORMS[norm](b), nn.LeakyReLU(LEAK), nn.MaxPool3d(2))

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


class StagedGenerator(nn.Module):
    """Stages that were trained one after the other, each with those before it frozen.

    Parameters
    ----------
    noisy : bool
        Whether the first stage has a last channel of white noise z. Refiners have none: their image should not vary.
    """

    def __init__(self, *, noisy: bool) -> None:
        super().__init__()
        self.noisy, self.stages = noisy, nn.ModuleList()

    def stage_inputs(
        self, number: int, inputs: torch.Tensor, *, image: torch.Tensor | None, noise: torch.Tensor | None
    ) -> torch.Tensor:
        """What stage `number` (0: the first) sees; tensors (..., C, X, Y, Z) and (..., 1, X, Y, Z)."""
        extra = image if number else noise if self.noisy else None
        return inputs if extra is None else torch.cat([inputs, extra.to(inputs)], dim=-4)

    def forward(
        self, inputs: torch.Tensor, inside: torch.Tensor, *, noise: torch.Tensor | None = None,
        window: Box | None = None, start: tuple[int, torch.Tensor | None] = (0, None), stop: int | None = None,
    ) -> torch.Tensor:
        """The image of the last stage, or of the one before stage `stop`.

        Parameters
        ----------
        inputs : torch.Tensor
            (1, C, X, Y, Z).
        inside : torch.Tensor
            (1, 1, X, Y, Z) bool; the image is 0 elsewhere, after every stage.
        noise : torch.Tensor, optional
            (1, 1, X, Y, Z), for a noisy first stage.
        window : tuple of int, optional
            See :func:`slide`.
        start : tuple
            The stage to begin with, and the image of the one before it.

        Returns
        -------
        torch.Tensor
            (1, 1, X, Y, Z) float32.
        """
        first, image = start
        for number, net in enumerate(self.stages[first:stop], first):
            x = self.stage_inputs(number, inputs, image=image, noise=noise)
            image = slide(net, x, window).float() * inside
        return image


def slide(
    net: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, window: Box | None, *, overlap: float = 0.5
) -> torch.Tensor:
    """net(x), computed window by window where x is larger than `window`.

    Parameters
    ----------
    net : callable
        (N, C, *window) -> (N, K, *window), N at most 4: several windows at once are faster on CPUs.
    x : torch.Tensor
        (1, C, X, Y, Z).
    window : tuple of int or None
        None: the whole volume at once.
    overlap : float
        Share of a window's edge that its neighbour covers too; 0.5 in Wei thesis 4.3.1, which does not say how
        overlapping windows are joined. Here weights fall off from a window's centre as a Gaussian of an eighth of its
        edge, so that its less certain border counts little.

    Returns
    -------
    torch.Tensor
        (1, K, X, Y, Z).
    """
    if window is None or all(n <= w for n, w in zip(x.shape[2:], window)):
        return net(x)
    from monai.inferers import sliding_window_inference  # takes seconds to import, and small profiles do without

    return sliding_window_inference(x, window, 4, net, overlap=overlap, mode="gaussian")
