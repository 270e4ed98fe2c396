"""Brain mask and tissue split on a head whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.data import tissue

N = 48


@pytest.fixture(scope="module")
def head():
    """Concentric shells: CSF ventricle, WM, GM, CSF; a lesion as dark as grey matter inside WM."""
    axis = np.arange(N) - (N - 1) / 2
    radius = np.sqrt(sum(np.square(g) for g in np.meshgrid(axis, axis, axis, indexing="ij")))
    truth = {"csf": (radius < 4) | ((radius >= 18) & (radius < 20)), "wm": (radius >= 4) & (radius < 14),
             "gm": (radius >= 14) & (radius < 18)}
    lesion = ndimage.binary_dilation(np.isin(np.arange(N**3).reshape(N, N, N), [(24 * N + 24) * N + 33]), iterations=2)
    t1 = 900.0 * truth["wm"] + 620.0 * truth["gm"] + 200.0 * truth["csf"]
    t1[lesion] = 620
    noise = np.random.default_rng(0).normal(0, 25, t1.shape)
    brain = radius < 20
    t1w = Volume(torch.from_numpy(np.where(brain, t1 + noise, 0).astype(np.float32)))
    return {"t1w": t1w, "truth": truth, "lesion": t1w.with_data(torch.from_numpy(lesion)[None]),
            "brain": t1w.with_data(torch.from_numpy(brain)[None])}


def test_tissues_are_found_and_fill_the_brain(head):
    masks = tissue.split_tissues(head["t1w"], brain=head["brain"], lesions=head["lesion"])
    lesion = head["lesion"].data[0].numpy()
    for name, truth in head["truth"].items():
        ours, true = masks[name].data[0].numpy(), truth | lesion if name == "wm" else truth & ~lesion
        assert 2 * (ours & true).sum() / (ours.sum() + true.sum()) > 0.98
    total = sum(masks[name].data.int() for name in ("wm", "gm", "csf"))
    assert torch.equal(total, head["brain"].data.int())
    assert (masks["wm"].data | ~head["lesion"].data).all()


def test_nawm_keeps_its_distance(head):
    nawm = tissue.split_tissues(head["t1w"], brain=head["brain"], lesions=head["lesion"])["nawm"].data[0].numpy()
    steps_to_lesion = ndimage.distance_transform_cdt(~head["lesion"].data[0].numpy(), "taxicab")
    steps_to_outside = ndimage.distance_transform_cdt(head["brain"].data[0].numpy(), "taxicab")
    assert nawm.sum() > 5000
    assert steps_to_lesion[nawm].min() == 3
    assert steps_to_outside[nawm].min() > 4
    assert head["truth"]["wm"][nawm].all()


def test_the_split_does_not_depend_on_scanner_gain(head):
    plain = tissue.split_tissues(head["t1w"], brain=head["brain"], lesions=head["lesion"])
    loud = head["t1w"].with_data(head["t1w"].data * 4)
    again = tissue.split_tissues(loud, brain=head["brain"], lesions=head["lesion"])
    assert all(torch.equal(plain[name].data, again[name].data) for name in plain)


def test_the_brain_is_the_largest_piece_without_holes(head):
    image = head["t1w"].data.clone()
    image[0, 1:3, 1:3, 1:3] = 50.0  # a stray piece
    image[0, 24, 24, 24] = 0.0  # a hole
    image[0, 24, 24, 40] = -3.0  # interpolation undershoot inside the brain
    other = head["t1w"].data.clone()
    other[0, 4, 24, 24] = 0.0  # the outermost voxel missing in one contrast
    pair = [head["t1w"].with_data(image), head["t1w"].with_data(other)]
    brain = tissue.nonzero_brain(pair, "sub-01").data[0]
    expected = head["brain"].data[0].clone()
    expected[4, 24, 24] = False
    assert torch.equal(brain, expected)


def test_images_with_the_head_on_or_nothing_at_all_are_refused():
    for data in (torch.ones(8, 8, 8), torch.zeros(8, 8, 8)):
        with pytest.raises(NbkitError, match="sub-01: brain mask.*skull-stripped"):
            tissue.nonzero_brain([Volume(data)], "sub-01")
