"""CounterSynth's two networks: a velocity field from a scan and a condition, and a judge of scans and their labels.

Pombo et al., Medical Image Analysis 84:102723, 2023; the layers are those of the public code, which takes the
generator from VoxelMorph (Balakrishnan et al., IEEE TMI 2019) and the judge from SFCN (Peng et al., Medical Image
Analysis 68:101871, 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from nbkit.core.checks import known, require
from nbkit.geometry.flow import Velocity, expv
from nbkit.geometry.pyramid import block_affine, pad_to_multiple
from nbkit.geometry.warp import Displacement, warp
from nbkit.nets.conv import Conv3d
from nbkit.nets.film import LEAK

HALF = (2, 2, 2)
NORMS = ("batch", "group")
_GROUPS = 4
_STILL, _SD = 1e-5, 0.02
"""Standard deviations of the first weights: of the generator's last layer, of all the judge's."""
N = TypeVar("N", bound=nn.Module)


class VelocityUNet(nn.Module):
    """U-Net from an image and a condition, spread over every voxel, to a velocity in voxels of half the resolution.

    Parameters
    ----------
    condition : int
        Numbers in the condition.
    encoder, decoder : sequence of int
        Feature maps of the 3³ convolutions of stride 2 on the way down, and of those on the way up.
    fine : sequence of int
        Feature maps of the 3³ convolutions at full resolution; none: the way up ends at half the resolution.
    """

    def __init__(self, condition: int, *, encoder: Sequence[int], decoder: Sequence[int], fine: Sequence[int]) -> None:
        super().__init__()
        rises = len(encoder) - (0 if fine else 1)
        require(
            len(decoder) == rises >= 1, "VelocityUNet: decoder", expected=f"{rises} widths", found=len(decoder),
            remedy="Give one for each halving; with no fine layers one less.",
        )
        skips = [1 + condition, *encoder]
        self.down = nn.ModuleList(_conv(a, b, stride=2) for a, b in zip(skips, encoder))
        self.up, width = nn.ModuleList(), encoder[-1]
        for level, out in enumerate(decoder, 2):
            self.up.append(_conv(width, out))
            width = out + skips[-level]
        sizes = [width, *fine]
        self.fine = nn.Sequential(*(_conv(a, b) for a, b in zip(sizes, fine)))
        self.out = Conv3d(sizes[-1], 3, 3, padding=1)

    def forward(self, image: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """(B, 1, X, Y, Z) of even numbers and (B, condition) -> (B, 3, X/2, Y/2, Z/2)."""
        told = condition[..., None, None, None].expand(-1, -1, *image.shape[2:])
        maps = [torch.cat([image, told], dim=1)]
        for layer in self.down:
            maps.append(layer(maps[-1]))
        x = maps.pop()
        for layer in self.up:
            skip = maps.pop()
            x = torch.cat([F.interpolate(layer(x), size=skip.shape[2:], mode="nearest"), skip], dim=1)
        field = self.out(self.fine(x))
        # a voxel of the half grid is two of the full one
        return F.avg_pool3d(field, 2) / 2 if len(self.fine) else field


class DiffeoGenerator(nn.Module):
    """A scan as another condition would have it: the flow of a stationary velocity field at half the resolution.

    Parameters
    ----------
    affine : numpy.ndarray
        4×4 voxel-to-world (mm) of the scans; any numbers of voxels.
    condition, encoder, decoder, fine
        As of :class:`VelocityUNet`.
    squarings : int
        Of the integration.
    """

    def __init__(
        self, affine: np.ndarray, condition: int, *, encoder: Sequence[int], decoder: Sequence[int],
        fine: Sequence[int], squarings: int,
    ) -> None:
        super().__init__()
        self.affine, self.half_affine, self.squarings = affine, block_affine(affine, HALF), squarings
        self.net = VelocityUNet(condition, encoder=encoder, decoder=decoder, fine=fine)

    def velocity(
        self, image: torch.Tensor, condition: torch.Tensor, kept: torch.Tensor | None = None
    ) -> Velocity:
        """Image (B, 1, X, Y, Z) and condition (B, K) -> (B, 3, ⌈X/2⌉, ⌈Y/2⌉, ⌈Z/2⌉), mm per unit time.

        Minus the velocity of `kept`, the condition under which nothing changes, where it is given: that then moves
        nothing at all.
        """
        padded = pad_to_multiple(image, HALF)
        voxels = self.net(padded, condition).float()
        voxels = voxels if kept is None else voxels - self.net(padded, kept).float()
        return Velocity(torch.einsum("ij,bjxyz->bixyz", torch.as_tensor(self.half_affine[:3, :3]).to(voxels), voxels))

    def forward(
        self, image: torch.Tensor, condition: torch.Tensor, kept: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """``moved``, the image deformed, and ``velocity`` (mm, half resolution).

        What lies outside `image` is as its border, so that its background may have any value.
        """
        velocity = self.velocity(image, condition, kept)
        flow = expv(velocity, affine=self.half_affine, steps=self.squarings)
        moved = warp(image, Displacement(refined(flow, image.shape[2:])), affine=self.affine, padding="border")
        return {"moved": moved, "velocity": velocity}


def refined(field: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """A field (B, 3, ⌈X/2⌉, ⌈Y/2⌉, ⌈Z/2⌉) on the grid of `shape` (X, Y, Z), of which it has every 2³ block."""
    x, y, z = shape
    return F.interpolate(field, scale_factor=2, mode="trilinear")[..., :x, :y, :z]


class Judged(NamedTuple):
    """What the judge says of images: one row per subject.

    Attributes
    ----------
    real : torch.Tensor
        (B,) score of being a real scan, without a sigmoid.
    age : torch.Tensor
        (B,) in standard deviations.
    sex : torch.Tensor
        (B,) logit of "M".
    diagnosis : torch.Tensor
        (B, D) logits.
    """

    real: torch.Tensor
    age: torch.Tensor
    sex: torch.Tensor
    diagnosis: torch.Tensor


class Judge(nn.Module):
    """Critic and predictor of the labels in one: 3³ convolutions, each halved by max-pooling, then dense heads.

    Parameters
    ----------
    shape : tuple of int
        (X, Y, Z) of the scans.
    diagnoses : int
    widths : sequence of int
        Feature maps; the last layer is a 1³ convolution that halves nothing.
    norm : {"batch", "group"}
        Batch normalisation as published, or group normalisation, which a batch of a few can bear.
    """

    def __init__(self, shape: Sequence[int], *, diagnoses: int, widths: Sequence[int], norm: str) -> None:
        super().__init__()
        known(norm, NORMS, "Judge: norm")
        left = tuple(n // 2 ** (len(widths) - 1) for n in shape)
        require(
            min(left) >= 1, "Judge: widths", expected=f"fewer halvings of {tuple(shape)} voxels",
            found=f"{len(widths) - 1}", remedy="Leave out some of the widths.",
        )
        layers: list[nn.Module] = []
        for a, b in zip((1, *widths), widths[:-1]):
            layers += [Conv3d(a, b, 3, padding=1), _norm(norm, b), nn.MaxPool3d(2), nn.ReLU()]
        layers += [Conv3d(widths[-2], widths[-1], 1), _norm(norm, widths[-1]), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.heads = Conv3d(widths[-1], 3 + diagnoses, left, bias=False)

    def forward(self, image: torch.Tensor) -> Judged:
        """Images (B, 1, X, Y, Z)."""
        said = self.heads(self.body(image)).flatten(1).float()
        return Judged(said[:, 0], said[:, 1], said[:, 2], said[:, 3:])


def drawn_generator(generator: torch.Generator, *given: Any, **options: Any) -> DiffeoGenerator:
    """A :class:`DiffeoGenerator` whose weights come from `generator` alone: torch's default, the last layer's ~ 0."""
    net = _built(DiffeoGenerator, *given, **options)
    with torch.no_grad():
        for module in (m for m in net.modules() if isinstance(m, nn.Conv3d)):
            bound = module.weight[0].numel() ** -0.5
            for values in (module.weight, module.bias):
                values.uniform_(-bound, bound, generator=generator)
        net.net.out.weight.normal_(0, _STILL, generator=generator)
        net.net.out.bias.zero_()
    return net


def drawn_judge(generator: torch.Generator, *given: Any, **options: Any) -> Judge:
    """A :class:`Judge` whose weights come from `generator` alone: N(0, 0.02²), biases 0."""
    net = _built(Judge, *given, **options)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv3d):
                module.weight.normal_(0, _SD, generator=generator)
            if isinstance(module, nn.Conv3d) and module.bias is not None:
                module.bias.zero_()
    return net


def _built(kind: type[N], *given: Any, **options: Any) -> N:
    """A network whose convolutions have no values yet: torch's own generator, which threads share, is left alone."""
    with torch.device("meta"):
        net = kind(*given, **options)
    net.to_empty(device="cpu")
    for module in net.modules():
        if isinstance(module, nn.BatchNorm3d | nn.GroupNorm):
            module.reset_parameters()
    return net


def _conv(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(Conv3d(in_channels, out_channels, 3, stride=stride, padding=1), nn.LeakyReLU(LEAK))


def _norm(name: str, channels: int) -> nn.Module:
    return nn.BatchNorm3d(channels) if name == "batch" else nn.GroupNorm(min(_GROUPS, channels), channels)
