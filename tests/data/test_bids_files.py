"""Which files are looked at: links, capitals, hidden ones, and .bidsignore by the rules of .gitignore."""

from __future__ import annotations

import pytest

from nbkit.core.checks import NbkitError
from nbkit.data import bids, nifti
from nbkit.data.bids_files import IGNORE, ignored, image_names
from nbkit.data.pet import read_pet
from tests.data import trees
from tests.data.test_bids import refused, row, warned
from tests.data.test_pet import PEOPLE, put

A, B = "sub-ADNI002S0729", "sub-ADNI011S0005"
FIRST = f"{A}/ses-M000/anat/{A}_ses-M000_T1w.nii.gz"


@pytest.mark.parametrize(("lines", "left"), [
    (b"sub-ADNI002S0729\n", 4), (b"/sub-ADNI002S0729/\n", 4), (b"**/sub-ADNI002S0729/**\n", 4), (b"sub-ADNI00*/\n", 4),
    (b"\xef\xbb\xbfsub-ADNI002S0729/\n", 4), (b"# K\xf6ln, n\xe4chste Woche\r\nsub-ADNI002S0729/\r\n", 4),
    ("\ufeffsub-ADNI002S0729/\n".encode("utf-16-le"), 4), (b"**/*_T1w.nii.gz\n", 3), (b"**/anat/\n", 1),
    (b"sub-*/**\n!*/\n", 0), (b"sub-ADNI002S0729/*/anat/*_T1w.nii.gz\n", 4),
    (b"sub-ADNI002S0729/*.nii.gz\n", 6), (b"/*_T1w.nii.gz\n", 6), (b"\n  \n#sub-*\n", 6),
])
def test_lines_leave_out_what_git_would_leave_out(tmp_path, lines, left):
    root = trees.adni(tmp_path)
    (root / IGNORE).write_bytes(lines)
    assert len(image_names(root)) == left, lines


@pytest.mark.parametrize("line", ["[z-a]", "!", "sub-[b-a]*/"])
def test_a_line_that_is_no_pattern_is_refused_by_number(tmp_path, line):
    root = trees.adni(tmp_path)
    (root / IGNORE).write_text(f"# one\n{line}\n")
    for read in (bids.read_bids, read_pet):
        with pytest.raises(NbkitError, match=r"\.bidsignore line 2: expected a pattern as in \.gitignore"):
            read(root)


def test_a_later_line_takes_files_back(tmp_path):
    root = trees.adni(tmp_path)
    (root / IGNORE).write_text("*_T1w.nii.gz\n!*_ses-M012_T1w.nii.gz\n")
    assert [p.rpartition("/")[2] for p in image_names(root) if "T1w" in p] == [f"{A}_ses-M012_T1w.nii.gz"]


@pytest.mark.parametrize("line", ["sub-01", "/sub-01/", "sub-01/**", "**/sub-01", "sub-01/ses-*/pet/"])
def test_who_is_left_out_is_so_in_derivatives_and_for_pet(tmp_path, line):
    trees.table(tmp_path / "participants.tsv", PEOPLE)
    put(tmp_path / "derivatives" / "suvr", "sub-01", "trc-18FFDG_suvr-pons")
    put(tmp_path / "subjects", "sub-01", "trc-18FFDG_suvr-pons", folder="pet_linear", seed=1)
    put(tmp_path, "sub-02", "trc-18FFDG_suvr-pons")
    (tmp_path / IGNORE).write_text(line + "\n")
    left = {"sub-01/ses-*/pet/": {"01", "02"}}.get(line, {"02"})
    assert {f.subject for f in read_pet(tmp_path)} == left
    paths = ["sub-01/ses-M000/pet/x_pet.nii", "derivatives/a/sub-01/ses-M000/pet/x_pet.nii", "sub-02/ses-M000/pet/x"]
    assert ignored(tmp_path, paths) == paths[:2]


def test_a_linked_folder_is_read_and_a_loop_of_links_ends(tmp_path):
    root = trees.adni(tmp_path / "set")
    anat = (root / FIRST).parent
    anat.rename(tmp_path / "elsewhere")
    anat.symlink_to(tmp_path / "elsewhere")
    (anat / "loop").symlink_to(root / A)
    assert image_names(root).count(FIRST) == 1 and "loop" not in "".join(image_names(root))
    reading = bids.read_bids(root)
    assert reading.findings == () and row(reading, "ADNI002S0729", "M000").path == FIRST


