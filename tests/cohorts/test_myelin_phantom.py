"""The embedded myelin cohort: sessions, covariates, the cache, the null experiment."""

from __future__ import annotations

import json
import pickle
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from nbkit.cohorts import myelin_phantom, noise_free
from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.phantom.anatomy import ATTRIBUTION
from nbkit.phantom.myelin_people import myelin_parameters, roster

P = myelin_parameters()
MANIFEST = Path(__file__).parents[2] / "data_manifests" / "myelin_phantom" / "cohort.toml"
IMAGES = ("T1w", "MTR", "FA", "RD", "AD", "DVR")
MASKS = ("brain", "lesions", "nawm", "wm", "gm", "csf", "ventricles")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def few():
    """Four patients, one of them seen once, and a control."""
    people = roster("smoke", seed=7, parameters=P)
    once = next(p for p in people if p.diagnosis == "MS" and p.months is None)
    return (once, *[p for p in people if p.months is not None][:3], people[-1])


@pytest.fixture(scope="module")
def build(few, tmp_path_factory):
    cache = Cache(tmp_path_factory.mktemp("cache"))

    def built(**changes):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(myelin_phantom, "roster", lambda *_, **__: few)
            return myelin_phantom.build("smoke", **{"seed": 7, "cache": cache, "progress": False} | changes)

    built.cache = cache
    return built


@pytest.fixture(scope="module")
def cohort(build):
    return build(n_jobs=2)


def test_patients_come_twice_and_controls_once(cohort, few):
    assert cohort.ids == tuple(p.id for p in few) and cohort.name == "myelin_phantom" and cohort.access == "embedded"
    for subject, person in zip(cohort, few, strict=True):
        assert [s.session for s in subject.scans] == ["t0", "t1"][: 1 if person.months is None else 2]
        assert (subject.sex, subject.diagnosis, subject.baseline.age) == (person.sex, person.diagnosis, person.age)
        if person.months is not None:
            assert 12 * (subject.scans[1].age - person.age) == pytest.approx(person.months, abs=0.01)


def test_every_scan_has_its_images_masks_and_truth(cohort):
    for subject in cohort:
        for scan in subject.scans:
            assert tuple(scan.images) == IMAGES and tuple(scan.masks) == MASKS
            for name in MASKS:
                assert scan.mask(name).data.dtype == torch.bool
                scan.mask(name).check_grid(scan.image("DVR"), "test")
            truth = cohort.truth[subject.id][scan.session]
            assert set(truth) == {"myelin", "demyelinated", "remyelinated", "DVR"}
            assert not (truth["demyelinated"].data & ~scan.mask("lesions").data).any()
        assert json.dumps(cohort.truth[subject.id]["facts"])


def test_lesions_have_lower_dvr_and_mtr_than_the_white_matter_round_them(cohort):
    for subject in cohort.subjects[:4]:
        scan = subject.baseline
        for contrast, sign in (("DVR", -1), ("MTR", -1), ("RD", 1)):
            image = scan.image(contrast).data
            lesion, normal = (float(image[scan.mask(m).data].mean()) for m in ("lesions", "nawm"))
            assert sign * (lesion - normal) > 0, (subject.id, contrast)


@pytest.mark.parametrize("contrast", ["MTR", "RD", "AD", "DVR"])
def test_images_less_those_without_noise_are_noise(cohort, contrast):
    still = noise_free(cohort, contrast)
    assert list(still) == [(s.id, scan.session) for s in cohort for scan in s.scans]
    scans = {(s.id, scan.session): scan for s in cohort for scan in s.scans}
    spread = []
    for key, mean in still.items():
        brain = scans[key].mask("brain").data
        residual = (scans[key].image(contrast).data - mean.data)[brain]
        spread.append(float(residual.std()))
        assert float(residual.mean()) == pytest.approx(0, abs=4 * spread[-1] / residual.numel() ** 0.5)
        assert abs(np.corrcoef(residual, mean.data[brain])[0, 1]) < 0.05
    voxel = {"MTR": 1.1, "DVR": 1.22**3}.get(contrast, 8.0)
    level = P["pet.noise"] if contrast == "DVR" else P[f"acquisition.{contrast.lower()}_noise"]
    assert np.allclose(spread, level * (voxel / mean.voxel_volume) ** 0.5, rtol=0.05)
    lesion, inside = ((cohort.truth[cohort.ids[1]]["t0"][n].data) for n in ("demyelinated", "DVR"))
    camera = noise_free(cohort, "DVR")[cohort.ids[1], "t0"].data
    assert float((camera - inside)[lesion].mean()) > 0  # resolution fills lesions in


