"""The FDG phantom: uptake as planted, volumes as drawn, the scanner's marks, and the people of the paper."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.seeds import numpy_generator
from nbkit.geometry.warp import resample
from nbkit.phantom import fdg
from nbkit.phantom.anatomy import place_on_grid
from nbkit.phantom.fdg import MEASURED, REFERENCE, Patient, fdg_parameters, roster, simulate, stranger, template_donor
from nbkit.phantom.pet import FWHM_PER_SD

P = fdg_parameters()
STAGES = ("CN", "MCI", "AD")


@pytest.fixture(scope="module")
def donor():
    return template_donor(4)


def person(stage: str, *, age: float = 75.0, name: str = "x") -> Patient:
    return Patient(name, "F", age, stage)


def scan(donor, patient: Patient, *, seed: int = 1):
    head = stranger(patient, numpy_generator(seed, patient.id, "head"))
    return simulate(patient, donor, head, profile="smoke", seed=seed)


# people


@pytest.mark.parametrize("seed", [0, 7])
def test_people_are_those_of_the_paper(seed):
    people = roster("paper", seed=seed)
    assert people == roster("laptop", seed=seed)
    for stage, n, women in zip(STAGES, (105, 208, 98), P["cohort.women"], strict=True):
        own = [p for p in people if p.stage == stage]
        ages = np.array([p.age for p in own])
        assert len(own) == n and 55 <= ages.min() and ages.max() <= 92
        assert sum(p.sex == "F" for p in own) == round(n * women)
        k = STAGES.index(stage)
        assert ages.mean() == pytest.approx(P["cohort.age_mean"][k], abs=0.6)
    assert [people[i].id for i in (0, 105, 313)] == ["nc001", "mci001", "ad001"]
    assert len({p.id for p in people}) == 411
    assert [p.stage for p in roster("smoke", seed=seed)] == [s for s in STAGES for _ in range(12)]


# uptake


@pytest.mark.parametrize("stage", STAGES)
def test_uptake_falls_by_the_factors_of_the_stage(stage):
    """Over 400 draws at the age of factor 1, the mean of every structure within three standard errors."""
    draws = [fdg.draw_uptake(person(stage), np.random.default_rng(k))[1] for k in range(400)]
    pattern = P.section(f"factor.{stage}")
    for name in ("posterior_cingulate", "parietal", "hippocampus", "frontal", "occipital", "hindbrain"):
        found = np.array([d[f"factor.{name}"] for d in draws])
        assert abs(found.mean() / pattern.get(name, 1.0) - 1) < 3 * found.std() / 20 + 0.006, name
    spared = np.log([d["factor.hindbrain"] for d in draws])
    assert spared.std() == pytest.approx(P["variety.region"], rel=0.15)
    cortex = np.log([d["factor.occipital"] for d in draws])
    assert cortex.std() == pytest.approx(np.hypot(P["variety.region"], P["variety.forebrain"]), rel=0.15)
    assert all(0 <= d["severity"] <= 2 for d in draws)


def test_stages_are_ordered_and_age_takes_its_share():
    levels = fdg.stage_levels(["posterior_cingulate", "lateral_temporal", "hippocampus", "occipital"])
    for name in ("posterior_cingulate", "lateral_temporal", "hippocampus"):
        assert levels["CN"][name] == 1 > levels["MCI"][name] > levels["AD"][name]
    assert {levels[s]["occipital"] for s in STAGES} == {1.0}
    young, old = (fdg.draw_uptake(person("CN", age=a), np.random.default_rng(0))[1] for a in (60.0, 85.0))
    assert old["factor.parietal"] / young["factor.parietal"] == pytest.approx(0.98 / 1.03)
    assert old["factor.frontal"] == young["factor.frontal"]
    with pytest.raises(NbkitError, match="Did you mean 'posterior_cingulate'"):
        fdg.stage_levels(["posterior_cingulum"])


def test_grey_matter_takes_up_four_times_as_much_as_white_before_the_scanner(donor):
    levels = {name: P[f"level.{t}"] * n for name, (t, n) in P.section("uptake").items()}
    uptake, grey, white, fluid = fdg._channels(donor.regions, levels).data[:4]
    assert levels["sensorimotor"] == 4 * levels["white_matter"] and levels["csf"] == 0
    assert float(uptake[white > 0.999].median()) == pytest.approx(1.0, abs=1e-3)
    assert 3 < float(uptake[grey > 0.999].mean()) < 4.6 and float(uptake[fluid > 0.999].max()) < 0.01
    assert float((grey + white + fluid - donor.regions.maps.data.sum(dim=0)).abs().max()) < 1e-5


def test_the_cerebellum_is_parted_into_its_two_tissues(donor):
    volumes = donor.regions.volumes
    for side in ("left", "right"):
        grey, white = (volumes[f"{name}_{side}"] for name in REFERENCE)
        assert 0.1 < white / (grey + white) < 0.5 and grey + white > 50_000


# sizes


@pytest.mark.parametrize(("row", "step"), [("hippocampus", -0.2), ("lateral_ventricle", 0.6), ("cortex", -0.1)])
def test_a_field_of_growth_changes_its_own_structures(donor, row, step):
    """Pulled through the field, on the grid where it was made, without a random head around it."""
    regions = fdg._by_row(fdg.template_regions(4))
    shape, affine = regions.maps.shape, regions.maps.affine
    head = stranger(person("CN"), np.random.default_rng(0))
    still = dataclasses.replace(head, velocity=step * donor.growth[row], pose=np.eye(4))
    moved = resample(place_on_grid(regions.maps, anatomy=still, shape=shape, affine=affine), shape, affine)
    before, after = (maps.data.double().sum((1, 2, 3)) for maps in (regions.maps, moved))
    change = dict(zip(regions.names, (after / before).log().tolist(), strict=True))
    assert change[row] == pytest.approx(step, rel=0.25)
    others = [abs(c) for name, c in change.items() if name not in (row, "csf")]
    assert max(others) < 0.2 * abs(step)


def test_a_control_of_the_donors_age_keeps_its_sizes_and_disease_takes_from_them():
    same = fdg.size_changes(person("CN", age=65.0), 65.0, np.random.default_rng(0))
    assert all(abs(c) < 1e-9 for row, c in same.items() if row != "lateral_ventricle")
    sizes = {s: fdg.size_changes(person(s), 65.0, np.random.default_rng(0)) for s in STAGES}
    assert sizes["CN"]["hippocampus"] > sizes["MCI"]["hippocampus"] > sizes["AD"]["hippocampus"]
    assert sizes["CN"]["lateral_ventricle"] < sizes["MCI"]["lateral_ventricle"] < sizes["AD"]["lateral_ventricle"]
    oldest = (fdg.size_changes(person("CN", age=a), None, np.random.default_rng(0)) for a in (90.0, 92.0))
    assert next(oldest) == next(oldest)


# scans


def test_a_scan_is_a_ratio_to_the_cerebellum_without_scalp(donor):
    made = scan(donor, person("MCI"))
    image, masks = made.image, made.masks
    assert image.data.dtype == torch.float32 and image.shape == (40, 48, 40)
    assert float(image.data[masks["reference"].data].mean()) == pytest.approx(1.0, abs=1e-5)
    assert not image.data[~masks["brain"].data].any() and (image.data >= 0).all()
    assert float(image.data[masks["gm"].data].mean()) > 1.2 * float(
        image.data[masks["brain"].data & ~masks["gm"].data].mean())
    assert all(bool((m.data <= masks["brain"].data).all()) for m in masks.values())
    assert set(made.facts["volumes_mm3"]) == set(MEASURED)
    assert json.loads(json.dumps(made.facts)) == made.facts
    assert 4_000 < made.facts["volumes_mm3"]["hippocampus"] < 10_000


def test_the_same_person_is_the_same_in_any_order(donor):
    first, _, again = (scan(donor, person("AD", name=n)) for n in ("a", "b", "a"))
    assert torch.equal(first.image.data, again.image.data) and first.facts == again.facts
    assert not torch.equal(first.image.data, scan(donor, person("AD", name="a"), seed=2).image.data)


def test_noise_has_the_stated_spread_and_width(donor):
    levels = {name: P[f"level.{t}"] * n for name, (t, n) in P.section("uptake").items()}
    shape, affine = fdg.fdg_grid("smoke")
    maps = resample(fdg._channels(donor.regions, levels), shape, affine)
    clean, masks = fdg._scanned(maps, None)
    deep = masks["gm"].data & (clean.data > 0.5)
    noises = [fdg._scanned(maps, np.random.default_rng(k))[0].data - clean.data for k in range(6)]
    assert float(torch.stack([n[deep] for n in noises]).std()) == pytest.approx(P["scanner.noise"], rel=0.1)
    sigma = P["scanner.noise_fwhm"] / FWHM_PER_SD / 4.0
    pairs = deep[:, 1:] & deep[:, :-1]
    neighbours = np.corrcoef(
        torch.cat([n[:, 1:][pairs] for n in noises]), torch.cat([n[:, :-1][pairs] for n in noises]))[0, 1]
    assert neighbours == pytest.approx(np.exp(-1 / (4 * sigma**2)), abs=0.06)


def test_one_persons_pattern_deepens_with_the_stage(donor):
    """The same draws in three stages, region by region on the person's own anatomy without ageing fields."""
    still = dataclasses.replace(donor, growth={row: torch.zeros_like(v) for row, v in donor.growth.items()})
    images = {s: scan(still, person(s)).image.data[0] for s in STAGES}
    head = stranger(person("CN"), numpy_generator(1, "x", "head"))
    shape, affine = fdg.fdg_grid("smoke")
    placed = place_on_grid(donor.regions.maps, anatomy=head, shape=shape, affine=affine)
    maps = resample(placed, shape, affine).data
    share = {}
    for structure in ("posterior_cingulate", "occipital"):
        inside = sum(m for m, s in zip(maps, donor.regions.structures, strict=True) if s == structure) > 0.6
        share[structure] = [float(images[s][inside].mean() / images["CN"][inside].mean()) for s in STAGES]
    assert share["posterior_cingulate"][1] < 0.97 and share["posterior_cingulate"][2] < 0.9
    assert min(share["occipital"]) > 0.97


def test_the_mean_control_lies_on_the_template_without_noise():
    made = fdg.mean_control("smoke")
    left, right = made.image.numpy()[:20], made.image.numpy()[20:][::-1]
    assert np.corrcoef(left.ravel(), right.ravel())[0, 1] > 0.995
    assert float(made.image.data[made.masks["reference"].data].mean()) == pytest.approx(1.0, abs=1e-5)


def test_an_unknown_profile_or_stage_is_refused(donor):
    with pytest.raises(NbkitError, match="Did you mean 'laptop'"):
        fdg.fdg_grid("labtop")
    with pytest.raises(NbkitError, match="x: stage.*one of AD, CN, MCI"):
        scan(donor, person("NC"))
