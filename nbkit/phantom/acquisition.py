"""The scanner: slices, inhomogeneity, Rician noise, residual misregistration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nbkit.core.volume import Volume
from nbkit.core.windows import filter_separable
from nbkit.geometry.warp import resample

Box = tuple[tuple[int, int, int], np.ndarray]
"""Shape (X, Y, Z) and affine (voxel to world, mm) of a grid."""
_ORDERS = 3
"""Cosine orders per axis of the inhomogeneity: wavelengths from twice the field of view to all of it."""


def box_around(centre: Sequence[float], spacing: Sequence[float] | float, shape: Sequence[int]) -> Box:
    """Grid of voxels of `spacing` mm along the world's axes, with its middle at `centre` (mm)."""
    spacing, shape = np.broadcast_to(spacing, 3), tuple(int(n) for n in shape)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = centre - spacing * (np.array(shape) - 1) / 2
    return shape, affine


def box_weights(width: float) -> torch.Tensor:
    """Exact weights of a box of `width` voxels over unit voxels, centred: overlaps, normalised, odd length."""
    half = max(width, 1.0) / 2
    k = torch.arange(-int(np.ceil(half - 0.5)), int(np.ceil(half - 0.5)) + 1, dtype=torch.float64)
    overlap = (torch.clamp(k + 0.5, max=half) - torch.clamp(k - 0.5, min=-half)).clamp(min=0)
    return overlap / overlap.sum()


def integrate(image: torch.Tensor, widths: Sequence[float]) -> torch.Tensor:
    """Average (B, C, X, Y, Z) over a box of `widths` voxels along X, Y, Z: partial volume of larger voxels."""
    return filter_separable(image, tuple(box_weights(w) for w in widths))


