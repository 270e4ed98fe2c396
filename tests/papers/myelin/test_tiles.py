"""Patches of half overlap: they cover an image, and an epoch shows each of them once."""

from __future__ import annotations

import torch

from nbkit.papers.myelin.tiles import PatchGrid, corners
from nbkit.training.crops import Example


def example(*shape: int) -> Example:
    """Each voxel's value is its number."""
    values = torch.arange(float(torch.tensor(shape).prod())).view(1, *shape)
    return Example(values.repeat(2, 1, 1, 1), values, torch.ones(1, *shape, dtype=torch.bool))


def test_the_published_image_has_36_patches():
    assert len(corners((128, 160, 128), (64, 64, 64))) == 3 * 4 * 3


def test_every_voxel_is_covered_and_neighbours_share_half_an_edge():
    found = corners((11, 8, 6), (6, 4, 6))
    count = torch.zeros(11, 8, 6)
    for x, y, z in found:
        count[x : x + 6, y : y + 4, z : z + 6] += 1
    assert count.min() == 1
    assert [sorted({c[axis] for c in found}) for axis in (0, 1)] == [[0, 3, 5], [0, 2, 4]]


def test_an_epoch_is_all_patches_once_in_an_order_of_its_own():
    grid = PatchGrid([example(8, 8, 4), example(4, 3, 4)], size=(4, 4, 4), batch=4, seed=1)
    epochs = [torch.cat([b.target for b in grid.epoch(k)]) for k in (1, 2, 1)]
    assert len(epochs[0]) == 9 + 1 and [len(b.target) for b in grid.epoch(1)] == [4, 4, 2]
    assert torch.equal(epochs[0], epochs[2]) and not torch.equal(epochs[0], epochs[1])
    seen = epochs[0].flatten(1)
    assert {tuple(p.tolist()) for p in seen} == {tuple(p.tolist()) for p in epochs[1].flatten(1)}
    assert len({tuple(p.tolist()) for p in seen}) == 10, "no patch twice; the small image is padded to one"
