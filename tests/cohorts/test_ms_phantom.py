"""The embedded cohort: who is in it, the cache, and the same images whatever the number of jobs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from nbkit.cohorts import ms_phantom, noise_free
from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.phantom.anatomy import ATTRIBUTION
from nbkit.phantom.parameters import load_parameters

P = load_parameters()
MANIFEST = Path(__file__).parents[2] / "data_manifests" / "ms_phantom" / "cohort.toml"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def cohort(cache):
    return ms_phantom.build("smoke", seed=7, cache=cache, n_jobs=2, progress=False)


@pytest.mark.parametrize("seed", [0, 7, 12345])
def test_people_are_those_of_the_paper(seed):
    people = ms_phantom.roster("paper", seed=seed, parameters=P)
    assert people == ms_phantom.roster("laptop", seed=seed, parameters=P)
    patients = [p for p in people if p.diagnosis == "MS"]
    controls = [p for p in people if p.diagnosis == "HC"]
    for group, n, women, mean, sd in ((patients, 20, 8, 35.1, 7.7), (controls, 4, 2, 33.0, 5.6)):
        ages = np.array([p.age for p in group])
        assert len(group) == n
        assert sum(p.sex == "F" for p in group) == women
        assert ages.mean() == pytest.approx(mean, abs=0.05)
        assert ages.std(ddof=1) == pytest.approx(sd, abs=0.05)
    assert all(p.lesions == 0 for p in controls) and all(p.lesions >= 15 for p in patients)
    assert {p.id for p in people} == {f"ms{i:02d}" for i in range(1, 21)} | {f"hc{i:02d}" for i in range(1, 5)}


def test_smoke_keeps_patients_and_controls(cohort):
    assert [s.diagnosis for s in cohort] == ["MS"] * 6 + ["HC"] * 2
    assert {s.sex for s in cohort} == {"F", "M"}


def test_every_subject_has_one_scan_with_images_masks_and_truth(cohort):
    for subject in cohort:
        scan = subject.baseline
        assert tuple(scan.images) == ("T1w", "T2w", "PDw", "T1SE", "DIR", "FLAIR")
        assert set(scan.masks) == {"brain", "lesions", "wm", "nawm", "gm", "csf", "ventricles"}
        assert scan.age == cohort.truth[subject.id]["age"]
        scan.mask("brain").check_grid(scan.image("FLAIR"), "test")
        truth = cohort.truth[subject.id]
        assert len(truth["lesion_sizes_mm3"]) == truth["lesion_count"]
        assert truth["lesion_load_ml"] == pytest.approx(subject.covariates["lesion_load_ml"], rel=0.02)


def test_provenance_says_where_the_images_come_from(cohort):
    assert cohort.access == "embedded"
    assert "Montreal Neurological Institute" in cohort.provenance["attribution"]
    assert cohort.provenance["parameters"] == P.digest()
    assert cohort.provenance["grid"] == {"shape": [52, 64, 20], "spacing_mm": [3.6, 3.6, 6.0]}
    assert re.fullmatch("[0-9a-f]{12}", cohort.provenance["data_hash"])


def test_a_second_build_only_reads(cohort, cache, monkeypatch):
    monkeypatch.setattr(ms_phantom, "simulate", lambda *_, **__: pytest.fail("simulated again"))
    again = ms_phantom.build("smoke", seed=7, cache=cache, progress=False)
    assert again.provenance == cohort.provenance
    first, second = (c.subject("ms03").baseline.image("DIR").data for c in (cohort, again))
    assert torch.equal(first, second)


def test_one_job_makes_the_same_images(cohort, tmp_path, monkeypatch):
    everyone = ms_phantom.roster("smoke", seed=7, parameters=P)
    monkeypatch.setattr(ms_phantom, "roster", lambda *_, **__: everyone[::-1][:3])
    alone = ms_phantom.build("smoke", seed=7, cache=Cache(tmp_path), n_jobs=1, progress=False)
    assert alone.ids == ("hc02", "hc01", "ms06")
    facts = [{n: v for n, v in c.truth[i].items() if n != "noise_free"} for i in alone.ids for c in (alone, cohort)]
    assert facts[::2] == facts[1::2]
    for subject in alone:
        for name, image in subject.baseline.images.items():
            assert torch.equal(image.data, cohort.subject(subject.id).baseline.image(name).data)


@pytest.mark.parametrize("contrast", P.groups("contrast"))
def test_images_less_those_without_noise_are_noise(cohort, contrast):
    """Mean 0, the parameter's spread, the same in all tissues, and no part of the image left in it."""
    still = noise_free(cohort, contrast)
    assert list(still) == [(i, "01") for i in cohort.ids]
    level = P[f"contrast.{contrast}.noise"] * P["scanner.brightest"]
    for (subject, _), mean in still.items():
        scan = cohort.subject(subject).baseline
        residual, brain = scan.image(contrast).data - mean.data, scan.mask("brain").data
        bright = brain & (mean.data > 5 * level)
        assert float(residual[brain].mean()) == pytest.approx(0, abs=4 * level / float(brain.sum()) ** 0.5)
        assert float(residual[bright].std()) == pytest.approx(level, rel=0.05)
        assert abs(np.corrcoef(residual[bright], mean.data[bright])[0, 1]) < 4 / float(bright.sum()) ** 0.5
        near = np.corrcoef(residual[0, 1:].ravel(), residual[0, :-1].ravel())[0, 1]
        assert abs(near) < 4 / residual.numel() ** 0.5


def test_strangers_are_others_of_the_same_design(cohort, cache):
    others = ms_phantom.strangers("smoke", seed=7, times=2, cache=cache, progress=False)
    assert len(others) == 2 * len(cohort) and not set(others.ids) & set(cohort.ids)
    assert sorted(s.diagnosis for s in others) == sorted(2 * [s.diagnosis for s in cohort])
    loads = [{s.covariates["lesion_load_ml"] for s in c if s.diagnosis == "MS"} for c in (cohort, others)]
    assert len(loads[1]) == 2 * len(loads[0]) and not loads[0] & loads[1]
    scan, own = others.subjects[0].baseline, cohort.subjects[0].baseline
    assert tuple(scan.images) == tuple(own.images) and scan.image("FLAIR").data.dtype == torch.float32
    assert not torch.equal(scan.mask("brain").data, own.mask("brain").data)


def test_unknown_profile_is_refused():
    with pytest.raises(NbkitError, match="Did you mean 'laptop'"):
        ms_phantom.build("labtop", seed=7)


def test_the_manifest_tells_the_same():
    manifest = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))
    assert manifest["name"] == ms_phantom.NAME
    assert manifest["access"] == "embedded"
    assert manifest["attribution"] == ATTRIBUTION
    assert manifest["expected"]["subjects"] == P["cohort.patients"] + P["cohort.controls"]
