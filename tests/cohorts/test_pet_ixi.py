"""pet_ixi on label maps drawn from the template, in files of the same layout; and on real ones when they are here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os

import numpy as np
import pytest
import torch

from nbkit import cohorts
from nbkit.cohorts import pet_ixi
from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.manifest import Manifest, ManifestFile, load_manifest
from nbkit.data.splits import folds, person_of
from nbkit.phantom.fdg import roster, template_donor
from nbkit.phantom.fdg_donor import label_donor
from nbkit.phantom.muse import ATLAS, PEOPLE, merge_codes
from nbkit.phantom.parameters import load_parameters
from tests.cohorts.muse_table import atlas_rows

LAYOUT = load_manifest("pet_ixi").layout
PARAMETERS = load_parameters(pet_ixi.PARAMETERS)
REAL = {"IXI001": (51.25, "F"), "IXI002": (68.5, "M")}
FEW = tuple(p for p in roster("smoke", seed=7) if p.id.endswith(("001", "002")))
MIRROR = os.environ.get("NBKIT_MIRROR")


def muse_labels() -> Volume:
    """MUSE codes of the template on voxels of 4 mm: the first region of every structure stands for all of it."""
    regions, rows, muse = template_donor(4).regions, atlas_rows(PARAMETERS), PARAMETERS.section("muse")
    codes = [0]
    for name in regions.names:
        structure, _, side = name.rpartition("_")
        first = muse[structure][0]
        codes.append(rows.get(first, rows.get(f"{first}_{side[0].upper()}")))
    winner = (regions.maps.data.argmax(dim=0) + 1) * (regions.maps.data.sum(dim=0) > 0.5)
    return Volume(torch.tensor(codes)[winner][None], regions.maps.affine)


def publish(folder) -> Manifest:
    """The files of two people, and their manifest."""
    tables = {
        PEOPLE: ["MRID,Age,Sex", *(f"{name},{age},{sex}" for name, (age, sex) in REAL.items())],
        ATLAS: ["Index,Code,Name", *(f"{code},M,{name}" for name, code in atlas_rows(PARAMETERS).items())],
    }
    for path, lines in tables.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("\n".join(lines))
    labels = muse_labels()
    for k, name in enumerate(REAL):
        shift = np.eye(4)
        shift[:3, 3] = 7 * k
        nifti.save_labels(
            folder / LAYOUT["labels"].format(subject=name), Volume(labels.data, shift @ labels.affine)
        )
    files = [p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.is_file()]
    return Manifest(
        name="pet_ixi", title="t", access="open", licence="CC", attribution="IXI", folder="ixi", layout=LAYOUT,
        files=tuple(
            ManifestFile(path=str(f), sha256=hashlib.sha256((folder / f).read_bytes()).hexdigest()) for f in files
        ),
    )


def donor_of(name, age, labels, codes, **settings):
    """The first person's head from the labels, the second's the template: fields of growth take seconds."""
    if name == "IXI001":
        return label_donor(name, age, labels, codes, **settings)
    return dataclasses.replace(template_donor(4), name=name, age=age)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six virtual people from two real ones, built once."""
    root = tmp_path_factory.mktemp("mirror")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBKIT_MIRROR", str(root))
        patch.setattr(pet_ixi, "roster", lambda *_, **__: FEW)
        patch.setattr(pet_ixi, "label_donor", donor_of)
        manifest, cache = publish(root / "ixi"), Cache(root / "cache")
        yield manifest, cache, pet_ixi.build("smoke", seed=7, cache=cache, manifest=manifest, progress=False)


def without_images(cohort, name) -> dict:
    return {key: value for key, value in cohort.truth[name].items() if key != "noise_free"}


