"""ixi_ageing on people drawn from the template, in files of the same layout; and on a real scan when it is here."""

from __future__ import annotations

import csv
import hashlib
import json
import os

import numpy as np
import pytest
import torch

from nbkit.cohorts import ixi_ageing
from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.manifest import Manifest, ManifestFile, load_manifest
from nbkit.geometry.flow import Velocity, expv
from nbkit.phantom.anatomy import load_template
from nbkit.phantom.longitudinal import ageing_parameters
from nbkit.phantom.muse import ATLAS, PEOPLE
from nbkit.phantom.parameters import load_parameters
from nbkit.phantom.regions import template_maps
from tests.cohorts.muse_table import atlas_rows

LAYOUT = load_manifest("ixi_ageing").layout
MIRROR = os.environ.get("NBKIT_MIRROR")
PARAMETERS = load_parameters(ixi_ageing.PARAMETERS)
AGES = {"IXI001": (51.25, "F"), "IXI002": (58.5, "M"), "IXI003": (64.0, "F"), "IXI004": (70.75, "M")}


@pytest.fixture(scope="module")
def person():
    """T1w image and MUSE labels of the template, on voxels of 4 mm."""
    regions, tissues = template_maps(load_template(load_parameters()), ageing_parameters(), spacing=4)
    rows, muse = atlas_rows(PARAMETERS), PARAMETERS.section("muse")
    codes = [0]
    for name in regions.names:
        structure, _, side = name.rpartition("_")
        first = muse[structure][0]
        codes.append(rows.get(first, rows.get(f"{first}_{side[0].upper()}")))
    filled = regions.maps.data.sum(dim=0) > 0.5
    labels = torch.tensor(codes)[(regions.maps.data.argmax(dim=0) + 1) * filled]
    gm, wm, csf = tissues.data
    image = 500 * (0.7 * gm + wm + 0.25 * csf) + torch.from_numpy(np.random.default_rng(0).normal(0, 8, labels.shape))
    return Volume(image.clamp(min=0).float(), regions.maps.affine), Volume(labels[None], regions.maps.affine)


def publish(folder, person, names) -> Manifest:
    rows = ["MRID,Age,Sex", *(f"{name},{AGES[name][0]},{AGES[name][1]}" for name in names)]
    atlas = ["Index,Code,Name", *(f"{code},M,{name}" for name, code in atlas_rows(PARAMETERS).items())]
    tables = {PEOPLE: "\n".join(rows), ATLAS: "\n".join(atlas)}
    for path, text in tables.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for k, name in enumerate(names):
        shift = np.eye(4)
        shift[:3, 3] = 3 * k
        t1w, labels = (Volume(v.data, shift @ v.affine) for v in person)
        nifti.save_image(folder / LAYOUT["T1w"].format(subject=name), t1w)
        nifti.save_labels(folder / LAYOUT["labels"].format(subject=name), labels)
    files = [p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.is_file()]
    return Manifest(
        name="ixi_ageing", title="t", access="open", licence="CC", attribution="IXI", folder="ixi", layout=LAYOUT,
        files=tuple(
            ManifestFile(path=str(f), sha256=hashlib.sha256((folder / f).read_bytes()).hexdigest()) for f in files
        ),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory, person):
    """Two people, their manifest and the cohort, built once."""
    root = tmp_path_factory.mktemp("mirror")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBKIT_MIRROR", str(root))
        manifest = publish(root / "ixi", person, ["IXI001", "IXI003"])
        cache = Cache(root / "cache")
        yield manifest, cache, ixi_ageing.build("smoke", seed=7, cache=cache, manifest=manifest, progress=False)


def test_a_real_baseline_is_followed_by_simulated_visits(made):
    cohort = made[2]
    assert cohort.ids == ("IXI001", "IXI003") and cohort.access == "open"
    for subject in cohort:
        age, sex = AGES[subject.id]
        assert (subject.baseline.age, subject.sex) == (age, sex)
        assert 3 <= len(subject.scans) <= 5
        assert subject.baseline.diagnosis == "CN"
        assert {scan.diagnosis for scan in subject.scans[1:]} == {subject.diagnosis}
        assert [s.age for s in subject.scans] == sorted({s.age for s in subject.scans})
        assert subject.covariates["kind"] == "real baseline, simulated follow-up"
        names = subject.baseline.label_names
        assert names[1] == "lateral_ventricle_left" and names[len(names)] == "csf_right"
        for scan in subject.scans:
            image, inside = scan.image("T1w"), scan.mask("brain").data
            assert image.data.dtype == torch.float32
            assert not image.data[~inside].any() and (image.data[inside] > 0).all()
            assert torch.equal(scan.labels.data > 0, inside)
            image.check_grid(scan.labels, "test")


def test_the_truth_is_what_the_labels_and_the_flow_show(made):
    cohort = made[2]
    for subject in cohort:
        truth, base = cohort.truth[subject.id], subject.baseline
        json.dumps(truth.as_dict())
        assert len(truth.volumes) == len(truth.times) == len(subject.scans) and truth.times[0] == 0
        assert sum(truth.volumes[-1].values()) == pytest.approx(sum(truth.volumes[0].values()), rel=1e-4)
        for name in ("lateral_ventricle", "hippocampus"):
            before, after = (sum(v for n, v in volumes.items() if n.startswith(name)) for volumes in
                             (truth.volumes[0], truth.volumes[-1]))
            assert np.sign(after - before) == np.sign(truth.rates[name])
        # what stands on disk, not what the simulator said: the last image is the scan moved along the stored field
        flow = expv(Velocity(truth.times[-1] * truth.velocity.data[None]), affine=base.labels.affine)
        assert float(flow.norm(dim=1).max()) > 0.2
        growth = truth.log_jacobian(-1).data[0]
        ventricle = sum((base.labels.data[0] == k) for k in (1, 2)).bool()
        assert float(growth[ventricle].mean()) > 0.02


