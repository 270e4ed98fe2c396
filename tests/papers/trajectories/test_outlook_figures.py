"""The explorer's picture cuts where it says, whatever the orientation of the file, and keeps its words inside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.papers.trajectories.outlook_figures import Chart, Column, Curve, Window, explorer_picture, grey_tile

CHART = Chart("hippocampus (mL)", [Curve("one", [70, 80], [7, 6], [0, 0.2])], 75.0, (60.0, 78.0), {"seen": ([70], [7])})


def _gradient(codes: str) -> Volume:
    """An image whose value is its world z in mm, stored with its axes along `codes`."""
    affine = np.diag([4.0, 3.0, 2.0, 1.0])
    affine[:3, 3] = (-20, -15, -10)
    z = affine[2, 3] + 2.0 * torch.arange(12.0)
    data = z.expand(10, 10, 12).clone()
    if codes == "LPS":
        affine[:, 3] += affine[:, 0] * 9 + affine[:, 1] * 9
        affine[:, :2] *= -1
        data = data.flip(0, 1)
    return Volume(data, affine)


@pytest.mark.parametrize("codes", ["RAS", "LPS"])
def test_the_cut_is_where_the_caller_says(codes):
    image = _gradient(codes)
    figure = explorer_picture([Column("a", image)], CHART, level_mm=6.0, top=1.0, swing=1.0)
    shown = figure.axes[0].images[0]
    assert set(np.asarray(shown.get_array()).ravel()) == {6.0}
    left, right, bottom, top = shown.get_extent()
    assert (right - left) / (top - bottom) == pytest.approx(40 / 30), "no stretching"
    coronal = explorer_picture([Column("a", image)], CHART, level_mm=0.0, plane="coronal", top=1.0, swing=1.0)
    np.testing.assert_allclose(np.asarray(coronal.axes[0].images[0].get_array())[:, 0], -10 + 2.0 * np.arange(12))


def test_words_stay_inside_the_figure():
    image = _gradient("RAS")
    columns = [Column(f"{t}, 70.0 y", image, image) for t in ("baseline", "InBrainSyn", "MRExtrap", "true scan")]
    figure = explorer_picture(columns, CHART, level_mm=0.0, top=1.0, swing=0.25)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    for axes in figure.axes:
        box = axes.get_tightbbox(renderer)
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
    titles = [text.get_window_extent(renderer) for text in figure.axes[0].texts if text.get_text().endswith(" y")]
    assert len(titles) == 4 and all(a.x1 < b.x0 for a, b in zip(titles, titles[1:], strict=False))


def test_the_chart_reaches_as_far_as_the_slider_and_shades_what_was_not_learned():
    reach = replace(CHART, reach=(70.0, 95.0))
    axes = explorer_picture([Column("a", _gradient("RAS"))], reach, level_mm=0.0, top=1.0, swing=1.0).axes[-1]
    assert axes.get_xlim()[1] >= 95 and len(axes.patches) == 1
    box = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (box.x0, box.x1) == pytest.approx((78.0, axes.get_xlim()[1]))


def test_no_column_or_an_unknown_plane_is_refused():
    with pytest.raises(NbkitError, match="at least one column"):
        explorer_picture([], CHART, level_mm=0.0, top=1.0, swing=1.0)
    with pytest.raises(NbkitError, match="sagittal"):
        explorer_picture([Column("a", _gradient("RAS"))], CHART, level_mm=0.0, plane="sagittal", top=1.0, swing=1.0)


@pytest.mark.parametrize("codes", ["RAS", "LPS"])
def test_a_tile_shows_the_head_with_left_on_the_left(codes):
    """A bright corner that is left and posterior in the world comes out at the lower left, whatever the file's axes."""
    image = _gradient(codes)
    data = torch.zeros_like(image.data)
    corner = (slice(0, 3), slice(0, 2)) if codes == "RAS" else (slice(-3, None), slice(-2, None))
    data[0][corner] = 0.5
    image = image.with_data(data)
    window = Window.of(image, "axial", 6.0)
    tile = grey_tile(image, window, full=1.0)
    assert tile.shape == (4, 5) and window.mm == (5 * 4.0, 4 * 3.0)
    np.testing.assert_array_equal(tile == 128, [[0] * 5, [0] * 5, [1, 1, 1, 0, 0], [1, 1, 1, 0, 0]])


def test_an_empty_cut_is_shown_whole():
    image = _gradient("RAS").with_data(torch.zeros(1, 10, 10, 12))
    assert grey_tile(image, Window.of(image, "coronal", 0.0), full=1.0).shape == (12, 10)


def test_changes_have_their_colours_beside_them_and_letters_a_halo():
    image = _gradient("RAS")
    sheet = explorer_picture([Column("a", image), Column("b", image, image)], CHART, level_mm=0.0, top=1.0,
                             swing=0.25).axes[0]
    (bar,) = sheet.collections
    assert bar.get_clim() == (-1, 1) and bar.get_cmap().name == "RdBu_r"
    assert [t.get_text() for t in sheet.texts if t.get_text() in ("−0.25", "0", "+0.25")] == ["−0.25", "0", "+0.25"]
    letters = [t for t in sheet.texts if t.get_text() in "LR"]
    assert len(letters) == 6 and all(t.get_path_effects() for t in letters)
    assert not explorer_picture([Column("a", image)], CHART, level_mm=0.0, top=1.0, swing=1.0).axes[0].collections


def test_a_long_title_is_broken_and_has_room_above_its_image():
    image = Volume(torch.ones(8, 8, 8), np.diag([4.0, 4, 4, 1]))
    short, long = (
        explorer_picture([Column(title, image)] * 4, CHART, level_mm=0.0, top=1.0, swing=1.0)
        for title in ("no change, 70.0 y", "MRExtrap, posterior, anchored, 70.0 y")
    )
    assert "\n" in long.axes[0].texts[0].get_text() and "\n" not in short.axes[0].texts[0].get_text()
    assert long.get_figheight() > short.get_figheight()
