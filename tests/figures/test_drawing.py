"""The drawn network names every layer and keeps inside its figure."""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nbkit.core.checks import NbkitError
from nbkit.figures.drawing import Layer, architecture_drawing
from nbkit.figures.marks import title_of

FCN = [
    Layer("input", 5, sheets=("T1w", "T1SE", "T2w", "PDw", "T1wCE"), note="208×256×40 voxels\nz-scored"),
    *(Layer(f"features {i}", 64, "conv 3×3×3\nReLU", "110 656 parameters") for i in (1, 2, 3)),
    Layer("FLAIR", 1, "conv 3×3×3\nlinear", "1 729 parameters", sheets=("FLAIR",)),
]


@pytest.mark.parametrize("layers", [FCN, FCN[1:4], [FCN[0], FCN[-1]]])
def test_every_word_is_drawn_inside_the_figure(layers):
    figure = architecture_drawing(layers)
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = figure.axes[0].texts
    channels = {title_of(n) for n in layers[0].sheets}
    assert {layer.title for layer in layers} | channels <= {t.get_text() for t in texts}
    for text in texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1, text.get_text()


def test_wider_layers_are_drawn_deeper():
    def breadth(channels):
        patches = architecture_drawing([FCN[0], Layer("f", channels, "conv"), FCN[-1]]).axes[0].patches
        front = next(p for p in patches if p.get_facecolor()[:3] == (0.0, 114 / 255, 178 / 255))
        return front.get_extents().transformed(front.axes.transData.inverted()).width
    assert breadth(96) > breadth(64) > breadth(32)


def test_one_layer_is_no_network():
    with pytest.raises(NbkitError, match="an input and at least one layer"):
        architecture_drawing(FCN[:1])
