"""Left is left in every orientation, mm for what is anisotropic, and what is drawn on top lies where it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.figures.mosaics import Row, Tile, panel
from nbkit.figures.slices import Scale, lesion_boxes, view_at, view_of
from tests.figures.conftest import AFFINE, pixels, stored


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPS", "PIR"])
def test_what_lies_at_world_plus_x_is_drawn_on_the_right(scan, codes):
    image, brain = torch.zeros(scan.images["T1w"].shape), scan.mask("brain")
    voxel = np.linalg.solve(AFFINE, [16, 10, 0, 1])[:3].round().astype(int)
    image[tuple(voxel)] = 1
    figure = panel([Row((Tile(stored(Volume(image, AFFINE), codes), view_of(stored(brain, codes)), Scale(0, 1)),))])
    shot = pixels(figure)[60:-60, 60:-60].mean(-1)  # without the letters and the level
    rows, columns = np.nonzero(shot > 0.9)
    assert columns.mean() > shot.shape[1] / 2, "right of the patient is right in the panel"
    assert rows.mean() < shot.shape[0] / 2, "anterior is up"


def test_letters_and_level_stand_in_the_first_tile(scan):
    view = view_of(scan.mask("brain"), scan.mask("lesions"))
    tile = Tile(scan.images["FLAIR"], view, Scale(0, 1))
    figure = panel([Row((tile, tile)), Row((tile, tile))])
    texts = [{t.get_text(): t.get_position()[0] for t in axes.texts} for axes in figure.axes]
    assert texts[0]["L"] < 0.1 and texts[0]["R"] > 0.9 and "z = 3 mm" in texts[0]
    assert not texts[1] and set(texts[2]) == {"L", "R"}


def test_superior_is_up_and_right_is_right_in_a_coronal_slice(scan):
    image, brain = torch.zeros(scan.images["T1w"].shape), scan.mask("brain")
    voxel = np.linalg.solve(AFFINE, [12, 0, 6, 1])[:3].round().astype(int)
    image[tuple(voxel)] = 1
    figure = panel([Row((Tile(Volume(image, AFFINE), view_at(brain, 0, plane="coronal"), Scale(0, 1)),))])
    shot = pixels(figure)[60:-60, 60:-60].mean(-1)
    rows, columns = np.nonzero(shot > 0.9)
    assert columns.mean() > shot.shape[1] / 2 and rows.mean() < shot.shape[0] / 2


def test_each_plane_of_a_row_has_its_letters_and_level(scan):
    axial, coronal = view_at(scan.mask("brain"), 0), view_at(scan.mask("brain"), 0, plane="coronal")
    tiles = [Tile(scan.images["FLAIR"], view, Scale(0, 1)) for view in (axial, axial, coronal, coronal)]
    figure = panel([Row((*tiles,)), Row((None, *tiles[1:]))])
    texts = [{t.get_text() for t in axes.texts} for axes in figure.axes]
    assert texts == [{"L", "R", "z = 0 mm"}, set(), {"L", "R", "y = 0 mm"}, set(), {"L", "R"}, {"L", "R"}, set()]


def test_weak_values_let_the_image_below_through_and_strong_ones_do_not(scan):
    view, grey = view_at(scan.mask("brain"), 0), Scale(0, 1000)
    values = torch.zeros(scan.images["T1w"].shape)
    values[20:], values[:10] = 0.8, -0.25
    tile = Tile(Volume(values, AFFINE), view, Scale(-1, 1, "RdBu_r", "x"), under=(scan.images["FLAIR"], grey))
    below, above = panel([Row((tile,))]).axes[0].images
    shown = tile.drawn(tile.image, tile.scale)
    assert below.get_clim() == (0, 1000) and above.get_clim() == (-1, 1)
    for value, strength in ((0.0, 0.0), (0.8, 1.0), (-0.25, 0.25)):
        assert np.allclose(above.get_alpha()[shown == np.float32(value)], strength)
    assert np.allclose(above.get_alpha()[np.isnan(shown)], 0)


def test_anisotropic_voxels_are_drawn_in_mm():
    affine = np.diag([1.0, 3.0, 2.0, 1.0])
    brain = Volume(torch.ones(30, 10, 4, dtype=torch.bool), affine)
    image = Volume(torch.rand(30, 10, 4), affine)
    figure = panel([Row((Tile(image, view_of(brain), Scale(0, 1)),))], width_mm=100)
    box = figure.axes[0].get_position()
    width, height = figure.get_size_inches()
    assert view_of(brain).size_mm == (30.0, 30.0)
    assert np.isclose(box.width * width, box.height * height)


def test_a_colour_bar_label_of_several_lines_stays_in_the_figure(scan):
    view = view_at(scan.mask("brain"), 0)
    labelled = Tile(scan.images["FLAIR"], view, Scale(0, 1000, label="intensity over that of white matter"))
    plain = Tile(scan.images["FLAIR"], view, Scale(0, 1000))
    figure = panel([Row((*[plain] * 9, labelled))])
    figure.canvas.draw()
    label = figure.axes[-1].yaxis.label
    assert "\n" in label.get_text()
    assert label.get_window_extent().x1 <= figure.bbox.x1
    for count in (4, 6, 8):
        row = Row((*[plain] * count, labelled), label="healthy, then Alzheimer's disease\n− baseline")
        side = next(text for text in panel([row]).texts if "healthy" in text.get_text())
        assert side.get_text().count("\n") > 2 and side.get_window_extent().x0 >= 0
    level = next(text for text in figure.axes[0].texts if "mm" in text.get_text())
    assert level.get_window_extent().x1 <= figure.axes[0].bbox.x1


def test_a_labelled_row_has_a_colour_bar_and_a_plain_one_has_none(scan):
    view, image = view_of(scan.mask("brain")), scan.images["FLAIR"]
    plain, labelled = Tile(image, view, Scale(0, 1)), Tile(image, view, Scale(0, 1, "inferno", "|d| (a.u.)"))
    assert len(panel([Row((plain,))]).axes) == 1
    bar = panel([Row((labelled,))]).axes[1]
    assert bar.get_ylabel() == "|d| (a.u.)"


def test_masks_are_drawn_as_contour_or_fill_and_boxes_as_rectangles(scan):
    view, mask = view_of(scan.mask("brain"), scan.mask("lesions")), scan.mask("lesions")
    make = dict(image=scan.images["T1w"], view=view, scale=Scale(0, 1000))
    figure = panel([Row((Tile(**make, contour=mask), Tile(**make, fill=mask), Tile(**make, boxes=((1, 1, 5, 5),))))])
    outlined, filled, boxed = figure.axes
    assert len(outlined.collections) == 1 and len(filled.images) == 2
    assert [type(p) for p in boxed.patches] == [Rectangle]
    points = np.concatenate([p.vertices for p in outlined.collections[0].get_paths()])
    (x, _, w, _), _ = lesion_boxes(mask, view, pad_mm=0)
    assert np.isclose(points[:, 0].max(), x + w, atol=view.brain.spacing[0] / 2 + 1e-6)


def test_an_empty_row_is_refused():
    with pytest.raises(NbkitError, match="an empty row"):
        Row((None, None))


def test_images_are_drawn_smoothly_and_masks_and_details_voxel_by_voxel(scan):
    image, mask, view = scan.images["T1w"], scan.mask("lesions"), view_of(scan.mask("brain"), scan.mask("lesions"))
    detail = view.zoomed(lesion_boxes(mask, view)[0], size_mm=20)
    tiles = [Tile(image, view, Scale(0, 200)), Tile(mask, view, Scale(0, 1)), Tile(image, detail, Scale(0, 200)),
             Tile(image, view, Scale(0, 200), smooth=False)]
    figure = panel([Row((tile,)) for tile in tiles])
    shapes = [axes.images[0].get_array().shape for axes in figure.axes]
    coarse = view.cut(image).T.shape
    assert shapes == [(4 * coarse[0], 4 * coarse[1]), coarse, detail.cut(image).T.shape, coarse]
    assert figure.artists[-1].get_text() == "voxels of 2 × 2 × 3 mm; interpolated for display"
    assert panel([Row((tiles[1],))]).artists[-1].get_text() == "voxels of 2 × 2 × 3 mm"


def test_titles_shrink_where_a_word_would_reach_into_the_next_tile(scan):
    view, image = view_of(scan.mask("brain")), scan.images["T1w"]
    tiles = [Tile(image, view, Scale(0, 200), title) for title in ("InBrainSyn", "CounterSynth", *"abcdefg")]
    figure = panel([Row(tuple(tiles))])
    figure.canvas.draw()
    first, second = (axes.title.get_window_extent() for axes in figure.axes[:2])
    assert first.x1 < second.x0
    assert panel([Row(tuple(tiles[:2]))]).axes[0].title.get_fontsize() == 8.5
