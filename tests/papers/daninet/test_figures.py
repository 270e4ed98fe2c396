"""Slices that age: what is drawn is what was given, at one scale, left where left is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.papers.daninet.experiments import Case
from nbkit.papers.daninet.figures import (
    ages_sheet, biomarker_drawing, configurations_sheet, method_drawing, region_map, regional_progression, survey_sheet,
)
from tests.figures.conftest import pixels

SIZE = 24
AFFINE = np.array([[2.0, 0, 0, -23], [0, 2.0, 0, -41], [0, 0, 2.0, 12], [0, 0, 0, 1]])
X, Y = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
BRAIN = np.hypot(X - 11.5, Y - 11.5) < 10


def volume(values: np.ndarray) -> Volume:
    return Volume(torch.tensor(np.asarray(values))[..., None], AFFINE)


def slice_of(level: float) -> np.ndarray:
    return ((0.6 + 0.02 * X - 0.01 * Y + level) * BRAIN).astype(np.float32)


def titles(figure) -> list[str]:
    return [a.get_title().replace("\n", " ") for a in figure.axes if a.get_title()]


def drawn(figure) -> list[np.ndarray]:
    return [np.asarray(a.images[0].get_array().filled(np.nan)) for a in figure.axes if a.images]


CENTRES = np.array([64.0, 68, 72, 76, 80])


def curves() -> pd.DataFrame:
    """Region r loses (r + 1) % a bin, and four times as much in the ill."""
    rows = [
        (name, age, r, 1 - 0.01 * (r + 1) * d * k)
        for name, d in (("CN", 1), ("AD", 4)) for k, age in enumerate(CENTRES) for r in range(3)
    ]
    return pd.DataFrame(rows, columns=["diagnosis", "age", "structure", "value"])


PAIRS = pd.DataFrame(
    [("CN", 66.0, 70.0, 1, 0.5), ("AD", 64.0, 80.0, 1, 0.9), ("CN", 64.0, 66.0, 0, 1.1), ("AD", 64.0, 66.0, 2, 1.0)],
    columns=["diagnosis", "younger", "older", "structure", "value"],
)


def test_curves_are_drawn_region_by_region_never_told_by_colour_alone():
    figure = regional_progression(curves(), PAIRS, regions=(2, 0))
    assert [a.get_title(loc="left") for a in figure.axes] == ["region 2 (outlined above)", "region 0 (outlined above)"]
    for axes, region in zip(figure.axes, (2, 0), strict=True):
        lines = [line for line in axes.lines if len(line.get_xdata()) == len(CENTRES)]
        for line, d in zip(lines, (1, 4), strict=True):
            np.testing.assert_allclose(line.get_xdata(), CENTRES)
            np.testing.assert_allclose(line.get_ydata(), 1 - 0.01 * (region + 1) * d * np.arange(5))
        assert len({line.get_linestyle() for line in lines}) == len({line.get_color() for line in lines}) == 2
    words = {text.get_text() for text in figure.legends[0].get_texts()}
    assert words == {"CN", "AD", "CN, two scans of a person", "AD, two scans of a person"}


def test_a_pair_of_scans_starts_on_the_curve_of_its_diagnosis():
    axes = regional_progression(curves(), PAIRS, regions=(1,)).axes[0]
    segments = [line.get_xydata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_xdata()[0] >= 60]
    np.testing.assert_allclose(segments, [[[66, 0.99], [70, 0.495]], [[64, 1.0], [80, 0.9]]])
    np.testing.assert_allclose(np.concatenate([c.get_offsets() for c in axes.collections]), [[70, 0.495], [80, 0.9]])
    with pytest.raises(NbkitError, match="pairs: table: expected rows"):
        regional_progression(curves(), PAIRS.drop(columns="older"), regions=(1,))


@pytest.fixture
def masks() -> torch.Tensor:
    """Three overlapping regions in the brain."""
    parts = [BRAIN & (X < 10), BRAIN & (X >= 8) & (Y < 12), BRAIN & (X >= 8) & (Y >= 11)]
    return torch.from_numpy(np.stack(parts)).float()


def test_the_map_counts_regions_and_numbers_those_asked_for(masks):
    figure = region_map(volume(slice_of(0)), masks, brain=volume(BRAIN), marked=(2,))
    assert titles(figure) == ["slice", "3 regions", "overlap"]
    (image, hues, cover), masks = drawn(figure), masks.numpy() > 0
    box = tuple(slice(max(np.nonzero(BRAIN.any(1 - k))[0].min() - 2, 0), np.nonzero(BRAIN.any(1 - k))[0].max() + 3)
                for k in (0, 1))
    np.testing.assert_array_equal(cover[BRAIN[box].T], masks.sum(0)[box].T[BRAIN[box].T])
    alone = (masks.sum(0) == 1)[box].T
    colours = [{*hues[(m[box].T & alone)].tolist()} for m in masks]
    assert all(len(c) == 1 for c in colours) and len(set.union(*colours)) == 3
    assert "2" in [t.get_text() for t in figure.axes[0].texts] and len(figure.axes[0].collections) == 1
    assert figure.axes[-1].get_ylabel().replace("\n", " ") == "regions over a pixel"


def test_a_numbered_region_lies_where_it_is(masks):
    axes = region_map(volume(slice_of(0)), masks, brain=volume(BRAIN), marked=(0,)).axes[0]
    (label,) = [t for t in axes.texts if t.get_text() == "0"]
    assert label.get_position()[0] < np.mean(axes.get_xlim()) - 3, "the left of the brain is left"


def test_regions_of_another_grid_are_refused(masks):
    with pytest.raises(NbkitError, match="Volume.with_data: data: expected spatial shape"):
        region_map(volume(slice_of(0)), masks[:, :20], brain=volume(BRAIN))


def case(subject: str, gain: float, *names: str) -> Case:
    """The follow-up is darker by 0.1; the simulations by 0.1 − 2 gain and by 0.1 − gain."""
    both = {"[9]": volume(slice_of(-0.1 + 2 * gain)), "P-C-T": volume(slice_of(-0.1 + gain))}
    candidates = {name: both[name] for name in names or both}
    return Case(subject, "M24", "AD", 2.0, volume(slice_of(0)), volume(slice_of(-0.1)), candidates, volume(BRAIN))


def test_configurations_stand_in_columns_above_what_they_miss():
    figure = configurations_sheet([case("sub-01", 0.02), case("sub-02", 0.04)])
    assert titles(figure) == ["input", "follow-up", "CAAE [9]", "P-C-T"]
    assert "person 2, AD\n+2.0 years" in [t.get_text() for t in figure.texts], "ids belong into no picture"
    real = configurations_sheet([case("IXI-7", 0.02)], simulated=True)
    assert "healthy adult 1, simulated AD" in real.texts[0].get_text().replace("\n", " ")
    images = [a.images[-1] for a in figure.axes if a.images]
    errors = [i for i in images if i.get_cmap().name == "RdBu_r"]
    assert len(images) == 2 * (4 + 3) and len(errors) == 6
    means = [float(np.nanmean(e.get_array().filled(np.nan))) for e in errors]
    np.testing.assert_allclose(means, [0.1, 0.04, 0.02, 0.1, 0.08, 0.04], atol=1e-6)
    assert len({e.get_clim() for e in errors}) == 1
    bars = [a.get_ylabel().replace("\n", " ") for a in figure.axes if a.get_ylabel()]
    assert bars == ["simulation − follow-up (1 = white matter)"] * 2
    assert any(t.get_text() == "z = 12 mm" for t in figure.axes[0].texts)


def test_people_need_the_same_systems():
    with pytest.raises(NbkitError, match="configurations_sheet: sub-02/M24: .*found 'P-C-T'"):
        configurations_sheet([case("sub-01", 0.02), case("sub-02", 0.02, "[9]")])


def test_ages_stand_in_order_above_their_change():
    images, ages = [volume(slice_of(-0.02 * k)) for k in range(7)], [64 + 2.4 * k for k in range(7)]
    figure = ages_sheet(images, ages, brain=volume(BRAIN), columns=5)
    assert titles(figure) == [f"{a:.1f} years" for a in ages]
    changes = [i for a in figure.axes if a.images for i in a.images if i.get_cmap().name == "RdBu_r"]
    means = [float(np.nanmean(i.get_array().filled(np.nan))) for i in changes]
    np.testing.assert_allclose(means, [-0.02 * k for k in range(1, 7)], atol=1e-6)
    assert len({i.get_clim() for i in changes}) == 1 and len({i.get_clim() for i in _greys(figure)}) == 1
    with pytest.raises(ValueError, match="shorter than"):
        ages_sheet(images, ages[:6], brain=volume(BRAIN))


def _greys(figure):
    return [a.images[0] for a in figure.axes if len(a.images) == 1 and a.images[0].get_cmap().name == "gray"]


def test_a_survey_sheet_shows_letters_and_whole_brains_with_right_on_the_right():
    spot = np.zeros((SIZE, SIZE), dtype=np.float32)
    spot[20, 12] = 1.0
    bright, dark = volume(slice_of(0)), volume(slice_of(-0.5))
    shown = Case("s", "1", "CN", 2.0, bright, volume(spot), {"x": volume(spot), "y": bright}, volume(BRAIN))
    figure = survey_sheet(shown, {"A": "x", "B": "y"})
    assert titles(figure) == ["input", "follow-up", "A", "B"]
    first, _, a, b = drawn(figure)
    assert (a > 0).sum() == 1 and (first > 0).sum() == (b > 0).sum() == BRAIN.sum(), "nothing is cut off"
    row, column = np.argwhere(a > 0)[0]
    assert first[row, column] == pytest.approx(slice_of(0)[20, 12]), "one cut for all"
    alone = Case("s", "1", "CN", 2.0, dark, volume(spot), {"x": volume(spot)}, volume(BRAIN))
    shot = pixels(survey_sheet(alone, {"A": "x"}))
    third = shot[30:, : shot.shape[1] * 2 // 3].mean(-1)[:, shot.shape[1] // 3 + 30:-30]
    assert np.nonzero(third > 0.9)[1].mean() > third.shape[1] / 2


def test_the_method_is_drawn():
    words, fig2 = (
        {text.get_text().replace("\n", " ") for text in make().axes[0].texts}
        for make in (method_drawing, biomarker_drawing)
    )
    assert {"tuned to the person (T)", "slice at the age asked for", "darken"} <= words
    assert {"pairs that fall", "SVR of each region: both ages, diagnosis", "rate between any two bins"} <= fig2
