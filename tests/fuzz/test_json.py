"""JSON: of people's data sets, of a results folder; a refusal by file, or an object that says what it may."""

from __future__ import annotations

import json
import math

import pytest

from nbkit.claims.observe import ARTEFACTS, OBSERVATIONS, Run, load_artefacts, load_observations, load_rooms
from nbkit.claims.verdicts import SCORECARD, judge_folder, load_scorecard
from nbkit.data.sidecars import sidecar
from nbkit.data.table_sidecars import age_unit, levels, read_sidecar
from tests.fuzz.damage import Door

TOLD = {"age": {"Units": "months", "Description": "in years"},
        "sex": {"Levels": {"1": "male", "2": {"Description": "f"}}}}


@pytest.mark.slow
def test_sidecars_of_tables_and_scans(tmp_path):
    wholes = [json.dumps(TOLD).encode(), json.dumps(TOLD, indent=1).encode("utf-16"), b"\xef\xbb\xbf{}"]
    door, path = Door("json", wholes, words=(b"days", b"weeks", b"Units", b"years")), tmp_path / "sub-1_pet.json"
    for which, raw in door:
        path.write_bytes(raw)
        door.tries(which, raw, lambda: _look(path))
    door.close()


def _look(path) -> None:
    assert isinstance(sidecar(path.parent, path.with_suffix(".nii")), dict)
    told = read_sidecar(path)
    unit, years = age_unit(told, "age", path.name)
    assert years == {"year": 1.0, "month": 1 / 12, "week": 7 / 365.25, "day": 1 / 365.25}[unit]
    assert all(isinstance(text, str) for pair in levels(told, "sex").items() for text in pair)


@pytest.mark.slow
def test_results_folders(tmp_path):
    """What a run left and somebody changed: the report, the scorecard and the comparison begin with these."""
    run = Run(tmp_path, notebook="01_a", cohort="embedded", profile="smoke", seed=1, paper="wei2019_flair")
    run.number("wei2019.table2_2a.mse.fcn", {"s1": 1.0, "s2": 2.0, "s3": 2.5}, unit="z²")
    run.number("wei2019.table2_2a.mse.rf", {"s1": 1.5, "s2": 2.5, "s3": 3.0}, unit="z²")
    run.not_run("wei2019.table2_4", "no DIR")
    judge_folder(tmp_path)
    files = [tmp_path / name for name in (OBSERVATIONS, ARTEFACTS, SCORECARD)]
    words = b"true", b'"a"', b'"s1": ', b"wei2019."
    door = Door("results", [file.read_bytes() for file in files], words=words, share=4)
    for which, raw in door:
        files[which].write_bytes(raw)
        door.tries(which, raw, lambda: _judged(tmp_path))
        for file, whole in zip(files, door.wholes, strict=True):
            file.write_bytes(whole)
    door.close()


def _judged(folder) -> None:
    for seen in load_observations(folder).values():
        assert math.isfinite(seen.value) and all(math.isfinite(v) for v in seen.per_subject.values())
    load_scorecard(folder).counts()
    load_artefacts(folder), load_rooms(folder)
    judge_folder(folder)
