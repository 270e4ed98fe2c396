"""One subject of the MS phantom: anatomy, lesions, tissue constants, six contrasts, masks and the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import Volume, bounding_box
from nbkit.core.windows import filter_separable, gaussian_kernel
from nbkit.geometry.warp import resample
from nbkit.phantom.acquisition import Box, Protocol, acquire_twice, box_around, draw_acquisition, integrate
from nbkit.phantom.anatomy import Template, averaged, draw_anatomy, load_template, place_on_grid, volume_growth
from nbkit.phantom.contrast import TISSUES, Tissue, brightest, drawn_tissues, sensitivity, signal
from nbkit.phantom.lesions import LesionMap, draw_lesions, place_lesions
from nbkit.phantom.parameters import Parameters
from nbkit.phantom.pet import noise_left

REFERENCE = "FLAIR"
"""The contrast whose grid and position all others are brought to."""
MASKS = ("brain", "lesions", "wm", "nawm", "gm", "csf", "ventricles")
_TEXTURE_SPACING = 2.0


@dataclass(frozen=True)
class Person:
    """Who is simulated; `load_ml` and `lesions` (count) are 0 for controls."""

    id: str
    sex: str
    age: float
    diagnosis: str
    load_ml: float
    lesions: int


def exact_ages(rng: np.random.Generator, n: int, kind: str, cohort: Mapping[str, Any]) -> np.ndarray:
    """Ages in years with exactly the published mean and standard deviation of a kind of people, inside the range."""
    mean, sd, (low, high) = cohort[f"{kind}_age_mean"], cohort[f"{kind}_age_sd"], cohort["age_range"]
    while True:
        ages = rng.standard_normal(n)
        ages = np.round(mean + sd * (ages - ages.mean()) / ages.std(ddof=1), 1)
        if low <= ages.min() and ages.max() <= high:
            return ages


@dataclass(frozen=True)
class Grid:
    """The published FLAIR grid with voxels enlarged by whole factors along X, Y, Z; every acquisition scales along."""

    factors: tuple[int, int, int] = (1, 1, 1)

    def target(self, parameters: Parameters) -> Box:
        """Shape and affine of the images, centred on the world origin."""
        return self._centred(parameters, np.ones(3, dtype=int))

    def working(self, parameters: Parameters) -> Box:
        """Shape and affine of the finer grid on which signals are made, over the same field of view."""
        return self._centred(parameters, np.array(parameters["grid.oversampling"]))

    def working_spacing(self, parameters: Parameters) -> tuple[float, ...]:
        """Voxel size (mm) of the finer grid."""
        return tuple(float(s) for s in np.diag(self.working(parameters)[1])[:3])

    def _centred(self, parameters: Parameters, finer: np.ndarray) -> Box:
        shape = np.array(parameters["grid.shape"]) // self.factors * finer
        spacing = np.array(parameters["grid.spacing"]) * self.factors / finer
        return box_around(0.0, spacing, shape)


@dataclass(frozen=True, eq=False)
class Simulated:
    """Images, their means over the noise, and masks by name on the target grid; and what is known (JSON-able)."""

    images: dict[str, Volume]
    noise_free: dict[str, Volume]
    masks: dict[str, Volume]
    truth: dict[str, Any]


def simulate(person: Person, *, grid: Grid, seed: int, parameters: Parameters) -> Simulated:
    """Simulate one subject; the same person, grid and seed give the same images in any order.

    Returns
    -------
    Simulated
        Images: every contrast of the parameter file, float32 (1, X, Y, Z), scanner units; without noise too.
        Masks: brain, lesions, wm, nawm, gm, csf, ventricles, boolean.
    """
    template = load_template(parameters)
    rng = {stage: numpy_generator(seed, "ms_phantom", person.id, stage) for stage in ("anatomy", "lesions", "tissue")}
    anatomy = draw_anatomy(rng["anatomy"], template, patient=person.diagnosis == "MS", parameters=parameters)
    growth = volume_growth(anatomy)
    draw = draw_lesions(rng["lesions"], person.load_ml, person.lesions, parameters=parameters)
    lesions = place_lesions(draw, template, growth, parameters=parameters)
    shape, affine = grid.working(parameters)
    still = _tissue_maps(template, lesions, grid, parameters)
    maps = place_on_grid(*still, anatomy=anatomy, shape=shape, affine=affine)
    tissues = _draw_tissues(rng["tissue"], person, parameters)
    signals = _signals(maps, tissues, _texture(rng["tissue"], maps, parameters), parameters)
    shots = _scan(person, signals, grid=grid, seed=seed, parameters=parameters)
    images, noise_free = ({name: pair[kind] for name, pair in shots.items()} for kind in (0, 1))
    return Simulated(images, noise_free, _masks(maps, grid, parameters), _truth(person, lesions, tissues))


def _tissue_maps(template: Template, lesions: LesionMap, grid: Grid, parameters: Parameters) -> tuple[Volume, Volume]:
    """GM, WM with lesions, CSF, ventricles (4 channels); lesion, lesion·severity (2), in the box round all lesions.

    Both in template space, averaged over working voxels.
    """
    spacing, labels = grid.working_spacing(parameters), lesions.labels.data[0]
    still = averaged(template, spacing)
    if not lesions.sizes.size:
        return still, Volume(torch.zeros(2, 2, 2, 2), still.affine)
    box = bounding_box(labels > 0, margin=int(np.ceil(max(spacing))) + 1)
    severity = torch.from_numpy(np.concatenate([[0.0], lesions.severity]).astype(np.float32))[labels[box].int()]
    wm = template.fractions.data[1][box]
    parts = torch.stack([wm * (labels[box] > 0), wm * severity])
    return still, Volume(integrate(parts[None], spacing)[0], still.crop(box).affine)


def _draw_tissues(rng: np.random.Generator, person: Person, parameters: Parameters) -> dict[str, Tissue]:
    """The subject's own constants; white matter of patients is normal-appearing, its lesions start from normal."""
    tissues = drawn_tissues(rng, parameters)
    rise = [1 + rng.uniform(*parameters[f"variation.nawm_{c}"]) for c in ("t1", "t2", "pd")]
    normal = tissues["wm"]
    return {**tissues, "normal_wm": normal, "wm": normal.scaled(*rise) if person.diagnosis == "MS" else normal}


