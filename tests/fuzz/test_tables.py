"""Tables: a refusal by file, or cells that are text; of people's own tables findings, or what the rules allow."""

from __future__ import annotations

import logging

import pytest

from nbkit.data.check import read_own
from nbkit.data.own_needs import account
from nbkit.data.own_state import table_state
from nbkit.data.tables import survey_scan_table
from nbkit.data.text_tables import read_text_table
from tests.data import trees
from tests.data.test_tables import GOOD, HEADER
from tests.data.test_text_tables import COLUMNS, TEXT
from tests.fuzz.damage import Door

TOLD = (b"89+", b"64,2", b"inf", b"1e400", b"NA", b"0x10", b"MS", b"mask:", b"mask:lesions", b"T1w", b"a.nii", b"/")


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL)


@pytest.mark.slow
def test_tables(tmp_path):
    texts = [TEXT, TEXT.replace(",", ";"), "sep=;\r\n" + TEXT.replace(",", ";"), TEXT.replace("\n", "\r\n")]
    wholes = [*(text.encode() for text in texts), TEXT.encode("utf-16"), TEXT.replace(",", "\t").encode("latin-1")]
    door, path = Door("tables", wholes), tmp_path / "t.csv"
    for which, raw in door:
        path.write_bytes(raw)
        for tabs in (False, True):
            door.tries(which, raw, lambda tabs=tabs: _is_text(read_text_table(path, COLUMNS, tabs=tabs)))
    door.close()


def _is_text(table) -> None:
    assert set(COLUMNS) <= set(table) and table.map(lambda cell: isinstance(cell, str)).all().all()
    assert not table.map(lambda cell: "\n" in cell or "\0" in cell).any().any()


@pytest.mark.slow
def test_tables_of_scans(tmp_path):
    """What a table says of people is read as it stands or found fault with, by row; the same rows are always so."""
    for name in "abcd":
        (tmp_path / f"{name}.nii").write_bytes(b"")
    (tmp_path / "scans.csv").write_text("\n".join([HEADER, *GOOD]) + "\n")
    path = tmp_path / "scans.csv"
    door = Door("scan_tables", [path.read_bytes(), path.read_bytes().replace(b",", b";")], words=TOLD, share=4)
    for which, raw in door:
        path.write_bytes(raw)
        door.tries(which, raw, lambda: _is_allowed(path))
    door.close(least=0.01)


def _is_allowed(path) -> None:
    table_state(path)
    reading = survey_scan_table(path)
    assert all(f.where and f.expected and f.remedy for f in reading.findings)
    assert reading.table["age_years"].dropna().between(1.2, 120).all()
    assert set(reading.table["sex"].dropna()) <= {"F", "M"} and reading.table["file"].map(lambda f: f.is_file()).all()


@pytest.mark.slow
def test_bids_folders(tmp_path):
    """Tables, sidecars, settings and lists of what to leave out, of a folder with two people."""
    root = trees.adni(tmp_path / "bids")
    person, (first, *_) = "sub-ADNI002S0729", root.glob("sub-*/*/pet/*.nii.gz")
    more = {
        root / "participants.json": b'{"age_bl": {"Units": "years"}, "sex": {"Levels": {"1": "male", "2": "female"}}}',
        root / ".bidsignore": b"sub-9*/\n# a line\n*_FLAIR.nii.gz\n", root / ".nbkit.toml": b'sex_codes = {1 = "M"}\n',
        first.with_name(first.name.replace(".nii.gz", ".json")): b'{"Units": "SUVR", "Tracer": "FDG"}',
    }
    for file, content in more.items():
        file.write_bytes(content)
    files = [root / "participants.tsv", root / person / f"{person}_sessions.tsv", *more]
    words = (b"months", b"years", b"male", b"sub-ADNI011S0005", b"ses-M000", b"**/", b"!", b"CN", b"89+", b"[z-a]")
    door = Door("bids", [file.read_bytes() for file in files], words=words, share=20)
    for which, raw in door:
        files[which].write_bytes(raw)
        door.tries(which, raw, lambda: _is_sound(root))
        files[which].write_bytes(door.wholes[which])
    door.close()


def _is_sound(root) -> None:
    reading = read_own(root)
    assert all(f.where and f.expected and f.remedy for f in reading.findings)
    assert reading.table["age_years"].dropna().between(1.2, 120).all()
    assert account(root)
