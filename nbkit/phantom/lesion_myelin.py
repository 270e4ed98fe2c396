"""What happens to the myelin of each lesion between two time points: it stays, is lost, or comes back, in patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from scipy.special import ndtr

from nbkit.core.volume import Volume, bounding_box
from nbkit.phantom.parameters import Parameters

PATHS = ("stays intact", "demyelinates", "stays demyelinated", "remyelinates")
"""The four courses of a lesion voxel from t0 to t1."""
LATENTS = ("lost", "water", "axons")
"""Myelin lost (fraction of normal), water (1 in an average demyelinated lesion), axons lost (fraction)."""


@dataclass(frozen=True)
class Rates:
    """Mean shares of lesion voxels of one patient, 0-1.

    Parameters
    ----------
    demyelinated : float
        At t0.
    remyelinating : float
        Of those, until t1.
    demyelinating : float
        Of the others, until t1.
    """

    demyelinated: float
    remyelinating: float
    demyelinating: float


@dataclass(frozen=True, eq=False)
class LesionCourse:
    """Latents of lesion voxels at both time points.

    Parameters
    ----------
    maps : Volume
        (9, X, Y, Z) float32 in a box round all lesions: share of lesion (0 or 1), then lost, water, axons at t0
        and the same at t1, 0 outside lesions; oedema at t0 and at t1, the share of free water that an acute lesion
        and the white matter round it hold more.
    facts : dict
        JSON-able: ``paths``, share of lesion voxels on each of :data:`PATHS`; ``demyelinated`` at t0 and t1;
        ``remyelination`` (of voxels demyelinated at t0) and ``demyelination`` (of the others); ``global_change``;
        ``lesions``, one row of the four shares per lesion; ``acute``, how many lesions hold oedema at t0 and t1.
    """

    maps: Volume
    facts: dict[str, Any]


def draw_course(
    rng: np.random.Generator, labels: Volume, rates: Rates, *, parameters: Parameters, months: float | None = None
) -> LesionCourse | None:
    """Draw the myelin, water and axons of every lesion voxel at t0 and t1.

    Shares differ between the lesions of a patient (beta distributions around `rates`), and voxels within a lesion:
    the centre tends to be demyelinated, the rim of what is demyelinated tends to remyelinate first.

    Parameters
    ----------
    rng : numpy.random.Generator
    labels : Volume
        Integer; 0 outside, i + 1 in lesion i.
    rates : Rates
    parameters : Parameters
        ``state``, ``latent``, ``course``, ``oedema``.
    months : float, optional
        From t0 to t1; None leaves out oedema at t1.

    Returns
    -------
    LesionCourse or None
        None where there is no lesion.
    """
    if not (labels.data > 0).any():
        return None
    reach = 2 + int(np.ceil(3 * parameters["oedema.edge"] / min(labels.spacing)))
    inside = labels.crop(bounding_box(labels.data[0] > 0, margin=reach))
    where = np.nonzero(inside.data[0].numpy())
    lesion = np.unique(inside.data[0].numpy()[where], return_inverse=True)[1]
    patches = _patches(rng, where, inside, 6, parameters)
    before, after = _demyelinated(rng, lesion, _centre(inside, where, parameters), patches[:3], rates, parameters)
    latents = _latents(rng, lesion, (before, after), patches[3:], parameters)
    wet = _oedema(rng.spawn(1)[0], int(lesion.max()) + 1, months, parameters)
    maps = np.zeros((1 + len(latents) + len(wet), *inside.shape), dtype=np.float32)
    for channel, values in zip(maps, (1.0, *latents, *(w[lesion] for w in wet)), strict=True):
        channel[where] = values
    for channel in maps[-len(wet):]:
        channel[:] = _spread_out(channel, inside.spacing, parameters["oedema.edge"])
    facts = {**_facts(lesion, before, after), "acute": {s: int((w > 0).sum()) for s, w in zip(("t0", "t1"), wet)}}
    return LesionCourse(Volume(torch.from_numpy(maps), inside.affine), facts)


def unchanged(maps: Volume) -> Volume:
    """The maps of a :class:`LesionCourse` (9 channels) with t1 as at t0: a follow-up in which nothing happened."""
    first = maps.data
    return maps.with_data(torch.cat([first[:4], first[1:4], first[7:8], first[7:8]]), "nothing changed")


def _oedema(
    rng: np.random.Generator, count: int, months: float | None, parameters: Parameters
) -> tuple[np.ndarray, np.ndarray]:
    """Share of free water that `count` lesions hold more at t0 and at t1: most when they form, then less and less.

    Lesions form at a steady rate, so that on average as many are acute at one visit as at the other.
    """
    p = parameters.section("oedema")
    share, height = p["incidence"] * p["weeks"] / 52, rng.uniform(*p["water"], count)
    acute, age, again, born = rng.random(count) < share, rng.random(count), rng.random(count), rng.random(count)
    first = acute * height * (1 - age)
    if months is None:
        return first, np.zeros(count)
    passed = months * 52 / 12 / p["weeks"]
    new = ~acute & (again < share * min(passed, 1))
    return first, height * np.where(new, 1 - born * min(passed, 1), acute * np.maximum(1 - age - passed, 0))


def _spread_out(values: np.ndarray, spacing: Sequence[float], edge: float) -> np.ndarray:
    """`values` (X, Y, Z) where they are above 0, and round that a Gaussian edge of `edge` mm (sd), to 3 sd."""
    if not values.any():
        return values
    distance, nearest = ndimage.distance_transform_edt(values <= 0, sampling=spacing, return_indices=True)
    return values[tuple(nearest)] * np.where(distance <= 3 * edge, np.exp(-((distance / edge) ** 2) / 2), 0)


def _patches(
    rng: np.random.Generator, where: tuple[np.ndarray, ...], box: Volume, count: int, parameters: Parameters
) -> np.ndarray:
    """`count` smooth random fields at the voxels `where`, (count, voxels), mean 0 and standard deviation 1."""
    step = parameters["course.patch"] / np.array(box.spacing)
    knots = tuple(int(np.ceil(n / s)) + 2 for n, s in zip(box.shape, step, strict=True))
    places = np.stack([axis / s for axis, s in zip(where, step, strict=True)])
    fields = np.stack([
        ndimage.map_coordinates(rng.standard_normal(knots), places, order=1, mode="nearest") for _ in range(count)
    ])
    fields -= fields.mean(axis=1, keepdims=True)
    return fields / np.maximum(fields.std(axis=1, keepdims=True), 1e-6)


def _centre(box: Volume, where: tuple[np.ndarray, ...], parameters: Parameters) -> np.ndarray:
    """How far inside its lesion each voxel lies: share of lesion around it, standardised."""
    mask = (box.data[0] > 0).numpy().astype(np.float32)
    share = ndimage.uniform_filter(mask, parameters["course.reach"], mode="constant")[where]
    return (share - share.mean()) / max(float(share.std()), 1e-6)


def _demyelinated(
    rng: np.random.Generator, lesion: np.ndarray, centre: np.ndarray, patches: np.ndarray, rates: Rates,
    parameters: Parameters,
) -> tuple[np.ndarray, np.ndarray]:
    """Which lesion voxels are demyelinated at t0 and at t1, boolean (voxels,)."""
    count, total, inwards = int(lesion.max()) + 1, parameters["course.agreement"], parameters["course.centre"] * centre
    means = (rates.demyelinated, rates.remyelinating, rates.demyelinating)
    share = [rng.beta(total * mean, total * (1 - mean), count) for mean in means]
    before = _rank(lesion, -inwards + patches[0]) < share[0][lesion]
    # ranks among the demyelinated and among the others of each lesion
    group = 2 * lesion + before
    back = before & (_rank(group, inwards + patches[1]) < share[1][lesion])
    lost = ~before & (_rank(group, -inwards + patches[2]) < share[2][lesion])
    return before, (before & ~back) | lost


def _rank(group: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Rank of `score` within each group, from just above 0 (lowest) to just below 1."""
    order = np.lexsort((score, group))
    sizes = np.bincount(group)
    first = np.cumsum(sizes) - sizes
    rank = np.empty(len(group))
    rank[order] = np.arange(len(group)) - first[group[order]] + 0.5
    return rank / sizes[group]


