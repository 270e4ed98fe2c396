"""Generators in a row: the first sees the inputs, each refiner after it the inputs and the image made so far."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nbkit.core.checks import known
from nbkit.papers.myelin.discriminator import TiledDiscriminator
from nbkit.nets.fcn import fcn, initialise
from nbkit.papers.myelin.residual_unet import ResidualAttentionUNet, StridedUNet
from nbkit.papers.myelin.sliding import Window, slide

PUBLISHED = {"dnn": {"width": 64, "levels": 2}, "unet": {"width": 32, "levels": 3}, "sagan": {"width": 16, "levels": 4}}
"""Feature maps of the first level, and levels (hidden layers of the dnn), in Wei thesis chapters 3 and 4."""


def build_generator(
    network: str, channels: int, *, width: int, levels: int, norm: str, dropout: float, attention_pool: int,
    draws: torch.Generator,
) -> nn.Module:
    """A "dnn" (7³ convolutions), "unet" (Fig. 3.3 A) or "sagan" (Fig. 4.2) of `channels` inputs and one output.

    Glorot weights come from `draws`; norm, dropout and attention concern only the networks that have them.
    """
    known(network, PUBLISHED, "build_generator: network")
    if network == "dnn":
        net: nn.Module = fcn(channels, width=width, depth=levels, kernel=7)
    elif network == "unet":
        net = StridedUNet(channels, first=width, levels=levels, norm=norm, dropout=dropout)
    else:
        net = ResidualAttentionUNet(
            channels, first=width, levels=levels, norm=norm, dropout=dropout, attention_pool=attention_pool
        )
    return initialise(net, draws)


def build_critic(
    channels: int, *, patch: Window, widths: Sequence[int], residual: bool, attention_pool: int, norm: str,
    draws: torch.Generator,
) -> nn.Module:
    """A :class:`~nbkit.papers.myelin.discriminator.TiledDiscriminator` whose Glorot weights come from `draws`."""
    critic = TiledDiscriminator(
        channels, patch=patch, widths=widths, residual=residual, attention_pool=attention_pool, norm=norm
    )
    for module in critic.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=draws)
            nn.init.zeros_(module.bias)
    return initialise(critic, draws)


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
        window: Window | None = None, start: tuple[int, torch.Tensor | None] = (0, None), stop: int | None = None,
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
            See :func:`~nbkit.papers.myelin.sliding.slide`.
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
