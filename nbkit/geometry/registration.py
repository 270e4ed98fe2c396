"""Diffeomorphic registration by direct optimisation of a stationary velocity field, coarse to fine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F

from nbkit.core.checks import check_finite, known, require
from nbkit.core.config import Settings
from nbkit.core.windows import filter_separable, gaussian_kernel
from nbkit.geometry.affine import check_matrix
from nbkit.geometry.flow import Velocity, expv, jacobian_determinant
from nbkit.geometry.pyramid import Factor, block, block_affine, pad_to_multiple, shrink
from nbkit.geometry.similarity import lncc, mse
from nbkit.geometry.warp import Displacement, warp

_SQUARINGS = 4
"""While optimising: first steps stay below half a voxel up to 8 voxels of the velocity's grid. Fixed, because a
number taken from the largest vector of a batch would let each subject's result depend on its neighbours."""
_MOMENTUM, _MEMORY = 0.9, 0.99
_FAINT = 1e-2
"""Force (per mm, beside a similarity of at most 1 per voxel) below which a place hardly moves."""


@dataclass(frozen=True)
class Config(Settings):
    """Settings of :func:`register`.

    Parameters
    ----------
    similarity : {"lncc", "mse"}
        Local correlation, or squared difference (images on one intensity scale).
    window : int
        Width of the cube of local correlation, in voxels of each level.
    levels_mm, iterations : tuple
        Spacing of each level, coarse to fine, and its number of steps. The last level is never finer than the
        images, the one before never finer than two of their voxels, and so on: no level repeats another.
    velocity_mm : float
        Finest spacing of the velocity while it is optimised.
    step : float
        Longest move in the first step of a level, in spacings of that level; it shrinks to nothing linearly.
    smooth_mm : float
        Standard deviation of the Gaussian that every step is smoothed with.
    stiffness : float
        Weight of ½‖∇v‖² beside the similarity, both per voxel.
    symmetric : bool
        Compare the images half-way between them, so that exchanging them negates the result; otherwise on
        the grid of the fixed image.
    """

    similarity: Literal["lncc", "mse"] = "lncc"
    window: int = 5
    levels_mm: tuple[float, ...] = (8.0, 4.0, 2.0)
    iterations: tuple[int, ...] = (30, 40, 20)
    velocity_mm: float = 2.0
    step: float = 1.5
    smooth_mm: float = 2.0
    stiffness: float = 0.3
    symmetric: bool = True

    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"levels_mm": (8.0, 4.0), "iterations": (10, 10)},
    }

    def __post_init__(self) -> None:
        known(self.similarity, ("lncc", "mse"), "registration.Config: similarity")
        levels = list(self.levels_mm)
        require(
            len(levels) == len(self.iterations) > 0 and levels == sorted(levels, reverse=True) and min(levels) > 0,
            "registration.Config: levels_mm, iterations",
            expected="spacings from coarse to fine, with one number of steps each",
            found=f"{self.levels_mm} and {self.iterations}", remedy="Give both tuples the same length.",
        )


@dataclass(frozen=True)
class Registration:
    """A diffeomorphism between two images, as the flow of a stationary velocity field on the fixed image's grid.

    Parameters
    ----------
    velocity : Velocity
        (B, 3, X, Y, Z), mm per unit time, world components.
    displacement : Displacement
        ``expv(velocity)``, mm: ``warp(moving, displacement, affine=affine)`` looks like the fixed image.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm) of the grid.
    """

    velocity: Velocity
    displacement: Displacement
    affine: np.ndarray

    def inverse(self) -> Displacement:
        """Displacement that makes the fixed image look like the moving one: ``expv(-velocity)``, mm."""
        return _flow(Velocity(-self.velocity), self.affine)


