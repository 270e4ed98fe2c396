"""Sizes and mean intensities of regions of one subject."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage

from nbkit.core.checks import require
from nbkit.core.protocols import Cohort, Subject
from nbkit.core.volume import Volume, bounding_box


class LesionContrast(NamedTuple):
    """Mean lesion intensity over that of NAWM (`ratio1`) and of the NAWM around the lesions (`ratio2`)."""

    ratio1: float
    ratio2: float


def volume_mm3(mask: Volume) -> float:
    """Volume of the true voxels of a mask in mm³."""
    return int(mask.data.bool().sum()) * mask.voxel_volume


def lesion_loads(cohort: Cohort) -> dict[str, float]:
    """Lesion load in mL of everybody with a lesion mask who is no control: as simulated, else that of the mask."""
    ill = [s for s in cohort if "lesions" in s.baseline.masks and s.diagnosis not in ("HC", "CN")]
    known = {s.id: cohort.truth.get(s.id, {}) for s in ill}
    true = {i: facts.get("lesion_load_ml", facts.get("facts", {}).get("load_ml")) for i, facts in known.items()}
    return {s.id: volume_mm3(s.baseline.mask("lesions")) / 1000 if true[s.id] is None else true[s.id] for s in ill}


def median_patient(cohort: Cohort, *, visits: int = 1) -> Subject:
    """Whom to show: the person of median lesion load (:func:`lesion_loads`; of an even number the lower of the two).

    Only people with at least `visits` scans are asked.

    Raises
    ------
    NbkitError
        If nobody with a lesion mask has as many.
    """
    loads = lesion_loads(cohort)
    ranked = sorted((s for s in cohort if s.id in loads and len(s.scans) >= visits), key=lambda s: (loads[s.id], s.id))
    require(
        bool(ranked), f"median_patient: {cohort.name}", expected=f"a patient with {visits} scans and a lesion mask",
        found="none", remedy="Ask for fewer visits, or show somebody by id.",
    )
    return ranked[(len(ranked) - 1) // 2]


def region_mean(image: Volume, region: Volume) -> float:
    """Mean intensity over the true voxels of `region`, in image units; NaN when there are none."""
    image.check_grid(region, "region_mean: image and region")
    return _mean(image.data, region.data.bool())


def lesion_contrast(image: Volume, lesions: Volume, nawm: Volume, *, surround_voxels: int = 5) -> LesionContrast:
    """Contrast of lesions with normal-appearing white matter (Wei thesis, Eq. 2.4), for one subject.

    Parameters
    ----------
    image : Volume
        In the scanner's unit, zero meaning no signal: a ratio of z-scores has no meaning.
    lesions, nawm : Volume
        Boolean masks on the grid of `image`; lesion voxels never count as NAWM.
    surround_voxels : int
        The surrounding NAWM is NAWM within this many steps between face neighbours ("a dilatation of 5 voxels
        around the lesions"; the shape of the dilation is not stated). Steps are voxels whatever their size.

    Returns
    -------
    LesionContrast
        NaN for a subject without lesions, or without NAWM to compare with.

    Raises
    ------
    NbkitError
        If grids differ, or the mean of NAWM is not positive.
    """
    for name, mask in (("lesions", lesions), ("nawm", nawm)):
        image.check_grid(mask, f"lesion_contrast: image and {name}")
    inside = lesions.data.bool()
    normal = nawm.data.bool() & ~inside
    level = _mean(image.data, normal)
    require(
        math.isnan(level) or level > 0, "lesion_contrast: image", expected="an image in the scanner's unit",
        found=f"mean {level:.4g} in NAWM", remedy="Undo the z-score (Standardiser.invert) before taking ratios.",
    )
    near = normal & _grown(inside, surround_voxels)
    lesion_level = _mean(image.data, inside)
    return LesionContrast(lesion_level / level, lesion_level / _mean(image.data, near))


def _grown(mask: torch.Tensor, steps: int) -> torch.Tensor:
    if not mask.any():
        return mask
    box = (0, *bounding_box(mask[0], margin=steps))
    grown = mask.clone()
    grown[box] = torch.from_numpy(ndimage.binary_dilation(mask[box].numpy(), iterations=steps))
    return grown


def _mean(values: torch.Tensor, where: torch.Tensor) -> float:
    return float(values[where].double().mean()) if where.any() else np.nan
