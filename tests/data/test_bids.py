"""BIDS folders as Clinica writes them: what is read, and each reading rule broken once."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nbkit.core.checks import NbkitError
from nbkit.core.volume import Volume
from nbkit.data import bids, nifti, oasis3
from nbkit.data.manifest import load_manifest
from tests.data import trees

A, B = "sub-ADNI002S0729", "sub-ADNI011S0005"


def refused(reading) -> list[str]:
    return [str(f) for f in reading.findings if f.refused]


def warned(reading) -> list[str]:
    return [str(f) for f in reading.findings if not f.refused]


def row(reading, subject: str, session: str, contrast: str = "T1w"):
    table = reading.table
    return table[(table.subject == subject) & (table.session == session) & (table.contrast == contrast)].iloc[0]


def changed(visits, subject: str, index: int, **values):
    """The visits of a tree with one cell or more of one row changed; None takes the column away."""
    rows = [dict(r) for r in visits[subject]]
    rows[index] = {k: v for k, v in (rows[index] | values).items() if v is not None}
    return {**visits, subject: rows}


def test_a_good_adni_tree_is_read_whole(tmp_path):
    reading = bids.read_bids(trees.adni(tmp_path))
    assert reading.findings == ()
    assert reading.subjects == ("ADNI002S0729", "ADNI011S0005")
    assert sorted(reading.table.contrast) == ["FLAIR", "T1w", "T1w", "T1w", "mask:brain", "pet-18FFDG"]
    later = row(reading, "ADNI002S0729", "M012")
    assert (later.age_years, later.sex, later.diagnosis, later.cdr, later.mmse) == (66.14, "F", "AD", 1.0, 23.0)
    assert later.file.is_file() and not later.path.startswith("/")


def test_adnis_screening_says_which_mci_a_visit_means(tmp_path):
    people = [{**trees.ADNI_PEOPLE[0]}, {**trees.ADNI_PEOPLE[1], "diagnosis_sc": "SMC"}]
    reading = bids.read_bids(trees.adni(tmp_path, people=people))
    assert row(reading, "ADNI002S0729", "M000").diagnosis == "LMCI"
    assert row(reading, "ADNI011S0005", "M000").diagnosis == "SMC"


@pytest.mark.parametrize(("told", "ours"), [("Dementia", "AD"), ("CN", "CN"), ("SMC", "SMC"), ("EMCI", "EMCI")])
def test_names_of_diagnoses_are_mapped(tmp_path, told, ours):
    visits = changed(trees.ADNI_VISITS, B, 0, diagnosis=told, cdr_global="n/a", MMSE="n/a")
    assert row(bids.read_bids(trees.adni(tmp_path, visits=visits)), "ADNI011S0005", "M000").diagnosis == ours


CELLS = {
    "age/100": (0, {"age": 0.65}, r"_sessions\.tsv row 2: ADNI002S0729 M000: .*age_years.*'?0\.65'?.*usually age/100"),
    "age 1.2": (0, {"age": 1.2}, r"age_years.*1\.2.*usually age/100"),
    "age 121": (1, {"age": 121}, r"row 3: ADNI002S0729 M012.*age_years.*121"),
    "age in words": (0, {"age": "65y"}, r"age_years '65y'.*one number and nothing else"),
    "hidden age": (1, {"age": "89+"}, r"row 3: ADNI002S0729 M012.*age_years '89\+'.*leave the cell empty"),
    "diagnosis": (0, {"diagnosis": "FTD"}, r"row 2: ADNI002S0729 M000.*diagnosis 'FTD'\. Rename the diagnosis"),
    "falling age": (1, {"age": 65.1}, r"row 3: ADNI002S0729 M012.*65\.1 years at M000, 65\.1 at M012.*was copied"),
}


@pytest.mark.parametrize(("index", "values", "message"), CELLS.values(), ids=CELLS)
def test_a_bad_cell_of_sessions_is_refused_by_row(tmp_path, index, values, message):
    reading = bids.read_bids(trees.adni(tmp_path, visits=changed(trees.ADNI_VISITS, A, index, **values)))
    found = refused(reading)
    assert len(found) == 1
    assert re.search(message, found[0]), found[0]
    assert {f.subject for f in reading.findings if f.refused} == {"ADNI002S0729"}


def test_coded_sexes_need_a_map(tmp_path):
    people = [{**p, "sex": code} for p, code in zip(trees.ADNI_PEOPLE, (2, 1), strict=True)]
    root = trees.adni(tmp_path, people=people)
    found = refused(bids.read_bids(root))
    assert len(found) == 2 and "participants.tsv: ADNI002S0729" in "".join(found) and "pass sex_codes" in found[0]
    reading = bids.read_bids(root, sex_codes={"1": "M", "2": "F"})
    assert refused(reading) == [] and row(reading, "ADNI002S0729", "M000").sex == "F"


def test_a_duplicated_session_is_refused_in_the_table_and_in_folders(tmp_path):
    rows = trees.ADNI_VISITS[A]
    root = trees.adni(tmp_path, visits={**trees.ADNI_VISITS, A: [*rows, {**rows[1], "session_id": "ses-M12"}]})
    found = " ".join(refused(bids.read_bids(root)))
    assert "row 4: expected each session once, found a duplicated session: ses-M12" in found
    assert f"ADNI002S0729/M012: expected each session once, found a duplicated session: {A}/ses-M012 and" in found


def test_two_scans_on_one_file_name_are_refused(tmp_path):
    root = trees.adni(tmp_path)
    first = root / A / "ses-M000" / "anat" / f"{A}_ses-M000_T1w.nii.gz"
    nifti.save_image(first.with_name(first.name.removesuffix(".gz")), trees.head(5))
    assert "two scans on one file name" in refused(bids.read_bids(root))[0]


def test_a_file_in_another_persons_folder_is_refused(tmp_path):
    root = trees.adni(tmp_path)
    stray = root / A / "ses-M000" / "anat" / f"{B}_ses-M000_T2w.nii.gz"
    nifti.save_image(stray, trees.head(6))
    assert "a file named after its folder" in refused(bids.read_bids(root))[0]
    (root / bids.IGNORE).write_text(f"# wrong\n{stray.name}\n")
    assert refused(bids.read_bids(root)) == []


def test_an_image_on_another_grid_is_left_out_and_such_a_mask_is_refused(tmp_path):
    root, other = trees.adni(tmp_path), np.diag([-14.0, 14.0, 15.0, 1.0])
    flair = root / B / "ses-M000" / "anat" / f"{B}_ses-M000_FLAIR.nii.gz"
    nifti.save_image(flair, Volume(trees.head(7).data, other))
    reading = bids.read_bids(root)
    assert refused(reading) == [] and "FLAIR" not in set(reading.table.contrast)
    assert "FLAIR.nii.gz against" in warned(reading)[0] and "same affine" in warned(reading)[0]
    trees.mask(root, B, "ses-M000", volume=Volume(trees.brain().data, other))
    assert "desc-brain_mask.nii.gz against" in refused(bids.read_bids(root))[0]


def test_runs_and_both_crops_leave_one_image_and_a_note(tmp_path):
    root = trees.oasis3(tmp_path)
    trees.scan(root, "sub-OAS30001", "ses-M000", run="run-02")
    reading = bids.read_bids(root, clinical=trees.clinical(tmp_path / "tables"))
    assert row(reading, "OAS30001", "M000").path.endswith("run-01_T1w.nii.gz")
    assert any("run-02_T1w.nii.gz: expected one T1w per session" in w for w in warned(reading))


def test_a_mask_belongs_to_the_space_it_names(tmp_path):
    root = trees.adni(tmp_path)
    place = trees.mask(root, B, "ses-M000")
    place.rename(place.with_name(place.name.replace("_desc", "_space-MNI152_desc")))
    assert "mask:brain" not in set(bids.read_bids(root).table.contrast)


def test_people_and_tables_that_are_missing_are_named(tmp_path):
    root = trees.adni(tmp_path, people=trees.ADNI_PEOPLE[:1])
    assert "participants.tsv: ADNI011S0005: expected a row for every participant" in refused(bids.read_bids(root))[0]
    (root / "participants.tsv").unlink()
    assert refused(bids.read_bids(root))[0].startswith("participants.tsv: expected a table")


def test_without_an_age_at_the_visit_months_are_added_to_the_age_at_baseline(tmp_path):
    visits = {A: [{k: v for k, v in r.items() if k != "age"} for r in trees.ADNI_VISITS[A]]}
    reading = bids.read_bids(trees.adni(tmp_path, visits={**trees.ADNI_VISITS, **visits}))
    assert row(reading, "ADNI002S0729", "M012").age_years == pytest.approx(66.1)
    assert len(warned(reading)) == 1 and "66.1, reckoned from the age at baseline" in warned(reading)[0]


def test_one_age_for_several_visits_is_refused_in_plain_bids(tmp_path):
    people = [{"participant_id": "sub-01", "sex": "F", "age": 70, "diagnosis": "CN"}]
    for session in ("ses-1", "ses-2"):
        trees.scan(tmp_path, "sub-01", session)
    trees.table(tmp_path / "participants.tsv", people)
    assert "one age for several visits" in refused(bids.read_bids(tmp_path))[0]
    trees.table(tmp_path / "sub-01" / "sub-01_sessions.tsv", [
        {"session_id": "ses-1", "age": 70.2}, {"session_id": "ses-2", "age": 71.9}])
    reading = bids.read_bids(tmp_path)
    assert reading.findings == () and reading.table.age_years.tolist() == [70.2, 71.9]


def test_a_data_set_without_sessions(tmp_path):
    nifti.save_image(tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz", trees.head())
    trees.table(tmp_path / "participants.tsv", [{"participant_id": "sub-01", "sex": "Male", "age": 33, "group": "HC"}])
    reading = bids.read_bids(tmp_path)
    found = row(reading, "01", "single")
    assert (found.age_years, found.sex, found.diagnosis) == (33.0, "M", "HC") and reading.findings == ()


def test_caps_is_read_with_the_tables_copied_into_it(tmp_path):
    root = trees.adni(tmp_path / "bids")
    source = trees.scan(tmp_path / "x", B, "ses-M000")
    caps = tmp_path / "caps" / "subjects" / B / "ses-M000" / "t1_linear"
    caps.mkdir(parents=True)
    space = "space-MNI152NLin2009cSym"
    for more in (f"{space}_desc-Crop_res-1x1x1", f"{space}_res-1x1x1"):
        shutil.copy(source, caps / f"{B}_ses-M000_{more}_T1w.nii.gz")
    assert "CAPS has none" in refused(bids.read_bids(tmp_path / "caps"))[0]
    shutil.copy(root / "participants.tsv", tmp_path / "caps")
    shutil.copytree(root / B, tmp_path / "caps" / B, ignore=shutil.ignore_patterns("ses-*"))
    reading = bids.read_bids(tmp_path / "caps")
    assert "desc-Crop" in row(reading, "ADNI011S0005", "M000").path and refused(reading) == []


def test_contradictions_of_adni_are_warnings_with_their_row(tmp_path):
    visits = changed(trees.ADNI_VISITS, A, 0, diagnosis="AD")
    visits = changed(visits, B, 0, cdr_global=1.0)
    told = " ".join(warned(bids.read_bids(trees.adni(tmp_path, visits=visits))))
    assert "ADNI011S0005_sessions.tsv row 2: ADNI011S0005 M000: " in told and "diagnosis CN, CDR 1" in told
    assert "diagnosis AD, but LMCI in participants.tsv" in told


def test_an_unknown_diagnosis_later_on_is_that_of_the_visit_before(tmp_path):
    reading = bids.read_bids(trees.adni(tmp_path, visits=changed(trees.ADNI_VISITS, A, 1, diagnosis="n/a")))
    assert row(reading, "ADNI002S0729", "M012").diagnosis == "LMCI"
    assert any("LMCI of the visit before is used" in w for w in warned(reading))


@pytest.mark.parametrize("name", ["sub-OAS30001", "sub-OASIS30001", "OASIS30001"])
def test_both_spellings_of_oasis_are_one_name(name):
    assert bids.subject_name(name) == "OAS30001"


def test_both_spellings_of_one_person_are_one_person(tmp_path):
    root = trees.oasis3(tmp_path / "b")
    other = Path(str(root / "sub-OASIS30001"))
    for old in sorted((root / "sub-OAS30001" / "ses-M024").rglob("*.nii.gz")):
        new = other / "ses-M024" / "anat" / old.name.replace("OAS3", "OASIS3")
        new.parent.mkdir(parents=True)
        old.rename(new)
    reading = bids.read_bids(root, clinical=trees.clinical(tmp_path / "c"))
    assert refused(reading) == [] and reading.subjects == ("OAS30001", "OAS30002")
    assert row(reading, "OAS30001", "M024").path.startswith("sub-OASIS30001/")
    trees.scan(root, "sub-OASIS30001", "ses-M000")
    found = refused(bids.read_bids(root, clinical=tmp_path / "c"))
    assert len(found) == 1 and "sub-OAS30001/ses-M000 and sub-OASIS30001/ses-M000" in found[0]


def test_scores_joined_on_the_session_alone_are_refused(tmp_path):
    found = refused(bids.read_bids(trees.oasis3(tmp_path)))
    assert len(found) == 1
    assert "the same score vector for all 2 subjects in session M000" in found[0] and "--clinical" in found[0]


def test_scores_that_differ_within_a_session_are_taken(tmp_path):
    visits = changed(trees.MIXED_UP, "sub-OAS30002", 0, cdr=1, mmse=15, dx1="AD Dementia")
    reading = bids.read_bids(trees.oasis3(tmp_path, visits=visits))
    assert refused(reading) == [] and row(reading, "OAS30002", "M000").diagnosis == "AD"


def test_scores_of_a_single_person_cannot_be_told_from_anothers(tmp_path):
    visits = {"sub-OAS30002": trees.MIXED_UP["sub-OAS30002"]}
    found = refused(bids.read_bids(trees.oasis3(tmp_path, visits=visits)))
    assert len(found) == 1 and "cannot be told from those of another person" in found[0]


@pytest.mark.parametrize("inside", [False, True], ids=["--clinical", "in the data set"])
def test_the_original_tables_give_each_person_their_own_scores_and_age(tmp_path, inside):
    root = trees.oasis3(tmp_path / "bids")
    tables = trees.clinical(root / "sourcedata" if inside else tmp_path / "tables")
    reading = bids.read_bids(root, clinical=None if inside else tables)
    assert refused(reading) == [] and "They are not used" in warned(reading)[0]
    ill, early, late = (
        row(reading, *visit) for visit in (("OAS30002", "M000"), ("OAS30001", "M000"), ("OAS30001", "M024")))
    assert (ill.cdr, ill.mmse, ill.diagnosis, ill.sex) == (1.0, 15.0, "AD", "M")
    assert (early.diagnosis, late.diagnosis, late.cdr, late.sex) == ("CN", "MCI", 0.5, "F")
    assert late.age_years == pytest.approx(65.2 + 731 / 365.25)


def test_oasis_ages_are_rebuilt_from_days_or_refused(tmp_path):
    good = changed(trees.MIXED_UP, "sub-OAS30002", 0, cdr=1, dx1="AD Dementia")
    reading = bids.read_bids(trees.oasis3(tmp_path / "a", visits=good))
    assert row(reading, "OAS30002", "M000").age_years == pytest.approx(71.9 + 30 / 365.25)
    bad = changed(good, "sub-OAS30002", 0, source_session_id=None)
    found = refused(bids.read_bids(trees.oasis3(tmp_path / "b", visits=bad)))
    assert len(found) == 1 and "row 2: OAS30002 M000: expected source_session_id" in found[0]
    assert "cut to whole years" in found[0]


@pytest.mark.parametrize(
    ("day", "expected"), [(0, (0, 30)), (399, (0, 30)), (400, (0, 30)), (401, (0.5, 28)), (5000, (0.5, 28))]
)
def test_the_nearest_day_wins_and_of_two_the_earlier(tmp_path, day, expected):
    found = oasis3.read_clinical(trees.clinical(tmp_path)).at("OAS30001", day)
    assert (found["cdr"], found["mmse"]) == expected


def test_a_scan_far_from_any_visit_is_a_warning(tmp_path):
    visits = changed(trees.MIXED_UP, "sub-OAS30001", 1, source_session_id="d2000")
    reading = bids.read_bids(trees.oasis3(tmp_path / "b", visits=visits), clinical=trees.clinical(tmp_path / "c"))
    assert any("the nearest 1200 days away" in w for w in warned(reading)) and refused(reading) == []


@pytest.mark.parametrize(("words", "ours"), [
    ("Cognitively normal", "CN"), ("No dementia", "CN"), ("uncertain dementia", "MCI"), ("0.5 in memory only", "MCI"),
    ("AD Dementia", "AD"), ("AD dem w/CVD contribut", "AD"), ("DAT", "AD"), ("DLBD- primary", "DLBD- primary"),
])
def test_wordings_of_dx1(words, ours):
    assert oasis3.diagnosis(words) == ours


def test_clinical_tables_are_asked_for_by_name_and_column(tmp_path):
    with pytest.raises(NbkitError, match=r"expected OASIS3_UDSb4_cdr\.csv, found no CSV"):
        oasis3.read_clinical(tmp_path)
    rows = [{k: v for k, v in r.items() if k != "CDRTOT"} for r in trees.CDR_ROWS]
    with pytest.raises(NbkitError, match=r"OASIS3_UDSb4_cdr\.csv: columns: expected OASISID, .*no CDRTOT"):
        oasis3.read_clinical(trees.clinical(tmp_path, visits=rows))


def test_the_manifest_names_the_tables_that_are_read():
    needs = load_manifest("oasis3").needs
    assert {name: tuple(needs[name]) for name in oasis3.REQUIRED} == oasis3.REQUIRED


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(NbkitError, match="expected a folder"):
        bids.read_bids(tmp_path / "none")
    with pytest.raises(NbkitError, match="images named as in BIDS"):
        bids.read_bids(tmp_path)


@pytest.mark.parametrize(("text", "message"), [
    ("participant_id,sex\nsub-01,F\n", r"participants\.tsv: columns: expected participant_id.*separated by tabs"),
    ("participantid\tsex\nsub-01\tF\n", r"Did you mean 'participantid'"),
    ("", r"participants\.tsv: expected a tab-separated table"),
])
def test_a_table_that_is_none_is_refused_by_name(tmp_path, text, message):
    root = trees.adni(tmp_path)
    (root / "participants.tsv").write_text(text)
    with pytest.raises(NbkitError, match=message):
        bids.read_bids(root)


def test_ignored_lines_work_as_in_gitignore(tmp_path):
    root = trees.adni(tmp_path)
    for line, left in ((f"/{A}/ses-M012/", 5), ("*FLAIR*", 5), (A, 4), ("sub-*/ses-M000", 1)):
        (root / bids.IGNORE).write_text(line + "\n")
        assert len(bids.read_bids(root).table) == left, line


def test_an_oblique_truncated_header_is_a_finding_not_an_end(tmp_path):
    root = trees.adni(tmp_path)
    file = root / A / "ses-M012" / "anat" / f"{A}_ses-M012_T1w.nii.gz"
    file.write_bytes(b"not an image")
    found = refused(bids.read_bids(root))
    assert len(found) == 1 and found[0].startswith(f"{A}/ses-M012/anat") and str(tmp_path) not in found[0]
    assert torch.is_tensor(nifti.read_image(row(bids.read_bids(root), "ADNI002S0729", "M000").file).data)