@dataclass(frozen=True)
class _Level:
    """Images of one level, and how the grid of the velocity lies in theirs."""

    moving: torch.Tensor
    fixed: torch.Tensor
    affine: np.ndarray
    ratio: Factor
    shape: tuple[int, int, int]

    @property
    def velocity_affine(self) -> np.ndarray:
        return block_affine(self.affine, self.ratio)

    @property
    def spacing(self) -> float:
        """Edge in mm of the cube with a voxel's volume."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) ** (1 / 3))


def register(
    moving: torch.Tensor, fixed: torch.Tensor, *, affine: np.ndarray, config: Config | None = None
) -> Registration:
    """Find the diffeomorphism that makes `moving` look like `fixed`.

    Minimises (1 − similarity) + stiffness · ½‖∇v‖² over a stationary velocity field v, both per voxel, from
    coarse to fine. Forces are exact gradients of the similarity with respect to the warped images, times the
    slope of those images: the update composes with the flow so far, and in the symmetric form the two halves
    make v + δ right to second order, without a bracket (log-domain demons). Steps are Adam's with one second
    moment per place (so that turning the world turns the result), smoothed by a Gaussian in mm. Nothing is
    drawn at random, and no subject depends on its neighbours in the batch.

    Parameters
    ----------
    moving, fixed : torch.Tensor
        (B, 1, X, Y, Z), floating point, on one grid, affinely aligned and treated alike (both skull-stripped or
        neither); B may be 1 for either. Any device.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm) of that grid; its axes are perpendicular.
    config : Config, optional
        By default :class:`Config`.

    Returns
    -------
    Registration
        Its transform does not fold: every Jacobian determinant is positive. Where the optimum would fold at a
        voxel, the velocity is smoothed until it does not.

    Raises
    ------
    NbkitError
        For images of different shape, integer, constant or with NaN, and for a bad affine.

    References
    ----------
    Avants et al., Med Image Anal 2008 (symmetric normalisation); Vercauteren et al., MICCAI 2008 (log-domain
    demons); Lorenzi et al., NeuroImage 2013 (LCC-demons).
    """
    config = Config() if config is None else config
    check_matrix(affine, "register: affine")
    moving, fixed = _checked(moving, fixed)
    velocity, grid = None, None
    finest = float(np.linalg.norm(affine[:3, :3], axis=0).min())
    for k, (mm, iterations) in enumerate(zip(config.levels_mm, config.iterations, strict=True)):
        mm = max(mm, finest * (len(config.levels_mm) - k))
        level = _level(moving, fixed, affine, mm, config)
        velocity = _on_grid(velocity, grid, level.shape, level.velocity_affine, like=fixed)
        velocity, grid = _optimise(velocity, level, iterations, config), level.velocity_affine
    velocity = Velocity(_on_grid(velocity, grid, fixed.shape[2:], affine, like=fixed))
    return _unfolded(velocity, affine, config.velocity_mm)


def _checked(moving: torch.Tensor, fixed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both images with the same B, in units of the fixed image's standard deviation."""
    for name, image in (("moving", moving), ("fixed", fixed)):
        require(
            image.ndim == 5 and image.shape[1] == 1 and image.is_floating_point(), f"register: {name}",
            expected="a floating (B, 1, X, Y, Z) tensor", found=f"{image.dtype} {tuple(image.shape)}",
            remedy="Add batch and channel axes and call .float() first.",
        )
        for one in image:
            check_finite(one, f"register: {name}")
    require(
        moving.shape[2:] == fixed.shape[2:] and min(fixed.shape[2:]) >= 4
        and (len(moving) == len(fixed) or 1 in (len(moving), len(fixed))), "register: moving, fixed",
        expected="images on one grid of at least 4 voxels per axis, as many of one as of the other",
        found=f"{tuple(moving.shape)} and {tuple(fixed.shape)}",
        remedy="Align them first (nbkit.geometry.affine.align and apply_affine).",
    )
    batch = max(len(moving), len(fixed))
    moving, fixed = (image.detach().expand(batch, -1, -1, -1, -1) for image in (moving, fixed))
    spread = fixed.std(dim=(1, 2, 3, 4), keepdim=True)
    return moving / spread, fixed / spread


