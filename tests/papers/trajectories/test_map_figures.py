"""Means over people and uncertainty beside error show what they were given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.protocols import Forecast, Scan
from nbkit.core.volume import Volume
from nbkit.figures.mni import template
from nbkit.papers.trajectories.map_figures import group_maps, uncertainty_sheet


@pytest.fixture(scope="module")
def brain() -> Volume:
    """The brain of the template at 4 mm."""
    mask = template()[1]
    return Volume(mask.data[:, ::4, ::4, ::4], mask.affine @ np.diag([4, 4, 4, 1]))


def scan(brain: Volume, level: float) -> Scan:
    return Scan("s", "1", 70.0, {"T1w": brain.with_data(torch.full(brain.data.shape, level))}, {"brain": brain})


def middle(axes) -> float:
    """The median of what is drawn last."""
    return float(np.nanmedian(np.ma.masked_invalid(axes.images[-1].get_array()).filled(np.nan)))


def test_change_and_error_are_means_over_people_on_the_template(brain):
    visits = []
    for change, guess in ((-0.2, -0.1), (-0.4, -0.5)):
        last, later = scan(brain, 1.0), scan(brain, 1.0 + change)
        visits.append((last, later, {"inbrainsyn": scan(brain, 1.0 + guess).image("T1w"),
                                     "brlp": later.image("T1w")}))
    figure = group_maps(visits)
    tiles = [axes for axes in figure.axes if len(axes.images) == 2]
    assert [axes.get_title() for axes in tiles[:3]] == ["true change", "InBrainSyn", "BrLP"]
    assert [middle(axes) for axes in tiles[:5]] == pytest.approx([-0.3, -0.3, -0.3, 0.1, 0.0], abs=1e-5)
    assert len(tiles) == 2 * 5 and tiles[3].images[-1].get_clim()[0] == 0
    assert {t.get_text() for t in figure.texts} == {"change", "error"}
    assert figure.artists[-1].get_text().startswith("voxels of 1 × 1 × 1 mm")
    with pytest.raises(NbkitError, match="group_maps: visits"):
        group_maps([])


def test_spread_stands_beside_the_error_it_should_know(brain):
    later = scan(brain, 1.0)
    wrong = torch.rand(brain.data.shape, generator=torch.Generator().manual_seed(0))
    made = {
        "brlp": Forecast(70.0, brain.with_data(1.0 + wrong), brain.with_data(2 * wrong), {}),
        "mrextrap_bayes": Forecast(70.0, brain.with_data(1.0 - wrong), brain.with_data(1 - wrong), {}),
    }
    figure = uncertainty_sheet(later, made)
    said = [" ".join(axes.get_title().split()) for axes in figure.axes if axes.get_title()]
    assert said == ["expected", "|error|", "SD, ρ = 1.00", "expected", "|error|", "SD", "SD, ρ = −1.00"]
    pairs = [axes for axes in figure.axes if len(axes.images) == 2]
    assert len({axes.images[-1].get_clim() for axes in pairs}) == 1
    assert middle(pairs[1]) == pytest.approx(2 * middle(pairs[0]), rel=1e-4)
    other = Volume(torch.rand(4, 4, 4), brain.affine)
    with pytest.raises(NbkitError, match="uncertainty_sheet: brlp"):
        uncertainty_sheet(later, {"brlp": Forecast(70.0, other, other, {})})
