"""3D convolutions that stay with oneDNN on a CPU, however few items they are given.

torch 2.13 convolves a single float32 item whose channels times first two extents are at most 20 480 in a loop of its
own, at a fourth to a twentieth of oneDNN's speed. Twice the item, of which the second result is dropped, stays with
oneDNN.
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
    """:class:`torch.nn.Conv3d`, (B, C, X, Y, Z) -> (B, K, X', Y', Z'), a lone item doubled where that is faster."""

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if self._left_to_a_loop(x):
            return super()._conv_forward(x.expand(2, *x.shape[1:]), weight, bias)[:1]
        return super()._conv_forward(x, weight, bias)

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