def test_strangers_are_others_of_the_same_design(cohort, few, build):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(myelin_phantom, "roster", lambda *_, **__: few)
        others = myelin_phantom.strangers("smoke", seed=7, times=2, cache=build.cache, progress=False)
    assert len(others) == 2 * len(cohort) and not set(others.ids) & set(cohort.ids)
    first, second, own = (c.subjects[i].baseline for c, i in ((others, 0), (others, len(few)), (cohort, 0)))
    assert tuple(first.images) == IMAGES and first.image("DVR").data.dtype == torch.float32
    for other in (second, own):
        assert not torch.equal(first.mask("brain").data, other.mask("brain").data)


def test_patients_have_scores_and_loads(cohort):
    for subject in cohort:
        facts = cohort.truth[subject.id]["facts"]
        assert subject.covariates["age"] == subject.baseline.age
        if subject.diagnosis == "MS":
            assert subject.covariates["edss"] == facts["edss"] and 2 * facts["edss"] == round(2 * facts["edss"])
            assert subject.covariates["t2_load_ml"] == facts["load_ml"] > 0
        else:
            assert set(subject.covariates) == {"age"} and facts["course"] is None


def test_the_null_experiment_has_the_same_people_and_first_scans(cohort, build):
    null = build(changed=False, n_jobs=1)
    assert null.name == "myelin_phantom_null" and null.provenance["null"] and not cohort.provenance["null"]
    assert null.provenance["data_hash"] != cohort.provenance["data_hash"]
    for subject, other in zip(cohort, null, strict=True):
        assert (subject.covariates, subject.sex, len(subject.scans)) == (other.covariates, other.sex, len(other.scans))
        for name in IMAGES:  # made by two jobs and by one
            assert torch.equal(subject.baseline.image(name).data, other.baseline.image(name).data)
        if len(subject.scans) == 2:
            first, second = (null.truth[other.id][s]["demyelinated"].data for s in ("t0", "t1"))
            assert torch.equal(first, second) and not null.truth[other.id]["t1"]["remyelinated"].data.any()
            assert not torch.equal(other.scans[1].image("DVR").data, subject.scans[1].image("DVR").data)


def test_a_second_build_only_reads_and_a_cohort_can_travel(cohort, build, monkeypatch):
    monkeypatch.setattr("nbkit.phantom.myelin_records.simulate", lambda *_, **__: pytest.fail("simulated again"))
    again = build()
    assert again.provenance == cohort.provenance
    travelled = pickle.loads(pickle.dumps(cohort))
    for other in (again, travelled):
        first, second = (c.subjects[1].scans[1].image("RD").data for c in (cohort, other))
        assert torch.equal(first, second)


def test_provenance_says_where_the_images_come_from(cohort):
    p = cohort.provenance
    assert "Montreal Neurological Institute" in p["attribution"] and p["parameters"] == P.digest()
    assert p["grid"] == {"shape": [32, 40, 32], "spacing_mm": [4.88, 4.88, 4.88]}
    assert re.fullmatch("[0-9a-f]{12}", p["data_hash"]) and (p["profile"], p["seed"]) == ("smoke", 7)


def test_unknown_profile_is_refused():
    with pytest.raises(NbkitError, match="Did you mean 'laptop'"):
        myelin_phantom.build("labtop", seed=7)


def test_the_manifest_tells_the_same():
    manifest = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))
    told = (manifest["name"], manifest["access"], manifest["attribution"])
    assert told == (myelin_phantom.NAME, "embedded", ATTRIBUTION)
    assert manifest["expected"]["subjects"] == P["cohort.patients"] + P["cohort.controls"]
