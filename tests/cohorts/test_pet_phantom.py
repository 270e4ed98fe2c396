"""The embedded PET cohort: people, cache, one way in, and the same images whatever the number of jobs."""

from __future__ import annotations

import json
import pickle
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nbkit import cohorts
from nbkit.cohorts import pet_phantom
from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.data.pet_slices import slice_table
from nbkit.phantom.anatomy import ATTRIBUTION
from nbkit.phantom.fdg import fdg_parameters, roster

MANIFEST = Path(__file__).parents[2] / "data_manifests" / "pet_phantom" / "cohort.toml"
PEOPLE = tuple(p for p in roster("smoke", seed=7) if p.id.endswith(("001", "002")))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def cohort(cache):
    """Two people of each stage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pet_phantom, "roster", lambda *_, **__: PEOPLE)
        yield pet_phantom.build("smoke", seed=7, cache=cache, n_jobs=2, progress=False)


def facts_of(cohort, name) -> dict:
    return {key: value for key, value in cohort.truth[name].items() if key != "noise_free"}


def test_everybody_has_one_scan_with_masks_and_truth(cohort):
    assert cohort.ids == ("nc001", "nc002", "mci001", "mci002", "ad001", "ad002")
    assert [s.diagnosis for s in cohort] == ["CN", "CN", "MCI", "MCI", "AD", "AD"]
    for subject in cohort:
        scan = subject.baseline
        assert (scan.session, len(subject.scans), list(scan.images)) == ("01", 1, ["FDG"])
        assert 55 <= scan.age <= 92 and subject.sex in "FM"
        image, brain = scan.image("FDG"), scan.mask("brain")
        assert image.shape == (40, 48, 40) and image.data.dtype == torch.float32
        assert not image.data[~brain.data].any() and bool((scan.mask("gm").data <= brain.data).all())
        assert float(image.data[scan.mask("reference").data].mean()) == pytest.approx(1.0, abs=1e-3)
        assert cohort.truth[subject.id]["stage"] == subject.diagnosis
    json.dumps([facts_of(cohort, name) for name in cohort.ids])


def test_provenance_says_where_the_images_come_from(cohort):
    assert cohort.access == "embedded" and cohort.provenance["attribution"] == ATTRIBUTION
    assert cohort.provenance["parameters"] == fdg_parameters().digest()
    assert cohort.provenance["grid"] == {"shape": [40, 48, 40], "spacing_mm": [4.0, 4.0, 4.0]}
    assert re.fullmatch("[0-9a-f]{12}", cohort.provenance["data_hash"])


def test_a_second_build_only_reads_and_one_job_makes_the_same(cohort, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(pet_phantom, "roster", lambda *_, **__: PEOPLE[::-1][:2])
    alone = pet_phantom.build("smoke", seed=7, cache=Cache(tmp_path), progress=False)
    assert alone.ids == ("ad002", "ad001")
    monkeypatch.setattr(pet_phantom, "simulate", lambda *_, **__: pytest.fail("simulated again"))
    again = pet_phantom.build("smoke", seed=7, cache=cache, progress=False)
    for other in (alone, again):
        for subject in other:
            here = cohort.subject(subject.id)
            assert torch.equal(subject.baseline.image("FDG").data, here.baseline.image("FDG").data)
            assert facts_of(other, subject.id) == facts_of(cohort, subject.id)


def test_without_noise_the_image_is_what_neighbours_agree_on(cohort):
    """The two differ by noise, and the common factor that noise in the reference makes; strangers by far more."""
    quiet = cohorts.noise_free(cohort, "FDG")
    assert set(quiet) == {(name, "01") for name in cohort.ids}
    left = []
    for subject in cohort:
        image, brain = subject.baseline.image("FDG").data, subject.baseline.mask("brain").data
        off = (image - quiet[subject.id, "01"].data)[brain]
        assert abs(float(off.mean())) < 0.2 * float(off.std())
        left.append(float(off.std()))
    two = [cohort.subject(name).baseline for name in ("nc001", "nc002")]
    both = two[0].mask("brain").data & two[1].mask("brain").data
    apart = float((two[0].image("FDG").data - two[1].image("FDG").data)[both].std())
    assert 0 < max(left) < 0.5 * apart


def test_strangers_are_other_people_of_the_same_counts(tmp_path, monkeypatch):
    few = lambda profile, *, seed: tuple(p for p in roster(profile, seed=seed) if p.id.endswith("001"))  # noqa: E731
    monkeypatch.setattr(pet_phantom, "roster", few)
    made = [pet_phantom.strangers("smoke", seed=s, times=2, cache=Cache(tmp_path), progress=False) for s in (7, 7, 8)]
    assert made[0].ids == tuple(f"x{k}{p.id}" for k in (1, 2) for p in few("smoke", seed=7))
    assert [s.diagnosis for s in made[0]] == ["CN", "MCI", "AD"] * 2
    first, again, other = ([s.baseline.image("FDG").data for s in cohort] for cohort in made)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    everybody = [*first, *other]
    assert not any(torch.equal(a, b) for k, a in enumerate(everybody) for b in everybody[:k])


def test_scans_travel_and_give_slices(cohort):
    copy = pickle.loads(pickle.dumps(cohort))
    table = slice_table(copy, per_view=2, size=32)
    assert table.images.shape == (36, 1, 32, 32) and table.stage_of["mci002"] == "MCI"
    assert (table.images[:, 0, 0] == -1).all(), "nothing outside the brain"
    assert 0 < float(table.suvr(table.images).amax()) < table.suvr_max


def test_it_is_what_embedded_means(monkeypatch):
    assert cohorts.cohort_name("embedded", task="pet") == "pet_phantom"
    assert cohorts.cohort_name("open", task="pet") == "pet_ixi"
    monkeypatch.setattr(cohorts.pet_phantom, "build", lambda profile, *, seed, n_jobs: SimpleNamespace(
        access="embedded", told=(profile, seed, n_jobs)))
    assert cohorts.cohort_for("embedded", task="pet", profile="smoke", seed=3, n_jobs=2).told == ("smoke", 3, 2)


def test_an_unknown_profile_is_refused():
    with pytest.raises(NbkitError, match="Did you mean 'laptop'"):
        pet_phantom.build("labtop", seed=7)


def test_the_manifest_tells_the_same():
    manifest = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))
    assert manifest["attribution"] == ATTRIBUTION
    assert manifest["expected"]["subjects"] == sum(fdg_parameters()["cohort.counts"])
