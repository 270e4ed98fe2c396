"""The networks of Wei thesis chapters 3 and 4: a U-Net of strided convolutions, and a residual one with attention.

Both have encoder and decoder of equal depth, long skip connections by concatenation, leaky ReLU of slope 0.2, and take
any spatial size: images are padded with zeros at the far ends to a multiple of the smallest cell, and cropped again.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from nbkit.core.checks import require
from nbkit.nets.conv import Conv3d
from nbkit.nets.film import LEAK

NORMS = {
    "instance": lambda width: nn.InstanceNorm3d(width, affine=True),
    "batch": nn.BatchNorm3d,
    "none": lambda width: nn.Identity(),
}


"""Layers of normalisation by name, for a number of feature maps."""


class SeededDropout(nn.Module):
    """Dropout of single values, or of whole feature maps, from a generator of its own, see :func:`seed_dropout`.

    torch's own draws from one generator per process, so that networks trained side by side change each other's.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        require(0 <= rate < 1, "SeededDropout: rate", expected="a share in [0, 1)", found=rate, remedy="Lower it.")
        self.rate, self.whole, self.draws = rate, False, None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, X, Y, Z) -> the same shape; each value is 0 or larger by 1 / (1 − rate) while training."""
        if not (self.training and self.rate):
            return x
        if self.whole:
            kept = torch.rand(*x.shape[:2], 1, 1, 1, generator=self.draws) >= self.rate
            return x * (kept / (1 - self.rate)).to(x)
        # drawn where x lies: as many draws on the CPU would take longer than the step
        seed = int(torch.randint(2**62, (), generator=self.draws))
        draws = torch.rand(x.shape, device=x.device, generator=torch.Generator(x.device).manual_seed(seed))
        return x * ((draws >= self.rate) / (1 - self.rate)).to(x)


def seed_dropout(net: nn.Module, generator: torch.Generator, *, whole: bool = False) -> None:
    """Let every :class:`SeededDropout` of `net` draw from `generator`, values or `whole` maps."""
    for module in net.modules():
        if isinstance(module, SeededDropout):
            module.draws, module.whole = generator, whole


def unit(conv: nn.Module, *, norm: str, dropout: float) -> nn.Sequential:
    """A convolution, then leaky ReLU, normalisation and dropout, in the order the text prints (3.2.4)."""
    return nn.Sequential(conv, nn.LeakyReLU(LEAK), NORMS[norm](conv.out_channels), SeededDropout(dropout))


class FlexibleSelfAttention(nn.Module):
    """y = γ o + x, where o at each place is a mean of values at all places, weighted by softmax(key · query).

    1³ convolutions give key, query and value of an eighth of the maps; the three are max-pooled by `pool`, o is spread
    back over the cells it was pooled from, and one more 1³ convolution, which the text omits, brings it back to
    `channels` maps. γ is learned from 0, so a new layer changes nothing.

    Memory grows linearly with the number of places (``scaled_dot_product_attention`` never stores the attention map),
    so that `pool` 1, without pooling, is possible where the paper had to pool. Both sides of the map shrink by pool³,
    the map by pool⁶ (the text says "the cubic of the pool size").

    Parameters
    ----------
    channels : int
    pool : int
        p, the edge of a cell in voxels; cells at the far border may be smaller.

    Notes
    -----
    Eq. 4.1 has no 1/√d, and none is used. The softmax subtracts the largest logit and runs in float32 under autocast,
    so it cannot overflow; with C/8 maps and Glorot weights the logits stay of order one at the start.
    """

    def __init__(self, channels: int, *, pool: int = 1) -> None:
        super().__init__()
        self.pool, inner = pool, max(channels // 8, 1)
        self.key, self.query, self.value = (Conv3d(channels, inner, 1) for _ in range(3))
        self.back = Conv3d(inner, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, X, Y, Z) -> the same shape."""
        return self.gamma * self.back(self.attended(x)) + x

    def attended(self, x: torch.Tensor) -> torch.Tensor:
        """o of Eq. 4.2 on the grid of x, before the last convolution; (B, channels/8, X, Y, Z)."""
        key, query, value = (F.max_pool3d(c(x), self.pool, ceil_mode=True) for c in (self.key, self.query, self.value))
        # (B, 1, places, maps): without an axis of heads torch would store the whole map
        tokens = [maps.float().flatten(2).transpose(1, 2)[:, None].contiguous() for maps in (query, key, value)]
        with torch.autocast(x.device.type, enabled=False):
            o = F.scaled_dot_product_attention(*tokens, scale=1.0)
        o = o.transpose(2, 3).reshape(value.shape).to(x.dtype)
        for axis in (2, 3, 4) if self.pool > 1 else ():
            o = o.repeat_interleave(self.pool, dim=axis)
        return o[..., : x.shape[2], : x.shape[3], : x.shape[4]]


