"""A data-driven brain mask and three-tissue split for scans that come without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy import ndimage
from sklearn.mixture import GaussianMixture

from nbkit.core.checks import require
from nbkit.core.volume import Volume
from nbkit.data import grids
from nbkit.data.pieces import largest_piece

MASKS = ("brain", "lesions", "wm", "nawm", "gm", "csf")
"""Of a visit with lesions."""
_FIT_VOXELS = 50_000


def nonzero_brain(images: Sequence[Volume], where: str) -> Volume:
    """Brain mask of skull-stripped images: not exactly 0 in any contrast, largest piece, holes filled.

    Values inside may be near 0 or negative (interpolation), so no intensity threshold is used.

    Raises
    ------
    NbkitError
        If the largest piece fills less than 2 % or more than 60 % of the grid: not skull-stripped images.
    """
    inside = torch.stack([image.data[0] != 0 for image in images]).all(dim=0).numpy()
    inside = ndimage.binary_fill_holes(largest_piece(inside))
    require(
        0.02 < inside.mean() < 0.6, f"{where}: brain mask", expected="a skull-stripped brain on a background of 0",
        found=f"{inside.mean():.1%} of the grid not 0", remedy="Use skull-stripped images, or give a brain mask file.",
    )
    return images[0].with_data(torch.from_numpy(inside), "nonzero in every contrast")


def split_tissues(t1w: Volume, *, brain: Volume, lesions: Volume) -> dict[str, Volume]:
    """White matter, grey matter and CSF from T1w alone, by a mixture of three Gaussians in the brain.

    Intensities are divided by their median in the brain and clipped to their 0.5-99.5 percentiles (vessels,
    fat left at the skull base); the mixture is fitted outside lesions. T1w alone, because adding T2w made the
    split depend on where the fit starts, and because the target of synthesis (FLAIR) must not shape the masks
    that a prediction of it is judged in.

    Parameters
    ----------
    t1w : Volume
        One channel, any unit.
    brain, lesions : Volume
        Boolean masks on its grid.

    Returns
    -------
    dict
        Boolean "wm" (normal-appearing and lesions), "gm" and "csf" (both without lesions), which together
        fill the brain, and "nawm": white matter more than two voxels from lesions, one from other tissue and
        four from the edge of the brain mask, where dura and fat look like white matter. Thalamus and
        brainstem, bright on T1w, are partly counted as white matter.
    """
    inside = brain.data[0].numpy()
    ill = lesions.data[0].numpy() & inside
    tissue = np.full(inside.shape, -1)
    tissue[inside] = _classes(t1w.data[0].numpy()[inside], ~ill[inside])
    wm = (tissue == 2) | ill
    deep = ndimage.binary_erosion(inside, iterations=4)
    nawm = ndimage.binary_erosion(wm & ~ill) & ~ndimage.binary_dilation(ill, iterations=2) & deep
    masks = {"wm": wm, "gm": (tissue == 1) & ~ill, "csf": (tissue == 0) & ~ill, "nawm": nawm}
    return {name: brain.with_data(torch.from_numpy(mask), f"tissue split: {name}") for name, mask in masks.items()}


def coarse_masks(masks: Mapping[str, Volume], factor: tuple[int, int, int]) -> dict[str, Volume]:
    """The six masks by majority of blocks of voxels; a voxel is of the tissue that fills most of it."""
    coarse = {name: grids.block_majority(masks[name], factor) for name in ("brain", "lesions", "nawm")}
    shares = torch.cat([grids.block_mean(masks[name], factor).data for name in ("wm", "gm", "csf")])
    winner = shares.argmax(dim=0, keepdim=True)
    for k, name in enumerate(("wm", "gm", "csf")):
        coarse[name] = coarse["brain"].with_data((winner == k) & coarse["brain"].data, f"most of the voxel: {name}")
    coarse["nawm"] = coarse["nawm"].with_data(coarse["nawm"].data & coarse["wm"].data & ~coarse["lesions"].data)
    return coarse


def visit_with_lesions(
    images: Mapping[str, Volume], lesions: Volume, profile: str, *, where: str
) -> tuple[dict[str, dict[str, Volume]], dict[str, float]]:
    """Skull-stripped contrasts and :data:`MASKS` on the grid of a profile, and the lesions' volume (``lesion_ml``).

    Parameters
    ----------
    images : mapping of str to Volume
        "T1w" among them, on one grid, 0 outside the brain.
    lesions : Volume
        Above 0 in lesions.
    profile : {"smoke", "laptop", "overnight", "paper"}
        Blocks of voxels are averaged to 3 and 2 mm; "paper" keeps the grid.
    where : str
        For refusals.

    Returns
    -------
    (dict, dict)
        "image" and "mask", each by name; and the facts.
    """
    brain = nonzero_brain(list(images.values()), where)
    lesions = lesions.with_data((lesions.data > 0) & brain.data, "inside the brain")
    masks = {"brain": brain, "lesions": lesions, **split_tissues(images["T1w"], brain=brain, lesions=lesions)}
    factor = grids.profile_factor(brain.spacing, profile)
    coarse = {name: grids.block_mean(image, factor) for name, image in images.items()}
    volumes = {"image": coarse, "mask": coarse_masks(masks, factor)}
    return volumes, {"lesion_ml": int(lesions.data.sum()) * lesions.voxel_volume / 1000}


def _classes(values: np.ndarray, healthy: np.ndarray) -> np.ndarray:
    """Tissue of each value: 0 CSF, 1 GM, 2 WM, by rising T1w."""
    scaled = values / np.median(values)
    scaled = np.clip(scaled, *np.quantile(scaled, [0.005, 0.995])).astype(np.float64)
    sample = scaled[healthy][:: max(1, int(healthy.sum()) // _FIT_VOXELS), None]
    start = np.quantile(sample, [0.08, 0.4, 0.8])[:, None]
    mixture = GaussianMixture(3, means_init=start, max_iter=300, random_state=0).fit(sample)
    low, mid, high = np.argsort(mixture.means_[:, 0])
    return (scaled > _boundary(mixture, low, mid)).astype(int) + (scaled > _boundary(mixture, mid, high))


def _boundary(mixture: GaussianMixture, a: int, b: int) -> float:
    """Where class `b` overtakes `a` between their means; beyond the means a wide class can win a second time."""
    line = np.linspace(mixture.means_[a, 0], mixture.means_[b, 0], 1000)
    share = mixture.predict_proba(line[:, None])
    return float(line[np.argmax(share[:, b] > share[:, a])])
