"""The scan table: every bad row is named, whatever is wrong with it."""

from __future__ import annotations

import os
import re

import pytest

from nbkit.core.checks import NbkitError
from nbkit.data import nifti
from nbkit.data.tables import read_scan_table, survey_scan_table
from tests.data import trees

HEADER = "subject,session,age_years,sex,diagnosis,contrast,path"
GOOD = ["s1,m00,35.5,F,MS,T1w,a.nii", "s1,m00,35.5,F,MS,mask:brain,b.nii", "s1,m12,36.5,F,MS,T1w,c.nii",
        "s2,m00,,,HC,T1w,d.nii"]


@pytest.fixture
def write(tmp_path):
    for name in "abcdefg":
        nifti.save_image(tmp_path / f"{name}.nii", trees.head())

    def table(*rows: str, header: str = HEADER):
        path = tmp_path / "scans.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return table


def test_a_good_table_is_read_with_lines_and_files(write, tmp_path):
    table = read_scan_table(write(*GOOD, header=HEADER))
    assert table["row"].tolist() == [2, 3, 4, 5]
    assert table["file"].tolist() == [tmp_path / f"{n}.nii" for n in "abcd"]
    assert table["age_years"].iloc[:3].tolist() == [35.5, 35.5, 36.5]
    assert table["age_years"].isna().tolist() == [False, False, False, True]
    assert table["sex"].isna().tolist() == [False, False, False, True]


def test_further_columns_and_spaces_do_no_harm(write):
    table = read_scan_table(write(" s1 ,m00,35.5,F , MS,T1w,a.nii,3T", header=HEADER + ",field"))
    assert table.loc[0, ["subject", "sex", "diagnosis"]].tolist() == ["s1", "F", "MS"]


def test_sex_codes_are_read_with_a_map_only(write):
    path = write("s1,m00,35,1,MS,T1w,a.nii", "s2,m00,35,2,MS,T1w,b.nii")
    with pytest.raises(NbkitError, match=r"row 2, scans\.csv row 3: .*found sex '1', sex '2'\..*pass sex_codes"):
        read_scan_table(path)
    assert read_scan_table(path, sex_codes={"1": "M", "2": "F"})["sex"].tolist() == ["M", "F"]


@pytest.mark.parametrize(("sex", "diagnosis", "read"), [
    ("f", "ms", ("F", "MS")), ("Female", "Ms", ("F", "MS")), ("m", "control", ("M", "HC")), ("MALE", "nc", ("M", "CN")),
])
def test_small_letters_and_words_are_read_as_in_folders(write, sex, diagnosis, read):
    table = read_scan_table(write(f"s1;m00;35,5;{sex};{diagnosis};T2-star;a.nii", header=HEADER.replace(",", ";")))
    assert tuple(table.loc[0, ["sex", "diagnosis"]]) == read and table["age_years"].tolist() == [35.5]


BAD_CELLS = {
    "age/100": ("s1,m00,0.72,F,MS,T1w,a.nii", r"age_years '0\.72'.*usually age/100"),
    "age 1.2": ("s1,m00,1.2,F,MS,T1w,a.nii", r"age_years '1\.2'"),
    "age 121": ("s1,m00,121,F,MS,T1w,a.nii", "age_years '121'"),
    "age text": ("s1,m00,65y,F,MS,T1w,a.nii", "age_years '65y'.*one number and nothing else"),
    "hidden age": ("s1,m00,89+,F,MS,T1w,a.nii", r"age_years '89\+'\. Give the age itself; .*leave the cell empty"),
    "at least": ("s1,m00,>89,F,MS,T1w,a.nii", "age_years '>89'.*leave the cell empty"),
    "range": ("s1,m00,60-64,F,MS,T1w,a.nii", "age_years '60-64'.*one number"),
    "months": ("s1,m00,780,F,MS,T1w,a.nii", "age_years '780'.*months or days"),
    "code": ("s1,m00,-9,F,MS,T1w,a.nii", "age_years '-9'.*code for a missing value"),
    "word": ("s1,m00,xx,F,MS,T1w,a.nii", "age_years 'xx'.*one number"),
    "sex 0": ("s1,m00,35,0,MS,T1w,a.nii", "sex '0'"),
    "diagnosis": ("s1,m00,35,F,ill,T1w,a.nii", "diagnosis 'ill'.*Rename the diagnosis"),
    "no diagnosis": ("s1,m00,35,F,,T1w,a.nii", "diagnosis empty.*diagnosis = \"CN\""),
    "no subject": (",m00,35,F,MS,T1w,a.nii", "subject empty"),
    "odd subject": ("s/1,m00,35,F,MS,T1w,a.nii", "subject 's/1'"),
    "contrast": ("s1,m00,35,F,MS,T1 w,a.nii", "contrast 'T1 w'"),
    "no path": ("s1,m00,35,F,MS,T1w,", "path empty"),
}


