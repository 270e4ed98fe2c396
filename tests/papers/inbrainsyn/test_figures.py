"""Log-Jacobians are drawn with their sign, grid lines lie where the baseline's went, sheets hold what they say."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.stats import bootstrap_mean
from nbkit.core.tidy import stacked, tidy
from nbkit.core.volume import Volume
from nbkit.figures.charts import interval_text
from nbkit.figures.slices import view_at
from nbkit.geometry.warp import grid_positions
from nbkit.papers.inbrainsyn.figures import (
    deformation_sheet, differences, errors_ahead, method_drawing, predicted_sheet, templates_over_age, told,
    transport_sheet,
    what_if_sheet,
)
from nbkit.papers.inbrainsyn.inbrainsyn import Config, InBrainSyn
from tests.figures.conftest import AFFINE, stored
from tests.papers.trajectories.ageing_balls import AFFINE as ball_affine
from tests.papers.trajectories.ageing_balls import RATES, SHAPE, BallTemplate, cohort, person


@pytest.fixture
def maps(scan):
    image = scan.images["T1w"]
    ramp = torch.linspace(-0.1, 0.2, image.shape[0])[:, None, None].expand(image.shape)
    return {"truth": (shift(), Volume(ramp, AFFINE)), "half": (shift(), Volume(0.5 * ramp, AFFINE))}


def shift(x=0.0, y=0.0, z=0.0):
    """A constant pull-back displacement in mm."""
    return Volume(torch.tensor([x, y, z])[:, None, None, None].expand(3, 30, 34, 9), AFFINE)


def titles(figure):
    return [a.get_title() for a in figure.axes if a.get_title()]


def test_variants_share_one_scale_centred_on_zero_and_miss_the_truth_by_their_difference(scan, maps):
    figure = deformation_sheet(scan.images["T1w"], maps, brain=scan.mask("brain"), level_mm=0, label="ln J per year")
    assert titles(figure) == ["truth", "half conjugation"]
    truth, half, bar, missed, *_ = figure.axes
    assert bar.get_ylabel() == "ln J per year"
    colours = [a.images[1] for a in (truth, half, missed)]
    assert len({c.get_clim() for c in colours}) == 1 and colours[0].get_clim()[0] == -colours[0].get_clim()[1]
    a, b, gap = (np.ma.masked_invalid(c.get_array()) for c in colours)
    assert np.allclose(gap, b - a)


def lines_of(axes, which):
    """Coordinates, in mm of the view, that the lines of one contour set run along."""
    points = np.concatenate([p.vertices for p in axes.collections[which].get_paths() if len(p.vertices)])
    return np.unique(points[:, which].round(3))


@pytest.mark.parametrize("plane, moved", [("axial", (3.0, -2.0)), ("coronal", (3.0, 1.5))])
@pytest.mark.parametrize("codes", ["RAS", "LPS"])
def test_a_shift_moves_the_grid_lines_against_the_pull_back(scan, maps, plane, moved, codes):
    field = shift(3.0, -2.0, 1.5)
    field = Volume(torch.stack([stored(Volume(c, AFFINE), codes).data[0] for c in field.data]),
                   stored(Volume(field.data[0], AFFINE), codes).affine)
    figure = deformation_sheet(scan.images["T1w"], maps | {"half": (field, maps["half"][1])}, brain=scan.mask("brain"),
                               level_mm=0, plane=plane, spacing_mm=8, exaggeration=2)
    axes, view = figure.axes[-1], view_at(scan.mask("brain"), 0, plane=plane)
    for which in (0, 1):
        found = lines_of(axes, which)
        assert np.allclose((found + 2 * moved[which] - 4) % 8, 0, atol=2e-3), "x + 2 u(x) lies on a line of the grid"
        assert len(found) >= 2 and found.max() < view.size_mm[which]
    assert figure.texts[-1].get_text().replace("\n", " ") == "grid, displacement × 2"


def test_bad_input_is_refused(scan, maps):
    given = {"anatomy": scan.images["T1w"], "maps": maps, "brain": scan.mask("brain"), "level_mm": 0}
    cropped = maps["half"][1].crop((slice(0, 20), slice(0, 34), slice(0, 9)))
    with pytest.raises(NbkitError, match="deformation_sheet: half and truth"):
        deformation_sheet(**{**given, "maps": maps | {"half": (shift(), cropped)}})
    with pytest.raises(NbkitError, match="Did you mean 'axial'"):
        deformation_sheet(**{**given, "plane": "axiel"})


# what the notebook shows


def test_the_method_runs_from_one_scan_to_its_future():
    said = [t.get_text() for t in method_drawing().axes[0].texts]
    assert any("pole ladder" in text for text in said) and "Atlas-GAN" in said


def test_differences_are_the_models_minus_inbrainsyn_and_say_who_is_favoured():
    rows = stacked(*(
        tidy({f"s{k}": value for k in range(6)}, system=name, metric="mae")
        for name, value in {"inbrainsyn": 0.5, "no_change": 0.75, "no_pt": 0.25}.items()
    ))
    assert set(found := differences(rows, ("ssim", "mae"))) == {"inbrainsyn_mae_differences"}, "not what nobody has"
    ((axes, *_),) = (figure.axes for figure in found.values())
    assert axes.get_xlabel() == "MAE of the model − MAE of InBrainSyn\n← favours the model   |   favours InBrainSyn →"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["no change", "No-PT"]
    assert sorted({x for c in axes.collections for x, _ in c.get_offsets().tolist()}) == [-0.25, 0.25]
    ids = {f"inbrainsyn.table1.mae.{s}": SimpleNamespace(value=v) for s, v in (("inbrainsyn", 0.3), ("no_pt", 0.4))}
    drawn = differences(rows, ["mae"], published=ids)["inbrainsyn_mae_differences"].axes[0]
    printed = [line for line in drawn.lines if line.get_label() == "published means"]
    assert [line.get_xdata()[0] for line in printed] == pytest.approx([0.1])


def test_errors_ahead_stand_over_what_could_be_won_at_all():
    regions = pd.DataFrame({"structure": "hippocampus", "model": "inbrainsyn", "subject": [f"s{k}" for k in range(6)],
                            "years": 1.0, "miss": 3.0})
    ends = pd.DataFrame({"structure": "hippocampus", "subject": "s0", "system": ["floor", "reach"], "value": [0., 2.]})
    axes = errors_ahead(regions, "hippocampus", ends).axes[0]
    assert {t.get_text() for t in axes.texts} == {"floor", "reach"}
    drawn = [list(line.get_ydata()) for line in axes.lines]
    level = [y[0] for y in drawn if len(y) == 2 and y[0] == y[1]]
    assert {0.0, 2.0} <= set(level)
    assert not errors_ahead(regions, "hippocampus").axes[0].texts


def test_open_points_are_told_as_mean_and_interval():
    rows = pd.DataFrame({"left open": "a", "our choice": "b", "the other way": "c", "metric": ["m"] * 6 + ["n"] * 6,
                         "value": [0.1] * 6 + [1.0, 2.0] * 3})
    table = told(rows)
    assert table.loc[("a", "b", "c"), "m"] == interval_text(bootstrap_mean([0.1] * 6))
    assert table.loc[("a", "b", "c"), "n"]== interval_text(bootstrap_mean([1.0, 2.0] * 3))


@pytest.fixture(scope="module")
def balls():
    """A model of templates that know the truth, and a person with a true change."""
    templates = {group: BallTemplate(rate) for group, rate in RATES.items()}
    model = InBrainSyn(Config.for_profile("smoke", align="none"), templates=templates)
    someone = person("p", "HC", ages=(64.0, 66.0, 68.0), size=1.0, centre=(0, 0, 0))
    people = cohort([someone, person("q", "AD", ages=(62.0, 69.0), size=1.0, centre=(0, 0, 0))])
    velocity = Volume(1e-3 * grid_positions(SHAPE, ball_affine)[0].float(), ball_affine)
    return model.fit(people), replace(people.subset(["p"]), truth={"p": SimpleNamespace(velocity=velocity)})


def test_templates_stand_at_ages_that_both_groups_were_learned_from(balls):
    figure = templates_over_age(balls[0], brain=balls[1].subjects[0].baseline.mask("brain"), count=3)
    assert titles(figure) == ["64 y", "66 y", "68 y", "68 − 64 y"]


def test_predictions_and_futures_of_one_person(balls):
    model, (subject, *_) = balls[0], balls[1]
    assert titles(predicted_sheet({"inbrainsyn": model}, subject, "HC", visits=1)) == ["64.0 y", "66.0 y"] * 2
    futures = {course: model.futures(subject.baseline, [65.0, 67.0], course) for course in ("HC", "AD")}
    figure = what_if_sheet(futures)
    assert titles(figure) == ["64.0 y", "65.0 y", "67.0 y"] * 2
    assert [t.get_text() for t in figure.texts] == ["HC", "HC\n− baseline", "AD", "AD\n− baseline"]


def test_transports_stand_beside_the_truth(balls):
    figure = transport_sheet(*balls, years=2.0)
    assert titles(figure)[0] == "truth" and len(titles(figure)) == 6
    assert figure.texts[-1].get_text().replace("\n", " ") == "grid, displacement × 3"
    assert "ln Jacobian over 2 years" in [a.get_ylabel().replace("\n", " ") for a in figure.axes]
