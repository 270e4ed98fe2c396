"""Rigid, similarity and affine registration of two images of the same modality, in world millimetres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from nbkit.core.checks import check_finite, known, require
from nbkit.core.volume import Volume
from nbkit.core.windows import filter_separable, gaussian_kernel
from nbkit.geometry.pyramid import block, shrink
from nbkit.geometry.similarity import ncc
from nbkit.geometry.warp import Displacement, check_field, grid_positions, resample, warp

DEGREES = {"rigid": 6, "similarity": 7, "affine": 12}
"""Degrees of freedom by kind of transform: each kind uses the first so many parameters of the next."""

LEVELS_MM = (8.0, 4.0)
_STEPS = 60
_BLUR = 0.6
"""Standard deviation of the blur of a level, in spacings of that level."""


def _generators() -> np.ndarray:
    """Nine 3×3 matrices: three rotations, one scaling, five stretches without change of volume."""
    unit = np.zeros((9, 3, 3))
    for k, (i, j) in enumerate([(1, 2), (0, 2), (0, 1)]):
        unit[k, i, j], unit[k, j, i] = -1, 1
        unit[4 + k, i, j] = unit[4 + k, j, i] = 1
    unit[3] = np.eye(3)
    unit[7], unit[8] = np.diag([1, -1, 0]), np.diag([1, 1, -2])
    return unit


@dataclass(frozen=True)
class _Frame:
    """What parameters are relative to: the centroids of the two images and the size of the fixed one, in mm."""

    fixed: torch.Tensor
    moving: torch.Tensor
    radius: float

    def matrix(self, parameters: torch.Tensor) -> torch.Tensor:
        """4×4 of x -> c_m + t + exp(Σ p_k G_k / radius) (x − c_f); all parameters (t first) move voxels by mm."""
        generators = torch.as_tensor(_generators()).to(parameters)[: len(parameters) - 3]
        linear = torch.linalg.matrix_exp(torch.einsum("k,kij->ij", parameters[3:] / self.radius, generators))
        offset = self.moving + parameters[:3] - linear @ self.fixed
        last = parameters.new_tensor([[0, 0, 0, 1]])
        return torch.cat([torch.cat([linear, offset[:, None]], dim=1), last])


def align(
    moving: Volume, fixed: Volume, *, kind: str = "affine", levels_mm: tuple[float, ...] = LEVELS_MM
) -> np.ndarray:
    """World matrix that takes places in `fixed` to the same anatomy in `moving`.

    Maximises the correlation of the two images over the grid of `fixed`, coarse to fine, by L-BFGS: on the
    coarsest level rigid first, then similarity, then affine, as far as `kind` goes. The start lays the centroids
    of intensity on one another, so both images should be skull-stripped, or both have the head on. Tried up to
    rotations of 20°; far larger ones may need a start by hand (turn the affine of `moving` first).

    Parameters
    ----------
    moving, fixed : Volume
        One channel each, same modality, any grids; intensities above their minimum count as tissue.
    kind : {"affine", "similarity", "rigid"}
        12, 7 (one scale) or 6 degrees of freedom. Reflections are never made.
    levels_mm : tuple of float
        Spacing of the levels, coarse to fine; never finer than the images.

    Returns
    -------
    numpy.ndarray
        4×4 float64, M: fixed world to moving world, mm. It pulls back, as every transform here does.

    Raises
    ------
    NbkitError
        For an unknown kind, several channels, NaN or a constant image.

    See Also
    --------
    apply_affine, through_affine
    """
    degrees = DEGREES[known(kind, DEGREES, "align: kind")]
    require(
        len(levels_mm) > 0, "align: levels_mm", expected="at least one level", found=levels_mm,
        remedy="Give spacings in mm, coarse to fine.",
    )
    for name, volume in (("moving", moving), ("fixed", fixed)):
        _check_image(volume, f"align: {name}")
    # twelve numbers are sought on small images, and every trial is read: on a GPU that is all waiting
    moving, fixed = (volume.with_data(volume.data.cpu()) for volume in (moving, fixed))
    frame = _frame(moving, fixed)
    parameters = torch.zeros(12, dtype=torch.float64)
    for level, mm in enumerate(levels_mm):
        energy = _energy(moving, fixed, frame, mm)
        for free in DEGREES.values() if level == 0 else [degrees]:
            if free <= degrees:
                parameters = _minimise(energy, parameters, free)
    return frame.matrix(parameters).numpy()


def apply_affine(moving: Volume, matrix: np.ndarray, *, like: Volume, mode: str = "linear") -> Volume:
    """`moving` seen on the grid of `like` through `matrix` (fixed world to moving world, as from :func:`align`).

    Labels and masks need ``mode="nearest"``; outside `moving` there are zeros.
    """
    where = "apply_affine: matrix"
    check_matrix(matrix, where)
    placed = Volume(moving.data, np.linalg.inv(matrix) @ moving.affine, (*moving.history, "affine to another image"))
    return resample(placed, like.shape, like.affine, mode=mode)


def through_affine(displacement_mm: Displacement, matrix: np.ndarray, *, affine: np.ndarray) -> Displacement:
    """Displacement of x -> M·(x + u(x)): a registration that follows an affine one, as a single transform.

    With M from :func:`align`, ``warp(original, result, affine=affine, image_affine=original_affine)`` moves the
    original image by both and interpolates once.

    Parameters
    ----------
    displacement_mm : torch.Tensor
        u (B, 3, X, Y, Z) in mm, world components, on the grid of the fixed image.
    matrix : numpy.ndarray
        4×4, fixed world to moving world.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm) of the grid.
    """
    check_field(displacement_mm, "through_affine: displacement_mm")
    check_matrix(matrix, "through_affine: matrix")
    places = grid_positions(displacement_mm.shape[2:], affine, like=displacement_mm) + displacement_mm
    m = torch.as_tensor(np.asarray(matrix, dtype=np.float64)).to(displacement_mm)
    return Displacement(_moved(m, places) - places + displacement_mm)


def velocity_through(
    velocity: torch.Tensor, matrix: np.ndarray, *, grid: np.ndarray, shape: tuple[int, ...], affine: np.ndarray
) -> torch.Tensor:
    """Velocity of M⁻¹ ∘ exp(u) ∘ M on another grid: A⁻¹ u(Mx), with A the linear part of M.

    Parameters
    ----------
    velocity : torch.Tensor
        u (B, 3, X, Y, Z) in mm per unit time, world components.
    matrix : numpy.ndarray
        4×4, M, from the world of the result to that of `velocity`.
    grid, affine : numpy.ndarray
        4×4 voxel-to-world (mm) of `velocity` and of the result.
    shape : tuple of int
        Voxels of the result.
    """
    there = through_affine(Displacement(velocity.new_zeros(1, 3, *shape)), matrix, affine=affine)
    moved = warp(velocity, there, affine=affine, image_affine=grid, padding="border")
    back = torch.as_tensor(np.linalg.inv(matrix[:3, :3])).to(moved)
    return torch.einsum("ij,bjxyz->bixyz", back, moved)


def _moved(matrix: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Matrix 4×4 times places (B, 3, X, Y, Z)."""
    return torch.einsum("ij,bjxyz->bixyz", matrix[:3, :3], places) + matrix[:3, 3].view(1, 3, 1, 1, 1)