def _texture(rng: np.random.Generator, maps: Volume, parameters: Parameters) -> torch.Tensor:
    """Relative deviations of T1 and T2 within tissue on the grid of `maps`; drawn on one grid for every profile."""
    scale = parameters["variation.texture_scale"]
    smooth, left = smooth_noise(rng, 2, spacing=_TEXTURE_SPACING, scale=scale, parameters=parameters)
    level = torch.tensor([parameters["variation.texture_t1"], parameters["variation.texture_t2"]]) / left
    fields = smooth.with_data(smooth.data * level[:, None, None, None])
    return resample(fields, maps.shape, maps.affine, padding="border").data


def smooth_noise(
    rng: np.random.Generator, count: int, *, spacing: float, scale: float, parameters: Parameters
) -> tuple[Volume, float]:
    """`count` fields of unit noise smoothed by a Gaussian of `scale` mm over the field of view, and what sd is left."""
    extent = np.array(parameters["grid.shape"]) * parameters["grid.spacing"]
    shape, affine = box_around(0.0, spacing, np.ceil(extent / spacing) + 1)
    noise = torch.from_numpy(rng.standard_normal((1, count, *shape), dtype=np.float32))
    smooth = filter_separable(noise, (gaussian_kernel(scale / spacing),) * 3)[0]
    return Volume(smooth, affine), noise_left(scale / spacing)


