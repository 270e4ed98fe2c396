"""A small head with anatomy that is nowhere symmetric, in several orientations."""

from __future__ import annotations

import io

import matplotlib.image as image
import nibabel as nib
import numpy as np
import pytest
import torch

from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume

AFFINE = np.array([[2.0, 0, 0, -30], [0, 2.0, 0, -34], [0, 0, 3.0, -12], [0, 0, 0, 1]])


def _fields(affine, shape):
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


@pytest.fixture(scope="session")
def scan() -> Scan:
    """30 × 34 × 9 voxels of 2 × 2 × 3 mm, RAS: an ellipsoid with two lesions, the larger at z = +3 mm."""
    world = _fields(AFFINE, (30, 34, 9))
    brain = ((world / [26, 30, 11]) ** 2).sum(-1) <= 1
    large = np.linalg.norm((world - [10, 6, 3]) / [1, 1, 0.4], axis=-1) <= 6
    small = np.linalg.norm((world - [-10, -8, 3]) / [1, 1, 0.4], axis=-1) <= 3
    rng = np.random.default_rng(0)
    make = {name: rng.normal(100 * (i + 1), 10, brain.shape) + 2 * world[..., 0] for i, name in
            enumerate(("T1w", "T2w", "PDw", "T1SE", "DIR", "FLAIR"))}
    images = {k: Volume(torch.tensor(v * brain, dtype=torch.float32), AFFINE) for k, v in make.items()}
    masks = {"brain": Volume(torch.tensor(brain), AFFINE), "lesions": Volume(torch.tensor(large | small), AFFINE)}
    return Scan("sub-01", "ses-1", 35.0, images, masks)


def pixels(figure) -> np.ndarray:
    """The drawn figure as an RGB array."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    buffer.seek(0)
    return image.imread(buffer)[..., :3]


def stored(volume: Volume, codes: str) -> Volume:
    """The same image as a file with other axis order would hold it."""
    image = nib.Nifti1Image(volume.data[0].float().numpy(), volume.affine)
    change = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes))
    image = image.as_reoriented(change)
    return Volume(torch.tensor(np.ascontiguousarray(image.dataobj)).to(volume.data.dtype), image.affine)
