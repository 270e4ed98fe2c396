"""`nbkit data check` behind its page: every image looked at, every fault told, one verdict per subject."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.data import check, nifti
from nbkit.data.findings import Finding, left_out
from tests.data import trees

A, B = "sub-ADNI002S0729", "sub-ADNI011S0005"


def checked(path, **options):
    """Reading, looks and verdicts by subject."""
    reading = check.read_own(path, **options)
    looks = list(check.look_at_images(reading, progress=False))
    found = [f for look in looks for f in look.findings]
    return reading, looks, {v.subject: v for v in check.verdicts(reading, found)}


def first_image(root):
    return root / A / "ses-M000" / "anat" / f"{A}_ses-M000_T1w.nii.gz"


def test_a_good_tree_passes_with_its_facts(tmp_path):
    reading, looks, verdicts = checked(trees.adni(tmp_path))
    assert [(v.passed, v.scans, v.findings) for v in verdicts.values()] == [(True, 2, ()), (True, 3, ())]
    assert len(looks) == 5 and reading.name == tmp_path.name
    facts = next(look for look in looks if look.subject == "ADNI011S0005" and look.contrast == "T1w").facts
    assert (facts["stored"], facts["shape"], facts["spacing"]) == ("LAS", trees.SHAPE, (14.0, 14.0, 14.0))
    expected = float(trees.brain().data.sum()) * 14**3 / 1000
    assert facts["brain_ml"] == pytest.approx(expected) and facts["inside"] == 1.0
    low, median, high = facts["quantiles"]
    assert low < median < high and 100 < high < 140


def test_quantiles_leave_the_empty_background_out(tmp_path):
    bare = trees.head(3)
    nifti.save_image(tmp_path / "t1.nii.gz", bare.with_data(bare.data * trees.brain().data))
    (tmp_path / "t.csv").write_text(
        "subject,session,age_years,sex,diagnosis,contrast,path\ns1,a,35,F,CN,T1w,t1.nii.gz\n")
    _, (look,), _ = checked(tmp_path / "t.csv")
    assert look.facts["quantiles"][0] > 100


BROKEN = {
    "NaN": (np.nan, "NaN or infinite voxels"),
    "constant": (4.0, "a constant image (value 4.0)"),
}


@pytest.mark.parametrize(("value", "message"), BROKEN.values(), ids=BROKEN)
def test_images_without_content_are_refused_and_the_rest_goes_on(tmp_path, value, message):
    root = trees.adni(tmp_path)
    nib.save(nib.Nifti1Image(np.full(trees.SHAPE, value, np.float32), trees.AFFINE), first_image(root))
    _, looks, verdicts = checked(root)
    bad, good = verdicts["ADNI002S0729"], verdicts["ADNI011S0005"]
    assert not bad.passed and good.passed and len(looks) == 5
    assert message in str(bad.findings[0]) and str(bad.findings[0]).startswith(f"{A}/ses-M000/anat/{A}_ses-M000_T1w")


def test_a_damaged_file_is_refused_without_naming_this_machine(tmp_path):
    root = trees.adni(tmp_path)
    whole = first_image(root).read_bytes()
    first_image(root).write_bytes(whole[: len(whole) // 2])
    _, looks, verdicts = checked(root)
    told = " ".join(map(str, verdicts["ADNI002S0729"].findings))
    assert "cannot be read" in told and str(tmp_path) not in told and not verdicts["ADNI002S0729"].passed


def test_one_scan_under_two_names_refuses_both_people(tmp_path):
    root = trees.adni(tmp_path)
    nifti.save_image(root / B / "ses-M000" / "anat" / f"{B}_ses-M000_T1w.nii.gz", nifti.read_image(first_image(root)))
    _, _, verdicts = checked(root)
    assert {s: v.passed for s, v in verdicts.items()} == {"ADNI002S0729": False, "ADNI011S0005": False}
    assert "the voxels of" in str(verdicts["ADNI011S0005"].findings[0])


MASKS = {
    "empty": (trees.brain().with_data(trees.brain().data & False), "a brain mask with voxels in it", True),
    "elsewhere": (trees.brain().with_data(~trees.brain().data), "a mask on the head", False),
    "tiny": (trees.brain().with_data(trees.brain().data & (torch.arange(11) == 5)), "a brain of 600", False),
}


@pytest.mark.parametrize(("volume", "message", "refused"), MASKS.values(), ids=MASKS)
def test_masks_are_looked_at(tmp_path, volume, message, refused):
    root = trees.adni(tmp_path)
    trees.mask(root, B, "ses-M000", volume=volume)
    _, _, verdicts = checked(root)
    mine = [f for f in verdicts["ADNI011S0005"].findings if message in str(f)]
    assert mine and mine[0].refused is refused
    assert verdicts["ADNI011S0005"].passed is not refused


def test_a_mask_with_fractions_is_refused(tmp_path):
    root = trees.adni(tmp_path)
    place = trees.mask(root, B, "ses-M000")
    nifti.save_image(place, trees.head(8))
    assert "whole label numbers" in str(checked(root)[2]["ADNI011S0005"].findings[0])


def test_a_head_of_a_few_millimetres_is_a_warning(tmp_path):
    root = trees.adni(tmp_path)
    nifti.save_image(first_image(root), Volume(trees.head(9).data, np.diag([0.014, 0.014, 0.014, 1.0])))
    verdict = checked(root)[2]["ADNI002S0729"]
    assert verdict.passed and "field of view of 100 to 400 mm" in str(verdict.findings[0])


def test_scans_that_the_tables_refuse_are_looked_at_all_the_same(tmp_path):
    root = trees.adni(tmp_path, people=trees.ADNI_PEOPLE[:1])
    _, looks, verdicts = checked(root)
    assert len(looks) == 5 and {look.diagnosis for look in looks if look.subject == "ADNI011S0005"} == {
        "diagnosis unknown"}
    assert (verdicts["ADNI011S0005"].scans, verdicts["ADNI011S0005"].passed) == (3, False)


def test_a_fault_of_the_whole_data_set_refuses_everybody(tmp_path):
    _, looks, verdicts = checked(trees.oasis3(tmp_path))
    assert len(looks) == 3 and not any(v.passed for v in verdicts.values())


def test_a_person_without_a_scan_does_not_pass(tmp_path):
    root = trees.adni(tmp_path)
    trees.mask(root, "sub-ADNI941S1195", "ses-M000")
    verdict = checked(root)[2]["ADNI941S1195"]
    assert not verdict.passed and "at least one image" in str(verdict.findings[0])


def test_when_nothing_can_be_used_everything_is_told(tmp_path):
    nifti.save_image(tmp_path / "sub-01" / "ses-1" / "anat" / "scan.nii.gz", trees.head())
    _, looks, verdicts = checked(tmp_path)
    assert looks == [] and not verdicts["01"].passed and "a name such as" in str(verdicts["01"].findings[0])


HEADER = "subject,session,age_years,sex,diagnosis,contrast,path\n"


@pytest.fixture
def listed(tmp_path):
    """``listed("row", ...)`` writes a CSV beside three images and a mask."""
    for i, name in enumerate(("a", "b", "c")):
        nifti.save_image(tmp_path / f"{name}.nii.gz", trees.head(20 + i))
    nifti.save_labels(tmp_path / "m.nii.gz", trees.brain())

    def write(*rows: str):
        (tmp_path / "mine.csv").write_text(HEADER + "\n".join(rows) + "\n")
        return tmp_path / "mine.csv"

    return write


def test_a_csv_is_checked_to_the_end(listed, tmp_path):
    path = listed("s1,m0,66,F,CN,T1w,a.nii.gz", "s1,m0,66,F,CN,mask:brain,m.nii.gz", "s2,m0,0.66,F,CN,T1w,b.nii.gz",
                  "s3,m0,70,1,CN,T1w,c.nii.gz", f"s4,m0,70,F,CN,T1w,{tmp_path}/gone.nii.gz")
    _, looks, verdicts = checked(path)
    assert {s: v.passed for s, v in verdicts.items()} == {"s1": True, "s2": False, "s3": False, "s4": False}
    told = {s: " ".join(map(str, v.findings)) for s, v in verdicts.items()}
    assert "mine.csv row 4: expected age_years" in told["s2"] and "pass sex_codes" in told["s3"]
    assert "files that exist" in told["s4"] and str(tmp_path) not in told["s4"]
    assert [(look.subject, look.age) for look in looks] == [("s1", 66.0), ("s2", 0.66), ("s3", 70.0)]
    assert looks[0].mask is not None
    assert checked(path, sex_codes={"1": "M"})[2]["s3"].passed


def test_rows_that_contradict_each_other_and_other_grids_are_told(listed, tmp_path):
    nifti.save_image(tmp_path / "c.nii.gz", Volume(trees.head(1).data, trees.AFFINE * 1.1))
    _, _, verdicts = checked(listed(
        "s1,m0,66,F,CN,T1w,a.nii.gz", "s1,m0,66,F,CN,FLAIR,c.nii.gz", "s2,m0,66,F,CN,T1w,b.nii.gz",
        "s2,m0,67,F,CN,FLAIR,b.nii.gz"))
    assert "row 3, c.nii.gz against row 2, a.nii.gz: expected the same affine" in str(verdicts["s1"].findings[0])
    told = " ".join(map(str, verdicts["s2"].findings))
    assert "each file in one row" in told and "one age_years per session" in told


def test_clinical_tables_do_not_go_with_a_csv(listed, tmp_path):
    with pytest.raises(NbkitError, match="--clinical: expected a BIDS folder"):
        check.read_own(listed("s1,m0,66,F,CN,T1w,a.nii.gz"), clinical=tmp_path)


def test_z_scored_brains_and_quarrels_of_headers_are_told(tmp_path):
    root = trees.adni(tmp_path)
    image = root / B / "ses-M000" / "anat" / f"{B}_ses-M000_T1w.nii.gz"
    inside, head = trees.brain().data, trees.head(5)
    values = head.data[inside]
    nifti.save_image(image, head.with_data(torch.where(inside, (head.data - values.mean()) / values.std(), 0.0)))
    told = {str(f): f for f in checked(root)[2]["ADNI011S0005"].findings}
    (words,) = (words for words in told if "brighter than the air" in words)
    assert words.startswith(f"{B}/ses-M000/anat/") and "for ageing" in words and not told[words].refused
    content = nib.load(first_image(root))
    moved = content.affine + np.eye(4, k=3)[:4] * 3
    content.set_qform(moved, 1)
    nib.save(nib.Nifti1Image(np.asarray(content.dataobj), None, content.header), first_image(root))
    (finding,) = checked(root)[2]["ADNI002S0729"].findings
    assert not finding.refused and "corners up to 3 mm apart" in finding.found and finding.where.startswith(A)


@pytest.mark.parametrize("spoil", [
    lambda p: p.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), lambda p: p.write_bytes(b""),
    lambda p: p.write_bytes(b"<html>log in</html>"), lambda p: p.write_bytes(nib.load(p).to_bytes()),
    lambda p: nib.save(nib.Nifti1Image(np.zeros(trees.SHAPE, [(c, "u1") for c in "RGB"]), trees.AFFINE), p),
    lambda p: nib.save(nib.Nifti1Image(np.ones(trees.SHAPE, np.complex64), trees.AFFINE), p),
], ids=["git-lfs", "empty", "page", "unpacked", "RGB", "complex"])
def test_files_that_hold_no_image_refuse_their_person_and_nobody_else(tmp_path, spoil):
    root = trees.adni(tmp_path)
    spoil(first_image(root))
    _, _, verdicts = checked(root)
    assert {s: v.passed for s, v in verdicts.items()} == {"ADNI002S0729": False, "ADNI011S0005": True}
    told = " ".join(map(str, verdicts["ADNI002S0729"].findings))
    assert told.startswith(f"{A}/ses-M000/anat/{A}_ses-M000_T1w.nii.gz: expected ") and str(tmp_path) not in told


def test_a_table_of_another_kind_is_told_what_to_be_saved_as(tmp_path):
    (tmp_path / "scans.xlsx").write_bytes(b"PK")
    with pytest.raises(NbkitError, match=r"scans\.xlsx: expected a BIDS folder, or a table named \.csv"):
        check.read_own(tmp_path / "scans.xlsx")


def test_people_of_whom_nothing_can_be_read_are_left_out_not_refused(tmp_path):
    reading = check.read_own(trees.adni(tmp_path))
    why = "none; the person is left out"
    absent = Finding("X1", "participants.tsv: X1", "an image of every person", why, "-", False)
    judged = check.verdicts(replace(reading, subjects=(*reading.subjects, "X1")), [absent])
    assert [(v.state, v.refused) for v in judged] == [("pass", False), ("pass", False), ("left out", False)]
    assert left_out([absent]) == {"an image of every person: none; the person is left out": 1}


def test_the_brain_that_a_run_would_find_is_looked_at_and_refused_where_a_run_refuses_it(tmp_path):
    """Only of T1w scans whose session has no mask."""
    root, asked = trees.adni(tmp_path), []

    def find(image):
        asked.append(image)
        return image.with_data(image.data > 70, "found here")

    reading = check.read_own(root)
    looks = list(check.look_at_images(reading, find=find, progress=False))
    found = {(k.subject, k.session): k for k in looks if k.contrast == "T1w"}
    assert len(asked) == 2 and len(found) == 3
    mine = found["ADNI002S0729", "M000" if ("ADNI002S0729", "M000") in found else "ses-M000"]
    assert mine.mask is not None and mine.facts["mask"] == "found here" and mine.findings == ()
    assert mine.facts["brain_ml"] == pytest.approx(float(trees.brain().data.sum()) * 14**3 / 1000)
    speck = list(check.look_at_images(reading, find=lambda image: image.with_data(image.data < 0), progress=False))
    refused = [f for look in speck for f in look.findings if f.refused]
    assert {f.subject for f in refused} == {"ADNI002S0729"} and all("litres of brain" in f.expected for f in refused)
    assert all(look.mask is None for look in speck if look.subject == "ADNI002S0729")
