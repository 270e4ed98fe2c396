"""One subject: grids, masks, determinism, and contrasts as in real scans."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbkit.phantom.ms import Grid, Person, simulate
from nbkit.phantom.parameters import load_parameters

P = load_parameters()
SMOKE = Grid((4, 4, 2))
PATIENT = Person("ms01", "F", 35.0, "MS", 20.0, 60)
CONTROL = Person("hc01", "M", 30.0, "HC", 0.0, 0)


@pytest.fixture(scope="module")
def patient():
    return simulate(PATIENT, grid=SMOKE, seed=7, parameters=P)


@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 2, 1), (4, 4, 2)])
def test_working_grid_fills_the_voxels_of_the_target(factors):
    grid = Grid(factors)
    (shape, affine), (fine_shape, fine) = grid.target(P), grid.working(P)
    assert np.array_equal(np.array(shape) * P["grid.oversampling"], fine_shape)
    corner, fine_corner = affine @ [-0.5, -0.5, -0.5, 1], fine @ [-0.5, -0.5, -0.5, 1]
    np.testing.assert_allclose(corner, fine_corner)
    np.testing.assert_allclose(np.diag(affine)[:3] * shape, [187.2, 230.4, 120.0])


def test_published_grid():
    shape, affine = Grid().target(P)
    assert shape == (208, 256, 40)
    np.testing.assert_allclose(np.diag(affine)[:3], [0.9, 0.9, 3.0])


def test_six_contrasts_on_one_grid(patient):
    assert tuple(patient.images) == ("T1w", "T2w", "PDw", "T1SE", "DIR", "FLAIR")
    for image in patient.images.values():
        assert image.data.dtype == torch.float32 and image.shape == (52, 64, 20)
        assert bool(torch.isfinite(image.data).all()) and 0 <= float(image.data.min())
        assert 300 < float(image.data.max()) < 1500
        image.check_grid(patient.images["FLAIR"], "test")


def test_masks_divide_the_brain(patient):
    mask = {name: volume.data for name, volume in patient.masks.items()}
    assert all(m.dtype == torch.bool for m in mask.values())
    assert torch.equal(mask["gm"].int() + mask["wm"].int() + mask["csf"].int(), mask["brain"].int())
    assert not (mask["lesions"] & ~mask["wm"]).any()
    assert not (mask["nawm"] & (mask["lesions"] | ~mask["wm"])).any()
    assert not (mask["ventricles"] & ~mask["csf"]).any()
    assert mask["lesions"].any() and mask["nawm"].sum() > mask["lesions"].sum()


def test_lesion_mask_has_about_the_true_load(patient):
    """Half of a voxel decides, so the mask keeps most of the load even where voxels are 78 mm³."""
    load = float(patient.masks["lesions"].data.sum()) * patient.masks["lesions"].voxel_volume / 1000
    assert patient.truth["lesion_load_ml"] == pytest.approx(20.0, rel=0.01)
    assert 12 < load < 22
    assert patient.truth["lesion_count"] == 60


def test_contrasts_look_like_real_ones(patient):
    def ratio(contrast: str, name: str) -> float:
        image = patient.images[contrast].data
        return float(image[patient.masks[name].data].median() / image[patient.masks["nawm"].data].median())

    assert ratio("T1w", "gm") < 0.85 and ratio("T1w", "ventricles") < 0.5 and ratio("T1w", "lesions") < 1
    assert ratio("T2w", "lesions") > 1.2 and ratio("T2w", "ventricles") > 1.7
    assert ratio("FLAIR", "lesions") > 1.2 and ratio("FLAIR", "ventricles") < 0.5
    assert ratio("DIR", "gm") > 1.2 and ratio("DIR", "lesions") > 1.2


def test_background_is_noise_alone(patient):
    """The mean of a Rician without signal is σ √(π/2): the parameter file's noise level, unbiased."""
    corner = patient.images["FLAIR"].data[0, :6]
    sigma = P["contrast.FLAIR.noise"] * P["scanner.brightest"]
    assert float(corner.mean()) == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.02)


def test_controls_have_no_lesions():
    control = simulate(CONTROL, grid=SMOKE, seed=7, parameters=P)
    assert not control.masks["lesions"].data.any()
    assert control.truth["lesion_count"] == 0 and control.truth["lesion_load_ml"] == 0
    assert torch.equal(control.masks["nawm"].data, control.masks["wm"].data)
    assert control.truth["tissues"]["wm"] == control.truth["tissues"]["normal_wm"]


def test_white_matter_of_patients_is_normal_appearing_only(patient):
    wm, normal = np.array(patient.truth["tissues"]["wm"]), np.array(patient.truth["tissues"]["normal_wm"])
    rise = wm / normal - 1
    assert (rise > [0.03, 0.02, 0.01]).all() and (rise < [0.08, 0.05, 0.02]).all()


def test_order_and_threads_change_nothing(patient):
    simulate(CONTROL, grid=SMOKE, seed=7, parameters=P)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        again = simulate(PATIENT, grid=SMOKE, seed=7, parameters=P)
    finally:
        torch.set_num_threads(threads)
    for name, image in patient.images.items():
        assert torch.equal(image.data, again.images[name].data), name
    assert again.truth == patient.truth


def test_another_seed_is_another_person(patient):
    other = simulate(PATIENT, grid=SMOKE, seed=8, parameters=P)
    assert not torch.equal(other.masks["brain"].data, patient.masks["brain"].data)
    assert other.truth["tissues"] != patient.truth["tissues"]


def test_one_anatomy_at_every_resolution(patient):
    """A finer grid shows the same subject: brain and lesion volumes agree."""
    finer = simulate(PATIENT, grid=Grid((4, 4, 1)), seed=7, parameters=P)
    assert finer.truth == patient.truth
    for name in ("brain", "wm"):
        coarse_ml = float(patient.masks[name].data.sum()) * patient.masks[name].voxel_volume
        fine_ml = float(finer.masks[name].data.sum()) * finer.masks[name].voxel_volume
        assert fine_ml == pytest.approx(coarse_ml, rel=0.05)