def test_capitals_in_folders_and_endings_are_read(tmp_path):
    root = trees.adni(tmp_path)
    anat = (root / FIRST).parent
    (root / FIRST).rename(anat / f"{A}_ses-M000_T1w.NII.GZ")
    anat.rename(anat.with_name("ANAT"))
    reading = bids.read_bids(root)
    assert reading.findings == ()
    assert row(reading, "ADNI002S0729", "M000").path == f"{A}/ses-M000/ANAT/{A}_ses-M000_T1w.NII.GZ"


def test_a_persons_folder_in_capitals_is_refused_by_name(tmp_path):
    root = trees.adni(tmp_path)
    (root / A).rename(root / A.replace("sub-", "Sub-"))
    told = refused(bids.read_bids(root))
    assert any("Rename the folder" in t and "found Sub-ADNI002S0729" in t for t in told)


def test_files_of_macos_and_hidden_folders_are_passed_over(tmp_path):
    root = trees.adni(tmp_path)
    (root / FIRST).with_name(f"._{A}_ses-M000_T1w.nii.gz").write_bytes(b"\0\5\x16\7")
    trees.scan(root / A / ".backup", A, "ses-M000")
    assert bids.read_bids(root).findings == ()


def test_a_link_without_content_is_refused_with_the_command(tmp_path):
    root = trees.adni(tmp_path)
    (root / FIRST).unlink()
    (root / FIRST).symlink_to("../../../.git/annex/objects/x/y/MD5E-s1--z.nii.gz/MD5E-s1--z.nii.gz")
    (told,) = refused(bids.read_bids(root))
    assert told.startswith(FIRST) and "datalad get" in told and str(tmp_path) not in told
    assert root / FIRST not in bids.image_files(root)


def missing_visit(root):
    (root / FIRST).unlink()


def missing_folder(root):
    (root / FIRST).unlink()
    (root / FIRST).parent.rmdir()
    (root / FIRST).parent.parent.rmdir()


def dangling_folder(root):
    missing_folder(root)
    (root / FIRST).parent.parent.mkdir()
    (root / FIRST).parent.symlink_to(root / "gone")


def beside_anat(root):
    (root / FIRST).rename((root / FIRST).parent.parent / (root / FIRST).name)


@pytest.mark.parametrize("lose", [missing_visit, missing_folder, dangling_folder, beside_anat])
def test_a_visit_that_tables_or_folders_name_is_never_just_gone(tmp_path, lose):
    root = trees.adni(tmp_path)
    lose(root)
    reading = bids.read_bids(root)
    assert refused(reading) == [] and len(reading.table) == 5
    (told,) = warned(reading)
    assert "M000" in told and "none; the visit is left out" in told
    assert {f.subject for f in reading.findings} == {"ADNI002S0729"}


@pytest.mark.parametrize("ending", [".mgz", ".img", ".nii.gz.part"])
def test_a_visit_left_out_for_the_format_of_its_image_says_so(tmp_path, ending):
    root = trees.adni(tmp_path)
    (root / FIRST).rename(root / FIRST.replace(".nii.gz", ending))
    (told,) = warned(bids.read_bids(root))
    assert f"There is {A}_ses-M000_T1w{ending}, which is not read" in told


def test_people_of_the_table_and_empty_folders_are_accounted_for(tmp_path):
    people = [*trees.ADNI_PEOPLE, {"participant_id": "sub-ADNI099", "sex": "F", "age_bl": 70, "diagnosis_sc": "CN",
                                   "apoe4": 0}]
    root = trees.adni(tmp_path, people=people)
    (root / "sub-ADNI098").mkdir()
    reading = bids.read_bids(root)
    told = {f.subject: str(f) for f in reading.findings}
    assert set(told) == {"ADNI098", "ADNI099"} <= set(reading.subjects)
    assert "participants.tsv: ADNI099" in told["ADNI099"] and "the person is left out" in told["ADNI099"]
    (root / IGNORE).write_text("sub-ADNI098/\nsub-ADNI099/\n")
    assert bids.read_bids(root).findings == ()


def test_people_whom_a_line_leaves_out_are_not_missed(tmp_path):
    root = trees.adni(tmp_path)
    (root / IGNORE).write_text(f"{A}/ses-M012/\n")
    assert bids.read_bids(root).findings == ()
    (root / IGNORE).write_text(f"/{A}\n")
    reading = bids.read_bids(root)
    assert reading.findings == () and reading.subjects == ("ADNI011S0005",)


def test_only_a_mask_is_no_scan(tmp_path):
    root = trees.adni(tmp_path)
    (root / B / "ses-M000" / "anat" / f"{B}_ses-M000_T1w.nii.gz").unlink()
    (root / B / "ses-M000" / "anat" / f"{B}_ses-M000_FLAIR.nii.gz").unlink()
    for pet in (root / B).rglob("*_pet.nii.gz"):
        pet.unlink()
    assert "ADNI011S0005/M000: expected at least one image, found only derivatives/" in refused(bids.read_bids(root))[0]


