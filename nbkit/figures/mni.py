"""Group maps over the MNI152 brain at 1 mm, which nilearn ships; only for images that lie in that space."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from nilearn import datasets
from scipy import ndimage

from nbkit.core.checks import require
from nbkit.core.volume import Volume

SHARE = 0.9
"""Of a brain's voxels that must lie in the MNI brain, give or take a centimetre of skull and fit."""


@lru_cache(maxsize=1)
def template() -> tuple[Volume, Volume]:
    """The T1-weighted MNI152 template without its skull, and its brain mask, at 1 mm."""
    image, mask = datasets.load_mni152_template(resolution=1), datasets.load_mni152_brain_mask(resolution=1)
    return (Volume(torch.from_numpy(np.ascontiguousarray(image.get_fdata(dtype=np.float32))), image.affine),
            Volume(torch.from_numpy(np.asarray(mask.dataobj) > 0), mask.affine))


def in_mni(brain: Volume) -> bool:
    """Whether a brain mask lies in MNI space: nine tenths of its voxels are inside the brain of the template."""
    voxels = np.argwhere(brain.data[0].cpu().numpy() > 0)
    if not len(voxels):
        return False
    world = np.c_[voxels, np.ones(len(voxels))] @ brain.affine.T
    mask = template()[1]
    at = np.rint(world @ np.linalg.inv(mask.affine).T)[:, :3].astype(int)
    inside = ((at >= 0) & (at < mask.shape)).all(axis=1)
    found = mask.data[0].numpy()[tuple(at[inside].T)].sum()
    return bool(found / len(voxels) >= SHARE and len(voxels) * abs(np.linalg.det(brain.affine)) > 0.5e6)


def on_template(image: Volume) -> Volume:
    """The first channel, interpolated linearly on the template's grid of 1 mm; 0 where the image does not reach.

    Raises
    ------
    NbkitError
        For values that are not finite.
    """
    require(
        bool(torch.isfinite(image.data).all()), "on_template: image", expected="finite values", found="NaN or infinite",
        remedy="Average over people who have a value there.",
    )
    grid = template()[0]
    way = np.linalg.inv(image.affine) @ grid.affine
    values = ndimage.affine_transform(
        image.data[0].cpu().numpy().astype(np.float32), way[:3, :3], way[:3, 3], output_shape=grid.shape, order=1,
    )
    return Volume(torch.from_numpy(values), grid.affine)