@pytest.mark.parametrize("kind", BAD_CELLS)
def test_bad_cells_are_named_by_row_and_column(write, kind):
    row, message = BAD_CELLS[kind]
    column = message.partition(" ")[0]
    with pytest.raises(NbkitError, match=rf"scans\.csv row 3: expected {column}: .*found {message}"):
        read_scan_table(write("s9,m00,35,F,MS,T1w,g.nii", row))


def test_every_bad_row_is_listed_at_once(write):
    rows = ["s1,m00,0.5,F,MS,T1w,a.nii", "s2,m00,35,3,MS,T1w,b.nii", "s3,m00,35,F,XX,T1w,c.nii"]
    with pytest.raises(NbkitError) as caught:
        read_scan_table(write(*rows))
    told = r"3 refused: .*row 2: .*age_years '0\.5'.*; .*row 3: .*sex '3'.*; .*row 4: .*diagnosis 'XX'"
    assert re.match(told, caught.value.found)


BAD_PAIRS = {
    "repeated scan": (["s1,m00,35,F,MS,T1w,a.nii", "s1,m00,35,F,MS,T1w,b.nii"], "2, 3: .*once, found s1/m00/T1w"),
    "one file twice": (["s1,m00,35,F,MS,T1w,a.nii", "s2,m00,35,F,MS,T1w,./a.nii"], r"2, 3: .*in one row, found a\.nii"),
    "two sexes": (["s1,m00,35,F,MS,T1w,a.nii", "s1,m12,36,M,MS,T1w,b.nii"], "2, 3: .*one sex per subject, found s1"),
    "two ages": (["s1,m00,35,F,MS,T1w,a.nii", "s1,m00,36,F,MS,T2w,b.nii"], "one age_years per session.*s1/m00"),
    "missing": (["s1,m00,35,F,MS,T1w,a.nii", "s2,m00,35,F,MS,T1w,z.nii"], r"row 3, z\.nii: expected files that exist"),
}


@pytest.mark.parametrize("kind", BAD_PAIRS)
def test_rows_that_contradict_each_other_are_named(write, kind):
    rows, message = BAD_PAIRS[kind]
    with pytest.raises(NbkitError, match=message):
        read_scan_table(write(*rows))


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [(HEADER.replace("age_years", "age_year"), GOOD, "no age_years.*Did you mean 'age_year'"),
     (HEADER, [], "at least one row"), ("", [], "comma-separated")],
)
def test_files_that_are_no_scan_table_are_refused(write, header, rows, message):
    with pytest.raises(NbkitError, match=message):
        read_scan_table(write(*rows, header=header))


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(NbkitError, match=r"nothing\.csv.*no such file"):
        read_scan_table(tmp_path / "nothing.csv")


def test_a_table_from_a_spreadsheet_abroad_has_the_right_values(write, tmp_path):
    """Semicolons, decimal commas, capitals, UTF-16, missing values in words, a separator at the end of each row."""
    header = "Subject;SESSION;Age_Years;Sex;Diagnosis;Contrast;Path;EDSS;T2_load_mL"
    rows = ["s1;m00;64,25;F;MS;T1w;a.nii;2,5;12,75;", "s2;m00;N/A;n/a;HC;T1w;b.nii;;nan;"]
    path = tmp_path / "scans.csv"
    path.write_bytes("\r\n".join(["sep=;", header, *rows]).encode("utf-16"))
    table = read_scan_table(path)
    assert table["age_years"].iloc[0] == 64.25 and table["age_years"].isna().tolist() == [False, True]
    assert (table["edss"].iloc[0], table["t2_load_ml"].iloc[0]) == (2.5, 12.75)
    assert table["sex"].iloc[0] == "F" and table["sex"].isna().tolist() == [False, True]
    assert table["edss"].isna().tolist() == table["t2_load_ml"].isna().tolist() == [False, True]


