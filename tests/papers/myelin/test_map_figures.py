"""Maps put each colour on its voxels, at the slice that shows most, with what the colours mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from nbkit.core.checks import NbkitError
from nbkit.papers.myelin import map_figures as maps
from nbkit.figures.slices import view_of
from tests.figures.conftest import pixels, stored


@pytest.fixture
def pair(scan):
    """True and predicted maps: halves of the lesions that overlap in a quarter."""
    lesions = scan.mask("lesions")
    x = torch.arange(30)[:, None, None].expand(30, 34, 9)[None]
    y = torch.arange(34)[None, :, None].expand(30, 34, 9)[None]
    return lesions.with_data(lesions.data & (x > 20)), lesions.with_data(lesions.data & (y > 20))


@pytest.fixture
def example(scan, pair):
    masks = scan.mask("brain"), scan.mask("lesions")
    return maps.MapExample("patient A", scan.images["T1w"], *masks, *pair, 0.713)


def painted(axes, colour: str) -> int:
    """Pixels of a tile in one colour."""
    return sum(int((image.get_array() == to_rgba(colour)).all(-1).sum()) for image in axes.images[1:])


def in_view(mask, example) -> int:
    return int(np.nansum(view_of(example.brain, example.lesions).cut(mask)))


def test_every_lesion_voxel_of_the_slice_is_in_one_of_four_classes(example, pair):
    figure = maps.agreement_maps([example])
    plain, whole, _, detail = figure.axes
    counts = [painted(whole, colour) for colour in maps.AGREEMENT.values()]
    true, predicted = pair
    both = true.with_data(true.data & predicted.data)
    shared, only_true, only_predicted = (in_view(m, example) for m in (both, true, predicted))
    assert counts[1:] == [shared, only_true - shared, only_predicted - shared] and min(counts) > 0
    assert sum(counts) == in_view(example.lesions, example)
    assert len(plain.images) == 1 and len(plain.patches) == 1 and painted(detail, maps.AGREEMENT["true PET only"]) > 0


def test_titles_say_who_and_how_well_and_the_key_stands_above(example):
    figure = maps.agreement_maps([example, replace(example, label="patient B", dice=0.5)])
    heads = [a.get_title().replace("\n", " ") for a in figure.axes[:4]]
    assert heads == ["patient A, z = 3 mm", "PET, Dice 0.71", "patient B, z = 3 mm", "PET, Dice 0.50"]
    assert len(figure.axes) == 8 and len(maps.agreement_maps([example] * 3).axes) == 12
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(maps.AGREEMENT)
    assert max(a.get_position().y1 for a in figure.axes) < 1 - 3 / (figure.get_figheight() * 25.4)
    assert pixels(figure).std() > 0.1


def test_change_is_painted_over_white_lesions_where_it_truly_is(scan, pair):
    none = pair[0].with_data(torch.zeros_like(pair[0].data))
    example = maps.ChangeExample(
        "patient A", scan.images["T1w"], scan.mask("brain"), scan.mask("lesions"), pair, (none, pair[1]))
    plain, predicted, true = maps.change_maps([example]).axes
    assert [a.get_title() for a in (plain, predicted, true)] == ["T1-w", "predicted PET", "true PET"]
    red, blue = maps.CHANGE["demyelinating"], maps.CHANGE["remyelinating"]
    assert painted(predicted, red) == 0 < painted(true, red) and painted(true, blue) == painted(predicted, blue) > 0
    still = replace(example, true=(none, none))
    assert painted(maps.change_maps([still]).axes[2], maps.CHANGE["lesion, no change"]) > 0


def test_maps_lie_where_they_should_in_any_orientation(example):
    turned = replace(example, **{k: stored(getattr(example, k), "LPI") for k in
                                 ("anatomy", "brain", "lesions", "true", "predicted")})
    assert np.array_equal(pixels(maps.agreement_maps([example])), pixels(maps.agreement_maps([turned])))


def test_attention_is_scaled_by_itself_and_says_how_much_lies_in_lesions(scan):
    brain, lesions = scan.mask("brain"), scan.mask("lesions")
    flat = brain.with_data(brain.data.float())
    drawn = flat.with_data(1000 * (flat.data + 9 * lesions.data.float()))
    example = maps.AttentionExample("patient 1", brain, lesions, {"L1 loss": flat, "weighted L1 loss": drawn})
    figure = maps.attention_sheet([example])
    mask, plain, weighted, *_ = (a for a in figure.axes if a.images)
    share = int(lesions.data.sum()) / int(brain.data.sum())
    assert [a.get_title() for a in (mask, plain, weighted)] == [
        "patient 1, z = 3 mm", f"{100 * share:.1f} % in lesions", f"{1000 * share / (1 + 9 * share):.1f} % in lesions"]
    assert np.nanmax(plain.images[0].get_array().filled(np.nan)) == pytest.approx(1)
    other = replace(example, label="patient 2", maps={"L1 loss": flat})
    with pytest.raises(NbkitError, match="attention_sheet: patient 2: expected maps of L1 loss, weighted L1 loss"):
        maps.attention_sheet([example, other])


def test_nobody_and_other_grids_are_refused(example):
    for draw in (maps.agreement_maps, maps.change_maps, maps.attention_sheet):
        with pytest.raises(NbkitError, match="expected at least one patient, found none"):
            draw([])
    moved = example.anatomy.crop((slice(0, 20), slice(0, 34), slice(0, 9)))
    with pytest.raises(NbkitError, match="expected the same shape"):
        maps.agreement_maps([replace(example, anatomy=moved)])
