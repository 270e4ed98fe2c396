"""Folds of known deformations, and SimpleITK's Jacobian."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nbkit.core.checks import NbkitError
from nbkit.metrics.deformation import folding_fraction, smallest_jacobian
from tests.geometry.fields import linear_field, smooth_field
from tests.geometry.frames import FRAMES, SHAPE

frames = pytest.mark.parametrize("affine", FRAMES.values(), ids=FRAMES)


@frames
def test_linear_fields(affine):
    """x -> (1 + a)(x − p) + p grows everywhere by (1 + a)³; below a = −1 it folds everywhere."""
    field = torch.cat([linear_field(a * np.eye(3), affine) for a in (0.2, -0.3, -1.4)])
    assert folding_fraction(field, affine=affine).tolist() == [0, 0, 1]
    assert smallest_jacobian(field, affine=affine).tolist() == pytest.approx([1.2**3, 0.7**3, -(0.4**3)])


def test_folds_are_counted_inside_the_mask():
    """A mirrored half: the field −2x folds where it is, and only there."""
    affine = np.eye(4)
    field = torch.zeros(2, 3, 8, 6, 6)
    field[1, 0, 4:] = -2 * torch.arange(4.0)[:, None, None]
    mask = torch.zeros(1, 1, 8, 6, 6, dtype=torch.bool)
    mask[:, :, 6:, :, 0] = True
    mask[:, :, 0, :, 0] = True
    assert folding_fraction(field, affine=affine, mask=mask).tolist() == pytest.approx([0, 2 / 3])
    assert smallest_jacobian(field, affine=affine, mask=mask).tolist() == pytest.approx([1, -1])
    broken = torch.full((1, 3, 4, 4, 4), torch.nan)
    assert folding_fraction(broken, affine=affine).tolist() == [1]


def test_the_same_voxels_fold_as_in_simpleitk():
    affine = FRAMES["RAS"]
    field = smooth_field(affine, size_mm=9.0)
    image = sitk.GetImageFromArray(field[0].permute(3, 2, 1, 0).contiguous().numpy(), isVector=True)
    image.SetSpacing([float(s) for s in np.diag(affine)[:3]])
    theirs = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image)).transpose(2, 1, 0)
    inner = torch.zeros(1, 1, *SHAPE, dtype=torch.bool)
    inner[..., 1:-1, 1:-1, 1:-1] = True
    share = float((torch.from_numpy(theirs.copy())[inner[0, 0]] <= 0).double().mean())
    assert 0 < share < 0.5
    assert folding_fraction(field, affine=affine, mask=inner).tolist() == pytest.approx([share])
    least = float(torch.from_numpy(theirs.copy())[inner[0, 0]].min())
    assert smallest_jacobian(field, affine=affine, mask=inner).tolist() == pytest.approx([least], rel=1e-4)


def test_a_mask_on_another_grid_is_refused():
    with pytest.raises(NbkitError, match="folding_fraction: mask: expected shape"):
        folding_fraction(torch.zeros(1, 3, 4, 4, 4), affine=np.eye(4), mask=torch.ones(1, 1, 5, 4, 4))
