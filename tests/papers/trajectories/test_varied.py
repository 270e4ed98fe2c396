"""Varied heads: labels go where the image goes, resolution is lost as stated, greys of a curve keep their order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.seeds import torch_generator
from nbkit.papers.trajectories.varied import Variety, in_voxels_of, mirrored, painted, reshaped, seen

AFFINE = np.array([[2.0, 0, 0, -31], [0, 2, 0, -31], [0, 0, 2, -31], [0, 0, 0, 1]])


def classes():
    found = torch.zeros(1, 32, 32, 32, dtype=torch.uint8)
    found[:, 4:28, 6:26, 8:24] = 1
    found[:, 18:24, 12:20, 12:20] = 2
    return found


def test_image_labels_and_mask_move_together():
    start = classes()
    maps = {"image": 100.0 * start.float(), "classes": start, "inside": start > 0}
    for draw in range(3):
        moved = reshaped(maps, AFFINE, Variety(), torch_generator(draw, "head"))
        assert {n: v.dtype for n, v in moved.items()} == {n: v.dtype for n, v in maps.items()}
        near = (moved["image"] - 100.0 * moved["classes"].float()).abs() < 51
        assert float(near.float().mean()) > 0.99, "within half a step of linear interpolation"
        assert torch.equal(moved["inside"], moved["classes"] > 0)
        assert not torch.equal(moved["classes"], start)


def test_nothing_asked_for_changes_nothing():
    still = Variety(turn=0, scale=0, shift=0, bend=0)
    moved = reshaped({"image": torch.rand(1, 32, 32, 32)}, AFFINE, still, torch_generator(1, "head"))
    torch.testing.assert_close(moved["image"], reshaped(moved, AFFINE, still, torch_generator(2, "head"))["image"])


def test_a_pure_shift_moves_the_centre_by_at_most_its_largest():
    start = classes().float()
    moved = reshaped({"image": start}, AFFINE, Variety(turn=0, scale=0, bend=0), torch_generator(5, "head"))["image"]
    grid = torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij")
    centre = [torch.stack([(g * v[0]).sum() / v.sum() for g in grid]) for v in (start, moved)]
    shift = 2 * (centre[1] - centre[0])
    assert 0.1 < float(shift.abs().max()) <= 4.0
    expected = -4 * (2 * torch.rand(9, generator=torch_generator(5, "head"), dtype=torch.float64)[6:] - 1)
    torch.testing.assert_close(shift.double(), expected, atol=0.05, rtol=0)


def test_larger_voxels_keep_means_and_lose_what_is_finer():
    checks = torch.from_numpy((np.indices((24, 24, 24)).sum(axis=0) % 2).astype(np.float32))[None]
    assert float((in_voxels_of(checks, 2.0, 4.0) - 0.5).abs().max()) < 1e-5
    ramp = torch.linspace(0, 1, 24)[None, :, None, None].expand(1, 24, 24, 24)
    coarse = in_voxels_of(ramp, 2.0, 4.0)
    torch.testing.assert_close(coarse[:, 2:-2], ramp[:, 2:-2], atol=1e-4, rtol=0)


def test_a_curve_of_greys_keeps_their_order():
    image = classes().float()
    quiet = Variety(bias=0, noise=0, blurred=0)
    for draw in range(3):
        greys = [seen(image, 2.0, quiet, torch_generator(draw, "scan"))[image == k] for k in range(3)]
        assert max(float(g.max() - g.min()) for g in greys) < 1e-5
        low, middle, high = (float(g[0]) for g in greys)
        assert (low, high) == (0, pytest.approx(1)) and 0.5 ** np.exp(0.6) <= middle <= 0.5 ** np.exp(-0.6)


def test_painted_greys_are_one_a_class_and_the_outside_is_dark():
    image = painted(classes(), 3, torch_generator(2, "paint"))
    assert float(image[classes() == 0].mean()) < 0.1 * float(image.max())
    inner = image[:, 20:22, 14:18, 14:18]
    assert float(inner.std()) < 0.2


def test_mirroring_twice_gives_the_head_back():
    swap = torch.tensor([0, 2, 1])
    maps = {"image": torch.rand(1, 8, 8, 8), "classes": torch.randint(0, 3, (1, 8, 8, 8), dtype=torch.uint8)}
    once = mirrored(maps, swap, codes="classes")
    assert torch.equal(once["image"], maps["image"].flip(1))
    assert torch.equal(once["classes"] == 1, maps["classes"].flip(1) == 2)
    again = mirrored(once, swap, codes="classes")
    assert all(torch.equal(again[name], maps[name]) for name in maps)
