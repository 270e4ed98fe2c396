"""Lesions: measured loads, counts, sizes and places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from nbkit.cohorts.ms_phantom import roster
from nbkit.core.checks import NbkitError
from nbkit.core.seeds import numpy_generator
from nbkit.core.volume import bounding_box
from nbkit.phantom.anatomy import draw_anatomy, load_template, volume_growth
from nbkit.phantom.lesions import draw_burdens, draw_lesions, place_lesions
from nbkit.phantom.parameters import load_parameters

P = load_parameters()


def test_loads_and_counts_have_the_measured_quantiles():
    load, count = draw_burdens(np.random.default_rng(0), 4000, parameters=P)
    at = P["lesions.load_probability"][1:-1]
    np.testing.assert_allclose(np.quantile(load, at), P["lesions.load"][1:-1], rtol=0.02)
    np.testing.assert_allclose(np.quantile(count, [0.25, 0.5, 0.75]), P["lesions.count"][1:-1], rtol=0.02)
    rank = stats.spearmanr(load, count).statistic
    assert 0.68 < rank < 0.76  # Spearman of a Gaussian pair with Pearson .74 is .72


@given(st.integers(0, 2**31), st.integers(2, 30))
def test_small_cohorts_cover_the_measured_range(seed, n):
    load, count = draw_burdens(np.random.default_rng(seed), n, parameters=P)
    assert load.min() >= 0.33 and load.max() <= 52.6
    assert count.min() >= 15 and count.max() <= 350
    assert (load > 14.1).sum() in (n // 2, n - n // 2)


@given(st.integers(0, 2**31), st.floats(1.5, 52.0), st.integers(15, 350))
def test_sizes_sum_to_the_load(seed, load, count):
    draw = draw_lesions(np.random.default_rng(seed), load, count, parameters=P)
    assert draw.sizes.sum() == pytest.approx(1000 * load, rel=1e-6)
    assert draw.sizes.min() >= 3
    assert (np.diff(draw.sizes) <= 0).all()
    assert 0.3 <= draw.severity.min() and draw.severity.max() <= 1


def test_a_load_that_cannot_hold_its_lesions_is_refused():
    with pytest.raises(NbkitError, match="at least 0.9 mL for 300 lesions, found 0.5"):
        draw_lesions(np.random.default_rng(0), 0.5, 300, parameters=P)


def place(person):
    template = load_template(P)
    anatomy = draw_anatomy(numpy_generator(7, person.id), template, patient=True, parameters=P)
    draw = draw_lesions(numpy_generator(7, person.id, "sizes"), person.load_ml, person.lesions, parameters=P)
    growth = volume_growth(anatomy)
    return template, draw, growth, place_lesions(draw, template, growth, parameters=P)


@pytest.fixture(scope="module")
def placed():
    """Every other patient of the paper's."""
    return [place(person) for person in roster("paper", seed=7, parameters=P)[::2] if person.diagnosis == "MS"]


def test_lesions_are_white_matter_and_never_ventricle(placed):
    for template, _, _, lesions in placed:
        inside = lesions.labels.data[0] > 0
        assert float(template.fractions.data[1][inside].min()) > 0.5
        assert not (inside & template.ventricles.data[0]).any()


def test_every_lesion_has_its_size_and_touches_no_other(placed):
    for _, draw, growth, lesions in placed:
        np.testing.assert_allclose(lesions.sizes, draw.sizes, atol=float(growth.data.max()))
        labels = lesions.labels.crop(bounding_box(lesions.labels.data[0] > 0, margin=1)).data[0].numpy()
        highest = ndimage.grey_dilation(labels, size=3)
        lowest = ndimage.grey_erosion(np.where(labels > 0, labels, np.iinfo(np.int16).max), size=3)
        assert np.array_equal(highest[labels > 0], labels[labels > 0])
        assert np.array_equal(lowest[labels > 0], labels[labels > 0])


def test_sizes_have_the_measured_shares(placed):
    sizes = np.concatenate([lesions.sizes for *_, lesions in placed])
    assert 10 < np.median(sizes) < 54  # the measured quartiles
    assert 150 < np.quantile(sizes, 0.95) < 600
    large = sizes > 1000
    assert 0.01 < large.mean() < 0.04
    assert 0.55 < sizes[large].sum() / sizes.sum() < 0.85


def test_distance_to_the_ventricles_is_as_measured(placed):
    """Mean over patients inside the range of the three measured ones: 12-31 % within 3 mm, 41-68 % within 10 mm."""
    near = []
    for template, _, _, lesions in placed:
        distance = template.distance[lesions.labels.data[0].numpy() > 0]
        near.append([(distance <= 3).mean(), (distance <= 10).mean(), np.median(distance)])
    within_3, within_10, median = np.mean(near, axis=0)
    assert 0.12 <= within_3 <= 0.31
    assert 0.41 <= within_10 <= 0.68
    assert 5.7 <= median <= 11.7


def test_lesions_are_not_spheres(placed):
    """A ball of V mm³ has the smallest moment of inertia; lesions of real size exceed it."""
    spread = []
    for *_, lesions in placed[:6]:
        labels = lesions.labels.data[0].numpy()
        for label, box in enumerate(ndimage.find_objects(labels), start=1):
            voxels = np.argwhere(labels[box] == label)
            if 100 < len(voxels) < 2000:
                ball = 0.6 * (3 * len(voxels) / (4 * np.pi)) ** (2 / 3)
                spread.append(voxels.var(axis=0).sum() / ball)
    assert len(spread) > 10
    assert np.median(spread) > 1.1


def test_too_much_for_the_white_matter_is_refused(monkeypatch):
    monkeypatch.setattr("nbkit.phantom.lesions._TRIES", 1)
    template = load_template(P)
    anatomy = draw_anatomy(np.random.default_rng(0), template, patient=True, parameters=P)
    draw = draw_lesions(np.random.default_rng(0), 52.0, 15, parameters=P)
    huge = type(draw)(draw.sizes * 1e2, draw.severity, draw.seed)
    with pytest.raises(NbkitError, match="no room left"):
        place_lesions(huge, template, volume_growth(anatomy), parameters=P)


@settings(max_examples=3)
@given(st.integers(0, 2**31))
def test_the_same_draw_is_placed_the_same_way(seed):
    template = load_template(P)
    anatomy = draw_anatomy(np.random.default_rng(seed), template, patient=True, parameters=P)
    draw = draw_lesions(np.random.default_rng(seed), 2.0, 20, parameters=P)
    growth = volume_growth(anatomy)
    first, second = (place_lesions(draw, template, growth, parameters=P) for _ in range(2))
    assert np.array_equal(first.labels.data, second.labels.data)