def rigid(turn_degrees: Sequence[float], shift_mm: Sequence[float]) -> np.ndarray:
    """4×4 rotation about X, then Y, then Z of the world (degrees), followed by a shift (mm)."""
    matrix = np.eye(4)
    for axis, angle in enumerate(np.radians(turn_degrees)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(4)
        step[i, i] = step[j, j] = np.cos(angle)
        step[j, i], step[i, j] = np.sin(angle), -np.sin(angle)
        matrix = step @ matrix
    matrix[:3, 3] = shift_mm
    return matrix


def inhomogeneity(shape: tuple[int, int, int], weights: torch.Tensor, *, level: float) -> torch.Tensor:
    """Smooth multiplicative field (X, Y, Z) spanning 1 ± level/2, a sum of low-order cosines.

    Parameters
    ----------
    shape : tuple of int
    weights : torch.Tensor
        (3, 3, 3) cosine coefficients; the constant one is ignored.
    level : float
        BrainWeb's INU level: 0.2 gives factors from 0.9 to 1.1 over the field of view.
    """
    positions = [(torch.arange(n, dtype=weights.dtype) + 0.5) / n for n in shape]
    orders = torch.pi * torch.arange(_ORDERS, dtype=weights.dtype)[:, None]
    bases = [torch.cos(orders * position) for position in positions]
    weights = weights.clone()
    weights[0, 0, 0] = 0
    field = torch.einsum("abc,ax,by,cz->xyz", weights, *bases)
    low, high = field.min(), field.max()
    return 1 + level * ((field - low) / (high - low) - 0.5)


def rician(image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Magnitude of `image` plus complex noise: sqrt((S + n₀)² + n₁²), with `noise` (2, ...) in units of S.

    References
    ----------
    Gudbjartsson & Patz, MRM 34:910-914, 1995.
    """
    return torch.sqrt((image + noise[0]) ** 2 + noise[1] ** 2)


def rician_mean(image: torch.Tensor, sd: float) -> torch.Tensor:
    """Mean over the noise of :func:`rician`: what the same acquisition gives on average when repeated.

    σ √(π/2) [(1 + 2y) I₀(y) + 2y I₁(y)] e^{−y}, y = S²/4σ²; close to |S| where that is well above σ.

    Parameters
    ----------
    image : torch.Tensor
        Signal S without noise, any shape, sign and unit.
    sd : float
        σ of the noise of each channel, in the unit of the signal; 0 gives the magnitude.
    """
    if not sd:
        return image.abs()
    y = (image.double() / (2 * sd)) ** 2
    mean = sd * np.sqrt(np.pi / 2) * ((1 + 2 * y) * torch.special.i0e(y) + 2 * y * torch.special.i1e(y))
    return mean.to(image.dtype)


@dataclass(frozen=True)
class AcquisitionDraw:
    """What chance decides about one image: pose against the reference, inhomogeneity, noise seed, gain."""

    pose: np.ndarray
    bias: torch.Tensor
    gain: float
    noise_seed: int


@dataclass(frozen=True)
class Protocol:
    """The grid images are wanted on, and how one contrast was acquired.

    Parameters
    ----------
    shape, affine
        Grid of the result (after registration), voxel-to-world in mm.
    voxel : tuple of float
        Acquired voxel size in mm along X, Y, Z of that grid.
    noise : float
        Standard deviation of the noise, in the unit of the signal.
    inu : float
        Inhomogeneity level left in the image (see :func:`inhomogeneity`).
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    voxel: tuple[float, float, float]
    noise: float
    inu: float


def draw_acquisition(
    rng: np.random.Generator, *, moved: bool, turn_sd: float, shift_sd: float, gain_sd: float
) -> AcquisitionDraw:
    """Draw pose (identity unless `moved`; degrees and mm), inhomogeneity weights, gain (sd of ln) and noise seed."""
    turn, shift = rng.normal(0, turn_sd, 3), rng.normal(0, shift_sd, 3)
    return AcquisitionDraw(
        pose=rigid(turn, shift) if moved else np.eye(4),
        bias=torch.from_numpy(rng.normal(size=(_ORDERS,) * 3)),
        gain=float(np.exp(rng.normal(0, gain_sd))),
        noise_seed=int(rng.integers(2**62)),
    )


def acquire(signal: Volume, draw: AcquisitionDraw, *, protocol: Protocol) -> Volume:
    """Image `signal` (signed, one channel, on a finer grid): slices, pose, inhomogeneity, magnitude with noise.

    Noise is added on the grid of the result, uncorrelated between voxels: the smoothing that
    interpolation after registration gives to real noise is left out.
    """
    return _noisy(_exposed(signal, draw, protocol), draw, protocol)


def acquire_twice(signal: Volume, draw: AcquisitionDraw, *, protocol: Protocol) -> tuple[Volume, Volume]:
    """The image of :func:`acquire`, and its mean over the noise: partial volume, pose, bias and gain are the same."""
    still = _exposed(signal, draw, protocol)
    mean = still.with_data(rician_mean(still.data, protocol.noise), "mean over the noise")
    return _noisy(still, draw, protocol), mean


def _exposed(signal: Volume, draw: AcquisitionDraw, protocol: Protocol) -> Volume:
    """The signed signal on the grid of the result, with inhomogeneity and gain."""
    widths = [v / s for v, s in zip(protocol.voxel, signal.spacing, strict=True)]
    thick = signal.with_data(integrate(signal.data[None], widths)[0], f"integrate over {protocol.voxel} mm")
    image = resample(thick, protocol.shape, draw.pose @ protocol.affine)
    bias = inhomogeneity(protocol.shape, draw.bias, level=protocol.inu).to(image.data)
    return Volume(image.data * bias * draw.gain, protocol.affine, image.history + (f"inhomogeneity {protocol.inu:g}",))


def _noisy(still: Volume, draw: AcquisitionDraw, protocol: Protocol) -> Volume:
    generator = torch.Generator("cpu").manual_seed(draw.noise_seed)
    noise = protocol.noise * torch.randn((2, 1, *protocol.shape), generator=generator, dtype=still.data.dtype)
    return still.with_data(rician(still.data, noise), "Rician noise")
