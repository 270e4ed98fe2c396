"""Log-Jacobians are drawn with their sign, and grid lines lie where the baseline's lines went."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.papers.inbrainsyn.figures import deformation_sheet
from nbkit.figures.slices import view_at
from tests.figures.conftest import AFFINE, stored


@pytest.fixture
def maps(scan):
    image = scan.images["T1w"]
    ramp = torch.linspace(-0.1, 0.2, image.shape[0])[:, None, None].expand(image.shape)
    return {"truth": Volume(ramp, AFFINE), "half": Volume(0.5 * ramp, AFFINE)}


def shift(x=0.0, y=0.0, z=0.0):
    """A constant pull-back displacement in mm."""
    return Volume(torch.tensor([x, y, z])[:, None, None, None].expand(3, 30, 34, 9), AFFINE)


def titles(figure):
    return [a.get_title() for a in figure.axes if a.get_title()]


def test_variants_share_one_scale_centred_on_zero_and_miss_the_truth_by_their_difference(scan, maps):
    figure = deformation_sheet(scan.images["T1w"], maps, brain=scan.mask("brain"), level_mm=0, label="ln J per year")
    assert titles(figure) == ["truth", "half conjugation"]
    truth, half, bar, missed = figure.axes
    assert bar.get_ylabel() == "ln J per year"
    colours = [a.images[1] for a in (truth, half, missed)]
    assert len({c.get_clim() for c in colours}) == 1 and colours[0].get_clim()[0] == -colours[0].get_clim()[1]
    a, b, gap = (np.ma.masked_invalid(c.get_array()) for c in colours)
    assert np.allclose(gap, b - a)


def test_without_the_truth_there_is_nothing_to_miss(scan, maps):
    figure = deformation_sheet(scan.images["T1w"], {"half": maps["half"]}, brain=scan.mask("brain"), level_mm=0)
    assert len(figure.axes) == 2


def lines_of(axes, which):
    """Coordinates, in mm of the view, that the lines of one contour set run along."""
    points = np.concatenate([p.vertices for p in axes.collections[which].get_paths() if len(p.vertices)])
    return np.unique(points[:, which].round(3))


@pytest.mark.parametrize("plane, moved", [("axial", (3.0, -2.0)), ("coronal", (3.0, 1.5))])
@pytest.mark.parametrize("codes", ["RAS", "LPS"])
def test_a_shift_moves_the_grid_lines_against_the_pull_back(scan, maps, plane, moved, codes):
    field = shift(3.0, -2.0, 1.5)
    fields = {"half": Volume(torch.stack([stored(Volume(c, AFFINE), codes).data[0] for c in field.data]),
                             stored(Volume(field.data[0], AFFINE), codes).affine)}
    figure = deformation_sheet(scan.images["T1w"], {"half": maps["half"]}, brain=scan.mask("brain"), level_mm=0,
                               displacements=fields, plane=plane, spacing_mm=8, exaggeration=2)
    axes, view = figure.axes[2], view_at(scan.mask("brain"), 0, plane=plane)
    for which in (0, 1):
        found = lines_of(axes, which)
        assert np.allclose((found + 2 * moved[which] - 4) % 8, 0, atol=2e-3), "x + 2 u(x) lies on a line of the grid"
        assert len(found) >= 2 and found.max() < view.size_mm[which]
    assert [t.get_text() for t in figure.texts][-1] == "grid, displacement × 2"


def test_bad_input_is_refused(scan, maps):
    given = {"anatomy": scan.images["T1w"], "log_jacobians": maps, "brain": scan.mask("brain"), "level_mm": 0}
    with pytest.raises(NbkitError, match="expected those of truth, half, found truth"):
        deformation_sheet(**given, displacements={"truth": shift()})
    one = Volume(shift().data[:1], AFFINE)
    with pytest.raises(NbkitError, match="displacement truth: expected three components in mm, found 1"):
        deformation_sheet(**given, displacements={"truth": one, "half": shift()})
    given["log_jacobians"] = {**maps, "half": maps["half"].crop((slice(0, 20), slice(0, 34), slice(0, 9)))}
    with pytest.raises(NbkitError, match="deformation_sheet: half and truth"):
        deformation_sheet(**given)
    with pytest.raises(NbkitError, match="Did you mean 'axial'"):
        deformation_sheet(**{**given, "plane": "axiel"})
