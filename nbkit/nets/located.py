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
        place = F.interpolate(usual[None], size=shape, mode="trilinear")
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("shares", _of_tissues(place, tissues), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, X, Y, Z) -> (B, 1 + K, X, Y, Z)."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            start = _by_grey(x.float(), self.place, self.shares, self.tissues)
        # the convolutions leave channels innermost, which makes what follows, over channels, several times slower
        return self.net(x).contiguous() + start


def _of_tissues(logits: torch.Tensor, tissues: torch.Tensor) -> torch.Tensor:
    """Shares (B, 3, X, Y, Z) of fluid, grey and white matter, given log shares of structures."""
    return torch.einsum("tk,bkxyz->btxyz", tissues, logits.softmax(1))


def _by_grey(image: torch.Tensor, place: torch.Tensor, shares: torch.Tensor, tissues: torch.Tensor) -> torch.Tensor:
    """Log shares up to a constant, given place and grey: every tissue is one normal distribution, fitted by EM.

    `image` (B, 1, X, Y, Z) is 0 outside the brain, where place alone counts; `shares` are those of `place`.
    """
    inside, dims = (image != 0).float(), (2, 3, 4)
    for k in range(_ROUNDS):
        shares = (_of_tissues(logits, tissues) if k else shares) * inside
        mass = shares.sum(dims, keepdim=True) + 1.0
        mean = (shares * image).sum(dims, keepdim=True) / mass
        variance = (shares * (image - mean).square()).sum(dims, keepdim=True) / mass + _LEAST_VARIANCE
        likelihood = -0.5 * ((image - mean).square() / variance + variance.log()) * inside
        logits = place + torch.einsum("tk,btxyz->bkxyz", tissues, likelihood)
    return logits
