"""Pull-back warps in world millimetres: the one place where displacements become sampler coordinates."""

from __future__ import annotations

from functools import lru_cache
from typing import NewType

import numpy as np
import torch
import torch.nn.functional as F

from nbkit.core.checks import known, require
from nbkit.core.volume import Volume

Displacement = NewType("Displacement", torch.Tensor)
"""Displacement field u (B, 3, X, Y, Z) in mm, world components: the transform is x -> x + u(x)."""

_SAMPLER_MODES = {"linear": "bilinear", "nearest": "nearest"}
_PADDINGS = ("zeros", "border")


def check_field(field: torch.Tensor, where: str) -> None:
    """Refuse a vector field that is not (B, 3, X, Y, Z)."""
    require(
        field.ndim == 5 and field.shape[1] == 3, where, expected="shape (B, 3, X, Y, Z)", found=tuple(field.shape),
        remedy="Give one world component (mm) per channel, with a batch axis in front.",
    )


def to_voxels(field: torch.Tensor, affine: np.ndarray) -> torch.Tensor:
    """World components (mm) of a vector field (B, 3, X, Y, Z) as components in voxels of `affine`."""
    return _turned(field, np.linalg.inv(np.asarray(affine, dtype=np.float64)[:3, :3]))


def grid_positions(
    shape: tuple[int, int, int], affine: np.ndarray, *, like: torch.Tensor | None = None
) -> torch.Tensor:
    """Coordinates affine·(i, j, k, 1) of every voxel, shape (1, 3, X, Y, Z).

    With the affine of an image these are world positions in mm. Device and dtype follow `like`.
    """
    like = torch.empty(0) if like is None else like
    a = _there(affine, like)[:3]
    i, j, k = (column[:, None] * torch.arange(n, device=a.device).to(a) for column, n in zip(a.T, shape))
    return ((i + a[:, 3:])[:, :, None, None] + j[:, None, :, None] + k[:, None, None, :])[None]


def warp(
    image: torch.Tensor, displacement_mm: Displacement, *, affine: np.ndarray,
    image_affine: np.ndarray | None = None, mode: str = "linear", padding: str = "zeros",
) -> torch.Tensor:
    """Pull `image` back through x -> x + u(x): ``moved(x) = image(x + u(x))``.

    Parameters
    ----------
    image : torch.Tensor
        (B, C, X, Y, Z), floating point.
    displacement_mm : torch.Tensor
        (B, 3, X', Y', Z') in mm with world components, on the grid of the result; B may be 1 for either.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm) of the displacement and of the result.
    image_affine : numpy.ndarray, optional
        4×4 voxel-to-world of `image`; by default the same as `affine`.
    mode : {"linear", "nearest"}
    padding : {"zeros", "border"}
        What lies outside `image`: zeros (linear values fade over one voxel), or its border voxels.

    Returns
    -------
    torch.Tensor
        (B, C, X', Y', Z').

    Raises
    ------
    NbkitError
        For a wrong shape, mode or padding, or an integer image.
    """
    check_field(displacement_mm, "warp: displacement_mm")
    require(
        image.ndim == 5 and image.is_floating_point(), "warp: image", expected="a floating (B, C, X, Y, Z) tensor",
        found=f"{image.dtype} {tuple(image.shape)}", remedy="Add batch and channel axes and call .float() first.",
    )
    return _sample(image, _places(image, displacement_mm, affine, image_affine), mode=mode, padding=padding)


def warp_each(
    maps: torch.Tensor, displacement_mm: Displacement, *, affine: np.ndarray, image_affine: np.ndarray | None = None
) -> torch.Tensor:
    """:func:`warp` of many maps that are 0 nearly everywhere, each sampled only where it can be anything else.

    The same values as ``warp(maps[None], ...)[0]`` to the last bit, without gradients.

    Parameters
    ----------
    maps : torch.Tensor
        (C, X, Y, Z), floating point.
    displacement_mm : torch.Tensor
        (1, 3, X', Y', Z') in mm.
    affine, image_affine
        As in :func:`warp`.

    Returns
    -------
    torch.Tensor
        (C, X', Y', Z').
    """
    check_field(displacement_mm, "warp_each: displacement_mm")
    places = _places(maps[None], displacement_mm, affine, image_affine)
    moved, filled = maps.new_zeros(len(maps), *places.shape[2:]), (maps != 0).cpu().numpy()
    near = []
    for axis, others in enumerate(((1, 2), (0, 2), (0, 1))):
        # the sampler counts the last axis first, from -1 to 1
        voxels = (places[0, 2 - axis] + 1) * ((maps.shape[1 + axis] - 1) / 2)
        low, high = voxels.amin(dim=others), voxels.amax(dim=others)
        taken = [np.flatnonzero(along) for along in filled.any(axis=tuple(a + 1 for a in others))]
        near.append([((high > t[0] - 1.5) & (low < t[-1] + 1.5)).nonzero() if len(t) else () for t in taken])
    for one, into, *reached in zip(maps, moved, *near, strict=True):
        if all(len(r) for r in reached):
            box = tuple(slice(int(r[0]), int(r[-1]) + 1) for r in reached)
            into[box] = _sample(one[None, None], places[(..., *box)], mode="linear", padding="zeros")[0, 0]
    return moved


