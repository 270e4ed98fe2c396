"""Anatomies: the MNI152 2009 templates as tissue fractions, varied by random diffeomorphisms."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from nbkit.core.files import Cache
from nbkit.core.source import module_digest
from nbkit.core.volume import Volume, bounding_box
from nbkit.core.windows import filter_separable, gaussian_kernel
from nbkit.data.lazy import load_volume, save_volumes
from nbkit.geometry.flow import Velocity, expv, jacobian_determinant
from nbkit.geometry.warp import Displacement, resample, warp_each
from nbkit.phantom.acquisition import Box, integrate, rigid
from nbkit.phantom.parameters import Parameters

ATTRIBUTION = (
    "MNI ICBM152 non-linear symmetric 2009a templates, as shipped with nilearn. "
    "Copyright (C) 1993-2004 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, "
    "McGill University. Fonov et al., NeuroImage 54:313-327, 2011; Fonov et al., NeuroImage 47:S102, 2009."
)
_FILE = "template.safetensors"
_SEED_BOX = ((-20, 20), (-30, 20), (5, 25))
_SEARCH_BOX = ((-42, 42), (-75, 45), (-22, 36))
"""World boxes (mm) that the bodies of the lateral ventricles cross, and that all of them lie in."""


@dataclass(frozen=True, eq=False)
class Template:
    """Tissue fractions of the reference anatomy at 1 mm, and where its ventricles are.

    Parameters
    ----------
    fractions : Volume
        (3, X, Y, Z) float32: GM, WM, CSF, each in 0-1, with a sum of at most 1 (the rest is outside).
    ventricles : Volume
        Boolean; lateral and third ventricles.
    distance : numpy.ndarray
        (X, Y, Z) mm to the nearest ventricle voxel.
    """

    fractions: Volume
    ventricles: Volume
    distance: np.ndarray


@lru_cache(maxsize=1)
def load_template(parameters: Parameters) -> Template:
    """The template from what nilearn ships (no download): seconds once, then read from the cache."""

    def make(folder: Path) -> None:
        save_volumes(folder / _FILE, _template(parameters))

    def load(folder: Path) -> Template:
        fractions, ventricles, distance = (load_volume(folder / _FILE, f.name) for f in fields(Template))
        return Template(fractions, ventricles, distance.data[0].numpy())

    key = {"parameters": parameters.digest(), "source": module_digest(__name__)}
    return Cache().get("template", key, make, load)


def _template(parameters: Parameters) -> dict[str, Volume]:
    """Fields of :class:`Template`."""
    from nilearn import datasets  # takes most of a second to import, and is asked once

    gm_image, wm_image = datasets.load_mni152_gm_template(resolution=1), datasets.load_mni152_wm_template(resolution=1)
    brain_image = datasets.load_mni152_brain_mask(resolution=1)
    images = [torch.from_numpy(i.get_fdata(dtype=np.float32)) for i in (gm_image, wm_image, brain_image)]
    head = Volume(torch.stack(images), gm_image.affine)
    head = head.crop(bounding_box(images[2] > 0, margin=parameters["anatomy.skull_closing"] + 4))
    skull = _inner_skull(head.data[2].numpy() > 0, parameters)
    box = bounding_box(torch.from_numpy(skull > 0), margin=4)
    (gm, wm, _), affine, skull = head.crop(box).data.numpy(), head.crop(box).affine, skull[box]
    csf = np.clip(skull - gm - wm, 0, 1)
    ventricles = _find_ventricles(csf > 0.5, affine)
    distance = ndimage.distance_transform_edt(~ventricles).astype(np.float32)
    fractions = np.stack(_unmix_rim(gm, wm, csf, distance, parameters=parameters))
    fractions = _sharpen(fractions, parameters["anatomy.sharpness"])
    found = {"fractions": fractions, "ventricles": ventricles, "distance": distance}
    return {name: Volume(torch.from_numpy(values), affine) for name, values in found.items()}


def _sharpen(fractions: np.ndarray, power: float) -> np.ndarray:
    """Raise tissue probabilities (C, X, Y, Z) to `power`, the rest (outside) too, and normalise their sum to one."""
    outside = np.clip(1 - fractions.sum(axis=0), 0, 1)
    sharp = fractions**power
    return (sharp / (sharp.sum(axis=0) + outside**power)).astype(np.float32)


def _inner_skull(brain: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Soft inside of the skull: the brain with its sulci closed and a thin layer of CSF around it."""
    reach, gap = parameters["anatomy.skull_closing"], parameters["anatomy.skull_gap"]
    grown = ndimage.distance_transform_edt(~brain) <= reach
    inside = ndimage.distance_transform_edt(grown) > reach - gap
    return ndimage.gaussian_filter(inside.astype(np.float32), 0.7)


