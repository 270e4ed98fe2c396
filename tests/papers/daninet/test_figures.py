"""Slices that age: what is drawn is what was given, at one scale, left where left is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.papers.daninet.figures import (
    CONFIGURATIONS, Simulated, ages_sheet, configurations_sheet, region_map, regional_progression, survey_sheet,
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


@pytest.fixture
def ratios() -> np.ndarray:
    """(D=4, A=5, A, R=3): region r loses (r + 1) · (d + 1) % a bin."""
    d, p, a, r = np.indices((4, 5, 5, 3))
    return np.where(a > p, 1 - 0.01 * (r + 1) * (d + 1) * (a - p), 1.0)


CENTRES = np.array([64.0, 68, 72, 76, 80])


def test_curves_are_the_ratios_to_the_first_age(ratios):
    figure = regional_progression(ratios, CENTRES, diagnoses={"CN": 0, "AD": 3}, regions=(2, 0))
    assert titles(figure) == [] and [a.get_title(loc="left") for a in figure.axes] == ["region 2", "region 0"]
    for axes, region in zip(figure.axes, (2, 0), strict=True):
        curves = {line.get_label(): line for line in axes.lines if line.get_label() in ("CN", "AD")}
        for name, d in (("CN", 0), ("AD", 3)):
            np.testing.assert_allclose(curves[name].get_xdata(), CENTRES)
            np.testing.assert_allclose(curves[name].get_ydata(), ratios[d, 0, :, region])
        assert curves["CN"].get_linestyle() != curves["AD"].get_linestyle(), "never by colour alone"


def test_a_pair_of_scans_starts_on_the_curve_of_its_diagnosis(ratios):
    rows = [(1, "CN", 66.0, 70.0, 0.5), (1, "AD", 64.0, 80.0, 0.9), (0, "CN", 64.0, 66.0, 1.1)]
    pairs = pd.DataFrame(rows, columns=["region", "diagnosis", "younger", "older", "ratio"])
    axes = regional_progression(ratios, CENTRES, diagnoses={"CN": 0, "AD": 3}, regions=(1,), pairs=pairs).axes[0]
    segments = [line.get_xydata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_xdata()[0] >= 60]
    np.testing.assert_allclose(segments, [[[66, 0.99], [70, 0.495]], [[64, 1.0], [80, 0.9]]])
    with pytest.raises(NbkitError, match="pairs: table: expected rows"):
        regional_progression(ratios, CENTRES, diagnoses={"CN": 0}, regions=(1,), pairs=pairs.drop(columns="older"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centres": CENTRES[:3]}, "for 3 ages"), ({"regions": (3,)}, r"regions: expected places from 0 to 2"),
        ({"diagnoses": {"AD": 4}}, "diagnoses: expected places from 0 to 3"), ({"regions": ()}, "1 and 0"),
    ],
)
def test_ratios_that_do_not_fit_are_refused(ratios, change, message):
    given = {"centres": CENTRES, "diagnoses": {"CN": 0}, "regions": (0,)} | change
    with pytest.raises(NbkitError, match=message):
        regional_progression(ratios, **given)


@pytest.fixture
def masks() -> np.ndarray:
    """Three overlapping regions in the brain."""
    return np.stack([BRAIN & (X < 10), BRAIN & (X >= 8) & (Y < 12), BRAIN & (X >= 8) & (Y >= 11)])


def test_the_map_counts_regions_and_numbers_those_asked_for(masks):
    figure = region_map(volume(slice_of(0)), masks, brain=volume(BRAIN), marked=(2,))
    assert titles(figure) == ["slice", "3 regions", "overlap"]
    image, hues, cover = drawn(figure)
    box = tuple(slice(max(np.nonzero(BRAIN.any(1 - k))[0].min() - 2, 0), np.nonzero(BRAIN.any(1 - k))[0].max() + 3)
                for k in (0, 1))
    np.testing.assert_array_equal(cover[BRAIN[box].T], masks.sum(0)[box].T[BRAIN[box].T])
    alone = (masks.sum(0) == 1)[box].T
    colours = [{*hues[(m[box].T & alone)].tolist()} for m in masks]
    assert all(len(c) == 1 for c in colours) and len(set.union(*colours)) == 3
    assert "2" in [t.get_text() for t in figure.axes[0].texts] and len(figure.axes[0].collections) == 1
    assert figure.axes[-1].get_ylabel().replace("\n", " ") == "regions over a pixel"


def test_a_numbered_region_lies_where_it_is(masks):
    axes = region_map(slice_of(0), masks, brain=BRAIN, marked=(0,)).axes[0]
    (label,) = [t for t in axes.texts if t.get_text() == "0"]
    assert label.get_position()[0] < np.mean(axes.get_xlim()) - 3, "the left of the brain is left"


def test_regions_of_another_grid_or_number_are_refused(masks):
    with pytest.raises(NbkitError, match=r"shape \(R, 24, 24\)"):
        region_map(slice_of(0), masks[:, :20], brain=BRAIN)
    with pytest.raises(NbkitError, match="region_map: marked"):
        region_map(slice_of(0), masks, brain=BRAIN, marked=(3,))


def person(label: str, gain: float) -> Simulated:
    """The follow-up is darker by 0.1; the outputs by 0.1 − gain and by 0.1 − 2 gain."""
    outputs = {"caae": volume(slice_of(-0.1 + 2 * gain)), "p_c_t": volume(slice_of(-0.1 + gain))}
    return Simulated(label, volume(slice_of(0)), volume(slice_of(-0.1)), outputs, volume(BRAIN), years=2.0)


def test_configurations_stand_in_columns_above_what_they_miss():
    figure = configurations_sheet([person("sub-01", 0.02), person("sub-02", 0.04)], unit="share of peak")
    assert titles(figure) == ["input", "follow-up", "[9]", "P-C-T"]
    assert "sub-01\n+2.0 years" in [t.get_text() for t in figure.texts]
    images = [a.images[0] for a in figure.axes if a.images]
    errors = [i for i in images if i.get_cmap().name == "RdBu_r"]
    assert len(images) == 2 * (4 + 3) and len(errors) == 6
    means = [float(np.nanmean(e.get_array().filled(np.nan))) for e in errors]
    np.testing.assert_allclose(means, [0.1, 0.04, 0.02, 0.1, 0.08, 0.04], atol=1e-6)
    assert len({e.get_clim() for e in errors}) == 1
    bars = [a.get_ylabel().replace("\n", " ") for a in figure.axes if a.get_ylabel()]
    assert bars == ["output − follow-up (share of peak)"] * 2
    assert any(t.get_text() == "z = 12 mm" for t in figure.axes[0].texts)


def test_people_need_the_same_configurations_on_one_grid():
    one, other = person("sub-01", 0.02), person("sub-02", 0.02)
    less = Simulated("sub-02", other.baseline, other.followup, {"caae": other.outputs["caae"]}, other.brain)
    with pytest.raises(NbkitError, match="sub-02"):
        configurations_sheet([one, less])
    with pytest.raises(NbkitError, match="sub-02"):
        configurations_sheet([less, one][::-1])
    moved = Simulated("x", Volume(one.baseline.data), one.followup, one.outputs, one.brain)
    with pytest.raises(NbkitError, match="the same affine"):
        configurations_sheet([moved])
    with pytest.raises(NbkitError, match="at least one person"):
        configurations_sheet([])


def test_every_configuration_of_the_table_has_its_own_look():
    looks = {(m.colour, m.marker) for m in CONFIGURATIONS.values()}
    assert len(looks) == len(CONFIGURATIONS) and len({m.title for m in CONFIGURATIONS.values()}) == 10


def test_ages_stand_in_order_above_their_change():
    images, ages = [slice_of(-0.02 * k) for k in range(7)], [64 + 2.4 * k for k in range(7)]
    figure = ages_sheet(images, ages, brain=BRAIN, columns=5)
    assert titles(figure) == [f"{a:.1f} years" for a in ages]
    changes = [i for a in figure.axes if a.images for i in a.images if i.get_cmap().name == "RdBu_r"]
    means = [float(np.nanmean(i.get_array().filled(np.nan))) for i in changes]
    np.testing.assert_allclose(means, [-0.02 * k for k in range(1, 7)], atol=1e-6)
    assert len({i.get_clim() for i in changes}) == 1 and len({i.get_clim() for i in _greys(figure)}) == 1
    assert not any("mm" in t.get_text() for a in figure.axes for t in a.texts), "an array knows no level"
    with pytest.raises(NbkitError, match="7 images, 6 ages"):
        ages_sheet(images, ages[:6], brain=BRAIN)


def _greys(figure):
    return [i for a in figure.axes for i in a.images if i.get_cmap().name == "gray"]


def test_a_survey_sheet_shows_letters_and_whole_brains_with_right_on_the_right():
    spot = np.zeros((SIZE, SIZE))
    spot[20, 12] = 1.0
    figure = survey_sheet(slice_of(0), spot, {"A": spot, "B": slice_of(0.1)})
    assert titles(figure) == ["input", "follow-up", "A", "B"]
    first, _, a, b = drawn(figure)
    assert (a > 0).sum() == 1 and (first > 0).sum() == (b > 0).sum() == BRAIN.sum(), "nothing is cut off"
    row, column = np.argwhere(a > 0)[0]
    assert first[row, column] == pytest.approx(slice_of(0)[20, 12]), "one cut for all"
    shot = pixels(survey_sheet(slice_of(-0.5), spot, {"A": spot}))
    third = shot[30:, : shot.shape[1] * 2 // 3].mean(-1)[:, shot.shape[1] // 3 + 30:-30]
    assert np.nonzero(third > 0.9)[1].mean() > third.shape[1] / 2
    with pytest.raises(NbkitError, match=r"shape \(S, S\)"):
        survey_sheet(np.zeros((2, 3, 4)), spot, {})
    with pytest.raises(NbkitError, match="one axial slice"):
        survey_sheet(Volume(torch.zeros(5, 5, 5)), spot, {})
