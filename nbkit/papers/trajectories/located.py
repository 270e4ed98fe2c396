"""A segmentation network that starts from where structures usually lie and from the greys of the image at hand.

Ashburner & Friston, NeuroImage 26:839, 2005, without their bias field and warps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

_ROUNDS = 3
_LEAST_VARIANCE = 0.02
"""Of a tissue's greys, in variances of the brain."""


class Located(nn.Module):
    """A network whose logits (B, 1 + K, X, Y, Z) start from the usual place and tissue of every structure.

    Parameters
    ----------
    net : torch.nn.Module
    usual : torch.Tensor
        (1 + K, x, y, z): log shares on cells of two voxels.
    tissues : torch.Tensor
        (3, 1 + K): 1 where a structure is of fluid, of grey or of white matter; background is of none.
    shape : tuple of int
        (X, Y, Z) of the images.
    """

    def __init__(
        self, net: nn.Module, usual: torch.Tensor, tissues: torch.Tensor, shape: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("usual", usual)
        self.register_buffer("tissues", tissues, persistent=False)
        self.pairs = tissues.nonzero().tolist()
        place = F.interpolate(usual[None], size=shape, mode="trilinear")
        self.register_buffer("place", place, persistent=False)
        kinds = torch.cat([1 - tissues.sum(0, keepdim=True), tissues])
        shares = torch.einsum("tk,bkxyz->btxyz", kinds, place.softmax(1))
        self.register_buffer("usual_tissues", shares.log(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, X, Y, Z) -> (B, 1 + K, X, Y, Z)."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            greys = _by_grey(x.float(), self.usual_tissues)
            start = self.place.repeat(len(x), 1, 1, 1, 1)
            # a structure at a time: a product with the table of tissues takes as long as half the network
            for tissue, structure in self.pairs:
                start[:, structure] += greys[:, tissue]
        # the convolutions leave half precision with channels innermost, and what follows is much slower on either
        return self.net(x).contiguous().float() + start


def _by_grey(image: torch.Tensor, usual: torch.Tensor) -> torch.Tensor:
    """Log likelihood (B, 3, X, Y, Z), up to a constant, of the grey of every voxel in fluid, grey and white matter.

    Each is one normal distribution, fitted by EM from `usual` (1, 4, X, Y, Z), the log shares of background, of which
    all greys are equally likely, and of the three. `image` (B, 1, X, Y, Z) is 0 outside the brain, where place alone
    counts. Structures of one tissue share its greys, so that they need not be told apart here.
    """
    inside, dims = (image != 0).float(), (2, 3, 4)
    likelihood = torch.zeros_like(usual[:, 1:])
    for _ in range(_ROUNDS):
        shares = (usual + F.pad(likelihood, (0, 0, 0, 0, 0, 0, 1, 0))).softmax(1)[:, 1:] * inside
        mass = shares.sum(dims, keepdim=True) + 1.0
        mean = (shares * image).sum(dims, keepdim=True) / mass
        variance = (shares * (image - mean).square()).sum(dims, keepdim=True) / mass + _LEAST_VARIANCE
        likelihood = -0.5 * ((image - mean).square() / variance + variance.log()) * inside
    return likelihood