def test_every_real_person_gives_every_stage(made):
    cohort = made[2]
    assert cohort.ids == tuple(p.id for p in FEW) and cohort.access == "open"
    stages = {name: [] for name in REAL}
    for subject in cohort:
        name = subject.covariates["person"]
        stages[name].append(subject.diagnosis)
        assert (subject.covariates["person_age"], subject.sex) == REAL[name]
        assert cohort.truth[subject.id]["donor"] == name
        image, brain = subject.baseline.image("FDG"), subject.baseline.mask("brain")
        assert image.shape == (40, 48, 40) and not image.data[~brain.data].any()
        assert float(image.data[subject.baseline.mask("reference").data].mean()) == pytest.approx(1.0, abs=1e-3)
    assert all(own == ["CN", "MCI", "AD"] for own in stages.values())
    json.dumps([without_images(cohort, name) for name in cohort.ids])
    assert set(cohorts.noise_free(cohort, "FDG")) == {(name, "01") for name in cohort.ids}
    assert "IXI" in cohort.provenance["attribution"] and "not theirs" in cohort.provenance["simulated"]


def test_folds_keep_the_people_of_one_head_together(made):
    cohort = made[2]
    for fold in folds(cohort, 2, seed=0, group_of=person_of):
        both = {cohort.subject(i).covariates["person"] for i in fold.train_ids}
        assert both.isdisjoint(cohort.subject(i).covariates["person"] for i in fold.test_ids)


def test_a_second_build_only_reads(made, monkeypatch):
    manifest, cache, cohort = made
    monkeypatch.setattr(pet_ixi, "simulate", lambda *_, **__: pytest.fail("simulated again"))
    again = pet_ixi.build("smoke", seed=7, cache=cache, manifest=manifest, progress=False)
    assert again.provenance == cohort.provenance
    assert all(without_images(again, name) == without_images(cohort, name) for name in cohort.ids)


@pytest.mark.parametrize("seed", [0, 5])
def test_real_people_take_turns_in_every_stage(seed):
    donors = {f"IXI{k:03d}": ("F", 60.0) for k in range(40)}
    shared = pet_ixi.assign(donors, roster("laptop", seed=seed), seed=seed)
    assert sum(len(d.virtual) for d in shared) == 411
    for stage, least in (("CN", 2), ("MCI", 5), ("AD", 2)):
        counts = [sum(p.stage == stage for p in d.virtual) for d in shared]
        assert set(counts) == {least, least + 1}
    assert {p.sex for d in shared for p in d.virtual} == {"F"}


def test_every_region_of_the_atlas_has_a_structure_of_the_phantom(tmp_path):
    table = tmp_path / "MUSE_listROIs.csv"
    table.write_text("\n".join(["Index,Code,Name", *(f"{c},M,{n}" for n, c in atlas_rows(PARAMETERS).items())]))
    codes = merge_codes(table, PARAMETERS)
    structures = {n.rpartition("_")[0] for n in template_donor(4).regions.names}
    assert set(codes) == structures


def test_missing_files_are_refused_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_MIRROR", str(tmp_path))
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path))
    with pytest.raises(NbkitError, match="nbkit data fetch pet_ixi"):
        pet_ixi.build("smoke", seed=7, cache=Cache(tmp_path), progress=False)


@pytest.mark.skipif(not MIRROR, reason="set NBKIT_MIRROR to check real label maps")
def test_a_real_head_gives_an_image(tmp_path, monkeypatch):
    monkeypatch.setattr(pet_ixi, "roster", lambda *_, **__: FEW[:1])
    monkeypatch.setattr(pet_ixi, "label_donor", label_donor)
    monkeypatch.setenv("NBKIT_MIRROR", MIRROR)
    monkeypatch.setattr(pet_ixi, "_chosen", lambda table, *_: dict(list(table.items())[:1]))
    cohort = pet_ixi.build("smoke", seed=7, cache=Cache(tmp_path), progress=False)
    scan = cohort.subjects[0].baseline
    assert 20_000 < int(scan.mask("brain").data.sum()) * 64 / 50 < 35_000
    assert float(scan.image("FDG").data[scan.mask("gm").data].mean()) > 0.7
