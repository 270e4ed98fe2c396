"""Exponential and warp of a 96³ field beside voxelmorph's (PyTorch), on the threads this process has."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nbkit.geometry.flow import expv
from nbkit.geometry.warp import to_voxels, warp

vxm = pytest.importorskip("voxelmorph", minversion="0.3.4", reason="the peer is not installed: pip install voxelmorph")

SIZE, AFFINE, SQUARINGS = 96, np.diag([2.0, 2.0, 2.0, 1.0]), 7


def velocity() -> torch.Tensor:
    """A smooth field of up to about 12 mm on 2 mm voxels."""
    coarse = torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    return 4 * F.interpolate(coarse, size=(SIZE,) * 3, mode="trilinear")


def contenders(what: str) -> dict[str, Callable[[], torch.Tensor]]:
    """What is timed; fields are in the units that each library wants."""
    field = velocity()
    voxels, image = to_voxels(field, AFFINE), torch.rand(1, 1, *field.shape[2:])
    spatial = vxm.nn.functional
    if what == "warp":
        return {
            "nbkit": lambda: warp(image, field, affine=AFFINE),
            "voxelmorph": lambda: spatial.spatial_transform(image, voxels),
        }
    return {
        "nbkit, steps from the field": lambda: expv(field, affine=AFFINE),
        "nbkit, 7 squarings": lambda: expv(field, affine=AFFINE, steps=SQUARINGS),
        "voxelmorph, 7 squarings": lambda: spatial.integrate_vec(voxels, SQUARINGS),
    }


@pytest.mark.parametrize("what", ["warp", "exponential"])
def test_no_slower_than_voxelmorph(what, capsys):
    """The shortest of nine each, taken in turns: what other programs take from the machine is nobody's speed."""
    acts = contenders(what)
    seconds: dict[str, list[float]] = {name: [] for name in acts}
    with torch.inference_mode():
        for turn in range(10):
            for name, act in acts.items():
                start = time.perf_counter()
                act()
                if turn:
                    seconds[name].append(time.perf_counter() - start)
    best = {name: min(times) for name, times in seconds.items()}
    theirs = next(value for name, value in best.items() if name.startswith("voxelmorph"))
    with capsys.disabled():
        for name, value in best.items():
            print(f"\n{what} at {SIZE}³  {name:<28} {value * 1e3:8.1f} ms  / voxelmorph = {value / theirs:.2f}", end="")
    assert best[next(iter(acts))] <= theirs
