"""Thresholds find planted demyelination, indices count by hand, regressions equal their closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import cKDTree

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.papers.myelin import metrics as myelin
from nbkit.papers.myelin.metrics import ControlNorm, Course, csf_distance, regress

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
SHAPE = (16, 18, 12)


def grid() -> tuple[torch.Tensor, ...]:
    """Voxel indices."""
    return torch.meshgrid(*map(torch.arange, SHAPE), indexing="ij")


def head() -> dict[str, Volume]:
    """A box of brain with a slab of CSF at one end, and white matter from two voxels away from it."""
    x, y, z = grid()
    brain = (x > 0) & (x < 15) & (y > 0) & (y < 17) & (z > 0) & (z < 11)
    masks = {"brain": brain, "csf": brain & (x <= 2), "wm": brain & (x >= 4)}
    return {name: Volume(mask, AFFINE) for name, mask in masks.items()}


def control(seed: int, *, noise: float = 0.1, slope: float = 0.01) -> tuple[Volume, Volume, Volume, Volume]:
    """DVR = 1.0 + slope · distance + noise in white matter."""
    masks = head()
    level = 1.0 + slope * csf_distance(masks["csf"], masks["brain"]).data.double()
    dvr = level + noise * torch.randn(level.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Volume(dvr * masks["brain"].data, AFFINE), masks["wm"], masks["csf"], masks["brain"]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.tuples(*[st.floats(0.5, 4)] * 3))
def test_distances_are_those_of_the_nearest_csf_voxel(seed, spacing):
    rng = np.random.default_rng(seed)
    brain, csf = rng.random((7, 8, 6)) < 0.8, rng.random((7, 8, 6)) < 0.05
    csf[3, 3, 3] = brain[3, 3, 3] = True
    affine = np.diag([*spacing, 1.0])
    got = csf_distance(Volume(torch.tensor(csf), affine), Volume(torch.tensor(brain), affine)).numpy()
    places = np.argwhere(brain) * spacing
    want = cKDTree(np.argwhere(csf & brain) * spacing).query(places)[0]
    assert np.allclose(got[brain], want, rtol=1e-5) and not got[~brain].any()


def test_a_norm_keeps_a_linear_profile_and_the_spread_around_it():
    norm = ControlNorm.fit([control(seed) for seed in range(6)])
    assert np.allclose(norm.mean, 1.0 + 0.01 * norm.centres, atol=0.008)
    assert np.allclose(norm.sd, 0.1, atol=0.008), "the slope is no spread"
    assert norm.chance_floor == pytest.approx(stats.norm.cdf(-1), abs=0.012) and norm.n == 6
    flat = ControlNorm.fit([control(0, noise=0.0)], bin_mm=4.0, smooth_mm=6.0)
    assert np.allclose(flat.mean, 1.0 + 0.01 * flat.centres, atol=1e-9) and (np.diff(flat.centres) > 0).all()


def test_bins_without_smoothing_are_plain_means_of_the_pooled_voxels():
    controls = [control(seed) for seed in (1, 2)]
    norm = ControlNorm.fit(controls, bin_mm=2.0, smooth_mm=0.0)
    distance = csf_distance(controls[0][2], controls[0][3]).data
    for centre, mean, sd in zip(norm.centres, norm.mean, norm.sd, strict=True):
        here = controls[0][1].data & (distance >= 2 * (centre // 2)) & (distance < 2 * (centre // 2) + 2)
        values = torch.cat([dvr.data[here] for dvr, *_ in controls])
        assert (mean, sd) == pytest.approx((float(values.mean()), float(values.std(correction=0))), rel=1e-9)


def test_the_threshold_follows_the_distance_and_stays_constant_beyond_the_bins():
    norm = ControlNorm(np.array([2.0, 4.0]), np.array([1.0, 1.2]), np.array([0.1, 0.2]), 0.16, 3)
    distance = Volume(torch.tensor([0.0, 2.0, 3.0, 4.0, 50.0])[:, None, None])
    assert norm.threshold(distance).numpy().ravel() == pytest.approx([0.9, 0.9, 0.95, 1.0, 1.0])


def test_planted_demyelination_is_found_exactly_without_noise_and_not_by_one_threshold_for_all():
    """Normal lesion voxels near CSF lie below demyelinated ones far from it; only the distance tells them apart."""
    norm = ControlNorm.fit([control(seed, noise=0.05, slope=0.04) for seed in range(3)])
    masks = head()
    x, y, z = grid()
    distance = csf_distance(masks["csf"], masks["brain"])
    lesions = masks["wm"].data & ((y - 8).abs() <= 3)
    planted = lesions & ((x + y + z) % 3 == 0)
    healthy = 1.0 + 0.04 * distance.data
    dvr = Volume(torch.where(planted, healthy - 0.2, healthy) * masks["brain"].data, AFFINE)
    found = myelin.demyelinated(dvr, Volume(lesions, AFFINE), norm.threshold(distance))
    assert planted.any() and torch.equal(found.data, planted)
    assert dvr.data[planted].max() > dvr.data[lesions & ~planted].min()


LESIONS = Volume(torch.tensor([1, 1, 1, 1, 1, 1, 1, 1, 0, 0]).bool()[:, None, None])
D0 = Volume(torch.tensor([1, 1, 1, 0, 0, 0, 0, 0, 1, 0]).bool()[:, None, None])
D1 = Volume(torch.tensor([0, 1, 0, 1, 0, 0, 0, 0, 0, 1]).bool()[:, None, None])


def test_indices_by_hand():
    """Eight lesion voxels, three demyelinated: one stays, two recover, one of the five others is lost."""
    assert myelin.change_indices(Course(LESIONS, D0, D1)) == pytest.approx({
        "percent_t0": 300 / 8, "percent_t1": 200 / 8, "global_change": -1 / 8, "dynamic_demyelination": 1 / 8,
        "dynamic_demyelination_normal": 1 / 5, "dynamic_remyelination": 2 / 8,
        "dynamic_remyelination_demyelinated": 2 / 3,
    })
    assert myelin.change_indices(Course(LESIONS, D0, None)) == {"percent_t0": 300 / 8}
    assert myelin.demyelinated_fraction(D0, LESIONS) == 3 / 8


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_global_change_is_what_was_lost_minus_what_came_back(seed):
    lesions, d0, d1 = (Volume(torch.tensor(m)) for m in np.random.default_rng(seed).random((3, 4, 5, 3)) < 0.6)
    there, back = (myelin.change_indices(Course(lesions, *pair)) for pair in ((d0, d1), (d1, d0)))
    lost, regained = there["dynamic_demyelination"], there["dynamic_remyelination"]
    assert there["global_change"] == pytest.approx(lost - regained, abs=1e-12)
    assert back["dynamic_demyelination"] == pytest.approx(regained), "time reversed"


def test_without_lesions_or_without_voxels_that_could_change_there_is_no_index():
    nothing = LESIONS.with_data(torch.zeros_like(LESIONS.data))
    everything = LESIONS.with_data(torch.ones_like(LESIONS.data))
    assert all(math.isnan(value) for value in myelin.change_indices(Course(nothing, D0, D1)).values())
    assert math.isnan(myelin.change_indices(Course(LESIONS, everything, D1))["dynamic_demyelination_normal"])
    assert math.isnan(myelin.change_indices(Course(LESIONS, nothing, D1))["dynamic_remyelination_demyelinated"])


@pytest.fixture(scope="module")
def people() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Fifteen people with two covariates of very different units."""
    rng = np.random.default_rng(4)
    x = {"index": rng.normal(10, 4, 15), "load": rng.lognormal(9, 1, 15)}
    return 3 - 0.3 * x["index"] + 1e-5 * x["load"] + rng.normal(0, 1, 15), x


