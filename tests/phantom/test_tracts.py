"""Anisotropy of white matter: its mean, its order between bundles, and that bundles lie in white matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.core.volume import Volume
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.myelin_people import myelin_parameters
from nbkit.phantom.parameters import load_parameters
from nbkit.phantom.tracts import coherence, template_coherence

P = myelin_parameters()
LINES = [(kind, name) for kind in P.groups("bundles") for name in P.section(f"bundles.{kind}")]


@pytest.fixture(scope="module")
def template():
    return load_template(load_parameters())


@pytest.fixture(scope="module")
def level(template):
    return template_coherence(template, P)


def along(image: Volume, line, side: int = 1) -> np.ndarray:
    """Values at points a tenth of each piece apart."""
    line = np.array(line, dtype=float) * (side, 1, 1)
    points = np.concatenate([a + (b - a) * np.linspace(0, 1, 11)[:, None] for a, b in zip(line, line[1:])])
    voxels = np.rint(np.c_[points, np.ones(len(points))] @ np.linalg.inv(image.affine).T)[:, :3].astype(int)
    return image.data[0].numpy()[tuple(voxels.T)]


@pytest.mark.parametrize(("kind", "name"), LINES)
@pytest.mark.parametrize("side", [1, -1])
def test_bundles_run_through_the_white_matter_of_the_template(template, kind, name, side):
    white = template.fractions.with_data(template.fractions.data[1:2])
    assert along(white, P[f"bundles.{kind}.{name}"], side).mean() > 0.9


def test_the_mean_over_white_matter_is_one(template, level):
    white = template.fractions.data[1]
    assert float((level.data[0] * white).sum() / white.sum()) == pytest.approx(1, abs=1e-4)


def test_commissural_fibres_are_most_anisotropic_then_projection_then_association(level):
    middle = {kind: np.mean([along(level, P[f"bundles.{kind}.{n}"]).mean() for k, n in LINES if k == kind])
              for kind in P.groups("bundles")}
    assert list(middle) == ["commissural", "projection", "association"]
    assert middle["commissural"] > middle["projection"] + 0.2 > middle["association"] + 0.4 > 1.5
    for kind, found in middle.items():
        assert found == pytest.approx(P[f"tracts.{kind}"], abs=0.1)


def test_both_sides_are_alike(level):
    """The template is symmetric, and so are the lines."""
    x = level.data[0].numpy()
    middle = int(round(-level.affine[0, 3]))
    width = min(middle, x.shape[0] - 1 - middle)
    left, right = x[middle - width:middle][::-1], x[middle + 1:middle + 1 + width]
    assert np.abs(left - right).mean() < 0.01


def test_without_bundles_the_surface_is_less_anisotropic_than_the_depth():
    share = torch.zeros(1, 30, 30, 30)
    share[:, 5:25, 5:25, 5:25] = 1
    found = coherence(Volume(share), {}, parameters=P).data[0]
    depth = np.array([float(found[5 + k, 15, 15]) for k in range(8)])
    rise = (P["tracts.deep"] - P["tracts.edge"]) / P["tracts.depth"]
    np.testing.assert_allclose(np.diff(depth), [rise] * 4 + [0] * 3, atol=1e-5)
    assert float(found[share[0] > 0].mean()) == pytest.approx(1, abs=1e-5)


def test_inside_a_bundle_its_level_counts_and_nothing_else_is_changed_but_the_mean():
    share, near = torch.zeros(1, 30, 30, 30), np.zeros((30, 30, 30))
    share[:, 5:25, 5:25, 5:25] = 1
    near[15, 15], near[18, 18] = 1.0, 0.5
    plain, one = (coherence(Volume(share), n, parameters=P).data[0] for n in ({}, {"projection": near}))
    deep = float(one[15, 13, 15])
    assert float(one[15, 15, 15]) - deep == pytest.approx(P["tracts.projection"] - P["tracts.deep"], abs=1e-5)
    assert float(one[18, 18, 15]) - deep == pytest.approx((P["tracts.projection"] - P["tracts.deep"]) / 2, abs=1e-5)
    shift = (one - plain)[torch.from_numpy(near == 0)]
    assert float(shift.max() - shift.min()) < 1e-5
