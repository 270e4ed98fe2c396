"""Regions of interest: whose masks count, and the voxel classifier against scikit-learn's discriminant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.papers.myelin.rois import RoiClassifier, has_rois, roi_masks

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (16, 15, 14)


def scan(seed: int, *, masks: bool = True) -> Scan:
    """Lesion, NAWM and other voxels differ in both contrasts and their spread."""
    g = torch.Generator().manual_seed(seed)
    codes = torch.full((1, *SHAPE), 2)
    codes[:, 3:12, 3:12, 3:11] = 1
    codes[:, 5:8, 5:8, 5:8] = 0
    noise = torch.randn(2, *SHAPE, generator=g)
    means, spreads = torch.tensor([[2.0, 4.0], [5.0, 1.0], [0.0, 0.0]]), torch.tensor([0.5, 0.7, 1.2])
    values = means[codes[0]].movedim(-1, 0) + spreads[codes[0]] * noise
    brain = torch.zeros(1, *SHAPE, dtype=torch.bool)
    brain[:, 1:-1, 1:-1, 1:-1] = True
    images = {n: Volume(v[None], AFFINE) for n, v in zip(("MTR", "RD"), values)}
    own = {"lesions": codes == 0, "nawm": codes == 1} if masks else {}
    return Scan(f"s{seed}", "t0", 30.0, images, {k: Volume(v, AFFINE) for k, v in {"brain": brain, **own}.items()})


@pytest.fixture(scope="module")
def fitted() -> RoiClassifier:
    return RoiClassifier(("MTR", "RD")).fit([scan(1), scan(2), scan(3, masks=False)])


def test_it_finds_the_regions_of_a_scan_without_masks(fitted):
    found, truth = fitted(scan(9, masks=False)), scan(9)
    for name in ("lesions", "nawm"):
        a, b = found[name].data, truth.mask(name).data
        assert found[name].data.dtype == torch.bool
        assert float(2 * (a & b).sum() / (a.sum() + b.sum())) > 0.9
    assert not (found["lesions"].data & found["nawm"].data).any()
    assert not found["nawm"].data[~truth.mask("brain").data].any()


def test_it_is_quadratic_discriminant_analysis(fitted, monkeypatch):
    monkeypatch.setattr("nbkit.papers.myelin.rois._SHRINK", 1e-9)
    plain = RoiClassifier(("MTR", "RD")).fit([scan(1), scan(2)])
    rows = [plain._rows(scan(k)).numpy() for k in (1, 2, 9)]
    inside = scan(1).mask("brain").data
    codes = [torch.where(scan(k).mask("lesions").data, 0, torch.where(scan(k).mask("nawm").data, 1, 2))[inside].numpy()
             for k in (1, 2)]
    theirs = QuadraticDiscriminantAnalysis().fit(np.concatenate(rows[:2]), np.concatenate(codes)).predict(rows[2])
    found = plain(scan(9, masks=False))
    ours = torch.where(found["lesions"].data, 0, torch.where(found["nawm"].data, 1, 2))[inside].numpy()
    assert (ours == theirs).mean() > 0.999


def test_own_masks_first_then_the_segmenters_then_none_or_a_refusal(fitted):
    bare = scan(4, masks=False)
    assert has_rois(scan(4)) and not has_rois(bare)
    torch.testing.assert_close(
        roi_masks(scan(4), lambda s: pytest.fail("not needed")),
        torch.cat([scan(4).mask(n).data for n in ("lesions", "nawm")]),
    )
    torch.testing.assert_close(roi_masks(bare, fitted)[:1], fitted(bare)["lesions"].data)
    assert not roi_masks(bare, needed=False).any()
    with pytest.raises(NbkitError, match="s4/t0: mask: expected 'lesions'"):
        roi_masks(bare)


def test_bad_masks_of_a_segmenter_are_refused_by_name():
    bare = scan(4, masks=False)
    with pytest.raises(NbkitError, match="segmenter.*found 'nawm'"):
        roi_masks(bare, lambda s: {"lesions": s.mask("brain")})
    off = Volume(torch.ones(1, 3, 3, 3), AFFINE)
    with pytest.raises(NbkitError, match="lesions and brain"):
        roi_masks(bare, lambda s: {"lesions": off, "nawm": off})


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(NbkitError, match="found 0 scans with masks.*segment="):
        RoiClassifier(("MTR",)).fit([scan(1, masks=False)])
    healthy = scan(1)
    empty = healthy.mask("lesions").with_data(torch.zeros_like(healthy.mask("lesions").data))
    with pytest.raises(NbkitError, match="found 1 scans with masks"):
        RoiClassifier(("MTR",)).fit([replace(healthy, masks={**healthy.masks, "lesions": empty})])
    with pytest.raises(NbkitError, match="unfitted"):
        RoiClassifier(("MTR",))(healthy)
