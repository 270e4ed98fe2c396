"""Heads from label maps, and lesion masks that move into another brain's white matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.phantom.myelin_people import myelin_parameters
from nbkit.phantom.parameters import Parameters
from nbkit.phantom.real_heads import fit_lesions, real_head

P = myelin_parameters()
CODES = {"gm": [31], "wm": [81, 82], "csf": [4, 51], "ventricles": [51]}
BOX = ((10.0, 69.0), (5.0, 74.0), (8.0, 57.0))


def measured_on(box) -> Parameters:
    return Parameters({**P.entries, "real_lesions.box": {**P.entries["real_lesions.box"], "value": box}})


def brain(shape=(80, 80, 66), spacing=1.0) -> Volume:
    """Grey matter in `BOX` round white matter with a band of ventricles, as shares; the affine is not centred."""
    shares = torch.zeros(4, *shape)
    x, y, z = (slice(int(low), int(high) + 1) for low, high in BOX)
    shares[0, x, y, z] = 1
    shares[:, 20:60, 15:65, 15:50] = torch.tensor([0.0, 1, 0, 0])[:, None, None, None]
    shares[:, 36:44, 30:50, 25:40] = torch.tensor([0.0, 0, 1, 1])[:, None, None, None]
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = (-30, 12, 5)
    return Volume(shares, affine)


def spots(shape=(80, 80, 66)) -> Volume:
    mask = torch.zeros(1, *shape, dtype=torch.int32)
    for corner in ((24, 20, 20), (50, 40, 30), (26, 50, 40)):
        mask[0, corner[0]:corner[0] + 5, corner[1]:corner[1] + 4, corner[2]:corner[2] + 6] = 1
    mask[0, 45, 20, 20] = 1
    return Volume(mask, np.diag([-1.0, 1.0, 2.0, 1.0]))


def test_in_the_brain_it_was_measured_on_a_mask_stays_where_it_is():
    labels = fit_lesions(spots(), brain(), parameters=measured_on(BOX))
    assert sorted(torch.unique(labels.data).tolist()) == [0, 1, 2, 3]  # the single voxel is left out
    expected = spots().data.clone()
    expected[0, 45, 20, 20] = 0
    assert torch.equal(labels.data > 0, expected > 0)
    np.testing.assert_allclose(labels.affine, brain().affine)


def test_lesions_are_moved_out_of_grey_matter_and_ventricles():
    away = spots()
    away = away.with_data(torch.roll(away.data, (8, -6), dims=(1, 3)))
    labels = fit_lesions(away, brain(), parameters=measured_on(BOX))
    assert not (labels.data > 0)[0][brain().data[1] < 0.5].any()
    assert int((labels.data > 0).sum()) == 3 * 5 * 4 * 6


def test_a_brain_of_another_size_gets_lesions_in_proportion():
    small = tuple((2 * low, 2 * high + 1) for low, high in BOX)
    big = Volume(torch.nn.functional.interpolate(spots().data[None].float(), scale_factor=2)[0].int(), np.eye(4))
    labels = fit_lesions(big, brain(), parameters=measured_on(small))
    assert int((labels.data > 0).sum()) == pytest.approx(3 * 5 * 4 * 6, rel=0.1)


def save_labels(path, extra: int = 0):
    values = np.zeros((30, 34, 30), dtype=np.int32)
    values[5:25, 5:29, 5:25] = 31
    values[8:22, 8:26, 8:22] = 81
    values[15:22, 8:26, 8:22] = 82
    values[13:17, 14:20, 12:18] = 51
    values[4, 5:29, 5:25] = 4
    values[5, 5, 5] = extra or 31
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (100, -50, 7)
    return nifti.save_labels(path, Volume(torch.from_numpy(values), affine))


def test_labels_become_shares_centred_on_the_origin(tmp_path):
    head = real_head(save_labels(tmp_path / "labels.nii.gz"), None, codes=CODES, spacing=2.0, parameters=P)
    gm, wm, csf, ventricles = head.tissues.data
    assert set(torch.unique(head.tissues.data).tolist()) == {0.0, 1.0}
    assert float(wm.sum()) == 14 * 18 * 14 - 4 * 6 * 6 and float(ventricles.sum()) == 4 * 6 * 6
    assert torch.equal(csf.bool(), ventricles.bool() | (csf.bool() & ~ventricles.bool()))
    assert float(csf.sum() - ventricles.sum()) == 24 * 20
    inside = (gm + wm + csf).nonzero().float()
    middle = head.tissues.affine @ [*((inside.amin(0) + inside.amax(0)) / 2).tolist(), 1]
    np.testing.assert_allclose(middle[:3], 0, atol=1e-9)
    assert not head.lesions.data.any()
    placed = head.place(head.tissues, shape=(20, 20, 20), affine=head.tissues.affine)
    torch.testing.assert_close(placed.data, head.tissues.data[:, :20, :20, :20], atol=1e-5, rtol=0)


def test_larger_voxels_get_the_mean_of_what_they_hold(tmp_path):
    path = save_labels(tmp_path / "labels.nii.gz")
    sharp, soft = (real_head(path, None, codes=CODES, spacing=s, parameters=P).tissues.data for s in (2.0, 4.0))
    assert float(soft[1, 8, 12, 4]) == pytest.approx(float(
        (sharp[1, 7:10, 11:14, 3:6] * (w := torch.tensor([0.25, 0.5, 0.25]))[:, None, None] * w[:, None] * w).sum()
    ))


def test_a_label_of_no_tissue_is_refused_by_file(tmp_path):
    path = save_labels(tmp_path / "labels.nii.gz", extra=999)
    with pytest.raises(NbkitError, match=r"labels\.nii\.gz: expected codes of the atlas, found \[999\] as well"):
        real_head(path, None, codes=CODES, spacing=2.0, parameters=P)


def test_labelled_bundles_are_more_anisotropic_than_the_rest(tmp_path):
    path = save_labels(tmp_path / "labels.nii.gz")
    plain = real_head(path, None, codes=CODES, spacing=2.0, parameters=P)
    head = real_head(path, None, codes=CODES | {"commissural": [82]}, spacing=2.0, parameters=P)
    white = head.tissues.data[1] > 0.5
    for found in (plain, head):
        assert float(found.coherence.data[0][white].mean()) == pytest.approx(1, abs=1e-4)
        found.coherence.check_grid(found.tissues, "test")
    x = white.nonzero()[:, 0]
    right, left = (head.coherence.data[0][white][side].mean() for side in (x >= x.max() - 3, x <= x.min() + 3))
    assert float(right - left) > 0.5
