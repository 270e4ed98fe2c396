"""Feature-wise linear modulation: one number, such as an age, changes how every feature map is scaled and shifted."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from nbkit.nets.conv import Conv3d

LEAK = 0.2


def embedding(inputs: int = 1, *, width: int = 64, depth: int = 4) -> nn.Sequential:
    """`depth` dense layers of `width` features with leaky ReLU (slope 0.2); (B, inputs) -> (B, width)."""
    sizes = [inputs] + [width] * depth
    layers = [layer for a, b in zip(sizes, sizes[1:]) for layer in (nn.Linear(a, b), nn.LeakyReLU(LEAK))]
    return nn.Sequential(*layers)


class FiLM(nn.Module):
    """(1 + γ) x + β with γ and β read from a condition by one dense layer (Perez et al., AAAI 2018).

    That layer starts at zero, so a new FiLM changes nothing and every condition gives the same result.

    Parameters
    ----------
    condition, channels : int
        Features of the condition, and of the maps that it modulates.
    """

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.dense = nn.Linear(condition, 2 * channels)
        nn.init.zeros_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Modulate x (B, channels, X, Y, Z) by a condition (B, features)."""
        gain, shift = self.dense(condition)[..., None, None, None].chunk(2, dim=1)
        return torch.addcmul(x + shift, gain, x)


class FiLMConv(nn.Module):
    """Spectrally normalised convolution without bias, FiLM, and a leaky ReLU unless `linear`.

    Parameters
    ----------
    in_channels, out_channels, condition : int
    kernel : int
        Odd edge of the kernel; borders are reflected.
    linear : bool
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, condition: int, kernel: int = 3, linear: bool = False
    ) -> None:
        super().__init__()
        conv = Conv3d(
            in_channels, out_channels, kernel, padding=kernel // 2, padding_mode="reflect", bias=False
        )
        self.conv, self.film = spectral_norm(conv), FiLM(condition, out_channels)
        self.rise = nn.Identity() if linear else nn.LeakyReLU(LEAK)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, X, Y, Z) and (B, features) -> (B, out_channels, X, Y, Z)."""
        return self.rise(self.film(self.conv(x), condition))


class FiLMResidual(nn.Module):
    """x + two :class:`FiLMConv` of `channels` feature maps."""

    def __init__(self, channels: int, *, condition: int) -> None:
        super().__init__()
        self.first = FiLMConv(channels, channels, condition=condition)
        self.second = FiLMConv(channels, channels, condition=condition)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """(B, channels, X, Y, Z) and (B, features) -> (B, channels, X, Y, Z)."""
        return x + self.second(self.first(x, condition), condition)
