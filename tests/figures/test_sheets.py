"""Each sheet holds the images it promises, in order, at one slice and one scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.figures import sheets
from tests.figures.conftest import pixels


def titles(figure):
    return [a.get_title().replace("\n", " ") for a in figure.axes if a.get_title()]


def test_contrast_sheet_shows_every_contrast_with_the_same_rectangles(scan):
    figure = sheets.contrast_sheet(scan)
    assert titles(figure) == ["T1-w", "T2-w", "PD", "T1SE", "DIR", "FLAIR"]
    places = [[p.get_bbox().bounds for p in a.patches] for a in figure.axes]
    assert len(places[0]) == 2 and all(p == places[0] for p in places)
    assert titles(sheets.contrast_sheet(scan, ("FLAIR", "T1w"))) == ["FLAIR", "T1-w"]


def test_contrast_sheet_of_a_control_has_no_rectangles_and_of_an_unknown_contrast_is_refused(scan):
    control = replace(scan, masks={"brain": scan.mask("brain")})
    assert not any(a.patches for a in sheets.contrast_sheet(control, ("T1w",)).axes)
    with pytest.raises(NbkitError, match="sub-01/ses-1: contrast.*Did you mean 'T1w'"):
        sheets.contrast_sheet(scan, ("T1",))


@pytest.fixture
def predictions(scan):
    truth = scan.images["FLAIR"]
    return truth, {"rf": truth.with_data(truth.data * 0.9), "fcn": truth.with_data(truth.data * 0.99)}


def test_method_comparison_shares_greys_and_shows_the_true_differences(scan, predictions):
    truth, made = predictions
    figure = sheets.method_comparison(truth, made, brain=scan.mask("brain"), lesions=scan.mask("lesions"), unit="a.u.")
    assert titles(figure) == ["Random forest", "3D FCN", "True FLAIR"]
    greys = {a.images[0].get_clim() for a in figure.axes[:6]}
    assert len(greys) == 1
    rf, fcn, bar = figure.axes[6:]
    assert rf.images[0].get_clim() == fcn.images[0].get_clim()
    ratio = np.nanmean(rf.images[0].get_array().filled(np.nan)) / np.nanmean(fcn.images[0].get_array().filled(np.nan))
    assert np.isclose(ratio, 10, rtol=1e-3)
    assert bar.get_ylabel().replace("\n", " ") == "|prediction − truth| (a.u.)"


def test_signed_differences_keep_their_sign(scan, predictions):
    truth, made = predictions
    figure = sheets.method_comparison(truth, made, brain=scan.mask("brain"), signed=True)
    low, high = figure.axes[3].images[0].get_clim()
    assert low == -high and figure.axes[3].images[0].get_array().max() < 0


def test_method_comparison_refuses_another_grid(scan, predictions):
    truth, made = predictions
    made["rf"] = made["rf"].crop((slice(0, 20), slice(0, 34), slice(0, 9)))
    with pytest.raises(NbkitError, match="same shape"):
        sheets.method_comparison(truth, made, brain=scan.mask("brain"))


def test_combinations_are_titled_by_their_inputs(scan, predictions):
    truth, made = predictions
    figure = sheets.combination_sheet(truth, {"t1_dir": made["rf"], "t1_t2_pd": made["fcn"]}, brain=scan.mask("brain"))
    assert titles(figure) == ["T1-w + DIR", "T1-w + T2-w + PD", "True FLAIR"]


def test_segmentation_examples_have_four_images_per_subject(scan, predictions):
    truth, made = predictions
    lesions = scan.mask("lesions")
    other = lesions.with_data(torch.zeros_like(lesions.data))
    example = sheets.SegmentationExample("sub-01", truth, lesions, made["fcn"], other, scan.mask("brain"), 0.812)
    figure = sheets.segmentation_examples([example, replace(example, label="sub-02", dice=0.4)])
    assert titles(figure) == ["True FLAIR", "its lesions (red)", "Predicted FLAIR", "its lesions (red)"]
    assert [t.get_text() for t in figure.texts] == ["sub-01\nDice 0.81", "sub-02\nDice 0.40"]
    red = [(pixels_of(a) > 0).sum() for a in figure.axes[:4] if len(a.images) == 2]
    assert red[0] > 0 and red[1] == 0
    with pytest.raises(NbkitError, match="at least one subject"):
        sheets.segmentation_examples([])


def pixels_of(axes):
    return axes.images[1].get_array()[..., 3]


def test_saliency_maps_share_one_scale_above_their_inputs(scan):
    inputs = {k: scan.images[k] for k in ("T1w", "DIR")}
    maps = {k: v.with_data(v.data.abs()) for k, v in inputs.items()}
    figure = sheets.saliency_sheet(maps, inputs, brain=scan.mask("brain"))
    assert titles(figure) == ["T1-w", "DIR"]
    images = [a.images[0] for a in figure.axes if a.images]
    assert images[0].get_clim() == images[1].get_clim() and images[2].get_clim() != images[3].get_clim()
    with pytest.raises(NbkitError, match="none for DIR"):
        sheets.saliency_sheet(maps, {"T1w": inputs["T1w"]}, brain=scan.mask("brain"))


def test_mask_sheet_draws_each_mask_over_the_same_image(scan):
    figure = sheets.mask_sheet(scan.images["T1w"], dict(scan.masks), brain=scan.mask("brain"))
    assert titles(figure) == ["brain", "lesions"]
    assert all(len(a.collections) == 1 for a in figure.axes)
    assert pixels(figure).std() > 0.1
