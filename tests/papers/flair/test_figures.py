"""The pictures of the paper hold the images they promise, in order, at one slice and one scale."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Cohort, Subject
from nbkit.core.tidy import stacked, tidy
from nbkit.papers.flair import figures
from nbkit.papers.flair.conv_synthesis import Config


def titles(figure):
    return [a.get_title().replace("\n", " ") for a in figure.axes if a.get_title()]


def test_the_network_is_drawn_with_its_layers_and_sequences():
    words = {t.get_text() for a in figures.method_drawing(Config(depth=2)).axes for t in a.texts}
    assert {"input", "features 1", "features 2", "output", "64 channels", "5 channels", "T1-w", "DIR"} <= words
    assert "features 3" not in words


def test_methods_stand_side_by_side_for_every_patient(scan):
    truth = scan.image("FLAIR")
    made = {"rf": truth.with_data(truth.data * 0.9), "fcn": truth.with_data(truth.data * 0.99)}
    patients = [Subject(name, None, "MS", (scan,)) for name in "ab"]
    figure = figures.method_examples(patients, dict.fromkeys("ab", made))
    assert titles(figure) == ["Random forest", "3D FCN", "True FLAIR"] * 2
    bars = [a.get_ylabel() for a in figure.axes if a.get_ylabel()]
    assert len(bars) == 2 and all("prediction" in label for label in bars)


def test_propagation_stands_by_itself(scan):
    """With its noise among them the differences of all others would be dark."""
    truth = scan.image("FLAIR")
    made = {"mp": truth.with_data(truth.data + 50.0), "fcn": truth.with_data(truth.data + 1.0)}
    found = {name: (figure, said) for name, figure, said in figures.method_pictures(
        [Subject("a", None, "MS", (scan,))], {"a": made})}
    assert list(found) == ["fig2_4", "fig2_4_propagation"]
    assert titles(found["fig2_4"][0]) == ["3D FCN", "True FLAIR"]
    assert titles(found["fig2_4_propagation"][0]) == ["Modality propagation", "True FLAIR"]
    assert "propagation" in found["fig2_4_propagation"][1]
    only = figures.method_pictures([Subject("a", None, "MS", (scan,))], {"a": {"fcn": made["fcn"]}})
    assert [name for name, *_ in only] == ["fig2_4"]


def test_what_a_longer_training_finds_stands_beside_the_methods(scan):
    made = dict.fromkeys(("fcn", "longer", "longer_own"), scan.image("FLAIR"))
    (_, beside, said), (_, longer, _) = figures.method_pictures([Subject("a", None, "MS", (scan,))], {"a": made})
    assert titles(beside) == ["3D FCN", "3D FCN, wider, longer, own scale", "True FLAIR"]
    assert titles(longer) == ["3D FCN, wider, longer", "3D FCN, wider, longer, own scale", "True FLAIR"]
    assert "trained for longer, on images scaled by themselves" in said


def test_errors_are_drawn_beside_what_could_be_reached():
    gaps = tidy({"a": 0.1, "b": 0.3}, system="rf")
    figure = figures.differences(gaps, "MSE − MSE of the FCN", {"floor": -0.5, "reach": -0.2}, better=("it", "the FCN"))
    assert {"floor", "reach"} <= {t.get_text() for t in figure.axes[0].texts}
    assert {-0.5, -0.2} <= {float(line.get_xdata()[0]) for line in figure.axes[0].lines if len(line.get_xdata())}
    more = stacked(gaps, tidy({"a": 9.0}, system="mean"))
    again = figures.differences(more, "MSE", {}, better=("it", "the FCN"))
    assert [t.get_text() for t in again.axes[0].get_yticklabels()] == ["Random forest"]
    curve = pd.DataFrame({"epoch": [0, 5], "setting": "3 layers", "fold": "fold1", "value": [1.0, 0.5]})
    figure = figures.depth_curves(curve, {"floor": 0.2})
    assert 0.2 in {float(line.get_ydata()[0]) for line in figure.axes[0].lines if len(line.get_ydata())}


def test_lesions_of_the_highest_and_lowest_dice_stand_beside_each_image(scan):
    lesions = scan.mask("lesions")
    other = lesions.with_data(torch.zeros_like(lesions.data))
    cohort = Cohort("toy", tuple(Subject(s, None, "MS", (scan,)) for s in "abc"), "embedded")
    flair = scan.images["FLAIR"]
    made = flair.with_data(flair.data + 4 * flair.data[scan.mask("brain").data].std())
    found = {s: {"truth": lesions, "fcn": other} for s in "abc"}
    agreement = stacked(tidy({"a": 0.5, "b": 0.812, "c": 0.4}, metric="dice", system="fcn"),
                        tidy({"a": 1.0}, metric="dice", system="longer_own"))
    figure = figures.lesion_examples(cohort, dict.fromkeys("abc", made), found, agreement)
    heads = ["True FLAIR", "its lesions (red)", "Predicted FLAIR (offset +4.0 SD)", "its lesions (red)"]
    assert [" ".join(t.split()) for t in titles(figure)] == [*heads, "(offset +4.0 SD)"]
    assert [t.get_text() for t in figure.texts] == ["highest of 3\nDice 0.81", "lowest of 3\nDice 0.40"]
    true, _, shifted, _ = (a.images[0].get_clim() for a in figure.axes[:4])
    assert shifted[0] > true[0] and np.subtract(*shifted) == pytest.approx(np.subtract(*true), rel=1e-4)
    red = [(a.images[1].get_array()[..., 3] > 0).sum() for a in figure.axes[:4] if len(a.images) == 2]
    assert red[0] > 0 and red[1] == 0


def test_saliency_maps_share_one_scale_above_their_inputs(scan):
    inputs = {k: scan.images[k] for k in ("T1w", "DIR")}
    maps = {k: v.with_data(v.data.abs()) for k, v in inputs.items()}
    figure = figures.saliency_sheet(maps, inputs, brain=scan.mask("brain"))
    assert titles(figure) == ["T1-w", "DIR"]
    images = [a.images[0] for a in figure.axes if a.images]
    assert images[0].get_clim() == images[1].get_clim() and images[2].get_clim() != images[3].get_clim()
    with pytest.raises(NbkitError, match="none for DIR"):
        figures.saliency_sheet(maps, {"T1w": inputs["T1w"]}, brain=scan.mask("brain"))


def test_the_published_ssim_stands_beside_ours_and_the_mse_of_another_unit_does_not():
    people = "abcdef"
    rows = stacked(*(tidy({p: v for p in people}, system=s, metric=m) for m in ("mse", "ssim")
                     for s, v in (("fcn", 0.5), ("rf", 0.4))))
    ids = {f"wei2019.table2_2{x}.{s}": SimpleNamespace(value=v) for x, v in (("a.mse", 900.0), ("b.ssim", 0.8))
           for s, v in (("fcn", v), ("rf", v - 0.1))}
    (first, mse, _), (second, ssim, said) = figures.table_differences(rows, {"floor": -0.1}, ids)
    assert (first, second) == ("table2_2_differences", "table2_2_ssim_differences") and said.endswith("SSIM")
    printed = [[line.get_xdata()[0] for line in figure.axes[0].lines if line.get_label() == "published means"]
               for figure in (mse, ssim)]
    assert printed[0] == [] and printed[1] == pytest.approx([-0.1])
