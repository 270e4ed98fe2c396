"""One warp of the one original: images, labels, masks and volumes of a known deformation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Scan
from nbkit.core.volume import Volume
from nbkit.geometry.futures import Futures
from nbkit.geometry.warp import Displacement, warp
from tests.geometry.frames import FRAMES

SHAPE = (24, 22, 20)
NAMES = {3: "thalamus_left", 7: "thalamus_right", 9: "putamen_left"}


def head(affine: np.ndarray) -> Scan:
    """Two boxes and an absent structure."""
    labels = torch.zeros(1, *SHAPE, dtype=torch.int16)
    labels[0, 6:10, 6:15, 6:14], labels[0, 10:17, 6:15, 6:14] = 3, 7
    image = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0)) * (labels > 0)
    brain = Volume(labels > 0, affine)
    return Scan("p", "1", 70.0, {"T1w": Volume(image, affine)}, {"brain": brain}, Volume(labels, affine), NAMES)


def shift(affine: np.ndarray, voxels: tuple[float, float, float]) -> torch.Tensor:
    """The displacement (1, 3, X, Y, Z) in mm of a shift by `voxels`."""
    mm = torch.as_tensor(affine[:3, :3] @ np.array(voxels)).float()
    return mm.view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)


@pytest.mark.parametrize("affine", FRAMES.values(), ids=FRAMES)
def test_shifts(affine):
    """By whole voxels images and labels move exactly; by a part of one, volumes stay and images are one warp."""
    scan = head(affine)
    fields = [shift(affine, (0, 0, 0)), shift(affine, (2, -1, 3)), shift(affine, (0.4, 0, -0.3))]
    futures = Futures(scan, (70.0, 75.0, 80.0), Displacement(torch.cat(fields)), made_by="shifted")
    same, whole, part = futures.images()
    assert torch.equal(same.data, scan.image("T1w").data)
    expected = scan.image("T1w").data.roll((-2, 1, -3), dims=(1, 2, 3))
    assert torch.allclose(whole.data, expected, atol=1e-4)
    assert torch.equal(part.data, warp(scan.image("T1w").data[None], fields[2], affine=affine)[0])
    assert torch.equal(futures.labels()[1].data, scan.labels.data.roll((-2, 1, -3), dims=(1, 2, 3)))
    assert torch.equal(futures.masks()[1].data, futures.labels()[1].data > 0)
    assert futures.labels()[2].data.dtype == torch.int16 and futures.masks()[2].data.dtype == torch.bool
    assert whole.history[-1] == "shifted to 75 years" and torch.equal(futures.at(75.0), fields[1])
    voxel = scan.labels.voxel_volume
    for volumes in futures.volumes():
        assert volumes["thalamus_left"] == pytest.approx(4 * 9 * 8 * voxel, rel=1e-4)
        assert volumes["thalamus_right"] == pytest.approx(7 * 9 * 8 * voxel, rel=1e-4)
        assert volumes["putamen_left"] == 0


def test_volumes_see_a_change_smaller_than_a_voxel():
    """A ball stretched by 1 %: its volume grows by the cube, though its surface moves a fourteenth of a voxel."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    scan = head(affine)
    places = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in SHAPE), indexing="ij"))[None] * 2
    gap = places - torch.tensor([23.3, 21.2, 18.7]).view(1, 3, 1, 1, 1)
    ball = 3 * (gap.norm(dim=1) < 14).to(torch.int16)
    futures = Futures(replace(scan, labels=Volume(ball, affine)), (71.0,), Displacement((1 / 1.01 - 1) * gap))
    growth = futures.volumes()[0]["thalamus_left"] / (8 * int((ball > 0).sum()))
    assert growth - 1 == pytest.approx(1.01**3 - 1, rel=0.03)


def test_bad_input_is_named():
    scan = head(np.eye(4))
    with pytest.raises(NbkitError, match=r"Futures: displacements: expected shape \(2, 3, 24, 22, 20\)"):
        Futures(scan, (71.0, 72.0), Displacement(torch.zeros(1, 3, *SHAPE)))
    futures = Futures(scan, (71.0, 72.0), Displacement(torch.zeros(2, 3, *SHAPE)))
    with pytest.raises(NbkitError, match="Futures.at: age: expected one of 71, 72, found 73.0"):
        futures.at(73.0)
    with pytest.raises(NbkitError, match="p/1: labels: expected a label map, found none"):
        replace(futures, scan=replace(scan, labels=None)).volumes()
    elsewhere = replace(scan, labels=Volume(scan.labels.data, np.diag([2.0, 1, 1, 1])))
    with pytest.raises(NbkitError, match="T1w and labels: expected the same affine"):
        replace(futures, scan=elsewhere).labels()
