"""Sliding windows: no seams where windows meet, and a control in which there are."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nbkit.papers.myelin.residual_unet import StridedUNet
from nbkit.papers.myelin.sliding import slide

SHAPE, WINDOW = (40, 24, 24), (16, 16, 16)


def image(seed=0):
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 3, 5, 3, 3, generator=draws)
    return F.interpolate(coarse, size=SHAPE, mode="trilinear") + 0.01 * torch.randn(1, 3, *SHAPE, generator=draws)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(1)
    return StridedUNet(3, first=8, levels=2, norm="none", dropout=0.0).eval()


@torch.no_grad()
def seam(net, x, overlap) -> float:
    """Mean step between planes where a window begins or ends, the largest over the largest anywhere else."""
    steps = slide(net, x, WINDOW, overlap=overlap).diff(dim=2).abs().mean((0, 1, 3, 4))
    border = torch.zeros(len(steps), dtype=torch.bool)
    border[round(WINDOW[0] * (1 - overlap)) - 1 :: round(WINDOW[0] * (1 - overlap))] = True
    return float(steps[border].max() / steps[~border].max())


@pytest.mark.parametrize("seed", range(3))
def test_there_is_no_seam_where_windows_overlap_and_one_where_they_do_not(net, seed):
    """Steps at borders of windows stay below those of the image elsewhere; without overlap they are twice as large."""
    x = image(seed)
    smooth = seam(net, x, 0.5)
    assert smooth < 0.6 and seam(net, x, 0.0) > 2 * smooth


def test_a_local_network_is_not_changed_at_all():
    x = image()
    torch.testing.assert_close(slide(lambda v: 2 * v[:, :1] + v[:, 1:2].square(), x, WINDOW),
                               2 * x[:, :1] + x[:, 1:2].square())


def test_windows_have_their_size_and_small_volumes_are_done_at_once(net):
    sizes = []

    def spy(v):
        sizes.append(tuple(v.shape[2:]))
        return v[:, :1]

    slide(spy, image(), WINDOW)
    assert set(sizes) == {WINDOW} and len(sizes) > 1
    sizes.clear()
    assert slide(spy, image(), None).shape == (1, 1, *SHAPE)
    slide(spy, image()[..., :8], (64, 64, 64))
    assert sizes == [SHAPE, (40, 24, 8)]
