"""Deep convolutional generative adversarial networks (DCGAN), of slices or volumes, one or several side by side.

Radford et al., ICLR 2016, with the layers of Islam and Zhang, Brain Informatics 2020. Several networks of one shape can
be computed in one pass: their channels lie in one tensor, and grouped convolutions keep them apart, so every one of
them does what it would do alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from nbkit.core.checks import require
from nbkit.nets.conv import Conv3d

SMALLEST = 4
"""Pixels along an edge of the maps between convolutions and dense layer."""
WEIGHT_SD, LEAK = 0.02, 0.2
_CONV = {2: nn.Conv2d, 3: Conv3d}
_TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class ClassNorm(nn.Module):
    """Batch normalisation whose scale and shift depend on a class (Dumoulin et al., ICLR 2017); plain without classes.

    Parameters
    ----------
    channels : int
    classes : int
        0: one scale and shift for everything.
    dims : {2, 3}
    """

    def __init__(self, channels: int, classes: int, dims: int) -> None:
        super().__init__()
        self.norm = _NORM[dims](channels, affine=not classes)
        self.scale = nn.Parameter(torch.ones(channels, classes)) if classes else None
        self.shift = nn.Parameter(torch.zeros(channels, classes)) if classes else None

    def forward(self, x: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """(B, channels, ...) of classes (B,), counted from 0, to the same shape."""
        x = self.norm(x)
        if self.scale is None:
            return x
        places = (..., *(None,) * (x.ndim - 2))
        return x * self.scale.T[label][places] + self.shift.T[label][places]


class Generator(nn.Module):
    """Noise to images between −1 and 1.

    A dense layer to 4×4 maps, then one transposed convolution of stride 2 for every width, batch normalisation and ReLU
    before each; the last one has tanh and no normalisation, as in DCGAN (Islam and Zhang write "each layer").

    Parameters
    ----------
    size : int
        Pixels along an edge, 4 · 2 to the number of widths: 64 with four, 128 with five.
    widths : sequence of int
        Maps before each transposed convolution; 1024, 512, 256, 128, 64 at 128 pixels (DCGAN's; Islam and Zhang print
        none).
    channels : int
        Of the images; 3 as published.
    latent : int
    classes : int
        Classes that normalisation knows (:class:`ClassNorm`); 0: none, as published.
    groups : int
        Networks computed side by side.
    dims : {2, 3}
    kernel : int
        Odd; 5 as published.
    """

    def __init__(
        self, size: int, widths: Sequence[int], *, channels: int = 3, latent: int = 100, classes: int = 0,
        groups: int = 1, dims: int = 2, kernel: int = 5,
    ) -> None:
        super().__init__()
        _check(size, widths, kernel, "Generator: size")
        k, transposed = groups, _TRANSPOSED[dims]
        self.groups, self.dims, self.channels, self.latent = groups, dims, channels, latent
        self.size = size
        # on a single pixel a transposed convolution is a dense layer
        self.dense = transposed(latent * k, widths[0] * k, SMALLEST, groups=k)
        self.rectify, self.bound = nn.ReLU(), nn.Tanh()
        self.norms = nn.ModuleList(ClassNorm(width * k, classes, dims) for width in widths)
        self.deconvolutions = nn.ModuleList(
            transposed(a * k, b * k, kernel, stride=2, padding=kernel // 2, output_padding=1, groups=k)
            for a, b in zip(widths, (*widths[1:], channels), strict=True)
        )

    def forward(self, z: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """Noise (B, groups, latent), and classes (B,) if it knows any, to images (B, groups, channels, size, ...)."""
        x = self.dense(z.flatten(1)[(..., *(None,) * self.dims)])
        for norm, deconvolution in zip(self.norms, self.deconvolutions, strict=True):
            x = deconvolution(self.rectify(norm(x, label)))
        return self.bound(x).unflatten(1, (self.groups, self.channels))


class Critic(nn.Module):
    """Images to one score each, before any sigmoid: convolutions of stride 2, leaky ReLU of 0.2, and a dense layer.

    Parameters
    ----------
    size, channels, groups, dims, kernel
        As :class:`Generator`.
    widths : sequence of int
        Maps after each convolution; 64, 128, 256, 512, 1024 at 128 pixels.
    classes : int
        A class adds its own weights of the maps' sums to the score (projection: Miyato and Koyama, ICLR 2018).
    norm_first : bool
        Whether the first convolution too has batch normalisation: so Islam and Zhang write; DCGAN leaves it out.
    """

    def __init__(
        self, size: int, widths: Sequence[int], *, channels: int = 3, classes: int = 0, groups: int = 1, dims: int = 2,
        kernel: int = 5, norm_first: bool = False,
    ) -> None:
        super().__init__()
        _check(size, widths, kernel, "Critic: size")
        self.groups, self.dims, self.channels, self.size, layers = groups, dims, channels, size, []
        for level, (a, b) in enumerate(zip((channels, *widths), widths)):
            layers.append(_CONV[dims](a * groups, b * groups, kernel, stride=2, padding=kernel // 2, groups=groups))
            if level or norm_first:
                layers.append(_NORM[dims](b * groups))
            layers.append(nn.LeakyReLU(LEAK))
        self.body = nn.Sequential(*layers)
        self.dense = _CONV[dims](widths[-1] * groups, groups, SMALLEST, groups=groups)
        self.project = nn.Parameter(torch.empty(widths[-1] * groups, classes)) if classes else None

    def forward(self, x: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """Images (B, groups, channels, size, ...), and classes (B,) if it knows any, to scores (B, groups)."""
        maps = self.body(x.flatten(1, 2))
        scores = self.dense(maps).flatten(1)
        if self.project is None:
            return scores
        told = maps.flatten(2).sum(dim=2) * self.project.T[label]
        return scores + told.unflatten(1, (self.groups, -1)).sum(dim=2)


class Traced(NamedTuple):
    """A module without parts as it ran: what it is, and the shape (channels, S, ...) of what it made."""

    module: nn.Module
    shape: tuple[int, ...]


@torch.no_grad()
def traced(net: Generator | Critic) -> list[Traced]:
    """The modules of one network in the order in which they run, read from a pass of two empty items."""
    seen: list[Traced] = []
    parts = [part for part in net.modules() if not list(part.children())]
    hooks = [
        part.register_forward_hook(lambda part, _, made: seen.append(Traced(part, tuple(made.shape[1:]))))
        for part in parts
    ]
    size = (net.latent,) if isinstance(net, Generator) else (net.channels, *(net.size,) * net.dims)
    here = next(net.parameters()).device
    net(torch.zeros(2, 1, *size, device=here), torch.zeros(2, dtype=torch.long, device=here))
    for hook in hooks:
        hook.remove()
    return seen


def draw_weights(net: nn.Module, generator: torch.Generator, *, sd: float = WEIGHT_SD) -> nn.Module:
    """Draw convolutions and projections from a normal distribution around 0; biases are 0, normalisation starts as 1.

    Published: 0.02 for everything.
    """
    with torch.no_grad():
        for name, value in net.named_parameters():
            if value.ndim > 2 or name == "project":
                value.normal_(0, sd, generator=generator)
            elif name.endswith("bias"):
                value.zero_()
    return net


def stacked(states: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Weights of several networks (``state_dict()``) as those of one whose `groups` are these networks, in order."""
    return {
        name: torch.cat([state[name] for state in states]) if value.ndim else value.clone()
        for name, value in states[0].items()
    }


def unstacked(state: Mapping[str, torch.Tensor], groups: int) -> list[dict[str, torch.Tensor]]:
    """The inverse of :func:`stacked`: weights of each of the networks side by side."""
    parts = {name: value.chunk(groups) if value.ndim else (value,) * groups for name, value in state.items()}
    return [{name: part[k].clone() for name, part in parts.items()} for k in range(groups)]


def _check(size: int, widths: Sequence[int], kernel: int, where: str) -> None:
    needed = SMALLEST * 2 ** len(widths)
    require(
        len(widths) > 0 and size == needed, where, expected=f"{needed} pixels for {len(widths)} widths", found=size,
        remedy="Every width doubles or halves the image, from 4×4: give one width more or less, or another size.",
    )
    require(
        kernel % 2 == 1 and kernel > 1, where.replace("size", "kernel"), expected="an odd number above 1", found=kernel,
        remedy="Use 5, as published, or 3.",
    )
