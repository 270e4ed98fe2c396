"""Axial slices of volumes, as Volumes of one plane: a cohort of slices serves whatever a cohort of volumes serves.

Slices lie in MNI space, where the scans are expected to be; x goes to the right, y to the front, z up.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from nbkit.core.checks import known, require
from nbkit.core.config import digest
from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.volume import Volume
from nbkit.data.grids import block_mean
from nbkit.geometry.warp import resample

BRAIN = "brain"
CENTRE_MM = (0.0, -17.0)
"""x and y of the middle of the MNI brain."""
PROFILE_SLICES: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "smoke": {"level_mm": 9.5, "size": 32, "spacing_mm": 6.0},
    "laptop": {"level_mm": 9.5, "size": 64, "spacing_mm": 3.0},
    "paper": {"level_mm": 9.5, "size": 128, "spacing_mm": 1.5},
})
"""Where DaniNet's slice lies in each profile: through the ventricles' bodies, a plane of voxels at laptop size."""
SMALLEST = 16
_NUDGE = 1e-3

DIAGNOSES: Mapping[str, int] = MappingProxyType({"CN": 0, "SMC": 1, "EMCI": 2, "MCI": 2, "LMCI": 2, "AD": 3})
"""Diagnosis as DaniNet's number from 0 to 3 (section 2): early and late impairment are one stage."""


def diagnosis_code(name: str) -> int:
    """0 (CN), 1 (SMC), 2 (EMCI, MCI, LMCI) or 3 (AD); another name is refused with the nearest valid one."""
    return DIAGNOSES[known(name, DIAGNOSES, "diagnosis_code: name")]


