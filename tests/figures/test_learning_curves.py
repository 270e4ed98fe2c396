"""A panel for each training, with both curves under one key."""

from __future__ import annotations

import pandas as pd
import pytest

from nbkit.figures.learning_curves import learning_curves


def test_each_system_has_its_curves():
    rows = [("a", "loss", 0.5, 2.0), ("a", "loss", 1.0, 1.0), ("a", "apart", 1.0, 1.5), ("b", "loss", 1.0, -1.0)]
    figure = learning_curves(pd.DataFrame(rows, columns=["system", "kind", "done", "value"]))
    first, second = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b"]
    assert [list(line.get_ydata()) for line in first.lines] == [[2.0, 1.0], [1.5]]
    assert list(first.lines[0].get_xdata()) == pytest.approx([50, 100])
    assert (first.get_yscale(), second.get_yscale()) == ("log", "linear")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["loss", "apart"]
