"""Maps put each colour on its voxels, at the slice that shows most, with what the colours mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Subject
from nbkit.figures.slices import view_of
from nbkit.papers.myelin import map_figures as maps
from nbkit.papers.myelin.metrics import Course, overlap
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
    """A scan with its true and predicted course, seen once."""
    return scan, *(Course(scan.mask("lesions"), mask, None) for mask in pair)


def painted(axes, colour: str) -> int:
    """Pixels of a tile in one colour."""
    return sum(int((image.get_array() == to_rgba(colour)).all(-1).sum()) for image in axes.images[1:])


def in_view(mask, scan) -> int:
    return int(np.nansum(view_of(scan.mask("brain"), scan.mask("lesions")).cut(mask)))


def test_every_lesion_voxel_of_the_slice_is_in_one_of_four_classes(example, pair):
    figure = maps.agreement_maps({"patient A": example})
    plain, whole, _, detail = figure.axes
    counts = [painted(whole, colour) for colour in maps.AGREEMENT.values()]
    true, predicted = pair
    both = true.with_data(true.data & predicted.data)
    shared, only_true, only_predicted = (in_view(m, example[0]) for m in (both, true, predicted))
    assert counts[1:] == [shared, only_true - shared, only_predicted - shared] and min(counts) > 0
    assert sum(counts) == in_view(example[0].mask("lesions"), example[0])
    assert len(plain.images) == 1 and len(plain.patches) == 1 and painted(detail, maps.AGREEMENT["true PET only"]) > 0


def test_chapter_4_paints_what_only_one_of_the_two_finds_in_its_own_colours(example, pair):
    whole = maps.agreement_maps({"patient A": example}, colours=maps.AGREEMENT_CHAPTER_4).axes[1]
    true, predicted = pair
    alone = [in_view(a.with_data(a.data & ~b.data), example[0]) for a, b in (pair, pair[::-1])]
    red, blue = "#D7263D", "#2A7FFF"
    assert (painted(whole, blue), painted(whole, red)) == tuple(alone), "blue: true only; red: predicted only (4.4 B)"


def test_titles_say_who_and_how_well_and_the_key_stands_above(example):
    scan, true, _ = example
    figure = maps.agreement_maps({"patient A": example, "patient B": (scan, true, true)})
    dice = overlap(true.d0, example[2].d0)
    heads = [a.get_title().replace("\n", " ") for a in figure.axes[:4]]
    assert heads == ["patient A, z = 3 mm", f"PET, Dice {dice:.2f}", "patient B, z = 3 mm", "PET, Dice 1.00"]
    assert 0 < dice < 1 and len(figure.axes) == 8
    assert len(maps.agreement_maps(dict.fromkeys("ABC", example)).axes) == 12
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(maps.AGREEMENT)
    assert max(a.get_position().y1 for a in figure.axes) < 1 - 3 / (figure.get_figheight() * 25.4)
    assert pixels(figure).std() > 0.1


def test_change_is_painted_over_white_lesions_where_it_truly_is(scan, pair):
    none = pair[0].with_data(torch.zeros_like(pair[0].data))
    lost, back = (m.with_data(m.data & ~o.data) for m, o in (pair, pair[::-1]))
    true, ours = Course(scan.mask("lesions"), back, lost), Course(scan.mask("lesions"), back, none)
    plain, predicted, drawn = maps.change_maps({"patient A": (scan, true, ours)}).axes
    assert [a.get_title() for a in (plain, predicted, drawn)] == ["T1-w", "predicted PET", "true PET"]
    red, blue = maps.CHANGE["demyelinating"], maps.CHANGE["remyelinating"]
    assert painted(predicted, red) == 0 < painted(drawn, red) and painted(drawn, blue) == painted(predicted, blue) > 0
    still = Course(scan.mask("lesions"), none, none)
    figure = maps.change_maps({"patient A": (scan, still, still)})
    assert painted(figure.axes[2], maps.CHANGE["lesion, no change"]) > 0


def test_maps_lie_where_they_should_in_any_orientation(example):
    scan, *both = example
    turned = replace(scan, images={"T1w": stored(scan.images["T1w"], "LPI")},
                     masks={name: stored(scan.mask(name), "LPI") for name in ("brain", "lesions")})
    moved = (Course(turned.mask("lesions"), stored(course.d0, "LPI"), None) for course in both)
    one, other = (maps.agreement_maps({"patient A": e}) for e in (example, (turned, *moved)))
    assert np.array_equal(pixels(one), pixels(other))


def test_attention_is_scaled_by_itself_and_says_how_much_lies_in_lesions(scan):
    brain, lesions = scan.mask("brain"), scan.mask("lesions")
    flat = brain.with_data(brain.data.float())
    drawn = flat.with_data(1000 * (flat.data + 9 * lesions.data.float()))
    figure = maps.attention_sheet({"l1": {scan.subject: flat}, "weighted": {scan.subject: drawn}},
                                  [Subject("P", None, "MS", (scan,))])
    mask, plain, weighted, *_ = (a for a in figure.axes if a.images)
    share = int(lesions.data.sum()) / int(brain.data.sum())
    assert [a.get_title() for a in (mask, plain, weighted)] == [
        "patient A, z = 3 mm", f"{100 * share:.1f} % in lesions", f"{1000 * share / (1 + 9 * share):.1f} % in lesions"]
    assert np.nanmax(plain.images[0].get_array().filled(np.nan)) == pytest.approx(1)


def test_nobody_and_other_grids_are_refused(example):
    for draw in (maps.agreement_maps, maps.change_maps, lambda people: maps.attention_sheet({}, people)):
        with pytest.raises(NbkitError, match="expected at least one patient, found none"):
            draw({})
    scan, true, ours = example
    small = ours._replace(d0=ours.d0.crop((slice(0, 20), slice(0, 34), slice(0, 9))))
    with pytest.raises(NbkitError, match="expected the same shape"):
        maps.agreement_maps({"patient A": (scan, true, small)})
