"""The segmenter of real scans on drawn heads: both sides told apart, other grids and contrasts read, a killed fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.protocols import Cohort, Scan, Subject
from nbkit.core.seeds import torch_generator
from nbkit.core.volume import Volume
from nbkit.geometry.placement import place
from nbkit.geometry.warp import resample
from nbkit.metrics.regions import dice_by_structure
from nbkit.nets.conv import Conv3d
from nbkit.papers.trajectories.scan_segmenter import Config, InCells, ScanSegmenter, packed, unpacked

NAMES = {1: "hippocampus_left", 2: "hippocampus_right", 3: "lateral_ventricle_left", 4: "white_matter_left"}
GREY = torch.tensor([0.0, 0.6, 0.6, 0.1, 1.0])
AFFINE = np.array([[2.0, 0, 0, -23], [0, 2, 0, -23], [0, 0, 2, -23], [0, 0, 0, 1]])
SIZE = 24


def head(name: str, *, grey: torch.Tensor = GREY) -> Scan:
    """A ball of white matter with a ball on either side and one of fluid above them."""
    rng = torch_generator(3, name)
    x, y, z = torch.meshgrid(*[torch.arange(float(SIZE))] * 3, indexing="ij")
    labels, shift = torch.zeros(SIZE, SIZE, SIZE, dtype=torch.uint8), 2 * torch.rand(3, generator=rng) - 1
    for code, centre, radius in ((4, (12, 12, 12), 9.5), (1, (7, 12, 10), 3), (2, (17, 12, 10), 3),
                                 (3, (12, 12, 16), 3)):
        a, b, c = (float(v + s) for v, s in zip(centre, shift, strict=True))
        labels[(x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 < radius**2] = code
    image = grey[labels.long()] + 0.02 * torch.randn(labels.shape, generator=rng)
    brain = Volume(labels > 0, AFFINE)
    return Scan(name, "M000", 60.0, {"T1w": Volume(image, AFFINE)}, {"brain": brain, "skull": brain},
                Volume(labels, AFFINE), NAMES)


def heads(names: str) -> Cohort:
    return Cohort("heads", tuple(Subject(n, "F", "CN", (head(n),)) for n in names), "open", {"data_hash": "h"})


SMALL = Config.for_profile("smoke", steps=150, learning_rate=1e-2, shift=2.0, bend=1.0, device="cpu")


@pytest.fixture(scope="module")
def segmenter() -> ScanSegmenter:
    return ScanSegmenter(SMALL).fit(heads("abcd"))


@pytest.mark.slow
def test_structures_and_sides_are_found_on_people_and_contrasts_never_seen(segmenter):
    other = GREY.pow(1.5) * 0.8
    for scan in (head("e"), head("f", grey=other)):
        found = segmenter.segment(scan.image("T1w"), mask=scan.mask("brain"))
        for structure, value in dice_by_structure(found, scan.labels, NAMES).items():
            assert value > 0.7, (structure, value)


@pytest.mark.slow
def test_an_image_on_another_grid_is_read_on_that_of_training(segmenter):
    scan = head("g")
    fine = np.array([[1.0, 0, 0, -24], [0, 1, 0, -24], [0, 0, 1, -24], [0, 0, 0, 1]])
    grid = {"shape": (48, 48, 48), "affine": fine}
    mask = place(scan.mask("brain"), np.eye(4), **grid)
    image, mask = place(scan.image("T1w"), np.eye(4), **grid), mask.with_data(mask.data > 0.5)
    there = segmenter.volumes(image, mask=mask)
    here = segmenter.volumes(scan.image("T1w"), mask=scan.mask("brain"))
    for name, volume in here.items():
        assert there[name] == pytest.approx(volume, rel=0.15), name
    labels = segmenter.segment(image, mask=mask)
    assert labels.shape == (48, 48, 48) and not labels.data[~mask.data].any()
    truth = resample(scan.labels, **grid, mode="nearest")
    assert min(dice_by_structure(labels, truth, NAMES).values()) > 0.7


@pytest.mark.slow
def test_what_was_saved_reads_the_same_and_what_is_left_on_the_way_can_be_used(segmenter, tmp_path):
    segmenter.save(tmp_path / "model")
    again, scan = ScanSegmenter.load(tmp_path / "model"), head("i")
    first, second = (m.segment(scan.image("T1w"), mask=scan.mask("brain")).data for m in (segmenter, again))
    assert torch.equal(first, second) and again.config == SMALL and again.trained_on == segmenter.trained_on
    part = ScanSegmenter(SMALL.changed(steps=101))
    part.fit(heads("ab"), so_far=tmp_path / "so_far")
    left = ScanSegmenter.load(tmp_path / "so_far")
    assert left.trained_on == part.trained_on
    volumes = left.volumes(scan.image("T1w"), mask=scan.mask("brain"))
    near = part.volumes(scan.image("T1w"), mask=scan.mask("brain"))
    assert volumes == pytest.approx(near, rel=0.2) and volumes != near


def test_cells_of_two_voxels_lose_nothing_and_keep_their_place():
    """A 1³ convolution that repeats its eight inputs gives the image back, and neighbours do not mix."""
    same = Conv3d(8, 8, 1, bias=False)
    same.weight.data = torch.eye(8)[:, :, None, None, None]
    x = torch.randn(2, 1, 6, 4, 8)
    torch.testing.assert_close(InCells(same)(x), x, atol=0, rtol=0)


def test_a_mirrored_head_has_its_sides_exchanged():
    model = ScanSegmenter(SMALL)
    model.names = NAMES
    assert model._swap().tolist() == [0, 2, 1, 3, 4]


def test_the_usual_places_are_packed_by_their_boxes():
    usual = torch.full((3, 8, 6, 4), -6.9)
    usual[0] = torch.linspace(-2, 0, 8 * 6 * 4).reshape(8, 6, 4)
    usual[1, 2:5, 1:3, 2:4] = -0.5
    values, boxes = packed(usual)
    assert values.numel() == 1 + 8 * 6 * 4 + 3 * 2 * 2 and boxes[2].tolist() == [[0, 0]] * 3
    torch.testing.assert_close(unpacked(values, boxes, (8, 6, 4)), usual, atol=0, rtol=0)
