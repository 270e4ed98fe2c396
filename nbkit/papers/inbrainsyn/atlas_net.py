"""The two branches of an atlas generator: a template for a condition, and the deformation from it to a person.

Dey et al., "Generative adversarial registration for improved conditional deformable templates", ICCV 2021 (Atlas-GAN),
with the layers of its public code as InBrainSyn (Fu et al. 2025) uses them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from nbkit.core.checks import require
from nbkit.nets.conv import Conv3d
from nbkit.nets.film import LEAK, FiLM, FiLMConv, FiLMResidual, embedding

CONDITION = 64
"""Features of the embedded condition."""
CONSTANT = 8
"""Maps of the learned constant, and of the last layers at full resolution."""


class TemplateBranch(nn.Module):
    """What a condition adds to the average image: a learned constant at half resolution, decoded under FiLM.

    Parameters
    ----------
    shape : tuple of int
        Of the template; even numbers.
    width : int
        Feature maps at half resolution (32).
    blocks : int
        Residual blocks there (5).
    """

    def __init__(self, shape: tuple[int, int, int], *, width: int = 32, blocks: int = 5) -> None:
        super().__init__()
        require(
            all(n % 2 == 0 for n in shape), "TemplateBranch: shape", expected="even numbers of voxels", found=shape,
            remedy="Crop or pad the images to a multiple of 8 voxels per axis.",
        )
        self.embed = embedding(width=CONDITION)
        self.constant = nn.Parameter(0.02 * torch.randn(1, CONSTANT, *(n // 2 for n in shape)))
        self.film = FiLM(CONDITION, CONSTANT)
        self.widen = spectral_norm(Conv3d(CONSTANT, width, 3, padding=1, padding_mode="reflect"))
        self.blocks = nn.ModuleList(FiLMResidual(width, condition=CONDITION) for _ in range(blocks))
        self.fine = nn.ModuleList([
            FiLMConv(width, CONSTANT, condition=CONDITION), FiLMConv(CONSTANT, CONSTANT, condition=CONDITION),
            FiLMConv(CONSTANT, CONSTANT, condition=CONDITION, kernel=1, linear=True),
        ])
        self.out = Conv3d(CONSTANT, 1, 3, padding=1, padding_mode="reflect")

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        """(B, 1) -> (B, 1, X, Y, Z), between −1 and 1."""
        c = self.embed(condition)
        x = self.widen(self.film(self.constant.expand(len(c), -1, -1, -1, -1), c))
        for block in self.blocks:
            x = block(x, c)
        x = F.interpolate(x, scale_factor=2, mode="trilinear")
        for layer in self.fine:
            x = layer(x, c)
        return self.out(x).tanh()


class VelocityBranch(nn.Module):
    """Stationary velocity field at half resolution that brings one image to another; starts next to zero.

    Four 3³ convolutions of stride 2 down and three steps up with skip connections, all of `width` maps.
    """

    def __init__(self, *, width: int = 32) -> None:
        super().__init__()
        self.down = nn.ModuleList(_conv(a, width, stride=2) for a in (2, width, width, width))
        self.bottom = _conv(width, width)
        self.up = nn.ModuleList(_conv(2 * width, width) for _ in range(3))
        self.last = nn.Sequential(
            _conv(width, width), _conv(width, width), Conv3d(width, max(width // 2, 1), 3, padding=1)
        )
        self.out = Conv3d(max(width // 2, 1), 3, 3, padding=1, padding_mode="reflect")
        nn.init.normal_(self.out.weight, std=1e-5)
        nn.init.zeros_(self.out.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 2, X, Y, Z), the target and what is to move, -> (B, 3, X/2, Y/2, Z/2) in voxels of that grid."""
        skips = []
        for layer in self.down:
            images = layer(images)
            skips.append(images)
        x = self.bottom(skips.pop())
        for layer in self.up:
            skip = skips.pop()
            x = layer(torch.cat([F.interpolate(x, size=skip.shape[2:], mode="nearest"), skip], dim=1))
        return self.out(self.last(x))


def _conv(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(Conv3d(in_channels, out_channels, 3, stride=stride, padding=1), nn.LeakyReLU(LEAK))
