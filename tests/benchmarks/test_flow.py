"""Exponential and warp of a 96³ field beside voxelmorph's (PyTorch), on the threads this process has."""

from __future__ import annotations

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


@pytest.mark.parametrize("what, who", [
    pytest.param(what, who, id=f"{who}", marks=pytest.mark.benchmark(group=f"{what} at {SIZE}³"))
    for what in ("warp", "exponential") for who in contenders(what)
])
def test_beside_voxelmorph(benchmark, what, who):
    with torch.inference_mode():
        benchmark.pedantic(contenders(what)[who], rounds=9, warmup_rounds=1)
