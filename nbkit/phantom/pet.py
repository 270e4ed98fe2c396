"""What a PET camera does to a map of tracer: a Gaussian point spread, and noise of the reconstructed image."""

from __future__ import annotations

import numpy as np
import torch

from nbkit.core.volume import Volume
from nbkit.core.windows import filter_separable, gaussian_kernel

FWHM_PER_SD = float(2 * np.sqrt(2 * np.log(2)))
"""Full width at half maximum of a Gaussian of unit standard deviation."""


def blur(volume: Volume, fwhm_mm: float) -> Volume:
    """Image at the resolution of a camera: partial volume and spill-over by an isotropic Gaussian point spread.

    Parameters
    ----------
    volume : Volume
        (C, X, Y, Z) floating point, any unit; every channel is blurred alike. Borders reflect.
    fwhm_mm : float
        Full width at half maximum in mm, 0 or more; voxels may differ in size along X, Y, Z.

    Returns
    -------
    Volume
        On the same grid, in the same unit, with the same sum away from the borders.
    """
    if not fwhm_mm:
        return volume
    kernels = tuple(gaussian_kernel(fwhm_mm / FWHM_PER_SD / s) for s in volume.spacing)
    return volume.with_data(filter_separable(volume.data[None], kernels)[0], f"PET resolution {fwhm_mm:g} mm")


def fwhm_left(fwhm_mm: float, voxel_mm: float) -> float:
    """Width in mm still to be applied to an image whose voxels of `voxel_mm` already average over themselves.

    Variances add: a box of width w has the variance w²/12. 0 where the voxels are coarser than the camera.
    """
    return float(np.sqrt(max(fwhm_mm**2 - FWHM_PER_SD**2 * voxel_mm**2 / 12, 0)))


def add_noise(volume: Volume, rng: np.random.Generator, *, sd: float, smooth_voxels: float = 0) -> Volume:
    """Gaussian noise of a reconstructed parametric image, which may become negative.

    Parameters
    ----------
    volume : Volume
        (C, X, Y, Z) floating point, any unit.
    rng : numpy.random.Generator
    sd : float
        Standard deviation of every voxel's noise before it is smoothed, in the unit of the image.
    smooth_voxels : float
        Gaussian standard deviation in voxels of the smoothing that correlates neighbours; it lowers the noise to
        :func:`noise_left` of `sd`. The image is not smoothed.

    Returns
    -------
    Volume
        On the same grid, in the same unit.
    """
    noise = sd * torch.from_numpy(rng.standard_normal(volume.data.shape, dtype=np.float32)).to(volume.data.dtype)
    if smooth_voxels:
        noise = filter_separable(noise[None], (gaussian_kernel(smooth_voxels),) * 3)[0]
    return volume.with_data(volume.data + noise, f"PET noise sd {sd:g}, smoothed over {smooth_voxels:g} voxels")


def noise_left(smooth_voxels: float) -> float:
    """Standard deviation of unit white noise after smoothing over `smooth_voxels` (Gaussian sd) along three axes."""
    return float((gaussian_kernel(smooth_voxels) ** 2).sum()) ** 1.5
