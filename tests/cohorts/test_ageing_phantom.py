"""The embedded ageing cohort: who is in it, its truth, and the same people however they are made."""

from __future__ import annotations

import json
import pickle
import shutil
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nbkit.cohorts import ageing_phantom as cohorts
from nbkit.cohorts import scanned_twice
from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.geometry.flow import Velocity, compose, expv, jacobian_determinant
from nbkit.phantom.anatomy import ATTRIBUTION
from nbkit.phantom.longitudinal import ageing_parameters, follow
from nbkit.phantom.records import noise_again, noise_free

P = ageing_parameters()
MANIFEST = Path(__file__).parents[2] / "data_manifests" / "ageing_phantom" / "cohort.toml"
SEED = 7


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def cohort(cache):
    """Made by one process: controls, patients, and everybody who converts."""
    return build(cache)


def plans(profile: str, seed: int = SEED):
    return cohorts.roster(profile, seed=seed, parameters=P)


FEW = tuple(p for p in plans("smoke") if p.person.converter or p.person.id in ("cn001", "cn002", "ad001", "ad002"))


def build(cache: Cache, people=FEW, **settings):
    """The cohort of some of its people."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohorts, "roster", lambda *_, **__: people)
        return cohorts.build("smoke", seed=SEED, cache=cache, progress=False, **settings)


# who


@pytest.mark.parametrize(("profile", "counts"), [
    ("laptop", (28, 4, 27, 27, 14)), ("paper", (84, 12, 81, 81, 42)), ("smoke", (3, 1, 2, 3, 3)),
])
def test_diagnoses_have_the_published_shares(profile, counts):
    found = Counter(p.person.diagnosis for p in plans(profile))
    assert tuple(found[d] for d in cohorts.DIAGNOSES) == counts
    assert len({p.person.id for p in plans(profile)}) == sum(counts)


@pytest.mark.parametrize("seed", [0, 7, 12345])
def test_ages_visits_and_sexes(seed):
    everyone = plans("laptop", seed)
    ages = np.concatenate([p.ages for p in everyone])
    assert 55 <= ages.min() and ages.max() <= 90
    assert {len(p.ages) for p in everyone} == {3, 4, 5, 6}
    assert np.mean([len(p.ages) for p in everyone]) == pytest.approx(4.7, abs=0.4)  # 4 standard errors
    assert all((np.diff(p.ages) > 0.15).all() for p in everyone)
    assert {p.person.sex for p in everyone} == {"F", "M"}
    assert sum(p.person.sex == "F" for p in everyone) == pytest.approx(len(everyone) / 2, abs=len(cohorts.DIAGNOSES))


def test_every_diagnosis_covers_the_ages_and_its_years():
    for diagnosis in ("CN", "EMCI", "LMCI", "AD"):
        group = [p for p in plans("laptop") if p.person.diagnosis == diagnosis]
        first, spans = [p.ages[0] for p in group], [p.ages[-1] - p.ages[0] for p in group]
        assert min(first) < 66 and max(first) > 79
        assert np.mean(first) == pytest.approx(P["cohort.age_mean"], abs=3)
        kinds = [P[f"follow_up.{k}"] for k in (diagnosis, "converter")]
        low, high = min(k[0] for k in kinds), max(k[1] for k in kinds)
        assert low - P["cohort.jitter"] <= min(spans) and max(spans) <= high + P["cohort.jitter"]
    assert max(p.ages[-1] - p.ages[0] for p in plans("laptop")) > 8


@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_converters_convert_between_their_visits(profile):
    everyone = plans(profile)
    for diagnosis, share in zip(("EMCI", "LMCI"), P["cohort.converters"], strict=True):
        group = [p for p in everyone if p.person.diagnosis == diagnosis]
        assert sum(p.person.converter for p in group) == round(share * len(group))
    for plan in everyone:
        seen = [plan.diagnosis_at(age) for age in plan.ages]
        assert seen[0] == plan.person.diagnosis
        if plan.person.converter:
            assert plan.ages[0] < plan.onset_age < plan.ages[-1] and seen[-1] == "AD"
        else:
            assert plan.onset_age is None and set(seen) == {plan.person.diagnosis}
    assert any(p.person.converter for p in everyone)


# what


def test_scans_are_ordered_labelled_and_on_one_grid(cohort):
    assert cohort.access == "embedded" and cohort.ids == tuple(plan.person.id for plan in FEW)
    grid = cohort.subjects[0].baseline.image("T1w")
    for subject in cohort:
        assert [s.age for s in subject.scans] == sorted(s.age for s in subject.scans)
        assert len({s.session for s in subject.scans}) == len(subject.scans)
        assert subject.diagnosis == subject.baseline.diagnosis
        for scan in subject.scans:
            image, brain = scan.image("T1w"), scan.mask("brain").data
            grid.check_grid(image, "test")
            assert image.data.dtype == torch.float32 and brain.dtype == torch.bool
            assert bool((image.data[~brain] == 0).all()) and bool((image.data[brain] > 0).float().mean() > 0.99)
            codes = set(scan.labels.data.unique().tolist())
            # on voxels of 5 mm a structure of a few voxels can be in the majority nowhere
            assert codes <= {0, *scan.label_names} and len(codes) >= len(scan.label_names) - 2
            assert torch.equal(scan.labels.data > 0, brain)
    assert {"hippocampus_left", "lateral_ventricle_right", "csf_left"} <= set(scan.label_names.values())


def test_truth_volumes_fill_the_brain_at_every_visit(cohort):
    for subject in cohort:
        for scan, volumes in zip(subject.scans, cohort.truth[subject.id].volumes, strict=True):
            inside = int(scan.mask("brain").data.sum()) * scan.labels.voxel_volume
            assert sum(volumes.values()) == pytest.approx(inside, rel=1e-5)
            assert set(volumes) == set(scan.label_names.values())


def test_no_voxel_folds_and_velocity_and_times_say_it_all(cohort):
    for subject in cohort:
        truth = cohort.truth[subject.id]
        affine, velocity = truth.velocity.affine, truth.velocity.data[None]
        for k, time in enumerate(truth.times):
            if truth.onset is None or time <= truth.onset["time"]:
                flow = expv(Velocity(time * velocity), affine=affine)
            else:
                steps = (truth.onset["time"] * velocity,
                         (time - truth.onset["time"]) * truth.velocity_after_onset.data[None])
                flow = compose(*(expv(Velocity(s), affine=affine) for s in steps), affine=affine)
            assert float(jacobian_determinant(flow, affine=affine).min()) > 0
            assert bool(torch.isfinite(truth.log_jacobian(k).data).all())
        assert (truth.log_jacobian(0).data.abs() < 1e-3).all()


def test_patients_lose_more_than_controls(cohort):
    def yearly(subject):
        truth = cohort.truth[subject.id]
        first, last = (sum(truth.volumes[k][f"hippocampus_{s}"] for s in ("left", "right")) for k in (0, -1))
        return np.log(last / first) / (truth.ages[-1] - truth.ages[0])

    rates = {d: np.mean([yearly(s) for s in cohort if s.diagnosis == d]) for d in ("CN", "AD")}
    assert rates["AD"] < 1.5 * rates["CN"] < 0


def test_provenance_names_source_grid_and_content(cohort):
    record = cohort.provenance
    assert record["attribution"] == ATTRIBUTION and record["parameters"] == P.digest()
    assert record["grid"] == {"shape": [32, 40, 32], "spacing_mm": [5.0, 5.0, 5.0]}
    json.dumps([record, [t.as_dict() for t in cohort.truth.values()], [dict(s.covariates) for s in cohort]])


def test_the_manifest_tells_the_same():
    manifest = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))
    assert (manifest["name"], manifest["access"], manifest["attribution"]) == (cohorts.NAME, "embedded", ATTRIBUTION)
    assert manifest["expected"]["subjects"] == P["cohort.laptop"] == len(plans("laptop"))


def test_without_noise_an_image_differs_by_noise_alone(cohort):
    """By as much as the scanner of the parameters adds on voxels of this size, and nowhere with a sign."""
    quiet = noise_free(cohort, "T1w")
    assert set(quiet) == {(s.id, scan.session) for s in cohort for scan in s.scans}
    expected = P["scan.noise"] * (P["scan.voxel"] / 5) ** 1.5
    for subject in cohort.subjects[:2]:
        for scan in subject.scans:
            image, still = scan.image("T1w").data, quiet[subject.id, scan.session].data
            off = (image - still)[still > 0.6]
            assert float(off.std()) == pytest.approx(expected, rel=0.1)
            assert abs(float(off.mean())) < 4 * expected / len(off) ** 0.5
    with pytest.raises(NbkitError, match="contrast of ageing_phantom: expected one of T1w"):
        noise_free(cohort, "FLAIR")
    copy = pickle.loads(pickle.dumps(quiet))
    assert torch.equal(copy["ad002", "M000"].data, quiet["ad002", "M000"].data)


# strangers


def test_scanned_twice_noise_is_all_that_differs(cohort):
    twice, quiet = noise_again(cohort, seed=SEED), noise_free(cohort, "T1w")
    for before, after in zip(cohort, twice, strict=True):
        first, second = after.scans
        assert first is before.baseline and second.age == first.age and second.session != first.session
        inside = first.mask("brain").data
        mean = quiet[before.id, first.session].data[inside].float()
        one, two = (scan.image("T1w").data[inside].float() - mean for scan in (first, second))
        assert float(two.std()) == pytest.approx(float(one.std()), rel=0.05)
        assert abs(float(np.corrcoef(one, two)[0, 1])) < 0.05, "two draws"
        assert not second.image("T1w").data[~inside].any()
    again = noise_again(cohort, seed=SEED).subjects[0].scans[1].image("T1w").data
    assert torch.equal(again, twice.subjects[0].scans[1].image("T1w").data)
    assert not torch.equal(again, noise_again(cohort, seed=SEED + 1).subjects[0].scans[1].image("T1w").data)
    (asked,) = scanned_twice(cohort.subset(cohort.ids[:1]), profile="smoke", seed=SEED)
    assert asked.ids == cohort.ids[:1] and "two draws of noise" in asked.provenance["kind"]


def few_others(cache: Cache, seed: int = SEED, times: int = 2, n_jobs: int = 1):
    """Strangers of some people of each roster."""
    full = cohorts.roster
    with pytest.MonkeyPatch.context() as patch:
        two = ("cn001", "ad001")
        patch.setattr(cohorts, "roster", lambda *a, **k: [p for p in full(*a, **k) if p.person.id in two])
        return cohorts.strangers("smoke", seed=seed, times=times, cache=cache, n_jobs=n_jobs, progress=False)


def test_strangers_are_other_people_and_the_same_ones_again(cohort, tmp_path):
    found, again, other = few_others(Cache(tmp_path / "a")), few_others(Cache(tmp_path / "b"), n_jobs=2), few_others(
        Cache(tmp_path / "a"), seed=8, times=1)
    assert found.ids == ("x1cn001", "x1ad001", "x2cn001", "x2ad001") and set(found.ids).isdisjoint(cohort.ids)
    truths = [[c.truth[i].as_dict() for i in c.ids] for c in (found, again, other)]
    assert truths[0] == truths[1] and truths[0][:2] != truths[2]
    ages = [c.truth[i].ages for c in (found, other, cohort) for i in c.ids]
    assert len(set(ages)) == len(ages)
    assert [s.diagnosis for s in found] == ["CN", "AD"] * 2 and not any(s.scans[0].images for s in found)
    with pytest.raises(NbkitError, match="contrast"):
        found.subjects[0].baseline.image("T1w")


def test_strangers_have_the_volumes_that_scanned_people_have(cohort, tmp_path):
    """The same plan without images has the same truth to the last digit, where the grids are the same."""
    two = FEW[:2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohorts, "roster", lambda *_, **__: two)
        bare = cohorts.strangers("smoke", seed=SEED, times=1, cache=Cache(tmp_path), progress=False)
        renamed = [replace(p, person=replace(p.person, id=f"x1{p.person.id}")) for p in two]
        patch.setattr(cohorts, "roster", lambda *_, **__: renamed)
        scanned = cohorts.build("smoke", seed=SEED, cache=Cache(tmp_path), progress=False)
    for name in bare.ids:
        assert bare.truth[name].as_dict() == scanned.truth[name].as_dict()
        sessions = [[(s.session, s.age, s.diagnosis) for s in c.subject(name).scans] for c in (bare, scanned)]
        assert sessions[0] == sessions[1] and bare.subject(name).covariates == scanned.subject(name).covariates


@pytest.mark.slow
@pytest.mark.parametrize("place", [14, 70])
def test_a_coarser_grid_gives_nearly_the_same_person(place):
    """Voxels of 5 mm against 3 mm: sizes within 4 %, changes of ln volume within a tenth (and half a per cent)."""
    plan, found = plans("laptop")[place], []
    for profile in (cohorts.COARSE, "laptop"):
        regions, _ = cohorts._first_visit(plan, profile, SEED)
        visits = follow(plan, regions, parameters=P, seed=SEED).trajectory.visits
        found.append([np.log(sums(visit.regions.volumes)) for visit in (visits[0], visits[-1])])
    np.testing.assert_allclose(found[0][0], found[1][0], atol=0.04)
    np.testing.assert_allclose(found[0][1] - found[0][0], found[1][1] - found[1][0], rtol=0.1, atol=0.005)


def sums(volumes: dict[str, float]) -> list[float]:
    wanted = ("lateral_ventricle", "hippocampus", "white_matter", "temporal")
    return [sum(v for region, v in volumes.items() if region.startswith(name)) for name in wanted]


# the same however it is made


def test_a_cohort_travels_between_processes(cohort):
    """Whoever gets it reads the same files; nothing is loaded on the way."""
    copy = pickle.loads(pickle.dumps(cohort.subset(["ad002"])))
    here, there = (c.subject("ad002").scans[1] for c in (cohort, copy))
    assert torch.equal(here.image("T1w").data, there.image("T1w").data)
    assert torch.equal(here.labels.data, there.labels.data)


def same(first, second) -> bool:
    truths = all(first.truth[i].as_dict() == second.truth[i].as_dict() for i in second.ids)
    scans = zip(
        *([scan for i in second.ids for scan in c.subject(i).scans] for c in (first, second)), strict=True
    )
    return truths and all(
        torch.equal(a.image("T1w").data, b.image("T1w").data) and torch.equal(a.labels.data, b.labels.data)
        for a, b in scans
    )


def test_two_processes_make_the_same_people_in_any_order(cohort, tmp_path):
    beside = build(Cache(tmp_path), FEW[::-1][:2], n_jobs=2)
    assert beside.ids == cohort.ids[::-1][:2] and same(cohort, beside)


def test_a_second_build_only_reads(cohort, cache, monkeypatch):
    monkeypatch.setattr(cohorts, "_make", lambda *_, **__: pytest.fail("simulated again"))
    again = build(cache)
    assert again.provenance == cohort.provenance and same(cohort, again)


def test_a_killed_build_goes_on_where_it_was(cohort, cache, tmp_path, monkeypatch):
    entries = {}
    for entry in (cache.root / cohorts.NAME).iterdir():
        entries[json.loads((entry / "key.json").read_text())["person"]["person"]["id"]] = entry
    made = []

    def until_killed(plan, folder, **_):
        (folder / "person.safetensors").write_bytes(b"half")
        if len(made) == 3 and "killed" not in made:
            made.append("killed")
            raise KeyboardInterrupt
        made.append(plan.person.id)
        shutil.copytree(entries[plan.person.id], folder, dirs_exist_ok=True)
        (folder / "key.json").unlink()

    monkeypatch.setattr(cohorts, "_make", until_killed)
    with pytest.raises(KeyboardInterrupt):
        build(Cache(tmp_path))
    assert len(list((tmp_path / cohorts.NAME).iterdir())) == 3
    resumed = build(Cache(tmp_path))
    assert sorted(m for m in made if m != "killed") == sorted(cohort.ids)  # nobody twice
    assert resumed.provenance["data_hash"] == cohort.provenance["data_hash"]


def test_another_seed_makes_other_people():
    first, second = plans("smoke"), plans("smoke", SEED + 1)
    assert [p.person.id for p in first] == [p.person.id for p in second]
    assert all(a.ages != b.ages for a, b in zip(first, second, strict=True))


def test_unknown_profile_is_refused():
    with pytest.raises(NbkitError, match="Did you mean 'laptop'"):
        cohorts.build("labtop", seed=SEED)
