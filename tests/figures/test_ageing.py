"""Sheets of ageing hold each age once per plane, and differences that are those of the images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nbkit.core.checks import NbkitError
from nbkit.figures.ageing import future_sheet, template_sheet, trajectory_sheet

LEVELS = {"axial": 0.0, "coronal": 0.0}


def at_age(scan, age, factor):
    """The scan with its T1w scaled."""
    image = scan.images["T1w"]
    return replace(scan, session=f"ses-{age}", age=age, images={"T1w": image.with_data(image.data * factor)})


@pytest.fixture
def visits(scan):
    return [at_age(scan, age, factor) for age, factor in ((70.0, 1.0), (72.5, 0.9), (75.0, 0.8))]


def titles(figure):
    return [a.get_title() for a in figure.axes if a.get_title()]


def shown(figure):
    """Axes with an image, without colour bars."""
    return [a for a in figure.axes if a.images]


def mean(axes):
    return float(np.ma.masked_invalid(axes.images[-1].get_array()).mean())


def test_a_trajectory_has_the_truth_then_each_model_and_its_signed_error(visits):
    base, *truth = visits
    made = {"inbrainsyn": [v.images["T1w"] for v in truth], "no_change": [base.images["T1w"]] * 2}
    figure = trajectory_sheet(base, truth, made, levels_mm=LEVELS, unit="z")
    assert titles(figure) == ["70.0 y", "72.5 y", "75.0 y"] * 2
    assert [t.get_text() for t in figure.texts] == [
        "truth", "InBrainSyn", "InBrainSyn\n− truth", "no change", "no change\n− truth"]
    axes = shown(figure)
    assert len(axes) == 6 + 4 * 4
    greys, errors = [*axes[:10], *axes[14:18]], [*axes[10:14], *axes[18:]]
    assert len({a.images[0].get_clim() for a in greys}) == len({a.images[-1].get_clim() for a in errors}) == 1
    low, high = errors[0].images[-1].get_clim()
    assert low == -high < 0
    assert [mean(a) for a in errors[:4]] == [0, 0, 0, 0]
    ratio = mean(errors[5]) / mean(errors[4])
    assert mean(errors[4]) > 0 and np.isclose(ratio, 2, rtol=1e-3), "no change − truth: 0.1 and 0.2 of the image"
    assert {a.get_ylabel() for a in figure.axes} == {"", "z"}


def test_the_brain_of_every_visit_is_drawn(visits):
    base, *truth = visits
    half = base.mask("brain").data.clone()
    half[:, :15] = False
    small = replace(base, masks={"brain": base.mask("brain").with_data(half)})
    same = {"no_change": [base.images["T1w"]] * 2}
    grown, whole = (shown(trajectory_sheet(start, truth, same, levels_mm=LEVELS))[0] for start in (small, base))
    assert np.isfinite(grown.images[0].get_array()).sum() == np.isfinite(whole.images[0].get_array()).sum()


def test_futures_are_compared_with_the_baseline(visits):
    base, *later = visits
    images = [v.images["T1w"] for v in later]
    figure = future_sheet(base, {"HC": images, "HC→AD": images[::-1]}, [72.5, 75.0], levels_mm=LEVELS)
    assert titles(figure) == ["70.0 y", "72.5 y", "75.0 y"] * 2
    assert [t.get_text() for t in figure.texts] == ["HC", "HC\n− baseline", "HC, then AD", "HC, then AD\n− baseline"]
    axes = shown(figure)
    assert len(axes) == 6 + 4 * 3
    first, second = mean(axes[6]), mean(axes[7])
    assert first < 0 and np.isclose(second / first, 2, rtol=1e-3)
    assert np.isclose(mean(axes[14]), second)


def test_templates_stand_by_age_with_the_oldest_minus_the_youngest(visits):
    by_age = {v.age: v.images["T1w"] for v in visits[::-1]}
    flat = {age: visits[0].images["T1w"] for age in by_age}
    figure = template_sheet({"HC": flat, "AD": by_age}, brain=visits[0].mask("brain"), levels_mm=LEVELS)
    assert titles(figure) == ["70 y", "72 y", "75 y", *["no change: |Δ| ≤ 0", "75 − 70 y"] * 2]
    assert [t.get_text() for t in figure.texts] == ["HC", "AD", "HC", "AD"]
    axes = shown(figure)
    assert len(axes) == 4 * 4 and mean(axes[3]) == 0 and mean(axes[7]) < 0
    assert axes[3].images[-1].get_clim() == axes[7].images[-1].get_clim()
    assert axes[0].images[0].get_clim() == axes[4].images[0].get_clim()


def test_noise_of_templates_that_do_not_change_is_no_colour(visits):
    image = visits[0].images["T1w"]
    nearly = {70.0: image, 75.0: image.with_data(image.data + 0.01)}
    figure = template_sheet({"HC": nearly}, brain=visits[0].mask("brain"), levels_mm=LEVELS)
    assert "no change: |Δ| ≤ 0.01" in titles(figure)
    assert shown(figure)[2].images[-1].get_alpha().max() < 0.1


def test_bad_input_is_refused(visits):
    base, *truth = visits
    image = base.images["T1w"]
    with pytest.raises(NbkitError, match="trajectory_sheet: mine: expected one image for each of 2 ages, found 1"):
        trajectory_sheet(base, truth, {"mine": [image]}, levels_mm=LEVELS)
    cropped = image.crop((slice(0, 20), slice(0, 34), slice(0, 9)))
    with pytest.raises(NbkitError, match="mine: image and what it is compared with: expected the same shape"):
        trajectory_sheet(base, truth, {"mine": [image, cropped]}, levels_mm=LEVELS)
    with pytest.raises(NbkitError, match="a level within the brain"):
        future_sheet(base, {"HC": [image]}, [72.0], levels_mm={"axial": 60.0})
    with pytest.raises(NbkitError, match="the same two or more ages in every group"):
        template_sheet({"HC": {70.0: image, 80.0: image}, "AD": {70.0: image}}, brain=base.mask("brain"))
    empty = replace(base, masks={})
    with pytest.raises(NbkitError, match="mask: expected 'brain'"):
        trajectory_sheet(empty, truth, {"mine": [image] * 2}, levels_mm=LEVELS)
