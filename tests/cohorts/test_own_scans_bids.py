"""A BIDS folder as a cohort: what comes out, what is refused, and what provenance does not say."""

from __future__ import annotations

import json
import pickle

import nibabel as nib
import numpy as np
import pytest
import torch

from nbkit.cohorts import own_scans
from nbkit.core.checks import NbkitError
from nbkit.data import nifti
from tests.data import trees


def test_people_visits_and_images_of_adni(tmp_path):
    root = trees.adni(tmp_path / "my_adni")
    cohort = own_scans.build(root, "paper")
    assert (cohort.name, cohort.access, cohort.ids) == ("own-my_adni", "restricted", ("ADNI002S0729", "ADNI011S0005"))
    converter, control = cohort.subjects
    assert (converter.sex, converter.diagnosis, control.diagnosis) == ("F", "LMCI", "CN")
    assert [(s.session, s.age, s.diagnosis) for s in converter.scans] == [
        ("M000", 65.1, "LMCI"), ("M012", 66.14, "AD")]
    assert converter.covariates == {"converter": True, "onset_age": 66.14, "cdr": [0.5, 1.0], "mmse": [27.0, 23.0]}
    assert control.covariates["converter"] is False and control.covariates["onset_age"] is None
    json.dumps([dict(s.covariates) for s in cohort])
    assert set(control.baseline.images) == {"T1w", "FLAIR", "pet-18FFDG"} and list(control.baseline.masks) == ["brain"]


def test_images_come_in_canonical_order_and_travel(tmp_path):
    scan = own_scans.build(trees.adni(tmp_path), "paper").subject("ADNI011S0005").baseline
    image, mask = scan.image("T1w"), scan.mask("brain")
    assert np.all(np.diag(image.affine)[:3] > 0) and mask.data.dtype == torch.bool
    image.check_grid(mask, "test")
    assert image.data[mask.data].min() > image.data[~mask.data].max() > 0
    copy = pickle.loads(pickle.dumps(scan))
    assert torch.equal(copy.image("T1w").data, image.data)


def test_an_image_is_saved_back_on_the_grid_of_its_file(tmp_path):
    root = trees.adni(tmp_path)
    source = next((root / "sub-ADNI011S0005").rglob("*_T1w.nii.gz"))
    image = own_scans.build(root, "paper").subject("ADNI011S0005").baseline.image("T1w")
    saved = nib.load(nifti.save_image(tmp_path / "out.nii.gz", image, like=source))
    assert np.allclose(saved.affine, trees.AFFINE)
    assert np.allclose(saved.get_fdata(), nib.load(source).get_fdata())


def test_oasis3_needs_its_original_tables(tmp_path):
    root = trees.oasis3(tmp_path / "bids")
    with pytest.raises(NbkitError, match=r"1 refused: .*same score vector.*--clinical.*nbkit data check"):
        own_scans.build(root, "paper")
    cohort = own_scans.build(root, "paper", clinical=trees.clinical(tmp_path / "tables"))
    assert [s.diagnosis for s in cohort] == ["CN", "AD"]
    trees.clinical(root / "sourcedata")
    assert [s.diagnosis for s in own_scans.build(root, "paper")] == ["CN", "AD"]


def test_everything_that_is_refused_is_in_one_message(tmp_path):
    people = [{**p, "sex": 1} for p in trees.ADNI_PEOPLE]
    visits = {**trees.ADNI_VISITS, "sub-ADNI011S0005": [{"session_id": "ses-M000", "age": 0.7, "diagnosis": "CN"}]}
    root = trees.adni(tmp_path, people=people, visits=visits)
    with pytest.raises(NbkitError, match=r"3 refused: .*sex '1'.*age_years 0\.7.*\.bidsignore") as caught:
        own_scans.build(root, "paper")
    assert str(tmp_path) not in str(caught.value)
    own_scans.build(trees.adni(tmp_path / "b", people=people), "paper", sex_codes={"1": "M"})


def test_a_bad_image_is_refused_when_it_is_looked_at(tmp_path):
    root = trees.adni(tmp_path)
    file = next((root / "sub-ADNI011S0005").rglob("*_T1w.nii.gz"))
    nib.save(nib.Nifti1Image(np.zeros(trees.SHAPE, np.float32), trees.AFFINE), file)
    scan = own_scans.build(root, "paper").subject("ADNI011S0005").baseline
    with pytest.raises(NbkitError, match=r"ADNI011S0005/M000: .*_T1w\.nii\.gz: .*constant image"):
        scan.image("T1w")


def test_provenance_holds_no_paths_and_follows_the_files(tmp_path):
    root = trees.adni(tmp_path / "x")
    before = own_scans.build(root, "paper").provenance
    assert str(tmp_path) not in str(before) and before == own_scans.build(root, "paper").provenance
    trees.scan(root, "sub-ADNI011S0005", "ses-M000", seed=99)
    assert own_scans.build(root, "paper").provenance["data_hash"] != before["data_hash"]


def test_an_unknown_profile_is_refused(tmp_path):
    with pytest.raises(NbkitError, match="Did you mean 'paper'"):
        own_scans.build(tmp_path, "papr")
