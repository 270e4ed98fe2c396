"""Own scans from a CSV: what is read, what is refused and by which row."""

from __future__ import annotations

import os
import pickle

import nibabel as nib
import numpy as np
import pytest
import torch

from nbkit.cohorts import cohort_for, own_scans
from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.data import nifti
from nbkit.data.own_state import table_state

HEADER = "subject,session,age_years,sex,diagnosis,contrast,path"
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


@pytest.fixture
def scans(tmp_path):
    draw = torch.Generator().manual_seed(0)
    for name in ("t1", "flair", "t1_m12"):
        nifti.save_image(tmp_path / "img" / f"{name}.nii.gz", Volume(torch.rand(8, 8, 4, generator=draw), AFFINE))
    mask = torch.zeros(8, 8, 4, dtype=torch.bool)
    mask[2:6, 2:6] = True
    nifti.save_labels(tmp_path / "img" / "brain.nii.gz", Volume(mask, AFFINE))
    return tmp_path


def table(folder, *rows):
    (folder / "mine.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return folder / "mine.csv"


ROWS = ("s1,m12,36.5,F,MS,T1w,img/t1_m12.nii.gz", "s1,m00,35.5,F,MS,T1w,img/t1.nii.gz",
        "s1,m00,35.5,F,MS,FLAIR,img/flair.nii.gz", "s1,m00,35.5,F,MS,mask:brain,img/brain.nii.gz")


def test_rows_become_subjects_with_scans_in_order_of_age(scans):
    cohort = own_scans.build(table(scans, *ROWS), "paper")
    subject = cohort.subject("s1")
    assert (cohort.name, cohort.access, subject.sex, subject.diagnosis) == ("own-mine", "restricted", "F", "MS")
    assert [(s.session, s.age) for s in subject.scans] == [("m00", 35.5), ("m12", 36.5)]
    assert list(subject.baseline.images) == ["T1w", "FLAIR"] and list(subject.baseline.masks) == ["brain"]
    expected = nifti.read_image(scans / "img" / "flair.nii.gz")
    assert torch.equal(subject.baseline.image("FLAIR").data, expected.data)
    assert subject.baseline.mask("brain").data.dtype == torch.bool
    assert int(subject.baseline.mask("brain").data.sum()) == 64
    travelled = pickle.loads(pickle.dumps(cohort)).subject("s1").baseline
    assert torch.equal(travelled.image("FLAIR").data, expected.data)


def test_the_laptop_profile_coarsens_only_fine_axes(scans):
    scan = own_scans.build(table(scans, *ROWS), "laptop").subject("s1").baseline
    assert scan.image("T1w").shape == (4, 4, 4) and scan.image("T1w").spacing == (2.0, 2.0, 3.0)
    scan.image("T1w").check_grid(scan.mask("brain"), "test")


def test_age_and_sex_may_be_unknown(scans):
    subject = own_scans.build(table(scans, "s1,m00,,,HC,T1w,img/t1.nii.gz"), "paper").subject("s1")
    assert (subject.sex, subject.baseline.age) == (None, None)


def test_provenance_holds_no_paths_and_its_hash_follows_the_files(scans):
    path = table(scans, *ROWS)
    before = own_scans.build(path, "paper").provenance
    assert str(scans) not in str(before) and before["source"] == "mine.csv"
    assert own_scans.build(path, "paper").provenance == before
    nifti.save_image(scans / "img" / "t1.nii.gz", Volume(torch.rand(8, 8, 4), AFFINE))
    assert own_scans.build(path, "paper").provenance["data_hash"] != before["data_hash"]


@pytest.mark.parametrize("named", ["hdr", "img"])
def test_of_a_pair_both_files_count(scans, tmp_path, named):
    """Whichever the table names, voxels lie in one of them and their place in the world in the other."""
    draw = np.random.default_rng(0)
    nib.save(nib.Nifti1Pair(draw.random((8, 8, 4)), AFFINE), scans / "img" / "pair.img")
    path = table(scans, ROWS[1], f"s1,m00,35.5,F,MS,FLAIR,img/pair.{named}")
    known = {own_scans.build(path, "paper").provenance["data_hash"]: str(table_state(path))}
    for other in ("img", "hdr"):
        file = scans / "img" / f"pair.{other}"
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 10**9))
        known[own_scans.build(path, "paper").provenance["data_hash"]] = str(table_state(path))
    assert len(known) == len(set(known.values())) == 3


