"""One subject: anchors of the effects, exact images without noise, masks, truth, the null experiment."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from nbkit.core.volume import Volume
from nbkit.geometry.warp import resample
from nbkit.phantom.lesion_myelin import Rates
from nbkit.phantom.myelin import CONTRASTS, MASKS, TRUTH, Head, fractional_anisotropy, simulate
from nbkit.phantom.myelin_people import Person, myelin_parameters
from nbkit.phantom.myelin_records import GRIDS
from nbkit.phantom.parameters import Parameters

P = myelin_parameters()
SMOKE = GRIDS["smoke"]
PATIENT = Person("ms01", "F", 31.0, "MS", 0.0, 0, Rates(0.5, 0.4, 0.3), 3.5)
CONTROL = Person("hc01", "M", 30.0, "HC", 0.0, 0, Rates(0, 0, 0), None)


QUIET = (
    "texture.myelin", "texture.water", "texture.axons", "texture.tracer", "texture.gm", "pet.noise", "pet.fwhm",
    "acquisition.mtr_noise", "acquisition.rd_noise", "acquisition.ad_noise", "acquisition.shift", "acquisition.turn",
    "between.DVR", "between.MTR", "between.RD", "between.AD", "state.nawm_sd",
)


def replaced(**values) -> Parameters:
    """The parameters with some values changed; "__" stands for a dot."""
    new = {name.replace("__", "."): value for name, value in values.items()}
    return Parameters({n: {**e, "value": new.get(n, e["value"])} for n, e in P.entries.items()})


STILL = {name.replace(".", "__"): 0.0 for name in QUIET} | {"latent__nawm_water": (0.05, 0.0)}
CLEAN = replaced(**STILL)


def place(*maps: Volume, shape, affine) -> Volume:
    return Volume(torch.cat([resample(m, shape, affine).data for m in maps]), affine)


def head(lesions: bool) -> Head:
    """A cube of white matter in a shell of grey matter and one of CSF, on 3.66 mm voxels, with two lesions of 1 mm."""
    shape, affine = SMOKE.working(P)
    depth = np.minimum.reduce(np.meshgrid(*(np.minimum(np.arange(n), n - 1 - np.arange(n)) for n in shape),
                                          indexing="ij"))
    tissues = np.stack([(depth >= 8) & (depth < 10), depth >= 10, (depth >= 5) & (depth < 8), np.zeros(shape)])
    labels = np.zeros((60, 40, 40), dtype=np.int32)
    labels[2:28, 4:34, 4:34], labels[32:56, 4:34, 4:34] = 1, 2
    origin = np.eye(4)
    origin[:3, 3] = (-30, -20, -20)
    return Head(Volume(torch.from_numpy(tissues.astype(np.float32)), affine),
                Volume(torch.from_numpy(labels * lesions), origin), place)


@pytest.fixture(scope="module")
def patient():
    return simulate(PATIENT, head(True), grid=SMOKE, seed=7, parameters=P)


@pytest.fixture(scope="module")
def clean():
    return simulate(PATIENT, head(True), grid=SMOKE, seed=7, parameters=CLEAN)


def value(contrast: str, lost: float, water: float, axons: float) -> float:
    p = P.section(f"effect.{contrast}")
    return p["wm"] + p["myelin"] * lost + p["water"] * water + p["axons"] * axons


@pytest.mark.parametrize(
    ("state", "contrast", "anchor", "spread"),
    [("demyelinated", "DVR", 0.92, 0.01), ("demyelinated", "MTR", 24, 0.3), ("demyelinated", "RD", 0.95, 0.01),
     ("demyelinated", "AD", 1.35, 0.01), ("remyelinated", "DVR", 1.08, 0.01), ("remyelinated", "MTR", 32, 3),
     ("remyelinated", "RD", 0.72, 0.03), ("remyelinated", "AD", 1.22, 0.03), ("nawm", "DVR", 1.15, 0.07),
     ("nawm", "MTR", 39, 2), ("nawm", "RD", 0.60, 0.03), ("nawm", "AD", 1.16, 0.03)],
)
def test_effects_go_through_the_anchor_values_within_their_spread(state, contrast, anchor, spread):
    lost = 1 - P[f"state.{state}"]
    water = P["latent.nawm_water"][0] if state == "nawm" else P["latent.water_slope"] * lost
    assert value(contrast, lost, water, P["latent.axon_slope"] * lost) == pytest.approx(anchor, abs=spread)


def test_mtr_and_rd_are_not_one_measurement():
    """The shares that myelin and water have in MTR and in RD differ, or one would add nothing to the other."""
    ratio = [P[f"effect.{c}.water"] / P[f"effect.{c}.myelin"] for c in ("MTR", "RD")]
    assert ratio[1] > 2 * ratio[0]


@pytest.mark.parametrize(("rd", "ad", "fa"), [(0.55, 1.15, 0.43), (0.60, 1.16, 0.39), (0.75, 0.95, 0.14),
                                              (3.0, 3.2, 0.04), (0.95, 1.35, 0.21), (0.72, 1.22, 0.32)])
def test_fa_is_that_of_the_tensor(rd, ad, fa):
    found = float(fractional_anisotropy(torch.tensor(rd, dtype=torch.float64), torch.tensor(ad, dtype=torch.float64)))
    eigenvalues = np.array([ad, rd, rd])
    spread = np.sqrt(1.5 * ((eigenvalues - eigenvalues.mean()) ** 2).sum() / (eigenvalues**2).sum())
    assert found == pytest.approx(spread, rel=1e-12) and found == pytest.approx(fa, abs=0.006)


def test_published_grid_and_its_blocks():
    shape, affine = GRIDS["paper"].target(P)
    assert shape == (128, 160, 128) and np.allclose(np.diag(affine)[:3], 1.22)
    assert GRIDS["laptop"].target(P)[0] == (64, 80, 64) and GRIDS["smoke"].target(P)[0] == (32, 40, 32)


def test_two_visits_with_images_masks_and_truth_on_one_grid(patient):
    visits, facts = patient
    assert list(visits) == ["t0", "t1"]
    for visit in visits.values():
        assert (tuple(visit.images), tuple(visit.masks), tuple(visit.truth)) == (CONTRASTS, MASKS, TRUTH)
        brain = visit.masks["brain"].data
        for image in visit.images.values():
            assert image.data.dtype == torch.float32 and bool(torch.isfinite(image.data).all())
            assert not image.data[~brain].any() and image.shape == (32, 40, 32)
        assert 0 <= float(visit.images["FA"].data.min()) and float(visit.images["FA"].data.max()) <= 1
        assert 0 <= float(visit.truth["myelin"].data.min()) and float(visit.truth["myelin"].data.max()) <= 1
    assert facts["lesions"] == 2 and facts["load_ml"] == pytest.approx((26 + 24) * 30 * 30 / 1000, rel=1e-3)


def test_masks_divide_the_brain(patient):
    mask = {name: volume.data for name, volume in patient[0]["t0"].masks.items()}
    assert torch.equal(mask["gm"].int() + mask["wm"].int() + mask["csf"].int(), mask["brain"].int())
    assert mask["lesions"].any() and not (mask["lesions"] & ~mask["wm"]).any()
    assert not (mask["nawm"] & (mask["lesions"] | ~mask["wm"])).any()
    assert all(torch.equal(m, patient[0]["t1"].masks[n].data) for n, m in mask.items())


def test_images_without_noise_have_the_values_of_the_tissue(clean):
    visit = clean[0]["t0"]
    lost = 1 - P["state.nawm"]
    for contrast in ("DVR", "MTR", "RD", "AD"):
        image, expected = visit.images[contrast].data, value(contrast, lost, 0.05, P["latent.axon_slope"] * lost)
        nawm = image[visit.masks["nawm"].data]
        inner = float(nawm.median())
        assert inner == pytest.approx(expected, rel=1e-4)
        assert float(image[visit.masks["csf"].data].median()) == pytest.approx(P[f"effect.{contrast}.csf"], rel=1e-4)
    assert torch.allclose(visit.images["DVR"].data, visit.truth["DVR"].data, atol=1e-5)


def test_anisotropy_is_lower_in_lesions(clean):
    visit = clean[0]["t0"]
    lesion, normal = (float(visit.images["FA"].data[visit.masks[m].data].mean()) for m in ("lesions", "nawm"))
    assert lesion < normal - 0.05


def test_bundles_turn_radial_into_axial_diffusivity_and_leave_the_rest():
    """Twice the anisotropy in one half of the head: AD − RD doubles there, the mean diffusivity stays."""
    plain = head(False)
    level = torch.ones(1, *plain.tissues.shape)
    level[:, : level.shape[1] // 2] = 2.0
    halves = dataclasses.replace(plain, coherence=Volume(level, plain.tissues.affine))
    one, two = (simulate(CONTROL, h, grid=SMOKE, seed=7, parameters=CLEAN)[0]["t0"] for h in (plain, halves))
    wm = one.masks["wm"].data & (torch.arange(level.shape[1]) < level.shape[1] // 2 - 1)[None, :, None, None]
    deep = wm & (one.images["DVR"].data > P["effect.DVR.wm"] - 1e-4)
    assert deep.sum() > 100
    rd, ad = ([v.images[n].data[deep] for v in (one, two)] for n in ("RD", "AD"))
    assert torch.allclose(ad[1] - rd[1], 2 * (ad[0] - rd[0]), atol=1e-4)
    assert torch.allclose(ad[1] + 2 * rd[1], ad[0] + 2 * rd[0], atol=1e-4)
    for name in ("DVR", "MTR"):
        assert torch.equal(one.images[name].data, two.images[name].data)


def test_oedema_is_seen_by_mr_and_not_by_pet():
    """Every lesion acute against none: free water in proportion, DVR to the last bit the same."""
    rates = (replaced(**STILL, oedema__incidence=rate) for rate in (0.0, 5.2))
    dry, wet = (simulate(PATIENT, head(True), grid=SMOKE, seed=7, parameters=p)[0]["t0"] for p in rates)
    assert torch.equal(dry.images["DVR"].data, wet.images["DVR"].data)
    lesion = dry.masks["lesions"].data
    shares = {}
    for name in ("MTR", "RD", "AD"):
        a, b = dry.images[name].data[lesion], wet.images[name].data[lesion]
        shares[name] = (b - a) / (P[f"effect.{name}.csf"] - a)
    assert 0 < float(shares["MTR"].max()) <= P["oedema.water"][1] + 1e-4 and float(shares["MTR"].min()) > -1e-4
    for name in ("RD", "AD"):
        assert torch.allclose(shares[name], shares["MTR"], atol=0.02)


def test_a_threshold_on_a_noise_free_map_recovers_what_was_planted(clean):
    for visit in clean[0].values():
        lesions, dvr = visit.masks["lesions"].data, visit.truth["DVR"].data
        limit = value("DVR", 1 - P["state.cut"], 0, 0)
        where = lesions & (dvr < limit)
        assert where.any() and torch.equal(where, visit.truth["demyelinated"].data)


def test_remyelinated_voxels_were_demyelinated_and_are_not(patient):
    first, second = (patient[0][s].truth for s in ("t0", "t1"))
    expected = first["demyelinated"].data & ~second["demyelinated"].data
    assert expected.any() and torch.equal(second["remyelinated"].data, expected)
    assert not first["remyelinated"].data.any()


def test_without_change_only_noise_and_pose_differ(patient):
    still, facts = simulate(PATIENT, head(True), grid=SMOKE, seed=7, parameters=P, changed=False)
    changed, told = patient
    assert facts["course"] == told["course"] and (facts["changed"], told["changed"]) == (False, True)
    for name in CONTRASTS:
        assert torch.equal(still["t0"].images[name].data, changed["t0"].images[name].data), name
        assert not torch.equal(still["t1"].images[name].data, still["t0"].images[name].data), name
    for name in ("myelin", "demyelinated", "DVR"):
        assert torch.equal(still["t1"].truth[name].data, still["t0"].truth[name].data), name
    assert not still["t1"].truth["remyelinated"].data.any()


def test_a_control_has_one_visit_and_all_its_myelin():
    visits, facts = simulate(CONTROL, head(False), grid=SMOKE, seed=7, parameters=P)
    assert list(visits) == ["t0"] and facts["course"] is None and facts["load_ml"] == 0
    masks, truth = visits["t0"].masks, visits["t0"].truth
    assert torch.equal(masks["nawm"].data, masks["wm"].data) and not masks["lesions"].data.any()
    assert (truth["myelin"].data[masks["wm"].data] == 1).all() and not truth["demyelinated"].data.any()


def test_noise_is_that_of_the_published_voxel_averaged():
    """27 published voxels make one of the smoke profile; tissue, texture and pose are the same in both."""
    noisy = replaced(**STILL | {"pet__noise": P["pet.noise"]})
    image = simulate(CONTROL, head(False), grid=SMOKE, seed=7, parameters=noisy)[0]["t0"]
    still = simulate(CONTROL, head(False), grid=SMOKE, seed=7, parameters=CLEAN)[0]["t0"]
    brain = image.masks["brain"].data
    residual = (image.images["DVR"].data - still.images["DVR"].data)[brain]
    assert float(residual.std()) == pytest.approx(P["pet.noise"] / 64**0.5, rel=0.05)


def test_order_and_threads_change_nothing(patient):
    simulate(CONTROL, head(False), grid=SMOKE, seed=7, parameters=P)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        again = simulate(PATIENT, head(True), grid=SMOKE, seed=7, parameters=P)
    finally:
        torch.set_num_threads(threads)
    for session, visit in patient[0].items():
        assert all(torch.equal(v.data, again[0][session].images[n].data) for n, v in visit.images.items())
    assert again[1] == patient[1]
    other = simulate(dataclasses.replace(PATIENT, id="ms02"), head(True), grid=SMOKE, seed=7, parameters=P)
    assert not torch.equal(other[0]["t0"].images["DVR"].data, patient[0]["t0"].images["DVR"].data)