def _latents(
    rng: np.random.Generator, lesion: np.ndarray, states: tuple[np.ndarray, np.ndarray], patches: np.ndarray,
    parameters: Parameters,
) -> list[np.ndarray]:
    """Lost, water and axons at t0, then at t1, (voxels,) each."""
    p, count = parameters.section("latent"), int(lesion.max()) + 1
    before, after = states
    ill = parameters["state.demyelinated"] + parameters["state.demyelinated_sd"] * patches[0].clip(-1.7, 1.7)
    start = np.where(before, ill, _between(patches[0], parameters["state.intact"]))
    kept = np.where(before & ~after, _between(patches[1], parameters["state.repaired"]), start)
    end = np.where(after & ~before, ill, kept)
    wet = rng.normal(0, p["water_lesion"], count)[lesion] + p["water_voxel"] * patches[2]
    water = np.maximum(p["water_slope"] * (1 - start) + wet, 0)
    later = np.maximum(water + p["water_response"] * p["water_slope"] * (start - end), 0)
    axons = p["axon_slope"] * (1 - start) + rng.normal(0, p["axon_lesion"], count)[lesion]
    axons = axons.clip(0, 0.9)
    newly = p["axon_acute"] * p["axon_slope"] * np.maximum(start - end, 0)
    return [1 - start, water, axons, 1 - end, later, axons + newly]


def _between(field: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """A standard normal field as values spread evenly between two limits."""
    return limits[0] + (limits[1] - limits[0]) * ndtr(field)


def _facts(lesion: np.ndarray, before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    paths = np.stack([~before & ~after, ~before & after, before & after, before & ~after])
    sizes = np.bincount(lesion)
    rows = np.stack([np.bincount(lesion, path) / sizes for path in paths], axis=1)
    intact, lost, ill, back = (float(share) for share in paths.mean(axis=1))
    return {
        "paths": dict(zip(PATHS, (intact, lost, ill, back), strict=True)),
        "demyelinated": {"t0": ill + back, "t1": ill + lost},
        "remyelination": back / (ill + back) if ill + back else 0.0,
        "demyelination": lost / (lost + intact) if lost + intact else 0.0,
        "global_change": lost - back,
        "lesions": np.round(rows, 4).tolist(),
    }
