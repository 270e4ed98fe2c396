"""The drawn method keeps its words inside their boxes and its arrows between them."""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from nbkit.core.checks import NbkitError
from nbkit.figures.pipeline import Box, pipeline_drawing

BOXES = [
    Box("scan", "one scan at age a₀", 0, 0, "input"),
    Box("templates", "templates T(a₀), T(a)", 0, 1, "learned"),
    Box("register", "registration, twice", 1, 1),
    Box("transport", "parallel transport\nof the template's change", 2, 1),
    Box("future", "the scan at age a", 2, 0, "output"),
]
ARROWS = [("scan", "register", "fixed"), ("templates", "register", ""), ("register", "transport", "u, v"),
          ("transport", "future", "one warp")]


def test_every_word_is_inside_its_box_or_the_figure():
    figure = pipeline_drawing(BOXES, ARROWS)
    axes, renderer = figure.axes[0], FigureCanvasAgg(figure).get_renderer()
    frames = [p.get_window_extent(renderer) for p in axes.patches if isinstance(p, FancyBboxPatch)]
    boxed = axes.texts[:len(BOXES)]
    for text, frame in zip(boxed, frames, strict=True):
        extent = text.get_window_extent(renderer)
        assert frame.x0 <= extent.x0 and extent.x1 <= frame.x1 and frame.y0 <= extent.y0 and extent.y1 <= frame.y1
    assert sum(isinstance(p, FancyArrowPatch) for p in axes.patches) == len(ARROWS)
    assert {"fixed", "u, v", "one warp"} <= {t.get_text() for t in axes.texts}


def test_unknown_ends_and_shared_places_are_refused():
    with pytest.raises(NbkitError, match="Did you mean 'transport'"):
        pipeline_drawing(BOXES, [("scan", "transprt", "")])
    with pytest.raises(NbkitError, match="place of its own"):
        pipeline_drawing([BOXES[0], Box("other", "x", 0, 0)], [])
