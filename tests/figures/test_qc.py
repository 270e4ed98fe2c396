"""The picture of one scan: three cuts, left on the left, the mask where the mask is."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.figures import qc
from tests.data import trees


def cuts(figure):
    """What is drawn: one (width, height) array per plane, as seen, from bottom left."""
    return [axes.images[0].get_array().T for axes in figure.axes]


def test_left_is_left_whatever_the_file():
    # brightest on the person's right: stored from right to left
    data = torch.rand(10, 12, 14, generator=torch.Generator().manual_seed(0))
    data[:3] += 5
    figure = qc.scan_picture(Volume(data, np.diag([-2.0, 2.0, 2.0, 1.0])))
    _, coronal, axial = cuts(figure)
    assert coronal[-3:].mean() > coronal[:3].mean() + 3 and axial[-3:].mean() > axial[:3].mean() + 3
    labels = [[t.get_text() for t in axes.texts] for axes in figure.axes]
    assert labels == [["P", "A", "sagittal"], ["L", "R", "coronal"], ["L", "R", "axial"]]


def test_panels_keep_the_proportions_in_mm():
    data = torch.rand(20, 10, 5, generator=torch.Generator().manual_seed(1))
    figure = qc.scan_picture(Volume(data, np.diag([1.0, 2.0, 4.0, 1.0])))
    extents = [axes.images[0].get_extent() for axes in figure.axes]
    assert [(e[1], e[3]) for e in extents] == [(20, 20)] * 3


def test_the_cut_goes_through_the_mask_and_its_outline_is_drawn():
    head = trees.head(2)
    mask = torch.zeros(1, *trees.SHAPE, dtype=torch.bool)
    mask[0, 8:10, 3:5, 6:8] = True
    plain, outlined = qc.scan_picture(head), qc.scan_picture(head, head.with_data(mask))
    assert [len(a.collections) for a in plain.axes] == [0, 0, 0]
    assert [len(a.collections) for a in outlined.axes] == [1, 1, 1]
    path = outlined.axes[2].collections[0].get_paths()[0].vertices
    # x runs from left to right, so index 8:10 of a file stored right to left lies at 12 - 10 = 2 to 4
    assert np.allclose(path.mean(0), [3 * 14, 4 * 14], atol=3)


def test_the_png_is_small_and_has_the_colour_of_the_outline():
    data = qc.png(qc.scan_picture(trees.head(3), trees.brain()))
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert len(data) < 40_000 and picture.shape[1] > 450
    assert ((picture[..., 0] - picture[..., 1:].max(-1)) > 100).sum() > 100


def test_a_mask_of_another_grid_and_an_empty_image_are_refused():
    with pytest.raises(NbkitError, match="scan_picture: image and mask"):
        qc.scan_picture(trees.head(), Volume(trees.brain().data, np.eye(4)))
    with pytest.raises(NbkitError, match="an image with contrast"):
        qc.scan_picture(Volume(torch.ones(4, 4, 4)))
