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


def cuts(figure) -> list[np.ndarray]:
    """What is drawn in each plane, (width, height): sagittal, coronal, axial."""
    drawn = [image.get_array() for axes in figure.axes for image in axes.images]
    return [np.ma.filled(image, 0).T for image in drawn if image.ndim == 2]


def words(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_left_is_left_whatever_the_file():
    # brightest on the person's right: stored from right to left
    data = torch.rand(10, 12, 14, generator=torch.Generator().manual_seed(0))
    data[:3] += 5
    figure = qc.scan_picture(Volume(data, np.diag([-2.0, 2.0, 2.0, 1.0])))
    _, coronal, axial = cuts(figure)
    assert coronal[-3:].mean() > coronal[:3].mean() + 3 and axial[-3:].mean() > axial[:3].mean() + 3
    assert words(figure).count("L") == words(figure).count("R") == 2


def test_the_cut_goes_through_the_mask_and_its_outline_is_drawn():
    head = trees.head(2)
    mask = torch.zeros(1, *trees.SHAPE, dtype=torch.bool)
    mask[0, 7:10, 3:6, 5:8] = True
    plain, outlined = qc.scan_picture(head), qc.scan_picture(head, head.with_data(mask))
    assert sum(len(axes.collections) for axes in plain.axes) == 0
    assert sum(len(axes.collections) for axes in outlined.axes) == 3
    centre = (head.affine @ [8, 4, 6, 1])[:3]
    told = {text[0]: float(text[2:].replace("−", "-")) for text in words(outlined) if text[1:2] == "="}
    assert all(abs(told[axis] - mm) <= 8 for axis, mm in zip("xyz", centre, strict=True))


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