def renamed_mask(root, old: str, new: str):
    place = trees.mask(root, B, "ses-M000")
    return place.rename(place.with_name(place.name.replace(old, new)))


@pytest.mark.parametrize("name", [
    "space-T1w_desc-brain_mask", "label-brain_mask", "space-orig_label-brain_mask", "brainmask", "T1w_brainmask",
    "run-1_desc-brain_mask", "desc-brain_mask",
])
def test_brain_masks_by_any_of_their_names_are_used(tmp_path, name):
    root = trees.adni(tmp_path)
    if name.startswith("run"):
        image = root / B / "ses-M000" / "anat" / f"{B}_ses-M000_T1w.nii.gz"
        image.rename(image.with_name(image.name.replace("_T1w", "_run-01_T1w")))
    path = renamed_mask(root, "desc-brain_mask", name)
    reading = bids.read_bids(root)
    assert reading.findings == () and row(reading, "ADNI011S0005", "M000", "mask:brain").file == path


@pytest.mark.parametrize("name", ["space-MNI152NLin2009cAsym_desc-brain_mask", "run-2_desc-brain_mask"])
def test_a_mask_of_another_space_or_run_is_not_used_and_said(tmp_path, name):
    root = trees.adni(tmp_path)
    renamed_mask(root, "desc-brain_mask", name)
    reading = bids.read_bids(root)
    assert refused(reading) == [] and "mask:brain" not in set(reading.table.contrast)
    (told,) = warned(reading)
    assert name in told and "none is used" in told


def test_of_two_runs_the_mask_of_the_one_that_is_read_counts(tmp_path):
    root = trees.adni(tmp_path)
    image = root / B / "ses-M000" / "anat" / f"{B}_ses-M000_T1w.nii.gz"
    for run in ("run-02", "run-10"):
        nifti.save_image(image.with_name(image.name.replace("_T1w", f"_{run}_T1w")), trees.head(int(run[-2:])))
    image.unlink()
    renamed_mask(root, "_desc", "_run-10_desc")
    second = renamed_mask(root, "_desc", "_run-2_desc")
    reading = bids.read_bids(root)
    assert refused(reading) == []
    assert row(reading, "ADNI011S0005", "M000").path.endswith("run-02_T1w.nii.gz")
    assert row(reading, "ADNI011S0005", "M000", "mask:brain").file == second


def test_a_mask_of_a_functional_scan_is_no_mask_of_the_head(tmp_path):
    root = trees.adni(tmp_path)
    place = root / "derivatives" / "stripping" / B / "ses-M000" / "func"
    for name in ("task-rest_desc-brain_mask", "task-rest_space-T1w_desc-brain_mask"):
        nifti.save_labels(place / f"{B}_ses-M000_{name}.nii.gz", trees.brain().crop((slice(0, 9),) * 3))
    reading = bids.read_bids(root)
    assert reading.findings == () and "/anat/" in row(reading, "ADNI011S0005", "M000", "mask:brain").path


def test_a_mask_of_nobody_knows_what_is_said(tmp_path):
    root = trees.adni(tmp_path)
    renamed_mask(root, "desc-brain_mask", "mask")
    reading = bids.read_bids(root)
    assert refused(reading) == [] and "write desc-brain into the name" in warned(reading)[0]


def test_a_scan_with_contrast_agent_comes_last_and_is_said(tmp_path):
    root = trees.adni(tmp_path)
    plain = root / FIRST
    agent = plain.with_name(plain.name.replace("_T1w", "_ce-gadolinium_T1w"))
    nifti.save_image(agent, trees.head(77))
    reading = bids.read_bids(root)
    assert row(reading, "ADNI002S0729", "M000").path == FIRST and "ce-gadolinium" in warned(reading)[0]
    plain.unlink()
    reading = bids.read_bids(root)
    assert row(reading, "ADNI002S0729", "M000").file == agent and refused(reading) == []
    assert "expected a T1w without contrast agent, found ce-gadolinium; it is used" in warned(reading)[0]


def test_phase_images_are_no_anatomy(tmp_path):
    root = trees.adni(tmp_path)
    phase = (root / FIRST).with_name(f"{A}_ses-M000_part-phase_T1w.nii.gz")
    nifti.save_image(phase, trees.head(78))
    reading = bids.read_bids(root)
    assert row(reading, "ADNI002S0729", "M000").path == FIRST and "part-phase; it is left out" in warned(reading)[0]
    (root / FIRST).unlink()
    reading = bids.read_bids(root)
    assert len(reading.table) == 5 and "part-phase; it is left out" in warned(reading)[0]
