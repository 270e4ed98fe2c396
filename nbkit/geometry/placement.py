"""An image laid on another grid through an affine and a displacement, by one interpolation."""

from __future__ import annotations

import numpy as np
import torch

from nbkit.core.volume import Volume
from nbkit.core.windows import filter_separable, gaussian_kernel
from nbkit.geometry.affine import check_matrix, through_affine
from nbkit.geometry.warp import Displacement, warp

_FWHM = 2 * np.sqrt(2 * np.log(2))


def place(
    image: Volume, matrix: np.ndarray, *, shape: tuple[int, int, int], affine: np.ndarray,
    displacement: Displacement | None = None,
) -> Volume:
    """`image` at x -> M·(x + u(x)), by one linear interpolation whatever the transform is made of.

    Where the new grid is coarser, the image is first blurred to its resolution (Cardoso et al., MICCAI 2015: the
    variances of the two point spread functions, Gaussians as wide as a voxel at half maximum, subtracted).

    Parameters
    ----------
    image : Volume
        Any number of channels, any type; the result is float32 and 0 outside the image.
    matrix : numpy.ndarray
        4×4, world of the new grid to world of the image (mm).
    shape, affine
        The new grid, voxel-to-world in mm.
    displacement : torch.Tensor, optional
        u (1, 3, X, Y, Z) in mm on the new grid; none is no displacement.
    """
    check_matrix(matrix, "place: matrix")
    ratio = abs(np.linalg.det(affine[:3, :3])) ** (1 / 3) / np.array(image.spacing)
    sigma = np.sqrt(np.maximum(ratio**2 - 1, 0)) / _FWHM
    soft = filter_separable(image.data.float()[None], tuple(gaussian_kernel(s) for s in sigma))
    still = Displacement(torch.zeros(1, 3, *shape)) if displacement is None else displacement
    through = through_affine(still, matrix, affine=affine)
    data = warp(soft, through, affine=affine, image_affine=image.affine)[0]
    step = f"one linear interpolation to {'×'.join(map(str, shape))}" + ("" if displacement is None else ", displaced")
    return Volume(data, affine, (*image.history, step))
