"""Which convolutions torch leaves to its own loop on a CPU, counted where it chooses."""

from __future__ import annotations

import math

import torch
from torch.utils._python_dispatch import TorchDispatchMode

SMALL = 8_192
"""Channels times voxels of the output below which the loop is no slower than oneDNN."""
FEW = 8
"""Channels below which gradients of a lone item take no longer in the loop."""
DEFAULTS = (None, None, None, [1] * 3, [0] * 3, [1] * 3, 1)


class Convolutions(TorchDispatchMode):
    """Counts multiplications of 3D convolutions, forward and backward, by the backend that torch chooses.

    Left out are kernels of one voxel and transposed ones, which a loop does as matrix products.
    """

    def __init__(self) -> None:
        super().__init__()
        self.all, self.left, self.large = 0, 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution.default:
            self._count(*args[:9], training=False)
        elif function is torch.ops.aten.conv3d.default:  # in inference mode nothing takes it apart before
            x, weight, bias, stride, padding, dilation, groups = (*args, *DEFAULTS[len(args):])
            self._count(x, weight, bias, stride, padding, dilation, False, [0] * 3, groups, training=False)
        elif function is torch.ops.aten.convolution_backward.default:
            grad, x, weight, _, *rest = args
            self._count(x, weight, None, *rest[:6], training=True)
        return function(*args, **(kwargs or {}))

    def _count(self, x, weight, bias, stride, padding, dilation, transposed, output_padding, groups, *, training):
        if x.ndim != 5 or transposed or math.prod(weight.shape[2:]) == 1:
            return
        chosen = torch._C._select_conv_backend(
            x.detach(), weight.detach(), None if bias is None else bias.detach(), list(stride), list(padding),
            list(dilation), transposed, list(output_padding), groups,
        )
        voxels = x[0, 0].numel() // math.prod(stride)
        work = len(x) * voxels * weight.numel() * (2 if training else 1)
        self.all += work
        if chosen.name != "Mkldnn":
            self.left += work
            if x.shape[1] * voxels >= SMALL and (x.shape[1] >= FEW or not training):
                self.large.append((tuple(x.shape), tuple(weight.shape), chosen.name))

    def share_left(self) -> float:
        """Share of all multiplications that the loop does."""
        return self.left / max(self.all, 1)
