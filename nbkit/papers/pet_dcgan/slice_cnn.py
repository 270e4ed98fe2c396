"""A small convolutional classifier of single slices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

PLACES = 4
"""The last maps are averaged over so many parts of each edge: brains lie in one space, and what is pale where tells."""


class SliceCNN(nn.Module):
    """Slices to one score each, the logit of the second of two classes.

    A convolution 5×5 of stride 2, then one of 3×3 and stride 2 for every further width, each with batch normalisation
    and ReLU; means over 4×4 parts of the last maps, and a dense layer. Islam and Zhang (Brain Informatics 2020) print
    no layer of their "2D-CNN model"; this one is an assumption.

    Parameters
    ----------
    channels : int
    widths : sequence of int
    """

    def __init__(self, channels: int = 1, *, widths: Sequence[int] = (8, 16, 32)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for level, (a, b) in enumerate(zip((channels, *widths), widths)):
            kernel = 3 if level else 5
            layers += [nn.Conv2d(a, b, kernel, stride=2, padding=kernel // 2), nn.BatchNorm2d(b), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(PLACES))
        self.dense = nn.Linear(widths[-1] * PLACES**2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, S, S) of any size -> (B,)."""
        return self.dense(self.body(x).flatten(1))[:, 0]