def test_volumes_of_the_baseline_are_those_of_the_label_file(made, person):
    rows, labels = atlas_rows(PARAMETERS), person[1]
    for subject in made[2]:
        first = made[2].truth[subject.id].volumes[0]
        total = int((labels.data > 0).sum()) * labels.voxel_volume
        assert sum(first.values()) == pytest.approx(total, rel=0.01)
        wanted = int((labels.data == rows["ThalamusProper_L"]).sum()) * labels.voxel_volume
        assert first["thalamus_left"] == pytest.approx(wanted, rel=0.05)


def test_follow_ups_have_noise_of_their_own_and_the_baseline_none_added(made):
    scans = made[2].subject("IXI001").scans
    steps = [" ".join(scan.image("T1w").history) for scan in scans]
    assert "noise" not in steps[0] and all("Rician noise" in step for step in steps[1:])
    assert all(step.count("interpolation") == 1 for step in steps)
    gap = (scans[-1].image("T1w").data - scans[-2].image("T1w").data)[scans[0].mask("brain").data]
    assert float(gap.std()) > 0.003


def test_the_second_time_comes_from_the_cache_and_other_seeds_do_not(made, monkeypatch):
    manifest, cache, cohort = made
    with monkeypatch.context() as patch:
        patch.setattr(ixi_ageing, "prepare", lambda *_, **__: pytest.fail("prepared again"))
        again = ixi_ageing.build("smoke", seed=7, cache=cache, manifest=manifest, progress=False)
        assert again.provenance == cohort.provenance
        with pytest.raises(pytest.fail.Exception, match="prepared again"):
            ixi_ageing.build("smoke", seed=8, cache=cache, manifest=manifest, progress=False)


def test_a_worker_process_makes_what_this_one_makes(made, tmp_path, monkeypatch):
    plans = ixi_ageing.roster(made[0], "smoke", seed=7, parameters=PARAMETERS)
    monkeypatch.setattr(ixi_ageing, "roster", lambda *_, **__: plans[1:])
    other = ixi_ageing.build("smoke", seed=7, cache=Cache(tmp_path), manifest=made[0], n_jobs=2, progress=False)
    assert other.ids == made[2].ids[1:]
    here, there = (cohort.subject(other.ids[0]) for cohort in (made[2], other))
    for a, b in zip(here.scans, there.scans, strict=True):
        assert torch.equal(a.image("T1w").data, b.image("T1w").data)


def test_what_is_simulated_is_said_and_no_path_is(made):
    provenance = made[2].provenance
    assert provenance["kind"] == "real baseline, simulated follow-up"
    assert provenance["attribution"].startswith("IXI") and provenance["licence"] == "CC"
    assert str(made[1].root.parent) not in json.dumps(provenance)


def test_missing_files_are_named_with_the_remedy(made, monkeypatch, tmp_path):
    monkeypatch.delenv("NBKIT_MIRROR")
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path))
    with pytest.raises(NbkitError, match="participants.csv.*make data COHORT=open.*NBKIT_MIRROR"):
        ixi_ageing.build("smoke", seed=7, manifest=made[0])
    with pytest.raises(NbkitError, match="Did you mean 'laptop'"):
        ixi_ageing.build("labtop", seed=7, manifest=made[0])


# What follows reads real scans

@pytest.fixture
def real(monkeypatch):
    if not MIRROR:
        pytest.skip("set NBKIT_MIRROR to read the real scans")
    monkeypatch.setenv("NBKIT_MIRROR", MIRROR)
    manifest = load_manifest("ixi_ageing")
    if manifest.find(PEOPLE) is None:
        pytest.skip("the mirror does not hold nichart_ixi")
    return manifest


def test_half_of_the_futures_are_healthy_at_every_age(real):
    parameters = PARAMETERS
    for seed in (1, 7):
        plans = ixi_ageing.roster(real, "laptop", seed=seed, parameters=parameters)
        courses = [plan.person.diagnosis for plan in sorted(plans, key=lambda p: (p.person.age, p.person.id))]
        assert all(sorted(courses[k:k + 4]) == ["AD", "CN", "CN", "LMCI"] for k in range(0, 40, 4))
        assert all(3 <= len(plan.ages) <= 5 and 3 <= plan.ages[-1] - plan.ages[0] <= 8 for plan in plans)


def test_a_real_person_keeps_the_published_volumes(real, tmp_path):
    name = "IXI338-HH-1971"
    keep = {*real.subjects()[name].values(), PEOPLE, ATLAS}
    one = real.model_copy(update={"files": tuple(f for f in real.files if f.path in keep)})
    one = Manifest(**one.model_dump() | {"expected": {}})
    cohort = ixi_ageing.build("smoke", seed=7, cache=Cache(tmp_path), manifest=one, progress=False)
    volumes = cohort.truth[name].volumes[0]
    with real.locate("sample_datasets/demo_dataset_IXI/dlmuse/dlmuse.csv").open() as stream:
        row = next(r for r in csv.DictReader(stream) if r["MRID"] == name)
    for code, region in (("47", "hippocampus_right"), ("52", "lateral_ventricle_left"), ("57", "putamen_right")):
        published = float(row[code]) + (float(row["50"]) if code == "52" else 0)
        assert volumes[region] == pytest.approx(published, rel=0.05)
    assert sum(volumes.values()) == pytest.approx(float(row["702"]), rel=0.02)