def test_a_word_in_one_row_hides_no_number_in_another(write):
    rows = ["s1,m00,65y,F,MS,T1w,a.nii", "s2,m00,1e400,F,MS,T1w,b.nii", "s3,m00,0.6,F,MS,T1w,c.nii"]
    told = [str(f) for f in survey_scan_table(write(*rows)).findings]
    assert len(told) == 3 and all(any(cell in t for t in told) for cell in ("'65y'", "'1e400'", "'0.6'"))


ABSENT = {
    "too long": ("x" * 300 + ".nii", "none here"), "a folder": ("folder", "a folder. Name the image in it"),
    "windows": ("folder\\a.nii", "a path with backslashes. Write the path with /"),
    "a link to nothing": ("link.nii.gz", "a link whose file is not here. .*datalad get"),
}


@pytest.mark.parametrize(("path", "message"), ABSENT.values(), ids=ABSENT)
def test_why_a_file_is_not_there(write, tmp_path, path, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "annex")
    with pytest.raises(NbkitError, match=rf"row 2.*expected files that exist, found {message}"):
        read_scan_table(write(f"s1,m00,35,F,MS,T1w,{path}"))


def test_two_missing_files_are_not_one_file(write):
    findings = survey_scan_table(write("s1,m00,35,F,MS,T1w,x.nii", "s2,m00,35,F,MS,T1w,y.nii")).findings
    assert [f.expected for f in findings] == ["files that exist"] * 2


def test_a_link_is_read_by_its_own_name_and_is_its_target(write, tmp_path):
    os.rename(tmp_path / "a.nii", tmp_path / "blob")
    (tmp_path / "a.nii").symlink_to(tmp_path / "blob")
    assert read_scan_table(write(*GOOD))["file"].iloc[0] == tmp_path / "a.nii"
    (tmp_path / "z.nii").symlink_to(tmp_path / "b.nii")
    with pytest.raises(NbkitError, match=r"rows 2, 3: expected each file in one row"):
        read_scan_table(write("s1,m00,35,F,MS,T1w,b.nii", "s2,m00,35,F,MS,T1w,z.nii"))


def test_a_visit_with_nothing_but_masks_is_named(write):
    with pytest.raises(NbkitError, match=r"s1/m00: expected at least one image, found only mask:brain"):
        read_scan_table(write("s1,m00,35,F,MS,mask:brain,a.nii", "s1,m12,36,F,MS,T1w,b.nii"))


def test_what_holds_for_everybody_stands_beside_the_table(write, tmp_path):
    path = write("s1,m00,35,1,,T1w,a.nii", "s2,m00,36,2,HC,T1w,b.nii")
    (tmp_path / ".nbkit.toml").write_text('diagnosis = "CN"\nsex_codes = {1 = "M", 2 = "F"}\n')
    table = read_scan_table(path)
    assert table["diagnosis"].tolist() == ["CN", "HC"] and table["sex"].tolist() == ["M", "F"]


@pytest.mark.parametrize(("text", "message"), [
    ('diagnoses = "CN"', "Did you mean 'diagnosis'"), ("diagnosis = 3", "a diagnosis as text"), ("diagnosis", "TOML"),
    ('sex_codes = "M"', "sex_codes as a table"), ('diagnosis = "well"', "diagnosis 'well'. Rename"),
])
def test_settings_that_are_none_are_refused(write, tmp_path, text, message):
    (tmp_path / ".nbkit.toml").write_text(text)
    with pytest.raises(NbkitError, match=message):
        read_scan_table(write("s1,m00,35,F,,T1w,a.nii"))