def test_images_on_two_grids_are_refused_at_once(scans):
    nifti.save_image(scans / "img" / "flair.nii.gz", Volume(torch.rand(8, 8, 4), AFFINE * 1.5))
    with pytest.raises(NbkitError, match=r"mine\.csv: .*row 4, .*flair\.nii\.gz against row 3, .*same affine"):
        own_scans.build(table(scans, *ROWS), "paper")


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN"), (4.0, "constant image")])
def test_bad_images_are_refused_by_row_and_file_when_looked_at(scans, value, message):
    nib.save(nib.Nifti1Image(np.full((8, 8, 4), value, np.float32), AFFINE), scans / "img" / "flair.nii.gz")
    scan = own_scans.build(table(scans, *ROWS), "paper").subject("s1").baseline
    with pytest.raises(NbkitError, match=rf"mine\.csv s1/m00: row 4, .*flair\.nii\.gz.*{message}"):
        scan.image("FLAIR")


def test_a_mask_with_fractions_is_refused_by_row(scans):
    nifti.save_image(scans / "img" / "brain.nii.gz", Volume(torch.rand(8, 8, 4), AFFINE))
    scan = own_scans.build(table(scans, *ROWS), "paper").subject("s1").baseline
    with pytest.raises(NbkitError, match=r"row 5, .*brain\.nii\.gz: expected whole label"):
        scan.mask("brain")


def test_a_session_of_masks_only_and_an_unknown_profile_are_refused(scans):
    with pytest.raises(NbkitError, match="at least one image, found only mask:brain"):
        own_scans.build(table(scans, ROWS[3]), "paper")
    with pytest.raises(NbkitError, match="Did you mean 'smoke'"):
        own_scans.build(table(scans, *ROWS), "smok")


def test_sex_codes_pass_through(scans):
    path = table(scans, "s1,m00,35,2,MS,T1w,img/t1.nii.gz")
    assert own_scans.build(path, "paper", sex_codes={"2": "F"}).subject("s1").sex == "F"


MYELIN = ("T1w", "MTR", "FA", "RD", "AD", "DVR", "mask:brain", "mask:lesions", "mask:nawm", "mask:wm", "mask:csf")


def myelin_table(folder, edss=("3.5", "3.5"), load=("12.25", "")):
    """A patient at two time points and a control at one, every contrast and mask a file, scores in further columns."""
    draw, rows = torch.Generator().manual_seed(1), []
    visits = (("p1", "t0", 31.0, "MS"), ("p1", "t1", 31.2, "MS"), ("c1", "t0", 29.5, "HC"))
    for person, session, age, diagnosis in visits:
        first = session == "t0" and diagnosis == "MS"
        scores = f"{edss[not first]},{load[not first]}" if diagnosis == "MS" else ","
        for contrast in MYELIN:
            path = f"img/{person}_{session}_{contrast.replace(':', '_')}.nii.gz"
            data = torch.rand(8, 8, 4, generator=draw)
            if contrast.startswith("mask:"):
                nifti.save_labels(folder / path, Volume((data > 0.4) & (contrast != "mask:lesions" or first), AFFINE))
            else:
                nifti.save_image(folder / path, Volume(data, AFFINE))
            rows.append(f"{person},{session},{age},F,{diagnosis},{contrast},{path},{scores}")
    (folder / "pet.csv").write_text("\n".join([f"{HEADER},edss,t2_load_ml", *rows]) + "\n")
    return folder / "pet.csv"


def test_a_table_can_carry_the_myelin_task(tmp_path):
    cohort = cohort_for(myelin_table(tmp_path), task="myelin", profile="paper")
    patient, control = cohort.subject("p1"), cohort.subject("c1")
    assert [(s.session, s.age) for s in patient.scans] == [("t0", 31.0), ("t1", 31.2)]
    assert [s.session for s in control.scans] == ["t0"]
    for scan in (*patient.scans, *control.scans):
        assert tuple(scan.images) == MYELIN[:6] and tuple(scan.masks) == tuple(m[5:] for m in MYELIN[6:])
        assert scan.mask("lesions").data.dtype == torch.bool
        scan.image("DVR").check_grid(scan.mask("nawm"), "test")
    assert not control.baseline.mask("lesions").data.any() and patient.baseline.mask("lesions").data.any()
    wanted = {"edss": 3.5, "t2_load_ml": 12.25, "age": 31.0}
    assert {name: patient.covariates[name] for name in wanted} == wanted
    assert control.covariates["edss"] is None and control.covariates["age"] == 29.5


@pytest.mark.parametrize(
    ("scores", "message"),
    [({"edss": ("three", "3")}, r"row 2.*edss: points from 0 to 10.*edss 'three'"),
     ({"edss": ("35", "35")}, r"row 2.*edss '35'"), ({"load": ("-1", "")}, r"row 2.*t2_load_ml '-1'")],
)
def test_scores_that_cannot_be_are_refused_by_row(tmp_path, scores, message):
    with pytest.raises(NbkitError, match=message):
        own_scans.build(myelin_table(tmp_path, **scores), "paper")


def test_two_scores_in_one_session_are_refused(tmp_path):
    path = myelin_table(tmp_path)
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace(",3.5,", ",4.0,")
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(NbkitError, match="one edss per session"):
        own_scans.build(path, "paper")
