"""The feature space in which sets of slices are compared: random convolutions with fixed weights, pooled."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import nn

from nbkit.core.checks import require
from nbkit.core.seeds import torch_generator

WIDTHS, POOLED, LENGTH = (16, 32, 64), 4, 64
_FLOOR = 0.1
"""Least spread of a feature, as a share of the median spread of all: what hardly varies must not decide."""


class SliceFeatureNet(nn.Module):
    """Features of slices from three layers of random convolutions, the same on every machine and in every run.

    Each layer is a 3×3 convolution of stride 2 with ReLU; weights are drawn once from He's normal distribution and
    biases from one of sd 0.1. Of every channel the mean in each of 4×4 fields is kept, which tells where in the
    brain something is, and its sd over the whole slice, which tells texture. :meth:`fit` learns mean and sd of these
    pooled values from real training images; they are standardised with them, the sd not below a tenth of the median
    one, and a fixed random projection keeps distances in 64 numbers (Johnson & Lindenstrauss).

    Nothing is trained and no download is needed. Random convolutions see edges, textures and brightness by place, but
    have no notion of what matters to a reader. That blurred, noisy and other-stage images lie farther away, and the
    more so the stronger the change, is tested, not assumed.

    References
    ----------
    Naeem et al., ICML 2020: random embeddings as an alternative where images are unlike ImageNet's.
    """

    def __init__(self) -> None:
        super().__init__()
        generator = torch_generator(0, "slice features")
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip((1, *WIDTHS), WIDTHS))
        for conv in self.layers:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=generator)
            nn.init.normal_(conv.bias, std=0.1, generator=generator)
        pooled = sum(WIDTHS) * (POOLED**2 + 1)
        self.projection = torch.randn(pooled, LENGTH, generator=generator) / pooled**0.5
        self.mean = self.sd = torch.zeros(pooled)
        self.requires_grad_(False)

    @torch.no_grad()
    def fit(self, images: torch.Tensor) -> Self:
        """Learn the constants from real images of training subjects (N, 1, S, S) in [−1, 1], N of 2 or more."""
        require(
            len(images) >= 2, "SliceFeatureNet.fit: images", expected="2 images or more", found=len(images),
            remedy="Give the training images.",
        )
        pooled = self._pooled(images)
        self.mean, sd = pooled.mean(dim=0), pooled.std(dim=0)
        self.sd = sd.clamp(min=max(float(_FLOOR * sd.median()), torch.finfo(sd.dtype).tiny))
        return self

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (N, 64) of images (N, 1, S, S) in [−1, 1].

        Raises
        ------
        NbkitError
            Before :meth:`fit`, or for images of another shape.
        """
        require(
            bool((self.sd > 0).all()), "SliceFeatureNet", expected="constants of the training images", found="none",
            remedy="Call fit(images) with real images of training subjects first.",
        )
        return ((self._pooled(images) - self.mean) / self.sd) @ self.projection

    def _pooled(self, images: torch.Tensor) -> torch.Tensor:
        require(
            images.ndim == 4 and images.shape[1] == 1 and min(images.shape[2:]) >= 2 ** len(WIDTHS) * POOLED,
            "SliceFeatureNet: images", expected=f"(N, 1, S, S), S of {2 ** len(WIDTHS) * POOLED} or more",
            found=tuple(images.shape), remedy="Give one-channel slices; of three equal channels take the first.",
        )
        parts, x = [], images.float()
        for layer in self.layers:
            x = torch.relu(layer(x))
            parts += [F.adaptive_avg_pool2d(x, POOLED).flatten(1), x.flatten(2).std(dim=2)]
        return torch.cat(parts, dim=1)