def _level(moving: torch.Tensor, fixed: torch.Tensor, affine: np.ndarray, mm: float, config: Config) -> _Level:
    factor = block(fixed.shape[2:], affine, mm=mm)
    coarse = block_affine(affine, factor)
    ratio = block(tuple(n // f for n, f in zip(fixed.shape[2:], factor, strict=True)), coarse, mm=config.velocity_mm)
    small = [pad_to_multiple(shrink(image, affine, factor)[0], ratio) for image in (moving, fixed)]
    shape = tuple(n // r for n, r in zip(small[0].shape[2:], ratio, strict=True))
    return _Level(*small, coarse, ratio, shape)


def _on_grid(
    velocity: torch.Tensor | None, old: np.ndarray | None, shape: tuple[int, ...], affine: np.ndarray, *,
    like: torch.Tensor,
) -> torch.Tensor:
    """`velocity` interpolated on another grid; none yet is zero."""
    still = like.new_zeros(len(like), 3, *shape)
    return still if velocity is None else warp(velocity, still[:1], affine=affine, image_affine=old, padding="border")


def _optimise(velocity: torch.Tensor, level: _Level, iterations: int, config: Config) -> torch.Tensor:
    grid = level.velocity_affine
    spacing = np.linalg.norm(grid[:3, :3], axis=0)
    kernels = tuple(gaussian_kernel(config.smooth_mm / s) for s in spacing)
    mean, square = torch.zeros_like(velocity), torch.zeros_like(velocity[:, :1])
    for k in range(1, iterations + 1):
        force = _force(velocity, level, config) + config.stiffness * _laplacian(velocity, spacing)
        mean = mean.lerp(force, 1 - _MOMENTUM)
        square = square.lerp(force.square().sum(dim=1, keepdim=True), 1 - _MEMORY)
        size = (square / (1 - _MEMORY**k)).sqrt() + _FAINT
        move = filter_separable(mean / (1 - _MOMENTUM**k) / size, kernels)
        velocity = velocity + config.step * level.spacing * (1 - (k - 1) / iterations) * move
    return velocity


def _force(velocity: torch.Tensor, level: _Level, config: Config) -> torch.Tensor:
    """Minus the gradient, per mm and voxel, of the dissimilarity with respect to a small change of the flow."""
    moved, target = _meet(velocity, level, config)
    slope_m, slope_t = _image_gradients(moved, target, config)
    force = slope_m * _differences(moved)
    if config.symmetric:
        force = (force - slope_t * _differences(target)) / 2
    force = F.avg_pool3d(force, level.ratio)
    # differences per voxel become derivatives per mm: a covector turns with the transposed inverse
    turn = torch.as_tensor(np.linalg.inv(level.affine[:3, :3])).to(force)
    return torch.einsum("ji,bjxyz->bixyz", turn, force)


def _meet(velocity: torch.Tensor, level: _Level, config: Config) -> tuple[torch.Tensor, torch.Tensor]:
    """The two images where they are compared."""
    ways = torch.cat([velocity / 2, -velocity / 2]) if config.symmetric else velocity
    flow = expv(Velocity(ways), affine=level.velocity_affine, steps=_SQUARINGS)
    flow = F.interpolate(flow, scale_factor=[float(r) for r in level.ratio], mode="trilinear")
    images = torch.cat([level.moving, level.fixed]) if config.symmetric else level.moving
    met = warp(images, Displacement(flow), affine=level.affine, padding="border")
    return met.chunk(2) if config.symmetric else (met, level.fixed)


def _image_gradients(moved: torch.Tensor, target: torch.Tensor, config: Config) -> tuple[torch.Tensor, torch.Tensor]:
    """Derivative of the summed similarity (at most 1 per voxel) with respect to every voxel of both images."""
    images = moved.detach().requires_grad_(), target.detach().requires_grad_()
    with torch.enable_grad():
        value = lncc(*images, window=config.window) if config.similarity == "lncc" else -mse(*images)
        return torch.autograd.grad(value.sum() * moved[0].numel(), images)


def _differences(image: torch.Tensor) -> torch.Tensor:
    """Derivatives (B, 3, X, Y, Z) of an image (B, 1, X, Y, Z) per voxel along each axis."""
    return torch.cat(torch.gradient(image, dim=(2, 3, 4)), dim=1)


def _laplacian(field: torch.Tensor, spacing: np.ndarray) -> torch.Tensor:
    """Second differences per mm², borders reflecting: minus the gradient of ½ Σ‖∇field‖²."""
    one, total = torch.ones(1), 0
    for axis, s in enumerate(spacing):
        kernels = [one, one, one]
        kernels[axis] = torch.tensor([1.0, -2.0, 1.0]) / s**2
        total = total + filter_separable(field, tuple(kernels))
    return total


def _flow(velocity: Velocity, affine: np.ndarray) -> Displacement:
    # one by one: the number of squarings follows the largest vector, which must be the subject's own
    return Displacement(torch.cat([expv(Velocity(one), affine=affine) for one in velocity.split(1)]))


def _unfolded(velocity: Velocity, affine: np.ndarray, smooth_mm: float) -> Registration:
    """The registration by `velocity`; subjects whose flow folds have it smoothed until it does not."""
    kernels = tuple(gaussian_kernel(smooth_mm / s) for s in np.linalg.norm(affine[:3, :3], axis=0))
    displacement = _flow(velocity, affine)
    while True:
        folds = (jacobian_determinant(displacement, affine=affine) <= 0).flatten(1).any(dim=1)
        if not bool(folds.any()):
            return Registration(velocity, displacement, np.asarray(affine, dtype=np.float64))
        velocity, displacement = velocity.clone(), displacement.clone()
        velocity[folds] = filter_separable(velocity[folds], kernels)
        displacement[folds] = _flow(Velocity(velocity[folds]), affine)
