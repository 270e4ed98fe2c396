"""How sharp a predicted image is beside the true one. One value per subject; never used as a training loss."""

from __future__ import annotations

import torch

from nbkit.core.checks import require
from nbkit.metrics.image import check_pair


def gradient_energy(image: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Sum of squared differences between neighbours along X, Y and Z, both inside `mask`; (B,) float64.

    The energy of the gradient (Subbarao, Choi and Nikzad 1993, a measure of focus), in squared image units per voxel.

    Parameters
    ----------
    image : torch.Tensor
        (B, C, X, Y, Z).
    mask : torch.Tensor, optional
        (B, 1, X, Y, Z) boolean, so that the step at the edge of a brain without skull does not count.
    """
    values, total = image.double(), torch.zeros(len(image), dtype=torch.float64)
    for axis in (2, 3, 4):
        squares = values.diff(dim=axis).square()
        if mask is not None:
            n = mask.shape[axis]
            squares = squares * (mask.narrow(axis, 1, n - 1).bool() & mask.narrow(axis, 0, n - 1).bool())
        total = total + squares.flatten(1).sum(1)
    return total


def sharpness(prediction: torch.Tensor, truth: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Gradient energy of the prediction over that of the truth, (B,) float64: 1 for the truth, below 1 where blurred.

    The truth of a scan has noise, which has energy too: a prediction that is perfect but for noise stays below 1, and
    one with grain of its own may lie above. A constant added changes nothing; a factor a multiplies by a².

    Raises
    ------
    NbkitError
        If shapes differ, a mask is empty, or a truth has no gradient.
    """
    check_pair(prediction, truth, mask, "sharpness")
    energy = gradient_energy(truth, mask=mask)
    require(
        bool((energy > 0).all()), "sharpness: truth", expected="an image that varies inside the mask",
        found="a constant", remedy="Check that image and mask belong together.",
    )
    return gradient_energy(prediction, mask=mask) / energy
