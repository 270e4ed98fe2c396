"""The embedded myelin cohort: sessions, covariates, the cache, the null experiment."""

from __future__ import annotations

import json
import pickle
import re
import tomllib
from pathlib import Path

import pytest
import torch

from nbkit.cohorts import myelin_phantom
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
        for contrast, sign in (("DVR", -1), ("MTR", -1), ("FA", -1), ("RD", 1)):
            image = scan.image(contrast).data
            lesion, normal = (float(image[scan.mask(m).data].mean()) for m in ("lesions", "nawm"))
            assert sign * (lesion - normal) > 0, (subject.id, contrast)


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
