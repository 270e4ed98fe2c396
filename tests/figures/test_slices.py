"""Axes are found in every orientation; cuts, boxes and scales come from the brain alone."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.figures.slices import (
    canonical, difference_scale, grey_scale, informative_slice, lesion_boxes, rival_scale, thumbnails, view_at, view_of,
)
from tests.figures.conftest import AFFINE, stored


@settings(max_examples=25, deadline=None)
@given(st.permutations("RAS"), st.tuples(st.booleans(), st.booleans(), st.booleans()),
       st.floats(-0.5, 0.5), st.integers(0, 2**31))
def test_canonical_agrees_with_nibabel_for_any_axes_and_tilt(order, flips, tilt, seed):
    codes = "".join(dict(R="L", A="P", S="I")[c] if f else c for c, f in zip(order, flips, strict=True))
    spin = np.eye(4)
    spin[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    data = torch.tensor(np.random.default_rng(seed).normal(size=(4, 5, 6)), dtype=torch.float32)
    other = stored(Volume(data, spin @ AFFINE), codes)
    want = nib.as_closest_canonical(nib.Nifti1Image(other.numpy(), other.affine))
    got = canonical(other)
    assert np.array_equal(got.numpy(), np.asarray(want.dataobj))
    assert np.allclose(got.affine, want.affine)


def test_the_slice_holds_the_most_lesion_else_the_middle(scan):
    brain, lesions = scan.mask("brain"), scan.mask("lesions")
    assert view_of(brain, lesions).level_mm == 3.0
    assert informative_slice(brain) == 4
    nothing = lesions.with_data(torch.zeros_like(lesions.data))
    assert informative_slice(brain, nothing) == 4
    assert informative_slice(stored(brain, "LPI"), stored(lesions, "LPI")) == informative_slice(brain, lesions)


def test_outside_the_brain_nothing_is_drawn(scan):
    view = view_of(scan.mask("brain"))
    noisy = scan.images["T1w"].with_data(scan.images["T1w"].data + 7)
    cut = view.cut(noisy)
    outside = ~scan.mask("brain").data[0][view.box[0], view.box[1], view.index].numpy()
    assert outside.any() and np.isnan(cut[outside]).all() and np.isfinite(cut[~outside]).all()


def test_rectangles_hold_the_lesions_largest_first(scan):
    view = view_of(scan.mask("brain"), scan.mask("lesions"))
    boxes = lesion_boxes(scan.mask("lesions"), view, pad_mm=0)
    assert len(boxes) == 2 and boxes[0][2] > boxes[1][2]
    origin = scan.mask("brain").affine @ np.array([view.box[0].start - 0.5, view.box[1].start - 0.5, view.index, 1])
    centre = [origin[0] + boxes[0][0] + boxes[0][2] / 2, origin[1] + boxes[0][1] + boxes[0][3] / 2]
    assert np.allclose(centre, [10, 6], atol=1.0)
    assert len(lesion_boxes(scan.mask("lesions"), view, most=1)) == 1


def test_a_zoomed_view_stays_inside_and_is_outlined_where_it_lies(scan):
    view = view_of(scan.mask("brain"), scan.mask("lesions"))
    w, h = view.size_mm
    corner = view.zoomed((w - 4, h - 4, 4, 4), size_mm=20)
    x, y, bw, bh = view.outline_of(corner)
    assert (bw, bh) == (20, 20) and np.isclose(x + bw, w) and np.isclose(y + bh, h)
    assert view.zoomed((0, 0, 1, 1), size_mm=1e4).size_mm == (w, h)


def test_scales_come_from_the_brain_alone(scan):
    brain, image = scan.mask("brain"), scan.images["FLAIR"]
    spoiled = image.with_data(torch.where(brain.data, image.data, torch.tensor(1e6)))
    assert grey_scale(spoiled, brain) == grey_scale(image, brain)
    inside = image.data[brain.data].numpy()
    assert np.isclose(grey_scale(image, brain, percentiles=(10, 90)).high, np.percentile(inside, 90))


def test_signed_differences_are_centred_on_zero_and_shared(scan):
    brain, image = scan.mask("brain"), scan.images["FLAIR"]
    small, big = image.with_data(image.data * 0.01), image.with_data(-image.data)
    scale = difference_scale([small, big], brain, label="d (a.u.)", signed=True)
    assert scale.low == -scale.high and scale.cmap == "RdBu_r"
    assert difference_scale([small, big], brain, label="d").low == 0
    assert scale.high > difference_scale([small], brain, label="d").high * 10


@pytest.mark.parametrize("codes", ["RAS", "LPI", "SAR"])
@pytest.mark.parametrize("plane, level, said", [("axial", 5.2, "z = 6 mm"), ("coronal", -10.9, "y = −10 mm")])
def test_a_world_level_finds_its_slice_in_any_orientation(scan, codes, plane, level, said):
    view = view_at(stored(scan.mask("brain"), codes), level, plane=plane)
    assert view.level == said
    affine, axis = scan.mask("brain").affine, {"axial": 2, "coronal": 1}[plane]
    world = affine[axis, axis] * np.arange(scan.mask("brain").shape[axis]) + affine[axis, 3]
    want = canonical(scan.images["T1w"]).data[0].select(axis, int(np.abs(world - level).argmin())).numpy()
    got = view.cut(stored(scan.images["T1w"], codes))
    assert np.array_equal(got[np.isfinite(got)], want[view.box][np.isfinite(got)])
    assert view.size_mm == {"axial": view_of(scan.mask("brain")).size_mm, "coronal": (60.0, 27.0)}[plane]


def test_a_level_outside_the_brain_and_an_unknown_plane_are_refused(scan):
    with pytest.raises(NbkitError, match="a level within the brain, -9 to 9 mm, found 40"):
        view_at(scan.mask("brain"), 40)
    with pytest.raises(NbkitError, match="Did you mean 'coronal'"):
        view_at(scan.mask("brain"), 0, plane="corona")


def test_bad_input_is_refused(scan):
    brain = scan.mask("brain")
    with pytest.raises(NbkitError, match="a slice from 0 to 8, found 9"):
        view_of(brain, index=9)
    moved = Volume(scan.images["T1w"].data, AFFINE + np.eye(4)[:, [3, 0, 1, 2]] * 0.5)
    with pytest.raises(NbkitError, match="image and brain mask: expected the same affine"):
        view_of(brain).cut(moved)


def test_a_smooth_slice_keeps_a_ramp_its_place_and_its_limits(scan):
    brain = scan.mask("brain")
    ramp = Volume(torch.arange(30.0)[:, None, None].expand(30, 34, 9).contiguous(), brain.affine)
    view = view_of(brain)
    coarse, fine = view.cut(ramp), view.smooth(ramp)
    assert fine.shape == (4 * coarse.shape[0], 4 * coarse.shape[1])
    assert np.nanmin(fine) == np.nanmin(coarse) and np.nanmax(fine) == np.nanmax(coarse)
    column = fine[:, fine.shape[1] // 2]
    voxel = (np.arange(len(column)) + 0.5) / 4 - 0.5 + view.box[0].start  # which voxel a fine pixel lies in
    middle = np.abs(voxel - 14.5) < 8
    assert np.allclose(column[middle], voxel[middle], atol=0.02)


def test_values_outside_the_brain_have_no_part_in_a_smooth_slice(scan):
    brain = scan.mask("brain")
    loud = Volume(torch.where(brain.data, 1.0, 1e6), brain.affine)
    assert np.nanmax(view_of(brain).smooth(loud)) == 1.0


@pytest.mark.parametrize("codes", ["RAS", "LPI", "SAR"])
def test_a_thumbnail_has_the_front_above_and_left_on_the_left(scan, codes):
    brain = scan.mask("brain")
    right, front, _ = torch.meshgrid(*map(torch.arange, brain.shape), indexing="ij")
    sloping = {name: stored(brain.with_data(values.float()[None]), codes) for name, values in
               {"T1w": right, "FLAIR": front}.items()}
    turned = replace(scan, images=sloping, masks={"brain": stored(brain, codes)})
    sideways, upwards = thumbnails(turned, contrasts=("T1w", "T2w", "FLAIR"))
    assert sideways.shape == upwards.shape and np.isnan(sideways[0, 0])
    wide, tall = (n // 3 for n in reversed(sideways.shape))
    assert np.nanmax(sideways[:, :wide]) < np.nanmin(sideways[:, -wide:])
    assert np.nanmin(upwards[:tall]) > np.nanmax(upwards[-tall:])
    assert (np.nanmin(sideways), np.nanmax(sideways)) == (0.0, 1.0) and thumbnails() == []


def test_one_bad_rival_does_not_set_the_scale(scan):
    brain, image = scan.mask("brain"), scan.images["T1w"]
    flat = [[image.with_data(torch.full_like(image.data, v))] for v in (1.0, 2.0, 100.0)]
    scale = rival_scale(flat, brain, label="a.u.")
    assert (scale.low, scale.high, scale.label) == (-2.0, 2.0, "a.u.")