class StridedUNet(nn.Module):
    """The 3D U-Net of Fig. 3.3 A: each level is two 3³ convolutions and one of stride 2, mirrored by deconvolutions.

    Parameters
    ----------
    in_channels : int
    first : int
        Feature maps of the first level (32 in the thesis); they double at each.
    levels : int
        3 in the thesis.
    norm : {"instance", "batch", "none"}
        After every leaky ReLU. The text has batch normalisation, which at one image per step is instance
        normalisation while training and something else afterwards.
    dropout : float
        Rate (0.5 in the thesis), see :func:`seed_dropout`.
    head : {"leaky", "linear"}
        Last layer: a leaky ReLU as in 3.3.2 ("a LeakyRelu layer as the last layer instead of sigmoid"), or none.
    """

    def __init__(
        self, in_channels: int, *, first: int = 32, levels: int = 3, norm: str = "instance", dropout: float = 0.5,
        head: str = "leaky",
    ) -> None:
        super().__init__()
        widths = [first * 2**i for i in range(levels + 1)]
        self.cell = 2**levels

        def conv(a: int, b: int, stride: int = 1) -> nn.Module:
            return unit(Conv3d(a, b, 3, stride=stride, padding=1), norm=norm, dropout=dropout)

        def rise(w: int) -> nn.Module:
            return unit(nn.ConvTranspose3d(2 * w, w, 2, stride=2), norm=norm, dropout=dropout)

        starts = (in_channels, *widths[1:-1])
        self.pairs = nn.ModuleList(nn.Sequential(conv(a, w), conv(w, w)) for a, w in zip(starts, widths))
        self.down = nn.ModuleList(conv(w, 2 * w, 2) for w in widths[:-1])
        self.bottleneck = nn.Sequential(conv(widths[-1], widths[-1]), conv(widths[-1], widths[-1]))
        self.rise = nn.ModuleList(rise(w) for w in reversed(widths[:-1]))
        self.up = nn.ModuleList(nn.Sequential(conv(2 * w, w), conv(w, w)) for w in reversed(widths[:-1]))
        self.out, self.last = Conv3d(first, 1, 1), nn.LeakyReLU(LEAK) if head == "leaky" else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, X, Y, Z) -> (B, 1, X, Y, Z)."""
        return padded(self._maps, x, self.cell)

    def _maps(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for pair, down in zip(self.pairs, self.down):
            skips.append(pair(x))
            x = down(skips[-1])
        x = self.bottleneck(x)
        for rise, up, skip in zip(self.rise, self.up, reversed(skips)):
            x = up(torch.cat([rise(x), skip], dim=1))
        return self.last(self.out(x))


class ResidualBlock(nn.Module):
    """Two 3³ convolutions that change resolution, and beside them a short connection of one (Fig. 4.2 a, b).

    Parameters
    ----------
    in_channels, out_channels : int
    up : bool
        False: the second convolution has stride 2 (ResDown). True: the first is a 2³ deconvolution of stride 2 (ResUp).
    norm, dropout
        Of every :func:`unit`, see :class:`StridedUNet`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, up: bool, norm: str, dropout: float) -> None:
        super().__init__()
        a, b = in_channels, out_channels
        if up:
            layers = (nn.ConvTranspose3d(a, b, 2, stride=2), Conv3d(b, b, 3, padding=1))
            self.short: nn.Module = nn.ConvTranspose3d(a, b, 2, stride=2)
        else:
            layers = (Conv3d(a, a, 3, padding=1), Conv3d(a, b, 3, stride=2, padding=1))
            self.short = Conv3d(a, b, 1, stride=2)
        self.long = nn.Sequential(*(unit(layer, norm=norm, dropout=dropout) for layer in layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, X, Y, Z) -> (B, out_channels, ...) at half (ResDown) or twice (ResUp) the size."""
        return self.long(x) + self.short(x)


class ResidualAttentionUNet(nn.Module):
    """The generator of CF-SAGAN (Fig. 4.2): ResDown and ResUp blocks with flexible self-attention between.

    The figure puts one attention unit between the ResDown blocks and one between the ResUp blocks; here both stand
    half-way, where the grid is a quarter of the image's edge at four levels.

    Parameters
    ----------
    in_channels : int
    first : int
        Feature maps of the first convolution (16 in the thesis); they double in each ResDown block.
    levels : int
        4 in the thesis.
    norm, dropout
        See :class:`StridedUNet`.
    attention_pool : int
        p of both attention units; the text does not give it. 1 does not pool, 0 leaves attention out.
    """

    def __init__(
        self, in_channels: int, *, first: int = 16, levels: int = 4, norm: str = "instance", dropout: float = 0.5,
        attention_pool: int = 1,
    ) -> None:
        super().__init__()
        require(
            levels >= 2, "ResidualAttentionUNet: levels", expected="at least 2, with attention between them",
            found=levels, remedy="Use StridedUNet for a single level.",
        )
        widths = [first * 2**i for i in range(levels + 1)]
        self.cell, self.middle = 2**levels, (levels + 1) // 2
        self.first = unit(Conv3d(in_channels, first, 3, padding=1), norm=norm, dropout=dropout)
        self.down = nn.ModuleList(
            ResidualBlock(w, 2 * w, up=False, norm=norm, dropout=dropout) for w in widths[:-1]
        )
        # a ResUp block after the first gets the level below joined with that level's skip connection
        self.up = nn.ModuleList(
            ResidualBlock(2 * w if 2 * w == widths[-1] else 4 * w, w, up=True, norm=norm, dropout=dropout)
            for w in reversed(widths[:-1])
        )
        self.attend = nn.ModuleList(
            FlexibleSelfAttention(widths[self.middle], pool=attention_pool) if attention_pool else nn.Identity()
            for _ in range(2)
        )
        self.out = Conv3d(2 * first, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, X, Y, Z) -> (B, 1, X, Y, Z)."""
        return padded(self._maps, x, self.cell)

    def _maps(self, x: torch.Tensor) -> torch.Tensor:
        skips = [self.first(x)]
        for level, down in enumerate(self.down, 1):
            x = down(skips[-1])
            skips.append(self.attend[0](x) if level == self.middle else x)
        x = skips.pop()
        for level, up in zip(reversed(range(len(self.up))), self.up):
            x = up(x)
            x = self.attend[1](x) if level == self.middle else x
            x = torch.cat([x, skips[level]], dim=1)
        return self.out(x)


def padded(net: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, cell: int) -> torch.Tensor:
    """net(x) of x (B, C, X, Y, Z) padded with zeros at the far ends to multiples of `cell`; cropped to x's size."""
    shape = x.shape[2:]
    pads = [side for n in reversed(shape) for side in (0, -n % cell)]
    return net(F.pad(x, pads) if any(pads) else x)[..., : shape[0], : shape[1], : shape[2]]
