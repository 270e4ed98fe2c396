"""Each sheet holds the images it promises, in order, at one slice and one scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Scan
from nbkit.figures import sheets
from nbkit.figures.charts import number
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
    figure = sheets.method_comparison(truth, made, brain=scan.mask("brain"), lesions=scan.mask("lesions"), unit="a.u.",
                                      truth_name="True FLAIR")
    assert titles(figure) == ["Random forest", "3D FCN", "True FLAIR"]
    greys = {a.images[0].get_clim() for a in figure.axes[:6]}
    assert len(greys) == 1
    rf, fcn, bar = figure.axes[6:]
    assert rf.images[-1].get_clim() == fcn.images[-1].get_clim()
    ratio = np.divide(*(np.nanmean(axes.images[-1].get_array().filled(np.nan)) for axes in (rf, fcn)))
    assert np.isclose(ratio, 10, rtol=1e-3)
    assert bar.get_ylabel().replace("\n", " ") == "|prediction − truth| (a.u.)"


def test_signed_differences_keep_their_sign(scan, predictions):
    truth, made = predictions
    figure = sheets.method_comparison(truth, made, brain=scan.mask("brain"), signed=True)
    low, high = figure.axes[3].images[-1].get_clim()
    assert low == -high and figure.axes[3].images[-1].get_array().max() < 0


def test_method_comparison_refuses_another_grid(scan, predictions):
    truth, made = predictions
    made["rf"] = made["rf"].crop((slice(0, 20), slice(0, 34), slice(0, 9)))
    with pytest.raises(NbkitError, match="same shape"):
        sheets.method_comparison(truth, made, brain=scan.mask("brain"))


def test_combinations_are_titled_by_their_inputs(scan, predictions):
    truth, made = predictions
    shown = {"t1_dir": made["rf"], "t1_t2_pd": made["fcn"]}
    figure = sheets.method_comparison(truth, shown, brain=scan.mask("brain"))
    assert titles(figure) == ["T1-w + DIR", "T1-w + T2-w + PD", "truth"]


def test_mask_sheet_draws_each_mask_over_the_same_image(scan):
    figure = sheets.mask_sheet(scan.images["T1w"], dict(scan.masks), brain=scan.mask("brain"))
    assert titles(figure) == ["brain", "lesions"]
    assert all(len(a.collections) == 1 for a in figure.axes)
    assert pixels(figure).std() > 0.1


def test_quantitative_maps_are_windowed_to_tissue_and_say_their_window(scan):
    brain = scan.mask("brain")
    fluid = torch.zeros_like(brain.data)
    fluid[:, :8] = True
    values = torch.linspace(0.4, 0.9, brain.data.numel()).reshape(brain.data.shape)
    shown = Scan("s", "1", 30.0, {"RD": brain.with_data(torch.where(fluid, 3.0, values)), "T1w": scan.images["T1w"]},
                 {"brain": brain, "wm": brain.with_data(brain.data & ~fluid)})
    rd, t1 = sheets.contrast_sheet(shown).axes
    low, high = rd.images[0].get_clim()
    assert 0.4 < low < high < 0.91
    said = " ".join(rd.get_title().split())
    assert said == f"RD, {number(low, 2)} to {number(high, 2)} (10⁻³ mm²/s)" and t1.get_title() == "T1-w"
    small = Scan("s", "1", 30.0, {"RD": brain.with_data(values / 1000)}, {"brain": brain})
    assert sheets.contrast_sheet(small).axes[0].get_title().endswith(" (mm²/s)")
    assert "10⁻³" not in sheets.contrast_sheet(small).axes[0].get_title()


def test_the_window_of_anisotropy_reaches_its_bundles_and_that_of_diffusivity_leaves_fluid_out(scan):
    brain = scan.mask("brain")
    values = torch.rand(brain.data.shape, generator=torch.Generator().manual_seed(3))
    bright = torch.rand(brain.data.shape, generator=torch.Generator().manual_seed(4)) < 0.03
    maps = {name: brain.with_data(torch.where(bright, 5.0, values)) for name in ("FA", "RD")}
    fa, rd = sheets.contrast_sheet(Scan("s", "1", 30.0, maps, {"brain": brain})).axes
    assert fa.images[0].get_clim()[1] == 5.0
    assert rd.images[0].get_clim()[1] < 1.0