def _frame(moving: Volume, fixed: Volume) -> _Frame:
    centre_m, _ = _moments(moving)
    centre_f, radius = _moments(fixed)
    return _Frame(centre_f, centre_m, radius)


def _moments(volume: Volume) -> tuple[torch.Tensor, float]:
    """Centroid (mm) of the intensities above the minimum, and their root mean square distance from it."""
    mass = volume.data[0].double() - volume.data.min()
    mass = mass / mass.sum()
    places = grid_positions(volume.shape, volume.affine, like=mass)[0]
    centre = (places * mass).sum(dim=(1, 2, 3))
    radius = ((places - centre.view(3, 1, 1, 1)).square().sum(dim=0) * mass).sum().sqrt()
    return centre, float(radius)


def _energy(moving: Volume, fixed: Volume, frame: _Frame, mm: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """1 − correlation on the level of `mm`, as a function of the parameters."""
    (m, m_affine), (f, f_affine) = (_blurred(volume, mm) for volume in (moving, fixed))
    places = grid_positions(f.shape[2:], f_affine, like=f)
    floor = float(m.min())

    def energy(parameters: torch.Tensor) -> torch.Tensor:
        field = _moved(frame.matrix(parameters).to(f), places) - places
        moved = warp(m - floor, Displacement(field), affine=f_affine, image_affine=m_affine)
        return 1 - ncc(moved, f)[0]

    return energy


def _blurred(volume: Volume, mm: float) -> tuple[torch.Tensor, np.ndarray]:
    """The image on the level of `mm`, equally blurred along every axis whatever its voxels, and its affine.

    Unequal blur reads as a difference in scale, and linear interpolation of a sharp image as many small minima.
    """
    factor = np.array(block(volume.shape, volume.affine, mm=mm))
    image, affine = shrink(volume.data.double()[None], volume.affine, tuple(map(int, factor)))
    of_blocks = (factor**2 - 1) * np.square(volume.spacing) / 12
    sigma = np.sqrt(np.maximum((_BLUR * mm) ** 2 - of_blocks, 0)) / (factor * volume.spacing)
    return filter_separable(image, tuple(gaussian_kernel(s) for s in sigma)), affine


def _minimise(energy: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, free: int) -> torch.Tensor:
    """All parameters, the first `free` of them at a minimum of `energy`."""
    parameters = start[:free].clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [parameters], max_iter=_STEPS, tolerance_grad=1e-7, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = energy(parameters)
        value.backward()
        return value

    optimiser.step(closure)
    return torch.cat([parameters.detach(), start[free:]])


def _check_image(volume: Volume, where: str) -> None:
    require(
        volume.data.shape[0] == 1, where, expected="one channel", found=f"{volume.data.shape[0]} channels",
        remedy="Choose the contrast to align by.",
    )
    check_finite(volume.data, where)


def check_matrix(matrix: np.ndarray, where: str) -> None:
    """Refuse what is not an invertible, finite 4×4 matrix with last row 0 0 0 1."""
    m = np.asarray(matrix, dtype=np.float64)
    require(
        m.shape == (4, 4) and bool(np.isfinite(m).all()) and abs(np.linalg.det(m)) > 1e-9
        and np.array_equal(m[3], [0, 0, 0, 1]), where,
        expected="an invertible 4×4 world matrix with last row 0 0 0 1", found=m.tolist(),
        remedy="Use the affine of an image, or the result of nbkit.geometry.affine.align.",
    )