def _world_box(box: tuple[tuple[int, int], ...], affine: np.ndarray) -> tuple[slice, ...]:
    """Slices of a world box (mm) on a 1 mm RAS grid."""
    origin = affine[:3, 3]
    return tuple(slice(max(int(low - o), 0), int(high - o) + 1) for (low, high), o in zip(box, origin, strict=True))


def _find_ventricles(fluid: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The connected fluid that crosses the middle of the brain: lateral and third ventricles."""
    inside = np.zeros_like(fluid)
    search = _world_box(_SEARCH_BOX, affine)
    inside[search] = fluid[search]
    labels, _ = ndimage.label(inside)
    seen = np.bincount(labels[_world_box(_SEED_BOX, affine)].ravel())
    return labels == int(np.argmax(seen[1:])) + 1


def _unmix_rim(
    gm: np.ndarray, wm: np.ndarray, csf: np.ndarray, distance: np.ndarray, *, parameters: Parameters
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return fractions with the thin false GM around the ventricles split into the WM and CSF it is made of."""
    width = parameters["anatomy.rim_width"]
    thick = ndimage.binary_opening(gm > 0.5, iterations=width // 2)
    thick = ndimage.binary_dilation(thick, iterations=width // 2)
    rim = np.where((distance <= parameters["anatomy.rim_reach"]) & ~thick, gm, 0)
    share = parameters["anatomy.rim_csf"]
    return gm - rim, wm + (1 - share) * rim, csf + share * rim


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One subject's shape.

    Parameters
    ----------
    velocity : torch.Tensor
        (1, 3, X, Y, Z) mm, in template world, on the coarse grid of `affine`.
    affine : numpy.ndarray
    pose : numpy.ndarray
        4×4, subject world to template world (mm).
    """

    velocity: Velocity
    affine: np.ndarray
    pose: np.ndarray


def draw_anatomy(rng: np.random.Generator, template: Template, *, patient: bool, parameters: Parameters) -> Anatomy:
    """Draw head size, pose and a random diffeomorphism, with a ventricle size that depends on `patient`."""
    p = parameters.section("anatomy")
    scale = rng.normal(p["head_scale"], p["head_scale_sd"], 3)
    pose = rigid(rng.normal(0, p["turn"], 3), parameters["grid.centre"] + rng.normal(0, p["shift"], 3))
    pose[:3, :3] = pose[:3, :3] / scale
    shape, affine = _flow_grid(template, p["flow_spacing"])
    velocity = _widening(template, parameters) * rng.normal(*p["ventricle_patient" if patient else "ventricle_control"])
    for sigma, amplitude in zip(p["scales"], p["amplitudes"], strict=True):
        noise = torch.from_numpy(rng.standard_normal((1, 3, *shape))).float()
        smooth = filter_separable(noise, (gaussian_kernel(sigma / p["flow_spacing"]),) * 3)
        velocity = velocity + amplitude * smooth / smooth.std()
    return Anatomy(Velocity(velocity), affine, pose)


@lru_cache(maxsize=4)
def averaged(template: Template, spacing: tuple[float, ...]) -> Volume:
    """Fractions and ventricles (4, X, Y, Z) of the template at 1 mm, averaged over voxels of `spacing` mm."""
    still = torch.cat([template.fractions.data, template.ventricles.data.float()])
    return Volume(integrate(still[None], spacing)[0], template.fractions.affine)


def _flow_grid(template: Template, spacing: float) -> Box:
    """Coarse grid that covers the template."""
    affine = template.fractions.affine @ np.diag([spacing, spacing, spacing, 1.0])
    return tuple(int(np.ceil((n - 1) / spacing)) + 1 for n in template.fractions.shape), affine


@lru_cache(maxsize=1)
def _widening(template: Template, parameters: Parameters) -> torch.Tensor:
    """Field (1, 3, X, Y, Z) of unit peak that points into the ventricles: pulled back along it, they widen."""
    shape, affine = _flow_grid(template, parameters["anatomy.flow_spacing"])
    kernel = gaussian_kernel(parameters["anatomy.ventricle_scale"])
    soft = filter_separable(template.ventricles.data.float()[None], (kernel,) * 3)[0]
    coarse = resample(Volume(soft, template.ventricles.affine), shape, affine, padding="border").data[0]
    field = torch.stack(torch.gradient(coarse))[None]
    return field / field.norm(dim=1).max()


def template_flow(anatomy: Anatomy) -> Displacement:
    """Displacement (1, 3, X, Y, Z) in mm that leads from the posed subject to the template."""
    return expv(anatomy.velocity, affine=anatomy.affine)


def volume_growth(anatomy: Anatomy) -> Volume:
    """mm³ in the subject for each mm³ of the template, on the coarse grid of the template."""
    inverse = expv(Velocity(-anatomy.velocity), affine=anatomy.affine)
    growth = jacobian_determinant(inverse, affine=anatomy.affine) / abs(np.linalg.det(anatomy.pose[:3, :3]))
    return Volume(growth, anatomy.affine)


def place_on_grid(
    *maps: Volume, anatomy: Anatomy, shape: tuple[int, int, int], affine: np.ndarray
) -> Volume:
    """Pull maps in template space onto a subject's grid, cropped to where the head can be.

    Parameters
    ----------
    maps : Volume
        (C, X, Y, Z) each; the first covers the head, others may cover a part and are 0 outside it. Their channels
        follow one another in the result.
    anatomy : Anatomy
    shape, affine
        Grid in the subject's world, voxel-to-world in mm.
    """
    flow = template_flow(anatomy)
    box = _reachable(maps[0], anatomy, shape, affine, margin=float(flow.norm(dim=1).max()))
    affine = affine @ rigid((0, 0, 0), [s.start for s in box])
    shape = tuple(s.stop - s.start for s in box)
    posed = anatomy.pose @ affine
    displacement = resample(Volume(flow[0], anatomy.affine), shape, posed, padding="border").data[None]
    moved = [warp_each(m.data, Displacement(displacement), affine=posed, image_affine=m.affine) for m in maps]
    return Volume(torch.cat(moved), affine, maps[0].history + ("random anatomy",))


def _reachable(
    maps: Volume, anatomy: Anatomy, shape: tuple[int, int, int], affine: np.ndarray, *, margin: float
) -> tuple[slice, ...]:
    """Box of the subject's grid outside which every voxel lands outside `maps`, even `margin` mm displaced."""
    last = np.array(maps.shape) - 1
    margin = margin / np.array(maps.spacing)
    corners = np.array([[*np.where(bits, last + margin, -margin), 1] for bits in np.ndindex(2, 2, 2)])
    voxels = corners @ (np.linalg.inv(anatomy.pose @ affine) @ maps.affine).T
    low = np.clip(np.floor(voxels.min(axis=0)[:3]).astype(int), 0, None)
    high = np.minimum(np.ceil(voxels.max(axis=0)[:3]).astype(int) + 1, shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
