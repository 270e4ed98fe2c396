"""How far one image is from another. One value per subject; never used as a training loss.

Inputs are (B, C, X, Y, Z); a mask is (B, 1, X, Y, Z) boolean, and None counts every voxel. Voxel size plays
no role: windows are in voxels, as in the reference implementations, also when voxels are anisotropic.
"""

from __future__ import annotations

import torch

from nbkit.core.checks import require
from nbkit.core.device import side_by_side
from nbkit.core.volume import bounding_box
from nbkit.core.windows import filter_valid, gaussian_kernel, pad_reflect

SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
SSIM_K1, SSIM_K2 = 0.01, 0.03
_SLAB = 32  # planes at a time: the window sums then stay in the processor's cache


def mse(prediction: torch.Tensor, truth: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Mean squared difference over channels and the voxels of `mask`, (B,) float64, in squared image units."""
    check_pair(prediction, truth, mask, "mse")
    return _masked_mean((prediction.double() - truth.double()).square(), mask)


def mae(prediction: torch.Tensor, truth: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Mean absolute difference over channels and the voxels of `mask`, (B,) float64, in image units."""
    check_pair(prediction, truth, mask, "mae")
    return _masked_mean((prediction.double() - truth.double()).abs(), mask)


def psnr(
    prediction: torch.Tensor, truth: torch.Tensor, *, data_range: float, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Peak signal-to-noise ratio 10·log10(data_range² / MSE) in dB, (B,) float64; infinite for equal images.

    Parameters
    ----------
    data_range : float
        Largest minus smallest possible intensity, in image units.
    """
    _check_range(data_range, "psnr")
    return 10 * torch.log10(data_range**2 / mse(prediction, truth, mask=mask))


def ssim(
    prediction: torch.Tensor, truth: torch.Tensor, *, data_range: float, mask: torch.Tensor | None = None,
    dims: int = 3,
) -> torch.Tensor:
    """Structural similarity (Wang et al. 2004, Eq. 13), (B,) float64.

    Gaussian window of sigma 1.5 voxels cut at 5 voxels (11×11×11), population covariance, K1 = 0.01 and
    K2 = 0.03: equal to ``skimage.metrics.structural_similarity(..., gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=data_range)``. The mean is over `mask`, or without one over the
    interior, at least 5 voxels from each face, as in the reference.

    Parameters
    ----------
    data_range : float
        Largest minus smallest possible intensity, in image units. State it: the value depends on it.
    dims : {3, 2}
        2: windows of 11×11 pixels along X and Y, each plane of Z by itself, so that one plane is enough.

    Raises
    ------
    NbkitError
        If shapes differ, `data_range` is not positive, `dims` is neither, or the images are smaller than the window.
    """
    check_pair(prediction, truth, mask, "ssim")
    _check_range(data_range, "ssim")
    require(
        dims in (2, 3), "ssim: dims", expected="2 (slices) or 3 (volumes)", found=dims, remedy="Use 3 for volumes.",
    )
    require(
        min(truth.shape[2 : 2 + dims]) > 2 * SSIM_RADIUS, "ssim: truth",
        expected=f"more than {2 * SSIM_RADIUS} voxels per axis of the window",
        found=tuple(truth.shape[2:]), remedy="Compare whole images, not crops smaller than the window.",
    )
    masks = [None] * len(truth) if mask is None else mask.bool()
    return torch.stack([_ssim(x[None], y[None], data_range, m, dims) for x, y, m in zip(prediction, truth, masks)])


def _ssim(x: torch.Tensor, y: torch.Tensor, data_range: float, mask: torch.Tensor | None, dims: int) -> torch.Tensor:
    """Mean over one subject: images (1, C, X, Y, Z), mask (1, X, Y, Z) or None for the interior."""
    # the offset keeps single precision exact enough when intensities are far above their range
    offset = float(y.double().mean())
    x, y = (((image.double() - offset) / data_range).float() for image in (x, y))
    if mask is not None:
        box = bounding_box(mask[0])
        mask = mask[0][box]
        grown = [slice(s.start, s.stop + 2 * SSIM_RADIUS) for s in box]
        if dims == 2:  # padding is on all sides, windows are not
            grown[2] = slice(box[2].start + SSIM_RADIUS, box[2].stop + SSIM_RADIUS)
        x, y = (pad_reflect(image, SSIM_RADIUS)[..., *grown] for image in (x, y))

    def of_slab(start: int) -> tuple[torch.Tensor, int]:
        slab = slice(start, start + _SLAB + 2 * SSIM_RADIUS)
        values = _ssim_values(x[:, :, slab], y[:, :, slab], offset / data_range, dims)
        values = values if mask is None else values[:, :, mask[start : start + _SLAB]]
        return values.sum(dtype=torch.float64), values.numel()

    act = map if x.is_cuda else side_by_side
    sums, counts = zip(*act(of_slab, range(0, x.shape[2] - 2 * SSIM_RADIUS, _SLAB)))
    return torch.stack(sums).sum() / sum(counts)


def _ssim_values(x: torch.Tensor, y: torch.Tensor, offset: float, dims: int) -> torch.Tensor:
    """SSIM where the window fits, of images in units of the data range from which `offset` was taken."""
    kernels = (gaussian_kernel(SSIM_SIGMA),) * dims + (gaussian_kernel(0),) * (3 - dims)
    mean_x, mean_y, power, cross = (filter_valid(m, kernels) for m in (x, y, x * x + y * y, x * y))
    covariance = cross - mean_x * mean_y
    variances = power - mean_x * mean_x - mean_y * mean_y
    mean_x, mean_y = mean_x + offset, mean_y + offset
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return top / ((mean_x * mean_x + mean_y * mean_y + c1) * (variances + c2))


def check_pair(prediction: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor | None, where: str) -> None:
    """Refuse images of other shapes than (B, C, X, Y, Z), and masks that are empty or on another grid; by `where`."""
    require(
        truth.ndim == 5, f"{where}: truth", expected="shape (B, C, X, Y, Z)", found=tuple(truth.shape),
        remedy="Add the batch axis: volume.data[None].",
    )
    require(
        prediction.shape == truth.shape, f"{where}: prediction", expected=f"shape {tuple(truth.shape)}, as truth",
        found=tuple(prediction.shape), remedy="Compare images on one grid.",
    )
    if mask is None:
        return
    shape = (truth.shape[0], 1, *truth.shape[2:])
    require(
        mask.shape == shape, f"{where}: mask", expected=f"shape {shape}", found=tuple(mask.shape),
        remedy="Pass one mask per subject, on the grid of the images.",
    )
    empty = (~mask.bool().flatten(1).any(1)).nonzero().flatten().tolist()
    require(
        not empty, f"{where}: mask", expected="at least one voxel per subject", found=f"empty masks at {empty}",
        remedy="Check that the masks belong to these images.",
    )


def _check_range(data_range: float, where: str) -> None:
    require(
        data_range > 0, f"{where}: data_range", expected="a positive number", found=data_range,
        remedy="Give the largest minus the smallest possible intensity, e.g. of the true image.",
    )


def _masked_mean(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if mask is None:
        return values.flatten(1).mean(1)
    weights = mask.expand_as(values).flatten(1)
    return (values.flatten(1) * weights).sum(1) / weights.sum(1)