def doubled(displacement_mm: Displacement, times: int, *, affine: np.ndarray) -> Displacement:
    """Displacement of φ ∘ φ, of that after itself, and so on: φ applied 2^times times, φ(x) = x + u(x).

    The same as composing again and again, but in the coordinates of the sampler all the way.

    Parameters
    ----------
    displacement_mm : torch.Tensor
        u (B, 3, X, Y, Z) in mm, world components; outside the grid it continues with its border values.
    times : int
        How often the transform is doubled.
    affine : numpy.ndarray
        4×4 voxel-to-world (mm).
    """
    check_field(displacement_mm, "doubled: displacement_mm")
    to_sampler = _sampler(displacement_mm.shape[2:]) @ np.linalg.inv(affine)
    places = grid_positions(displacement_mm.shape[2:], to_sampler @ affine, like=displacement_mm)
    flow = _turned(displacement_mm, to_sampler[:3, :3])
    for _ in range(times):
        flow = flow + _sample(flow, places + flow, mode="linear", padding="border")
    return Displacement(_turned(flow, np.linalg.inv(to_sampler[:3, :3])))


def resample(
    volume: Volume, shape: tuple[int, int, int], affine: np.ndarray, *, mode: str = "linear", padding: str = "zeros"
) -> Volume:
    """Interpolate `volume` at the voxel centres of another grid; the caller averages first when that grid is coarser.

    Parameters
    ----------
    volume : Volume
        Any dtype; boolean and integer data come back in their own dtype (use ``mode="nearest"``).
    shape, affine
        Spatial shape (X, Y, Z) and 4×4 voxel-to-world of the new grid.
    mode, padding
        As in :func:`warp`.
    """
    data = volume.data
    require(
        data.is_floating_point() or mode == "nearest", "resample: mode", expected="'nearest' for labels and masks",
        found=repr(mode), remedy="Use mode='nearest', or convert the data with .float() to get fractions.",
    )
    values = data[None] if data.is_floating_point() else data[None].double()
    places = grid_positions(shape, _sampler(volume.shape) @ np.linalg.inv(volume.affine) @ affine, like=values)
    moved = _sample(values, places, mode=mode, padding=padding)[0].to(data.dtype)
    return Volume(moved, affine, volume.history + (f"resample {mode} to {'×'.join(map(str, shape))}",))


def _places(
    image: torch.Tensor, displacement_mm: Displacement, affine: np.ndarray, image_affine: np.ndarray | None
) -> torch.Tensor:
    """Where :func:`warp` looks, (B, 3, X', Y', Z') in the sampler coordinates of `image`."""
    image_affine = affine if image_affine is None else image_affine
    to_sampler = _sampler(image.shape[2:]) @ np.linalg.inv(image_affine)
    places = grid_positions(displacement_mm.shape[2:], to_sampler @ affine, like=image)
    return places + _turned(displacement_mm.to(image), to_sampler[:3, :3])


def _turned(field: torch.Tensor, matrix: np.ndarray) -> torch.Tensor:
    """Matrix 3×3 times every vector of a field (B, 3, X, Y, Z)."""
    return torch.einsum("ij,bjxyz->bixyz", _there(matrix, field), field)


def _there(matrix: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """A small matrix with the device and type of `like`; to a GPU it is sent once, not at every warp."""
    values = np.asarray(matrix, dtype=np.float64)
    if like.device.type == "cpu":
        return torch.as_tensor(values).to(like)
    return _sent(values.tobytes(), values.shape, like.dtype, like.device)


@lru_cache(maxsize=256)
def _sent(content: bytes, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False):  # what is kept may meet gradients later
        return torch.frombuffer(bytearray(content), dtype=torch.float64).reshape(shape).to(device, dtype)


def _sampler(shape: tuple[int, ...]) -> np.ndarray:
    """4×4 from voxels to the coordinates of grid_sample: last axis first, -1 and 1 at the centres of end voxels."""
    scale = 2 / (np.maximum(shape, 2) - 1)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([np.diag(scale), -np.ones(3)])[::-1]
    return matrix


def _sample(image: torch.Tensor, places: torch.Tensor, *, mode: str, padding: str) -> torch.Tensor:
    """`image` (B, C, X, Y, Z) at `places` (B, 3, X', Y', Z') in sampler coordinates."""
    known(mode, _SAMPLER_MODES, "warp: mode")
    known(padding, _PADDINGS, "warp: padding")
    batch = max(image.shape[0], places.shape[0])
    image, places = image.expand(batch, *image.shape[1:]), places.expand(batch, *places.shape[1:])
    slabs = _slabs(places)
    if slabs > 1:
        pairs = zip(image.split(1), places.split(1), strict=True)
        return torch.cat([_by_slabs(*pair, slabs, mode, padding) for pair in pairs])
    return _grid_sample(image, places, mode, padding)


def _slabs(places: torch.Tensor) -> int:
    """Parts to sample in at once: on a CPU grid_sample shares work among threads only by items of a batch."""
    threads = 1 if places.is_cuda else torch.get_num_threads()
    free = range(threads if len(places) < threads else 1, 1, -1)
    return next((n for n in free if places[0, 0].numel() % n == 0), 1)


def _by_slabs(image: torch.Tensor, places: torch.Tensor, slabs: int, mode: str, padding: str) -> torch.Tensor:
    """One image (1, C, X, Y, Z) at places (1, 3, X', Y', Z'), sampled as a batch of `slabs` equal parts."""
    parts = places.reshape(3, slabs, 1, 1, -1).transpose(0, 1)
    moved = _grid_sample(image.expand(slabs, -1, -1, -1, -1), parts, mode, padding)
    return moved.transpose(0, 1).reshape(1, -1, *places.shape[2:])


def _grid_sample(image: torch.Tensor, places: torch.Tensor, mode: str, padding: str) -> torch.Tensor:
    return F.grid_sample(
        image, places.movedim(1, -1), mode=_SAMPLER_MODES[mode], padding_mode=padding, align_corners=True
    )