def test_regression_equals_the_normal_equations(people):
    y, x = people
    table = regress(y, x)
    design = np.column_stack([np.ones(15), *x.values()])
    inverse = np.linalg.inv(design.T @ design)
    b = inverse @ design.T @ y
    se = np.sqrt(np.diag(inverse) * ((y - design @ b) ** 2).sum() / 12)
    assert table["coefficient"].to_numpy() == pytest.approx(b[1:])
    assert table["standard_error"].to_numpy() == pytest.approx(se[1:])
    assert table["p"].to_numpy() == pytest.approx(2 * stats.t.sf(np.abs(b / se)[1:], 12))
    assert list(table["n"]) == [15, 15] and list(table.index) == list(x)
    assert list(table.columns) == ["coefficient", "standard_error", "t", "p", "beta", "n"]


def test_beta_knows_no_units_and_alone_is_the_correlation(people):
    y, x = people
    scaled = regress(10 * y + 7, {"index": x["index"] / 100, "load": 1000 * x["load"]})
    assert scaled["beta"].to_numpy() == pytest.approx(regress(y, x)["beta"].to_numpy())
    assert regress(y, {"index": x["index"]}).loc["index", "beta"] == pytest.approx(np.corrcoef(y, x["index"])[0, 1])


def test_bad_input_is_refused(people):
    y, x = people
    dvr, wm, csf, brain = control(0)
    cases = {
        "expected at least one control, found none": lambda: ControlNorm.fit([]),
        "with 30 voxels, found at most": lambda: ControlNorm.fit([(dvr, _first(wm), csf, brain)]),
        "white matter: expected at least one voxel": lambda: ControlNorm.fit([(dvr, _none(wm), csf, brain)]),
        "DVR and CSF: expected the same affine": lambda: ControlNorm.fit([(dvr, wm, Volume(csf.data), brain)]),
        "at least one CSF voxel in the brain": lambda: csf_distance(_none(csf), brain),
        "dvr and lesions: expected the same affine": lambda: myelin.demyelinated(dvr, Volume(wm.data), dvr),
        "demyelinated map and lesions": lambda: myelin.demyelinated_fraction(Volume(torch.ones(2, 2, 2)), LESIONS),
        "more than 3 subjects, found 3": lambda: regress(y[:3], {k: v[:3] for k, v in x.items()}),
        "regress: sex: expected values that differ": lambda: regress(y, {**x, "sex": np.ones(15)}),
        "none of which is a sum": lambda: regress(y, {**x, "twice": 2 * x["index"] + 1}),
        "regress: load: expected 15 finite": lambda: regress(y, {"load": np.r_[x["load"][:-1], np.nan]}),
    }
    for message, act in cases.items():
        with pytest.raises(NbkitError, match=message):
            act()


def _none(mask: Volume) -> Volume:
    return mask.with_data(torch.zeros_like(mask.data))


def _first(mask: Volume) -> Volume:
    few = torch.zeros_like(mask.data)
    few[:, 8, 8, 8] = True
    return mask.with_data(few)
