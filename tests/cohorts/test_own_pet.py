"""Own FDG scans as a cohort: on the grid of the simulated ones, restricted, without paths, through the one door."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

from nbkit import cohorts
from nbkit.cohorts import own_pet
from nbkit.core.checks import NbkitError
from nbkit.core.files import Cache
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.pet_slices import slice_table
from nbkit.phantom.fdg import fdg_grid, mean_control
from tests.data.trees import table

PEOPLE = [
    {"participant_id": "sub-01", "sex": "F", "age": 71.0, "diagnosis": "CN"},
    {"participant_id": "sub-02", "sex": "M", "age": 78.5, "diagnosis": "LMCI"},
]


def write(root, subject: str, factor: float, *, session: str = "M000"):
    """A scan in MNI space on the phantom's smoke grid: the mean control times `factor`, and a bright face as scalp."""
    control = mean_control("smoke").image
    scalp = torch.zeros_like(control.data)
    scalp[:, 0] = 3.0
    path = root / subject / f"ses-{session}" / "pet"
    name = f"{subject}_ses-{session}_trc-18FFDG_space-MNI152NLin2009cSym_suvr-cerebellumPons2_pet.nii.gz"
    return nifti.save_image(path / name, control.with_data(control.data * factor + scalp))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "mine"
    table(folder / "participants.tsv", PEOPLE)
    write(folder, "sub-01", 1.0)
    write(folder, "sub-02", 0.8)
    return folder


def test_scans_come_on_the_grid_of_the_simulated_ones(root, tmp_path):
    cohort = own_pet.build(root, "smoke", cache=Cache(tmp_path / "cache"))
    assert (cohort.name, cohort.access, cohort.ids) == ("own-mine", "restricted", ("01", "02"))
    assert [(s.sex, s.diagnosis, s.baseline.age) for s in cohort] == [("F", "CN", 71.0), ("M", "LMCI", 78.5)]
    control = mean_control("smoke").image
    for subject, factor in zip(cohort, (1.0, 0.8), strict=True):
        image = subject.baseline.image("FDG")
        np.testing.assert_allclose(image.affine, fdg_grid("smoke")[1])
        assert float(image.data[:, 0].abs().max()) == 0, "no scalp"
        np.testing.assert_allclose(image.numpy(), factor * control.numpy(), atol=1e-4)
        assert subject.baseline.mask("brain").data.dtype == torch.bool
    table = slice_table(cohort, per_view=1, size=32)
    assert table.stage_of == {"01": "CN", "02": "MCI"}


def test_another_profile_interpolates_and_several_visits_come_by_age(root, tmp_path):
    write(root, "sub-02", 0.7, session="M024")
    rows = [{"session_id": f"ses-{s}", "age": a, "diagnosis": "MCI"} for s, a in (("M000", 78.5), ("M024", 80.5))]
    table(root / "sub-02" / "sub-02_sessions.tsv", rows)
    cohort = own_pet.build(root, "laptop", cache=Cache(tmp_path / "cache"))
    first, last = cohort.subject("02").scans
    assert (first.age, last.age) == (78.5, 80.5) and first.image("FDG").shape == (56, 64, 56)
    inside = first.mask("brain").data
    ratio = float(last.image("FDG").data[inside].mean() / first.image("FDG").data[inside].mean())
    assert ratio == pytest.approx(0.7 / 0.8, abs=1e-3)


def test_provenance_holds_no_paths_and_follows_the_files(root, tmp_path):
    cache = Cache(tmp_path / "cache")
    before = own_pet.build(root, "smoke", cache=cache).provenance
    assert str(tmp_path) not in json.dumps(dict(before)) and "cerebellumPons2" in before["intensity"]
    assert own_pet.build(root, "smoke", cache=cache).provenance == before
    path = write(root, "sub-01", 0.9)
    path.write_bytes(path.read_bytes() + b"\0")
    assert own_pet.build(root, "smoke", cache=cache).provenance["data_hash"] != before["data_hash"]


def test_a_scan_travels(root, tmp_path):
    scan = own_pet.build(root, "smoke", cache=Cache(tmp_path / "cache")).subject("01").baseline
    copy = pickle.loads(pickle.dumps(scan))
    assert torch.equal(copy.image("FDG").data, scan.image("FDG").data)


def test_the_task_pet_reads_a_folder_so(root, monkeypatch):
    monkeypatch.setattr(cohorts.own_pet, "build", lambda path, profile: (path, profile))
    assert cohorts.cohort_for(root, task="pet", profile="smoke") == (str(root), "smoke")


def test_a_constant_image_is_refused_by_file_when_it_is_looked_at(root, tmp_path):
    path = write(root, "sub-01", 1.0)
    nifti.save_image(path, Volume(torch.ones(40, 48, 40), fdg_grid("smoke")[1]))
    cohort = own_pet.build(root, "smoke", cache=Cache(tmp_path / "cache"))
    with pytest.raises(NbkitError, match="sub-01_ses-M000.*constant image"):
        cohort.subject("01").baseline.image("FDG")


def test_an_unknown_profile_is_refused(root):
    with pytest.raises(NbkitError, match="Did you mean 'paper'"):
        own_pet.build(root, "papr")
