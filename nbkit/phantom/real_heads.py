"""Heads of real people: tissue shares from label maps, and lesion masks of one brain put into another."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage, signal

from nbkit.core.checks import require
from nbkit.core.volume import Volume, bounding_box
from nbkit.data import nifti
from nbkit.geometry.warp import resample
from nbkit.phantom.acquisition import integrate
from nbkit.phantom.myelin import Head
from nbkit.phantom.parameters import Parameters
from nbkit.phantom.tracts import coherence

log = logging.getLogger(__name__)

_TOUCHING = np.ones((3, 3, 3), dtype=bool)
_SMALLEST, _COARSE = 3, 2
"""Voxels (mm³) of the smallest lesion that is kept, and mm of the search for a shift."""


def real_head(
    labels: Path, lesions: Path | None, *, codes: Mapping[str, Collection[int]], spacing: float,
    parameters: Parameters,
) -> Head:
    """Tissue shares from labels, centred on the world's origin, with real lesions put into the white matter.

    Parameters
    ----------
    labels : path
        Label map of one head.
    lesions : path or None
        Lesion mask of somebody else; None for a control.
    codes : mapping of str to collection of int
        Labels of "gm", "wm", "csf" (ventricles included) and "ventricles"; perhaps of kinds of bundles within "wm".
    spacing : float
        Voxel size in mm that shares are averaged over.
    parameters : Parameters
        ``real_lesions``.

    Raises
    ------
    NbkitError
        For a label that belongs to no tissue.
    """
    centred = _centred(nifti.read_labels(labels))
    sharp = _tissues(centred, codes, str(labels))
    none = Volume(torch.zeros(2, 2, 2, dtype=torch.int32), sharp.affine)
    found = fit_lesions(nifti.read_labels(lesions), sharp, parameters=parameters) if lesions else none
    widths = [spacing / s for s in sharp.spacing]
    coherent = _coherence(centred, sharp, codes, parameters)
    return Head(sharp.with_data(integrate(sharp.data[None], widths)[0]), found, _place, coherent)


def _coherence(
    labels: Volume, tissues: Volume, codes: Mapping[str, Collection[int]], parameters: Parameters
) -> Volume:
    """Anisotropy of white matter over its mean: labelled bundles, and depth."""
    blur = parameters["tracts.radius"] / 2 / np.array(labels.spacing)
    near = {
        kind: ndimage.gaussian_filter(np.isin(labels.data[0].numpy(), sorted(codes[kind])).astype(np.float32), blur)
        for kind in parameters.section("muse_tracts") if kind in codes
    }
    return coherence(tissues.with_data(tissues.data[1:2]), near, parameters=parameters)


def _centred(labels: Volume) -> Volume:
    """The box round all labels, its middle at the world's origin."""
    labels = labels.crop(bounding_box(labels.data[0] > 0, margin=2))
    affine = labels.affine.copy()
    affine[:3, 3] -= (labels.affine @ [*((np.array(labels.shape) - 1) / 2), 1])[:3]
    return Volume(labels.data, affine, labels.history)


def _tissues(labels: Volume, codes: Mapping[str, Collection[int]], where: str) -> Volume:
    """GM, WM, CSF and ventricles (4, X, Y, Z), 0 or 1."""
    unknown = set(torch.unique(labels.data).tolist()) - {0, *(c for k in ("gm", "wm", "csf") for c in codes[k])}
    require(
        not unknown, where, expected="codes of the atlas", found=f"{sorted(unknown)} as well",
        remedy="Add them to [muse] of nbkit/phantom/myelin_parameters.toml, under their tissue.",
    )
    hard = [torch.isin(labels.data[0], torch.tensor(sorted(codes[k]))) for k in ("gm", "wm", "csf", "ventricles")]
    return Volume(torch.stack(hard).float(), labels.affine, labels.history)


def _place(*maps: Volume, shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
    return Volume(torch.cat([resample(m, shape, affine).data for m in maps]), affine, ("real anatomy",))


def fit_lesions(mask: Volume, tissues: Volume, *, parameters: Parameters) -> Volume:
    """A lesion mask of one brain in the white matter of another: box to box, best shift, restricted, numbered.

    Parameters
    ----------
    mask : Volume
        Not 0 in lesions, on the grid that ``real_lesions.box`` was measured on.
    tissues : Volume
        (4, X, Y, Z) shares of GM, WM, CSF, ventricles.
    parameters : Parameters
        ``real_lesions``.

    Returns
    -------
    Volume
        int32 at 1 mm round the brain of `tissues`: i + 1 in lesion i; lesions of less than 3 mm³ are left out.
    """
    # the same field of view in voxels of 1 mm
    shape = tuple(round((n - 1) * s) + 1 for n, s in zip(tissues.shape, tissues.spacing, strict=True))
    fine = resample(tissues, shape, tissues.affine @ np.diag([*(1 / np.array(tissues.spacing)), 1.0]))
    white = fine.data[1].numpy() > 0.5
    brain = bounding_box(fine.data[:2].sum(dim=0) > 0.5)
    box = np.array(parameters["real_lesions.box"])
    scale = [(s.stop - 1 - s.start) / (high - low) for s, (low, high) in zip(brain, box, strict=True)]
    to_fine = np.diag([*scale, 1.0])
    to_fine[:3, 3] = [s.start - k * low for s, k, (low, _) in zip(brain, scale, box, strict=True)]
    moved = resample(Volume((mask.data > 0).float(), fine.affine @ to_fine), fine.shape, fine.affine).data[0].numpy()
    shift = _best_shift(moved, white, parameters["real_lesions.search"])
    inside = ndimage.shift(moved, shift, order=0) > 0.5
    labels, count = ndimage.label(inside & white, _TOUCHING)
    kept = np.bincount(labels.ravel(), minlength=count + 1) >= _SMALLEST
    labels = np.where(kept, np.cumsum(kept) - 1, 0)[labels]
    log.info("lesions moved by %s mm, %.0f %% in white matter", shift, 100 * (inside & white).sum() / inside.sum())
    return Volume(torch.from_numpy(labels.astype(np.int32)), fine.affine)


def _best_shift(lesions: np.ndarray, white: np.ndarray, reach: int) -> tuple[int, int, int]:
    """Voxels (1 mm, steps of 2) by which `lesions` moves, at most `reach` per axis, to lie most in `white`."""
    smooth = (ndimage.uniform_filter(image.astype(np.float32), _COARSE) for image in (white, lesions))
    there, moved = (image[::_COARSE, ::_COARSE, ::_COARSE] for image in smooth)
    steps = reach // _COARSE
    match = signal.correlate(np.pad(there, steps), moved, mode="valid", method="fft")
    far = np.linalg.norm(np.stack(np.meshgrid(*(np.arange(n) - steps for n in match.shape), indexing="ij")), axis=0)
    match = match - 1e-3 * match.max() * far  # the smaller of two shifts that are equally good
    best = np.unravel_index(int(np.argmax(match)), match.shape)
    return tuple(int(b - steps) * _COARSE for b in best)
