"""participants.tsv and sessions.tsv as people write them: units, codes, missing columns, spreadsheets."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nbkit.core.checks import NbkitError
from nbkit.data import bids, check, oasis3
from tests.data import trees
from tests.data.test_bids import A, changed, refused, row, warned

PLAIN = [{"participant_id": "sub-01", "sex": "1", "age": 780}, {"participant_id": "sub-02", "sex": "2", "age": "n/a"}]


def plain(root, *, people=PLAIN, **sidecar):
    for person in people:
        trees.scan(root, person["participant_id"], "ses-1")
    trees.table(root / "participants.tsv", people)
    if sidecar:
        (root / "participants.json").write_text(json.dumps(sidecar), encoding="utf-8-sig")
    return root


def test_a_missing_diagnosis_says_where_to_add_it_and_one_line_says_that_everybody_is_healthy(tmp_path):
    root = plain(tmp_path, people=[{"participant_id": f"sub-0{k}", "sex": "F", "age": 70} for k in (1, 2)])
    found = refused(bids.read_bids(root))
    assert len(found) == 2 and "diagnosis empty" in found[0] and "participants.tsv or sub-*_sessions.tsv" in found[0]
    assert '.nbkit.toml in that folder with the line diagnosis = "CN"' in found[0] and "Rename" not in found[0]
    (root / ".nbkit.toml").write_text('diagnosis = "CN"')
    reading = bids.read_bids(root)
    assert refused(reading) == [] and reading.table.diagnosis.tolist() == ["CN", "CN"]


@pytest.mark.parametrize(("told", "years"), [
    ({"Units": "months"}, 65.0), ({"Units": "Month"}, 65.0), ({"Description": "Age in months at the scan"}, 65.0),
    ({"Units": "months (whole)"}, 65.0), ({"Units": "mo"}, 65.0), ({"Units": "days"}, 780 / 365.25),
    ({"Units": "weeks"}, 780 * 7 / 365.25),
])
def test_ages_are_read_in_the_unit_that_the_json_says(tmp_path, told, years):
    root = plain(tmp_path, Age=told, sex={"Levels": {"1": "male", "2": {"Description": "Female"}}})
    (root / ".nbkit.toml").write_text('diagnosis = "CN"')
    reading = bids.read_bids(root)
    assert refused(reading) == [] and any("they are made years" in w for w in warned(reading))
    assert row(reading, "01", "1").age_years == pytest.approx(years)
    assert np.isnan(row(reading, "02", "1").age_years)
    told = check.read_own(root).findings[-1]
    assert told.subject == "02" and told.expected == "the age at 1" and not told.refused
    assert reading.table.sex.tolist() == ["M", "F"]


def test_years_old_are_years(tmp_path):
    root = plain(tmp_path, age={"Units": "Years old"}, people=[{**PLAIN[0], "sex": "M", "age": 66, "dx": "CN"}])
    assert row(bids.read_bids(root), "01", "1").age_years == 66.0


def test_ages_of_sessions_have_a_json_too_and_years_stay_years(tmp_path):
    root = plain(tmp_path, age={"Units": "years"}, people=[{**PLAIN[0], "sex": "M", "age": 66, "dx": "CN"}])
    assert row(bids.read_bids(root), "01", "1").age_years == 66.0
    trees.table(root / "sub-01" / "sub-01_sessions.tsv", [{"session_id": "ses-1", "age": 800}])
    (root / "sessions.json").write_text('{"age": {"Units": "months"}}')
    assert row(bids.read_bids(root), "01", "1").age_years == pytest.approx(800 / 12)


@pytest.mark.parametrize(("text", "message"), [
    ('{"age": {"Units": "centuries"}}', "participants.json: Units of age: expected years, months"),
    ("[1]", "participants.json: expected a JSON object, found a list"),
    ("{", "participants.json: expected a JSON object"),
])
def test_a_json_that_says_nothing_usable_is_refused(tmp_path, text, message):
    root = plain(tmp_path)
    (root / "participants.json").write_text(text)
    with pytest.raises(NbkitError, match=message):
        bids.read_bids(root)


@pytest.mark.parametrize("cell", ["66,14", " 66.14 "])
def test_a_decimal_comma_is_a_point(tmp_path, cell):
    root = trees.adni(tmp_path, visits=changed(trees.ADNI_VISITS, A, 1, age=cell))
    assert row(bids.read_bids(root), "ADNI002S0729", "M012").age_years == 66.14


def test_tables_of_a_spreadsheet_are_read_alike(tmp_path):
    root = trees.adni(tmp_path)
    before = bids.read_bids(root).table
    for path in root.rglob("*.tsv"):
        text = path.read_text().replace("\r\n", "\n").replace("\n", "\t\t\r\n")
        path.write_bytes(text.replace("participant_id", "Participant_ID").encode("utf-16"))
    assert bids.read_bids(root).table.drop(columns="file").equals(before.drop(columns="file"))


def test_the_original_tables_of_oasis_may_be_in_latin_1(tmp_path):
    folder = trees.clinical(tmp_path, people=[{**r, "Note": "Zoë"} for r in trees.DEMOGRAPHIC_ROWS])
    path = next(folder.rglob(oasis3.DEMOGRAPHICS))
    path.write_bytes(path.read_text().encode("latin-1"))
    assert oasis3.read_clinical(folder).at("OAS30001", 0)["age_years"] == 65.2
