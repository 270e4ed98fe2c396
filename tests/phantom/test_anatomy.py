"""Anatomies: tissue fractions, no folding, volumes that follow the Jacobian."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.geometry.flow import Velocity, jacobian_determinant
from nbkit.phantom.anatomy import Anatomy, draw_anatomy, load_template, place_on_grid, template_flow, volume_growth
from nbkit.phantom.parameters import load_parameters

P = load_parameters()


@pytest.fixture(scope="module")
def template():
    return load_template(P)


def drawn(template, seed: int, *, patient: bool = True) -> Anatomy:
    return draw_anatomy(np.random.default_rng(seed), template, patient=patient, parameters=P)


def test_fractions_share_every_voxel(template):
    fractions = template.fractions.data
    assert float(fractions.min()) >= 0
    assert float(fractions.sum(dim=0).max()) <= 1 + 1e-6
    inside = fractions.sum(dim=0)[template.ventricles.data[0]]
    assert float(inside.min()) > 0.999


def test_tissue_volumes_are_those_of_a_brain(template):
    gm, wm, csf = (float(v) / 1000 for v in template.fractions.data.sum(dim=(1, 2, 3)))
    assert 900 < gm < 1150
    assert 550 < wm < 750
    assert 150 < csf < 400


def test_ventricles_are_symmetric_and_of_usual_size(template):
    ventricles = template.ventricles.data[0]
    assert 10 < float(ventricles.sum()) / 1000 < 30
    x = ventricles.nonzero()[:, 0] + template.ventricles.affine[0, 3]
    assert abs(float(x.float().mean())) < 1
    assert (template.distance[ventricles.numpy()] == 0).all()
    assert template.distance[~ventricles.numpy()].min() == 1


def test_the_rim_of_the_ventricles_is_not_cortex(template):
    """Beside the ventricle body, above the caudate, lies white matter, not the gray of averaged borders."""
    affine = template.fractions.affine
    i, j, k = np.rint(np.linalg.inv(affine) @ [-24, -20, 26, 1]).astype(int)[:3]
    near = (template.distance[:, j, k] > 1) & (template.distance[:, j, k] < 4)
    gm, wm, _ = template.fractions.data[:, :, j, k].numpy()
    assert near.any()
    assert wm[near].mean() > gm[near].mean()


@settings(max_examples=8)
@given(st.integers(0, 2**31), st.booleans())
def test_random_anatomies_never_fold(seed, patient):
    anatomy = drawn(load_template(P), seed, patient=patient)
    flow = template_flow(anatomy)
    assert float(jacobian_determinant(flow, affine=anatomy.affine).min()) > 0
    assert 2 < float(flow.norm(dim=1).max()) < 40
    assert float(volume_growth(anatomy).data.min()) > 0


def test_no_velocity_and_no_pose_give_the_template_back(template):
    still = Anatomy(Velocity(torch.zeros(1, 3, 5, 5, 5)), np.diag([40.0, 40, 40, 1]), np.eye(4))
    part = template.fractions.crop((slice(40, 120), slice(60, 130), slice(70, 110)))
    same = place_on_grid(template.fractions, anatomy=still, shape=part.shape, affine=part.affine)
    assert same.shape == part.shape
    assert torch.allclose(same.data, part.data, atol=1e-4)


def test_volumes_follow_the_jacobian(template):
    """mm³ on the subject's grid equal template mm³ times growth, and cropping loses nothing of the head."""
    anatomy = drawn(template, 1)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -110
    placed = place_on_grid(template.fractions, anatomy=anatomy, shape=(111, 111, 111), affine=affine)
    assert np.prod(placed.shape) < 111**3
    still = Anatomy(Velocity(torch.zeros(1, 3, 2, 2, 2)), np.diag([200.0, 200, 200, 1]), np.eye(4))
    growth = place_on_grid(
        volume_growth(anatomy), anatomy=still, shape=template.fractions.shape, affine=template.fractions.affine,
    )
    assert growth.shape == template.fractions.shape
    expected = (template.fractions.data * growth.data).sum(dim=(1, 2, 3))
    found = placed.data.sum(dim=(1, 2, 3)) * placed.voxel_volume
    assert torch.allclose(found, expected, rtol=0.01)
    assert 0.6 < float(expected.sum() / template.fractions.data.sum()) < 1


def test_outward_velocity_widens_the_ventricles(template):
    entries = dict(P.entries)
    volume = []
    for peak in (-1.5, 0.0, 1.5):
        entries["anatomy.ventricle_patient"] = {"value": [peak, 0.0], "unit": "mm", "source": "test"}
        anatomy = draw_anatomy(np.random.default_rng(5), template, patient=True, parameters=type(P)(entries))
        grid = np.diag([2.0, 2.0, 2.0, 1.0])
        grid[:3, 3] = -70
        placed = place_on_grid(_soft(template), anatomy=anatomy, shape=(71, 71, 71), affine=grid)
        volume.append(float(placed.data.sum()))
    assert volume[0] < 0.9 * volume[1] < 0.81 * volume[2]


def _soft(template):
    return template.ventricles.with_data(template.ventricles.data.float())