def _signals(maps: Volume, tissues: dict[str, Tissue], texture: torch.Tensor, parameters: Parameters) -> Volume:
    """Signed signals (contrast, X, Y, Z): fractions mix signals, texture acts to first order on GM and WM."""
    gm, wm, csf, _, lesion, weighted = maps.data
    parts = torch.stack([gm, wm - lesion, csf, gm * texture[0], wm * texture[0], gm * texture[1], wm * texture[1]])
    contrasts = parameters.groups("contrast")
    mixed = torch.zeros(len(contrasts), *maps.shape)
    for image, contrast in zip(mixed, contrasts, strict=True):
        weights = [float(signal(tissues[t], contrast, parameters=parameters)) for t in TISSUES]
        for constant in ("t1", "t2"):
            weights += [sensitivity(tissues[t], contrast, constant, parameters=parameters) for t in ("gm", "wm")]
        for weight, part in zip(weights, parts, strict=True):  # a matrix product would round with the thread count
            image.add_(part, alpha=weight)
    where = lesion > 0
    share = lesion[where]
    damaged = tissues["normal_wm"].towards(tissues["lesion"], (weighted[where] / share).double().numpy())
    for image, contrast in zip(mixed, contrasts, strict=True):
        image[where] += share * torch.from_numpy(signal(damaged, contrast, parameters=parameters)).float()
    return Volume(mixed, maps.affine, maps.history)


def _scan(
    person: Person, signals: Volume, *, grid: Grid, seed: int, parameters: Parameters
) -> dict[str, tuple[Volume, Volume]]:
    """Acquire every contrast at its own voxel size and bring it to the reference grid; and its mean over the noise."""
    shape, affine = grid.target(parameters)
    p = parameters.section("scanner")
    images = {}
    for channel, contrast in zip(signals.data, parameters.groups("contrast"), strict=True):
        settings = parameters.section(f"contrast.{contrast}")
        draw = draw_acquisition(
            numpy_generator(seed, "ms_phantom", person.id, "scan", contrast), moved=contrast != REFERENCE,
            turn_sd=p["turn"], shift_sd=p["shift"], gain_sd=parameters["variation.gain"],
        )
        voxel = tuple(v * f for v, f in zip(settings["voxel"], grid.factors, strict=True))
        protocol = Protocol(shape, affine, voxel, settings["noise"] * p["brightest"], p["inu"] * p["inu_left"])
        unit = p["brightest"] / brightest(contrast, parameters=parameters)
        images[contrast] = acquire_twice(signals.with_data(channel * unit, contrast), draw, protocol=protocol)
    return images


def _masks(maps: Volume, grid: Grid, parameters: Parameters) -> dict[str, Volume]:
    """Masks on the target grid, from tissue fractions averaged over its voxels."""
    shape, affine = grid.target(parameters)
    finer = parameters["grid.oversampling"]
    mean = resample(Volume(integrate(maps.data[None, :5], finer)[0], maps.affine), shape, affine)
    gm, wm, csf, ventricles, lesion = mean.data
    brain = gm + wm + csf > 0.5
    csf_most = brain & (csf > wm) & (csf > gm)
    found = (
        brain, lesion > 0.5, brain & (wm >= gm) & (wm >= csf), brain & (wm > gm) & (wm > csf) & (lesion < 0.05),
        brain & (gm > wm) & (gm >= csf), csf_most, csf_most & (ventricles > 0.5),
    )
    return {name: Volume(mask, affine, ("tissue fractions",)) for name, mask in zip(MASKS, found, strict=True)}


def _truth(person: Person, lesions: LesionMap, tissues: dict[str, Tissue]) -> dict[str, Any]:
    """What a scanner does not know, JSON-able."""
    return {
        "lesion_load_ml": float(lesions.sizes.sum() / 1000), "lesion_count": int(lesions.sizes.size),
        "lesion_sizes_mm3": [round(float(s), 2) for s in lesions.sizes],
        "lesion_severity": [round(float(s), 4) for s in lesions.severity],
        "lesion_distance_mm": [round(float(d), 2) for d in lesions.distance],
        "tissues": {name: [float(v) for v in tissue.values()] for name, tissue in tissues.items()}, "age": person.age,
    }
