"""White-matter lesions with the load, count, size and distance statistics of real MS patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from scipy.spatial.transform import Rotation

from nbkit.core.checks import NbkitError, require
from nbkit.core.volume import Volume
from nbkit.phantom.anatomy import Template
from nbkit.phantom.parameters import Parameters

_TRIES = 30
_TOUCHING = ndimage.generate_binary_structure(3, 3)


@dataclass(frozen=True, eq=False)
class LesionDraw:
    """What chance decides about one patient's lesions before they are placed.

    Parameters
    ----------
    sizes : numpy.ndarray
        mm³ in the subject, largest first.
    severity : numpy.ndarray
        0-1 per lesion: 0 is white matter, 1 the lesion of the parameter file.
    seed : int
        Of positions and shapes.
    """

    sizes: np.ndarray
    severity: np.ndarray
    seed: int


@dataclass(frozen=True, eq=False)
class LesionMap:
    """Placed lesions on the template grid.

    Parameters
    ----------
    labels : Volume
        int16; 0 outside, i + 1 in lesion i.
    sizes : numpy.ndarray
        mm³ in the subject, per lesion, as placed.
    severity : numpy.ndarray
        0-1 per lesion.
    distance : numpy.ndarray
        Median distance of each lesion's voxels to the ventricles, template mm.
    """

    labels: Volume
    sizes: np.ndarray
    severity: np.ndarray
    distance: np.ndarray


def draw_burdens(rng: np.random.Generator, n: int, *, parameters: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """Lesion loads (mL) and counts of `n` patients together: measured quantiles, measured rank correlation.

    Quantiles are drawn one per 1/n of probability, so that a small cohort covers the measured range.
    """
    p = parameters.section("lesions")
    r = p["load_count_correlation"]
    z = rng.standard_normal((2, n))
    z[1] = r * z[0] + np.sqrt(1 - r**2) * z[1]
    rank = z.argsort(axis=1).argsort(axis=1)
    load_at, count_at = (rank + rng.random((2, n))) / n
    load = np.exp(np.interp(load_at, p["load_probability"], np.log(p["load"])))
    count = np.exp(np.interp(count_at, p["count_probability"], np.log(p["count"])))
    return load, np.round(count).astype(int)


def draw_lesions(rng: np.random.Generator, load_ml: float, count: int, *, parameters: Parameters) -> LesionDraw:
    """Draw `count` sizes that sum to `load_ml` (mL), and a severity each.

    Sizes follow the measured shares per decade; a power of size, one per patient, fits the sum.
    """
    p = parameters.section("lesions")
    edges, share = np.log(p["size_edges"]), np.cumsum([0, *p["size_share"]])
    x = np.exp(np.interp(rng.random(count), share / share[-1], edges) - edges[0])
    low, high = 0.0, 4.0
    require(
        p["size_edges"][0] * count <= 1000 * load_ml, "draw_lesions: load_ml",
        expected=f"at least {p['size_edges'][0] * count / 1000:g} mL for {count} lesions", found=load_ml,
        remedy="Lower the count or raise the load.",
    )
    for _ in range(60):
        power = (low + high) / 2
        low, high = (low, power) if p["size_edges"][0] * (x**power).sum() > 1000 * load_ml else (power, high)
    sizes = np.sort(p["size_edges"][0] * x**low)[::-1]
    return LesionDraw(sizes, rng.uniform(*p["severity"], count), int(rng.integers(2**62)))


def place_lesions(draw: LesionDraw, template: Template, growth: Volume, *, parameters: Parameters) -> LesionMap:
    """Place lesions in the template's white matter, largest first, none touching another.

    Parameters
    ----------
    draw : LesionDraw
    template : Template
    growth : Volume
        mm³ in the subject per mm³ of template (:func:`nbkit.phantom.anatomy.volume_growth`).
    """
    rng = np.random.default_rng(draw.seed)
    # mostly white matter, outside the ventricles, inside the field of view
    free = (template.fractions.data[1].numpy() > 0.5) & ~template.ventricles.data[0].numpy()
    lowest = int(np.ceil(parameters["lesions.lowest"] - template.fractions.affine[2, 3]))
    free[:, :, :max(lowest, 0)] = False
    starts = _starts(free, template.distance, parameters["lesions.distance_edges"])
    labels = np.zeros(free.shape, dtype=np.int16)
    placed, distance = np.zeros(len(draw.sizes)), np.zeros(len(draw.sizes))
    for i, size in enumerate(draw.sizes):
        box, lesion, placed[i] = _find_one(rng, size, free, template.distance, starts, growth, parameters)
        labels[box][lesion] = i + 1
        around = tuple(slice(max(b.start - 1, 0), b.stop + 1) for b in box)
        free[around] &= ~ndimage.binary_dilation(labels[around] == i + 1, _TOUCHING)
        distance[i] = np.median(template.distance[box][lesion])
    volume = Volume(torch.from_numpy(labels), template.fractions.affine)
    return LesionMap(volume, placed, draw.severity, distance)


def _starts(free: np.ndarray, distance: np.ndarray, edges: Sequence[float]) -> list[np.ndarray]:
    """Flat indices of free voxels, grouped by distance to the ventricles."""
    voxels = np.flatnonzero(free)
    group = np.digitize(distance.ravel()[voxels], edges) - 1
    return [voxels[group == i] for i in range(len(edges) - 1)]


def _find_one(
    rng: np.random.Generator, size: float, free: np.ndarray, distance: np.ndarray, starts: Sequence[np.ndarray],
    growth: Volume, parameters: Parameters,
) -> tuple[tuple[slice, ...], np.ndarray, float]:
    """Box, boolean voxels in it, and true size (mm³) of a lesion of about `size` mm³ in the `free` white matter."""
    reach = int(np.ceil(2.5 * np.cbrt(3 * size / (4 * np.pi)))) + 2
    share = np.asarray(parameters["lesions.distance_share"])
    for _ in range(_TRIES):
        group = starts[rng.choice(len(starts), p=share / share.sum())]
        centre = np.array(np.unravel_index(group[rng.integers(len(group))], free.shape))
        if not free[tuple(centre)]:
            continue
        box = tuple(slice(max(c - reach, 0), min(c + reach + 1, n)) for c, n in zip(centre, free.shape, strict=True))
        voxels = np.flatnonzero(free[box])
        cost = _potential(rng, centre, box, parameters)
        if size > parameters["lesions.confluent"]:
            cost = np.hypot(cost / parameters["lesions.along"], distance[box])
        order = voxels[np.argsort(cost.ravel()[voxels], kind="stable")]
        total = np.cumsum(_growth_in(box, growth).ravel()[order])
        if total[-1] >= size:
            break
    else:
        raise NbkitError(
            "place_lesions: draw", expected=f"white matter for a lesion of {size:.0f} mm³", found="no room left",
            remedy="Lower the lesion load.",
        )
    take = int(np.argmin(np.abs(total - size))) + 1
    lesion = np.zeros(free[box].shape, dtype=bool)
    lesion.ravel()[order[:take]] = True
    return box, lesion, float(total[take - 1])


def _growth_in(box: tuple[slice, ...], growth: Volume) -> np.ndarray:
    """Growth at every voxel of a box of the 1 mm template grid, from the nearest coarse voxel."""
    coarse = growth.data[0].numpy()
    index = [
        np.minimum(np.rint(np.arange(s.start, s.stop) / step).astype(int), n - 1)
        for s, step, n in zip(box, growth.spacing, coarse.shape, strict=True)
    ]
    return coarse[np.ix_(*index)]


def _potential(
    rng: np.random.Generator, centre: np.ndarray, box: tuple[slice, ...], parameters: Parameters
) -> np.ndarray:
    """Distance from `centre` in a random ellipsoidal metric with smooth random dents; a lesion takes the lowest."""
    axes = np.exp(rng.normal(0, parameters["lesions.elongation"], 3))
    turn = Rotation.random(rng=rng).as_matrix() / axes
    steps = (np.arange(s.start, s.stop) - c for s, c in zip(box, centre, strict=True))
    offset = np.stack(np.meshgrid(*steps, indexing="ij"))
    radius = np.linalg.norm(np.tensordot(turn.T, offset, axes=1), axis=0)
    dents = torch.from_numpy(rng.normal(0, parameters["lesions.irregularity"], (1, 1, 7, 7, 7)))
    dents = F.interpolate(dents, size=radius.shape, mode="trilinear", align_corners=True)[0, 0].numpy()
    return radius * np.exp(dents)
