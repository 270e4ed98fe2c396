"""The scan table: every bad row is named, whatever is wrong with it."""

from __future__ import annotations

import re

import pytest

from nbkit.core.checks import NbkitError
from nbkit.data import nifti
from nbkit.data.tables import read_scan_table
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


BAD_CELLS = {
    "age/100": ("s1,m00,0.72,F,MS,T1w,a.nii", r"age_years '0\.72'.*usually age/100"),
    "age 1.2": ("s1,m00,1.2,F,MS,T1w,a.nii", r"age_years '1\.2'"),
    "age 121": ("s1,m00,121,F,MS,T1w,a.nii", "age_years '121'"),
    "age text": ("s1,m00,65y,F,MS,T1w,a.nii", "age_years '65y'"),
    "sex 0": ("s1,m00,35,0,MS,T1w,a.nii", "sex '0'"),
    "diagnosis": ("s1,m00,35,F,Dementia,T1w,a.nii", "diagnosis 'Dementia'.*Rename the diagnosis"),
    "no diagnosis": ("s1,m00,35,F,,T1w,a.nii", "diagnosis empty"),
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
