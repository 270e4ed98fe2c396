"""Flexible self-attention over all places of a volume (Wei thesis 4.2.2, Eqs. 4.1-4.3, Fig. 4.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from nbkit.core.checks import require
from nbkit.nets.conv import Conv3d


class FlexibleSelfAttention(nn.Module):
    """y = γ o + x, where o at each place is a mean of values at all places, weighted by softmax(key · query).

    1³ convolutions give key, query and value of `channels`/`reduction` maps; the three are max-pooled by `pool`, o is
    spread back over the cells it was pooled from, and one more 1³ convolution, which the text omits, brings it back
    to `channels` maps. γ is learned from 0, so a new layer changes nothing.

    Memory grows linearly with the number of places (``scaled_dot_product_attention`` never stores the attention map),
    so that `pool` 1 is possible where the paper had to pool. Both sides of the map shrink by pool³, the map by pool⁶
    (the text says "the cubic of the pool size").

    Parameters
    ----------
    channels : int
    pool : int
        p, the edge of a cell in voxels; cells at the far border may be smaller.
    reduction : int
        8 in the thesis; one map per head at least is kept.
    heads : int
        1 in the thesis; each attends on its own share of the reduced maps.

    Notes
    -----
    Eq. 4.1 has no 1/√d, and none is used. The softmax subtracts the largest logit and runs in float32 under autocast,
    so it cannot overflow; with C/8 maps and Glorot weights the logits stay of order one at the start.
    """

    def __init__(self, channels: int, *, pool: int = 1, reduction: int = 8, heads: int = 1) -> None:
        super().__init__()
        inner = max(channels // reduction, heads)
        for name, value in {"pool": pool, "reduction": reduction, "heads": heads}.items():
            require(
                value >= 1, f"FlexibleSelfAttention: {name}", expected="at least 1", found=value, remedy="Raise it.",
            )
        require(
            inner % heads == 0, "FlexibleSelfAttention: heads", expected=f"a divisor of the {inner} reduced maps",
            found=heads, remedy="Change heads, channels or reduction.",
        )
        self.pool, self.heads = pool, heads
        self.key, self.query, self.value = (Conv3d(channels, inner, 1) for _ in range(3))
        self.back = Conv3d(inner, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, X, Y, Z) -> the same shape."""
        return self.gamma * self.back(self.attended(x)) + x

    def attended(self, x: torch.Tensor) -> torch.Tensor:
        """o of Eq. 4.2 on the grid of x, before the last convolution; (B, channels/reduction, X, Y, Z)."""
        key, query, value = (F.max_pool3d(c(x), self.pool, ceil_mode=True) for c in (self.key, self.query, self.value))
        shape = value.shape
        with torch.autocast(x.device.type, enabled=False):
            o = F.scaled_dot_product_attention(*map(self._tokens, (query, key, value)), scale=1.0)
        o = o.transpose(2, 3).reshape(shape).to(x.dtype)
        return self._spread(o)[..., : x.shape[2], : x.shape[3], : x.shape[4]]

    def _tokens(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, heads · d, x, y, z) -> (B, heads, places, d), float32 and in one piece."""
        places = maps.float().flatten(2).unflatten(1, (self.heads, -1))
        return places.transpose(2, 3).contiguous()

    def _spread(self, maps: torch.Tensor) -> torch.Tensor:
        for axis in (2, 3, 4) if self.pool > 1 else ():
            maps = maps.repeat_interleave(self.pool, dim=axis)
        return maps
