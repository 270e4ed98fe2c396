"""3D convolutions that stay with oneDNN on a CPU, however few items they are given.

torch 2.13 convolves a single float32 item whose channels times first two extents are at most 20 480 in a loop of its
own, at a fourth to a twentieth of oneDNN's speed. Twice the item, of which the second result is dropped, stays with
oneDNN. And in bfloat16 oneDNN 3.x leaves parts of a weight's gradient unwritten, or writes past its memory, where the
input is shorter than the kernel along an axis: such small grids are convolved in float32.
"""

from __future__ import annotations

import torch
from torch import nn

_LEFT_TO_A_LOOP = 20_480
"""Channels times the first two extents of a single item up to which torch leaves oneDNN."""
_WORTH_DOUBLING = 8_192
"""Channels times voxels of the output from which twice the work by oneDNN takes less time than the loop."""
_WORTH_TRAINING = 8
"""Channels from which that holds for gradients too."""


class Conv3d(nn.Conv3d):
    """:class:`torch.nn.Conv3d`, (B, C, X, Y, Z) -> (B, K, X', Y', Z'), a lone item doubled where that is faster.

    On a CPU, a grid shorter than the kernel is convolved in float32, under bfloat16 autocast too.
    """

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if self._too_small_for_half(x):
            with torch.autocast("cpu", enabled=False):
                return self._conv_forward(x.float(), weight, bias)
        if self._left_to_a_loop(x):
            return super()._conv_forward(x.expand(2, *x.shape[1:]), weight, bias)[:1]
        return super()._conv_forward(x, weight, bias)

    def _too_small_for_half(self, x: torch.Tensor) -> bool:
        half = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        return half and any(n < k for n, k in zip(x.shape[2:], self.kernel_size))

    def _left_to_a_loop(self, x: torch.Tensor) -> bool:
        alone = x.device.type == "cpu" and x.dtype == torch.float32 and x.ndim == 5 and len(x) == 1
        if not alone or self.groups > 1 or self.kernel_size == (1, 1, 1):
            return False
        if torch.is_autocast_enabled("cpu") or x.shape[1] * x.shape[2] * x.shape[3] > _LEFT_TO_A_LOOP:
            return False
        voxels = x[0, 0].numel() // (self.stride[0] * self.stride[1] * self.stride[2])
        enough = x.shape[1] >= _WORTH_TRAINING or not torch.is_grad_enabled()
        return enough and x.shape[1] * voxels >= _WORTH_DOUBLING


def in_company(net: nn.Module) -> nn.Module:
    """`net`, from another library, with each of its 3D convolutions made a :class:`Conv3d`, weights as they are."""
    for module in net.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = Conv3d
    return net
