"""The one door for tables: whatever a spreadsheet makes of one, the values are the same, or it is refused by row."""

from __future__ import annotations

import logging

import pytest

from nbkit.core.checks import NbkitError
from nbkit.data.text_tables import file_at, is_empty, number, read_text, read_text_table

COLUMNS = ("name", "age", "path")
ROWS = [["P1", "64.2", "a b.nii"], ["P2", "", "ü/b.nii"], ["P3", "7", "c.nii"]]
TEXT = "name,age,path\n" + "\n".join(map(",".join, ROWS)) + "\n"


def read(folder, content: bytes | str, **options):
    path = folder / "t.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_text_table(path, COLUMNS, **options)


HARMLESS = {
    "plain": TEXT, "mark": b"\xef\xbb\xbf" + TEXT.encode(), "utf-16": TEXT.encode("utf-16"),
    "utf-16 big end": b"\xfe\xff" + TEXT.encode("utf-16-be"), "utf-32": TEXT.encode("utf-32"),
    "latin-1": TEXT.encode("latin-1"), "crlf": TEXT.replace("\n", "\r\n"), "cr": TEXT.replace("\n", "\r"),
    "semicolons": TEXT.replace(",", ";"), "tabs": TEXT.replace(",", "\t"),
    "sep line": "sep=;\r\n" + TEXT.replace(",", ";"), "quoted sep line": '"sep=|"\n' + TEXT.replace(",", "|"),
    "commas at the end of rows": TEXT.replace("\n", ",\n"),
    "commas at the end but for the header": TEXT.replace("\n", ",,\n").replace(",,\n", "\n", 1),
    "spaces": TEXT.replace(",", " , "), "capitals": TEXT.replace("name,age,path", "Name,AGE,Path"),
    "quotes": "\n".join(",".join(f'"{c}"' for c in row) for row in [COLUMNS, *ROWS]),
    "no end of line": TEXT.rstrip("\n"), "the same column twice": "\n".join(
        ",".join([*row, row[0]]) for row in [COLUMNS, *ROWS]),
    "a column without a name": ",name,age,path\n" + "\n".join(",".join([str(k), *r]) for k, r in enumerate(ROWS)),
}


@pytest.mark.parametrize("content", HARMLESS.values(), ids=HARMLESS)
def test_what_spreadsheets_do_changes_no_value(tmp_path, content):
    table = read(tmp_path, content)
    assert table[list(COLUMNS)].values.tolist() == ROWS
    assert table.index.tolist() == [0, 1, 2]


def test_rows_are_counted_as_a_spreadsheet_does(tmp_path):
    table = read(tmp_path, "\n\nname,age,path\n,,\nP1,1,a\n\nP2,2,b\n")
    assert (table.index + 2).tolist() == [5, 7] and table["name"].tolist() == ["P1", "P2"]


def test_latin_1_is_read_with_a_warning_that_says_where(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        read(tmp_path, TEXT.encode("latin-1"))
    assert "t.csv: line 3 is not UTF-8" in caplog.text and "Save it as plain text in UTF-8" in caplog.text


REFUSED = {
    "empty": ("", "a comma-separated table, found an empty file"),
    "bytes": (b"\x00\x01\x02name", "text, found NUL bytes"),
    "utf-16 without mark": (TEXT.encode("utf-16-le"), "NUL bytes"),
    "half of utf-16": (TEXT.encode("utf-16")[:-1], "broken utf-16"),
    "open quote": (TEXT.replace("P2", '"P2'), r"row 3: .*cell"),
    "line break": (TEXT.replace("P2", '"P\n2"'), r"row 3: expected cells of one line"),
    "text behind a quote": (TEXT.replace("P2", '"P"2'), r"row 3: .*expected after"),
    "an unquoted decimal comma": (TEXT.replace("64.2", "64,2"), r"row 2: expected 3 cells.*found 4.*decimal comma"),
    "two ages": (TEXT.replace("path\n", "path,age\n").replace("nii\n", "nii,9\n"), "each column once, found age twice"),
    "no age": (TEXT.replace("age", "aeg"), r"no age among name, aeg, path\. Did you mean 'aeg'"),
    "a huge cell": (TEXT.replace("P2", "P" * 200_000), r"row 3: .*field larger than field limit"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_by_file_and_row(tmp_path, content, message):
    with pytest.raises(NbkitError, match=rf"t\.csv.*{message}"):
        read(tmp_path, content)


def test_folders_and_missing_files_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(NbkitError, match="no such file"):
            read_text(path)


@pytest.mark.parametrize(("cell", "value"), [
    ("64.2", 64.2), ("64,2", 64.2), (" 7 ", 7.0), ("6.5e1", 65.0), ("-1", -1.0), (".5", 0.5), ("89+", None),
    ("60-64", None), ("n/a", None), ("inf", None), ("nan", None), ("1_000", None), ("1.000,5", None), ("", None),
    ("65y", None), ("٦٤", None),
    (None, None), (64.2, 64.2),
])
def test_numbers_have_a_point_or_a_comma(cell, value):
    assert number(cell) == value


@pytest.mark.parametrize(("cell", "empty"), [
    ("", True), ("N/A", True), (" na ", True), ("NaN", True), (None, True), (".", True), ("0", False), ("xx", False)])
def test_the_usual_ways_to_say_nothing(cell, empty):
    assert is_empty(cell) is empty


def test_files_are_found_by_the_name_they_are_given(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "blob").write_bytes(b"1")
    (tmp_path / "t1.nii.gz").symlink_to(tmp_path / "store" / "blob")
    (tmp_path / "gone.nii").symlink_to(tmp_path / "store" / "none")
    assert file_at(tmp_path, "t1.nii.gz") == tmp_path / "t1.nii.gz"
    assert file_at(tmp_path, str(tmp_path / "t1.nii.gz")) == tmp_path / "t1.nii.gz"
    for cell in ("", "gone.nii", "store", "x" * 300, "a\0b", "../" * 5000):
        assert file_at(tmp_path, cell) is None
