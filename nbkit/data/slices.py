"""Slices of volumes, as Volumes of one plane: a cohort of axial slices serves whatever a cohort of volumes serves.

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
from nbkit.core.protocols import Cohort, Scan
from nbkit.core.volume import Volume
from nbkit.data.grids import block_mean
from nbkit.geometry.warp import resample

BRAIN = "brain"
CENTRE_MM = (0.0, -17.0, 5.0)
"""Middle of the MNI brain, x, y, z."""
ACROSS: Mapping[str, int] = MappingProxyType({"axial": 2, "coronal": 1, "sagittal": 0})
"""World axis across the slices of a view."""
PROFILE_SLICES: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "smoke": {"level_mm": 9.5, "size": 32, "spacing_mm": 6.0},
    "laptop": {"level_mm": 9.5, "size": 64, "spacing_mm": 3.0},
    "overnight": {"level_mm": 9.5, "size": 128, "spacing_mm": 1.5},
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


def slice_grid(
    level_mm: float, *, size: int, spacing_mm: float, view: str = "axial"
) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape, (size, size, 1) of an axial one, and 4×4 affine of a slice centred at the middle of the MNI brain.

    Parameters
    ----------
    level_mm : float
        World z of an axial, y of a coronal, x of a sagittal slice, mm.
    size : int
        Pixels along both sides, 16 or more. 64 of 3 mm and 128 of 1.5 mm (as published) both span 192 mm.
    spacing_mm : float
        Pixel size, taken as the thickness too.
    view : {"axial", "coronal", "sagittal"}

    Raises
    ------
    NbkitError
        For a smaller size, a spacing that is not positive, or an unknown view.
    """
    across = ACROSS[known(view, ACROSS, "slice_grid: view")]
    require(
        size >= SMALLEST, "slice_grid: size", expected=f"{SMALLEST} pixels or more", found=size,
        remedy="Use 32 at 6 mm, 64 at 3 mm or 128 at 1.5 mm.",
    )
    require(
        math.isfinite(spacing_mm) and spacing_mm > 0, "slice_grid: spacing_mm", expected="a positive pixel size in mm",
        found=spacing_mm, remedy="Use 192 mm divided by the size.",
    )
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = [centre - spacing_mm * (size - 1) / 2 for centre in CENTRE_MM]
    affine[across, 3] = level_mm
    return tuple(1 if axis == across else size for axis in range(3)), affine


def cut(
    volume: Volume, level_mm: float, *, size: int, spacing_mm: float, mode: str = "linear", view: str = "axial",
    where: str = "cut: level_mm",
) -> Volume:
    """One slice of a volume in any orientation; zeros where the slice leaves the volume.

    Pixels larger than the voxels are averages over their square (of points at most a voxel apart), so that fine
    structures do not alias; with ``mode="nearest"`` a pixel is what lies at its centre. Across the slice, values are
    interpolated at `level_mm`, however thick voxels are.

    Parameters
    ----------
    volume : Volume
        (C, X, Y, Z); boolean and whole numbers with ``mode="nearest"`` only.
    level_mm, size, spacing_mm, view
        As in :func:`slice_grid`.
    mode : {"linear", "nearest"}
    where : str
        Words for the slice in an error.

    Returns
    -------
    Volume
        (C, *shape of the grid): float32 for "linear", the type of `volume` for "nearest". It shares no memory with
        `volume`.

    Raises
    ------
    NbkitError
        If the plane does not meet the volume, or for an unknown mode.
    """
    shape, affine = slice_grid(level_mm, size=size, spacing_mm=spacing_mm, view=view)
    across = ACROSS[view]
    _check_level(volume, level_mm, across, where)
    step = f"{view} slice at {'xyz'[across]} = {level_mm:g} mm, {size}×{size} pixels of {spacing_mm:g} mm"
    history = (*volume.history, step)
    if mode == "nearest":
        # pixels half-way between voxels would go to the even one: every other voxel twice, its neighbours never
        nudged = affine.copy()
        nudged[:3, 3] += _NUDGE * spacing_mm
        return Volume(resample(volume, shape, nudged, mode=mode).data, affine, history)
    source = volume.with_data(volume.data.float()) if volume.data.is_floating_point() else volume
    count = max(1, math.ceil(spacing_mm / min(volume.spacing) - _NUDGE))
    parts = np.array([1 if axis == across else count for axis in range(3)])
    finer = np.diag([*1 / parts, 1.0])
    finer[:3, 3] = (1 / parts - 1) / 2
    fine = resample(source, tuple(int(n) for n in shape * parts), affine @ finer, mode=mode)
    return Volume(block_mean(fine, tuple(parts.tolist())).data, affine, history)


def _check_level(volume: Volume, level_mm: float, across: int, where: str) -> None:
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * (np.array(volume.shape) - 1)
    places = corners @ volume.affine[across, :3] + volume.affine[across, 3]
    low, high = float(places.min()), float(places.max())
    require(
        low - _NUDGE <= level_mm <= high + _NUDGE, where,
        expected=f"a level from {low:.1f} to {high:.1f} mm, inside the volume", found=f"{level_mm:g} mm",
        remedy="Choose a level that the volume reaches, or align the scan to MNI space (Clinica's pet-linear does).",
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
        found=np.round(volume.affine[:3, :3], 2).tolist(), remedy="Resample it onto such axes first.",
    )
    level_mm = float(image.affine[2, 3])
    _check_level(volume, level_mm, 2, "put_back: image")
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
    people = tuple(
        dataclasses.replace(subject, scans=tuple(
            sliced_scan(scan, contrast=contrast, **settings) for scan in subject.scans
        )) for subject in cohort
    )
    provenance = {
        **cohort.provenance, "slice": {**settings, "contrast": contrast},
        "grid": {"shape": [size, size, 1], "spacing_mm": [float(spacing_mm)] * 3},
    }
    if cohort.provenance.get("data_hash") is not None:
        provenance["data_hash"] = digest([cohort.provenance["data_hash"], settings, contrast])
    return dataclasses.replace(cohort, name=f"{cohort.name} (slice)", subjects=people, provenance=provenance, truth={})


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
