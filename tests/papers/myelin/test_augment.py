"""Poses: exact turns, scalings about the centre, equal chances."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.papers.myelin.augment import POSES, Pose, draw_poses, posed, posed_batch

IMAGE = torch.randn(2, 5, 7, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("quarters", range(4))
def test_turns_are_those_of_numpy_and_undone_by_the_rest(quarters):
    turned = posed(IMAGE, Pose(quarters))
    np.testing.assert_array_equal(turned.numpy(), np.rot90(IMAGE.numpy(), quarters, axes=(1, 2)))
    assert torch.equal(posed(turned, Pose(4 - quarters)), IMAGE)


@pytest.mark.parametrize("zoom", [1.25, 0.75])
def test_a_ball_grows_by_the_cube_of_the_zoom(zoom):
    axes = torch.meshgrid(*(torch.arange(40) - 19.5,) * 3, indexing="ij")
    ball = sum(a**2 for a in axes)[None] < 10**2
    scaled = posed(ball, Pose(zoom=zoom))
    assert scaled.dtype == torch.bool and scaled.shape == ball.shape
    assert float(scaled.sum() / ball.sum()) == pytest.approx(zoom**3, rel=0.03)
    centre = scaled[0].nonzero().float().mean(0)
    torch.testing.assert_close(centre, torch.full((3,), 19.5), atol=0.3, rtol=0)


def test_a_linear_ramp_stays_linear_and_what_is_uncovered_is_zero():
    ramp = (torch.arange(32.0) - 15.5)[:, None, None].expand(32, 32, 32)[None]
    small = posed(ramp, Pose(zoom=0.75))[0, :, 16, 16]
    assert not small[:4].any() and not small[28:].any()
    torch.testing.assert_close(small[6:26].diff(), torch.full((19,), 1 / 0.75), atol=1e-4, rtol=0)
    large = posed(ramp, Pose(zoom=1.25))[0, :, 16, 16]
    torch.testing.assert_close(large[4:28].diff(), torch.full((23,), 1 / 1.25), atol=1e-4, rtol=0)


def test_poses_are_the_six_of_the_thesis_drawn_alike_often():
    assert [(p.quarters, p.zoom) for p in POSES] == [(0, 1), (1, 1), (2, 1), (3, 1), (0, 1.25), (0, 0.75)]
    drawn = draw_poses(6000, torch.Generator().manual_seed(1))
    counts = Counter(drawn)
    assert set(counts) == set(POSES) and max(abs(n - 1000) for n in counts.values()) < 130
    assert draw_poses(9, torch.Generator().manual_seed(1)) == drawn[:9]


def test_a_batch_takes_one_pose_each():
    batch = torch.stack([IMAGE, IMAGE + 1])
    out = posed_batch(batch, [Pose(2), Pose()])
    assert torch.equal(out[0], posed(IMAGE, Pose(2))) and torch.equal(out[1], IMAGE + 1)


def test_no_size_is_refused():
    with pytest.raises(NbkitError, match="Pose: zoom: expected above 0"):
        Pose(zoom=0)
