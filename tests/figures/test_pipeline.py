"""The drawn method keeps its words inside their boxes and its arrows between them."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
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


WIDE, TALL = np.eye(4, 9), np.eye(9, 4)
PICTURED = [replace(BOXES[0], pictures=[TALL]), replace(BOXES[1], pictures=[WIDE, TALL, WIDE]), *BOXES[2:]]


@pytest.mark.parametrize("boxes", [BOXES, PICTURED], ids=["words", "pictures"])
def test_every_word_is_inside_its_box_or_the_figure(boxes):
    figure = pipeline_drawing(boxes, ARROWS)
    axes, renderer = figure.axes[0], FigureCanvasAgg(figure).get_renderer()
    frames = [p.get_window_extent(renderer) for p in axes.patches if isinstance(p, FancyBboxPatch)]
    boxed = axes.texts[:len(BOXES)]
    for text, frame in zip(boxed, frames, strict=True):
        extent = text.get_window_extent(renderer)
        assert frame.x0 <= extent.x0 and extent.x1 <= frame.x1 and frame.y0 <= extent.y0 and extent.y1 <= frame.y1
    assert sum(isinstance(p, FancyArrowPatch) for p in axes.patches) == len(ARROWS)
    assert {"fixed", "u, v", "one warp"} <= {t.get_text() for t in axes.texts}


def test_pictures_keep_their_shape_lie_in_their_box_and_on_no_word():
    figure = pipeline_drawing(PICTURED, ARROWS)
    axes, renderer = figure.axes[0], FigureCanvasAgg(figure).get_renderer()
    frames = [p.get_window_extent(renderer) for p in axes.patches if isinstance(p, FancyBboxPatch)]
    drawn = [image.get_window_extent(renderer) for image in axes.images]
    assert len(drawn) == 4 and not any(a.overlaps(b) for a, b in combinations(drawn, 2))
    for extent, shape, box in zip(drawn, (TALL, WIDE, TALL, WIDE), (0, 1, 1, 1), strict=True):
        frame, words = frames[box], axes.texts[box].get_window_extent(renderer)
        assert frame.x0 < extent.x0 and extent.x1 < frame.x1 and frame.y0 < extent.y0 and extent.y1 < frame.y1
        assert extent.y0 > words.y1 and extent.width / extent.height == pytest.approx(shape.shape[1] / shape.shape[0])


def test_unknown_ends_and_shared_places_are_refused():
    with pytest.raises(NbkitError, match="Did you mean 'transport'"):
        pipeline_drawing(BOXES, [("scan", "transprt", "")])
    with pytest.raises(NbkitError, match="place of its own"):
        pipeline_drawing([BOXES[0], Box("other", "x", 0, 0)], [])