def slice_grid(level_mm: float, *, size: int, spacing_mm: float) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape (size, size, 1) and 4×4 affine of an axial slice at z = `level_mm`, centred at the middle of the MNI brain.

    Parameters
    ----------
    level_mm : float
        World z in mm.
    size : int
        Pixels along x and y, 16 or more. 64 of 3 mm and 128 of 1.5 mm (as published) both span 192 mm.
    spacing_mm : float
        Pixel size, taken as the thickness too.

    Raises
    ------
    NbkitError
        For a smaller size, a spacing that is not positive, or a level that is not finite.
    """
    require(
        size >= SMALLEST, "slice_grid: size", expected=f"{SMALLEST} pixels or more", found=size,
        remedy="Use 32 at 6 mm, 64 at 3 mm or 128 at 1.5 mm.",
    )
    require(
        math.isfinite(spacing_mm) and spacing_mm > 0, "slice_grid: spacing_mm", expected="a positive pixel size in mm",
        found=spacing_mm, remedy="Use 192 mm divided by the size.",
    )
    require(
        math.isfinite(level_mm), "slice_grid: level_mm", expected="a height in mm", found=level_mm,
        remedy="Give the MNI z of the slice.",
    )
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = [*(centre - spacing_mm * (size - 1) / 2 for centre in CENTRE_MM), level_mm]
    return (size, size, 1), affine


def cut(volume: Volume, level_mm: float, *, size: int, spacing_mm: float, mode: str = "linear") -> Volume:
    """One axial slice of a volume in any orientation; zeros where the slice leaves the volume.

    Pixels larger than the voxels are averages over their square (of points at most a voxel apart), so that fine
    structures do not alias; with ``mode="nearest"`` a pixel is what lies at its centre. Across the slice, values are
    interpolated at `level_mm`, however thick voxels are.

    Parameters
    ----------
    volume : Volume
        (C, X, Y, Z); boolean and whole numbers with ``mode="nearest"`` only.
    level_mm, size, spacing_mm
        As in :func:`slice_grid`.
    mode : {"linear", "nearest"}

    Returns
    -------
    Volume
        (C, size, size, 1): float32 for "linear", the type of `volume` for "nearest". It shares no memory with `volume`.

    Raises
    ------
    NbkitError
        If the plane does not meet the volume, or for an unknown mode.
    """
    shape, affine = slice_grid(level_mm, size=size, spacing_mm=spacing_mm)
    _check_level(volume, level_mm)
    history = (*volume.history, f"axial slice at z = {level_mm:g} mm, {size}×{size} pixels of {spacing_mm:g} mm")
    if mode == "nearest":
        # pixels half-way between voxels would go to the even one: every other voxel twice, its neighbours never
        nudged = affine.copy()
        nudged[:3, 3] += _NUDGE * spacing_mm
        return Volume(resample(volume, shape, nudged, mode=mode).data, affine, history)
    source = volume.with_data(volume.data.float()) if volume.data.is_floating_point() else volume
    parts = max(1, math.ceil(spacing_mm / min(volume.spacing) - _NUDGE))
    step = np.diag([1 / parts, 1 / parts, 1.0, 1.0])
    step[:2, 3] = (1 / parts - 1) / 2
    fine = resample(source, (size * parts, size * parts, 1), affine @ step, mode=mode)
    return Volume(block_mean(fine, (parts, parts, 1)).data, affine, history)


def _check_level(volume: Volume, level_mm: float) -> None:
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * (np.array(volume.shape) - 1)
    heights = corners @ volume.affine[2, :3] + volume.affine[2, 3]
    low, high = float(heights.min()), float(heights.max())
    require(
        low - _NUDGE <= level_mm <= high + _NUDGE, "cut: level_mm",
        expected=f"z from {low:.1f} to {high:.1f} mm, inside the volume", found=f"{level_mm:g}",
        remedy="Choose a level that the volume reaches, or align the scan to MNI space.",
    )


def put_back(image: Volume, volume: Volume) -> Volume:
    """`volume` with the axial plane nearest to the slice `image` (1, S, S, 1) taken from it, all others as they are.

    Raises
    ------
    NbkitError
        For a volume whose axes are not those of the world, or a slice outside it.
    """
    turned = volume.affine[:3, :3] - np.diag(np.diag(volume.affine[:3, :3]))
    require(
        bool(np.allclose(turned, 0)), "put_back: volume", expected="axes along those of the world",
        found=np.round(volume.affine[:3, :3], 2).tolist(), remedy="Reorient it with nbkit.data.nifti.canonical first.",
    )
    level_mm = float(image.affine[2, 3])
    _check_level(volume, level_mm)
    plane = round((level_mm - volume.affine[2, 3]) / volume.affine[2, 2])
    flat = volume.affine.copy()
    flat[2, 3] = level_mm
    data = volume.data.float().clone()
    data[..., plane] = resample(image, (*volume.shape[:2], 1), flat).data[..., 0]
    return volume.with_data(data, image.history[-1] if image.history else "one slice put back")


def sliced(cohort: Cohort, *, level_mm: float, size: int, spacing_mm: float, contrast: str = "T1w") -> Cohort:
    """The cohort with every scan as one axial slice: image, brain mask, labels.

    Made at once, because slices are small; volumes that load on access are looked at one by one and not kept.

    Parameters
    ----------
    cohort : Cohort
        Scans in MNI space, skull-stripped, each with a mask "brain".
    level_mm, size, spacing_mm
        As in :func:`slice_grid`.
    contrast : str
        The one image of each scan.

    Returns
    -------
    Cohort
        Named "... (slice)", same people, ages and diagnoses, without truth (known volumes are no areas). Provenance
        says what was cut, also in its ``data_hash``.

    Raises
    ------
    NbkitError
        For a scan without that contrast or a brain mask, or whose brain the slice does not meet, by name.
    """
    settings = {"level_mm": float(level_mm), "size": size, "spacing_mm": float(spacing_mm)}
    people = tuple(_sliced_subject(subject, contrast, settings) for subject in cohort)
    provenance = {
        **cohort.provenance, "slice": {**settings, "contrast": contrast},
        "grid": {"shape": [size, size, 1], "spacing_mm": [float(spacing_mm)] * 3},
    }
    if cohort.provenance.get("data_hash") is not None:
        provenance["data_hash"] = digest([cohort.provenance["data_hash"], settings, contrast])
    return dataclasses.replace(
        cohort, name=f"{cohort.name} (slice)", subjects=people, provenance=provenance, truth={}
    )


def _sliced_subject(subject: Subject, contrast: str, settings: Mapping[str, Any]) -> Subject:
    scans = tuple(sliced_scan(scan, contrast=contrast, **settings) for scan in subject.scans)
    return dataclasses.replace(subject, scans=scans)


def sliced_scan(scan: Scan, *, contrast: str = "T1w", **settings: Any) -> Scan:
    """One scan as its slice: `settings` are level_mm, size and spacing_mm. See :func:`sliced`, also for errors."""
    image, brain = scan.image(contrast), scan.mask(BRAIN)
    mask = cut(brain, **settings, mode="nearest")
    mask = mask.with_data(mask.data.bool())
    require(
        bool(mask.data.any()), f"{scan.subject}/{scan.session}: brain mask",
        expected=f"some brain in the slice at z = {settings['level_mm']:g} mm", found="none",
        remedy="Choose another level, or check that the scan is aligned to MNI space.",
    )
    labels = None if scan.labels is None else cut(scan.labels, **settings, mode="nearest")
    return dataclasses.replace(scan, images={contrast: cut(image, **settings)}, masks={BRAIN: mask}, labels=labels)
