"""3D U-Net (Ronneberger et al. 2015) as the papers describe their comparison network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from nbkit.nets.conv import Conv3d


def conv_block(in_channels: int, out_channels: int, *, count: int = 2, norm: bool = False) -> nn.Sequential:
    """`count` 3³ convolutions, each followed by ReLU; with `norm`, by instance normalisation and ReLU."""
    layers: list[nn.Module] = []
    for channels in (in_channels, *[out_channels] * (count - 1)):
        layers.append(Conv3d(channels, out_channels, 3, padding=1))
        layers += [nn.InstanceNorm3d(out_channels, affine=True)] if norm else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """U-Net with `levels` max-poolings and a linear output; any spatial size (padded inside to a multiple).

    Parameters
    ----------
    in_channels, out_channels : int
    first : int
        Feature maps of the first block; they double at each pooling (Wei thesis 2.2.3: 16, then 32, bottleneck 64).
    levels : int
        Down- and up-sampling blocks (2 in the thesis). Upsampling is a 2³ transposed convolution of stride 2,
        joined with the skip connection by concatenation.
    up_convs : int
        3³ convolutions after each joining. The thesis says two; three give the number of parameters it prints (375.6K).
    norm : bool
        Instance normalisation before every ReLU (not in the thesis).
    """

    def __init__(
        self, in_channels: int, out_channels: int = 1, *, first: int = 16, levels: int = 2, up_convs: int = 2,
        norm: bool = False,
    ) -> None:
        super().__init__()
        widths = [first * 2**i for i in range(levels + 1)]
        self.down = nn.ModuleList(conv_block(a, b, norm=norm) for a, b in zip([in_channels, *widths], widths[:-1]))
        self.bottleneck = conv_block(widths[-2], widths[-1], norm=norm)
        self.rise = nn.ModuleList(nn.ConvTranspose3d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        up = {"count": up_convs, "norm": norm}
        self.up = nn.ModuleList(conv_block(2 * w, w, **up) for w in reversed(widths[:-1]))
        self.out = Conv3d(first, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, X, Y, Z) -> (B, out_channels, X, Y, Z)."""
        shape, step = x.shape[2:], 2 ** len(self.down)
        x = F.pad(x, [side for n in reversed(shape) for side in (0, -n % step)])
        skips = []
        for block in self.down:
            skips.append(block(x))
            x = F.max_pool3d(skips[-1], 2)
        x = self.bottleneck(x)
        for rise, block, skip in zip(self.rise, self.up, reversed(skips)):
            x = block(torch.cat([rise(x), skip], dim=1))
        return self.out(x)[..., : shape[0], : shape[1], : shape[2]]
