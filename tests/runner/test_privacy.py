"""Own data: nobody, no file and no place of this machine is named below results, whether a run ends well or not."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from nbkit.runner.execute import reproduce
from nbkit.runner.privacy import HIDDEN, Scrubber, is_path, names_in, scrubber

TABLE = """subject,session,age_years,sex,diagnosis,contrast,path
Anna-Meier,M00,34.5,F,MS,T1w,scans/meier_t1.nii.gz
P0417,wave-2,51.0,M,MS,FLAIR,scans/P0417/flair.nii.gz
30817,baseline,51.0,M,HC,FLAIR,scans/x.nii.gz
"""
NAMED = ("anna", "meier", "p0417", "m00", "wave-2", "30817", "meier_t1", "study_of_ward_7", "scans/")
TELL = """import logging, sys, warnings
import pandas as pd
from IPython.display import HTML, display
from matplotlib.figure import Figure
from nbkit.claims.observe import Run
people = pd.read_csv(cohort, dtype=str)
print(people)
logging.warning("left out: %s", people.subject[1])
warnings.warn(f"{cohort}: row {1 + 2}")
display(people[["subject", "session", "path"]], HTML(f"<b title='{cohort}'>{people.subject[0]}</b>"))
people.path[1]
"""
RECORD = """run = Run(out_dir, notebook="01_good", cohort=cohort, profile=profile, seed=seed)
run.not_run("a.b", f"{people.subject[1]} has no T1w in {people.session[1]}")
drawn = Figure()
drawn.subplots().set_title("Age")
run.figure("fig", drawn, caption=f"Scan of {people.subject[1]}, 0.31 mm")
run.table("of_all", people[["subject", "age_years"]].assign(volume=20817.5), caption="Ages")
run.number("own.mean", dict(zip(people.subject, [1.0, 2.0, 3.0])), extra=True)
"""
FAIL = """who = people.iloc[1]
raise ValueError(f"{cohort}, row {1 + 2}: {who.subject}, {who.session}: {who.path} is not there")
"""


@pytest.fixture
def table(tmp_path):
    folder = tmp_path / "data" / "hospital"
    folder.mkdir(parents=True)
    (folder / "study_of_ward_7.csv").write_text(TABLE, encoding="utf-8")
    return folder / "study_of_ward_7.csv"


def everything_in(folder: Path) -> dict[str, str]:
    """Text of every file below a folder, pictures by their bytes, without the pictures inside notebooks and pages."""
    files = {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}
    return {name: Scrubber().text(content.decode("latin-1")) for name, content in files.items()}


@pytest.mark.slow
def test_a_good_and_a_failing_run_name_nobody(write_notebook, tmp_path, table, caplog, monkeypatch):
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("nbkit.runner.execute.code_digest", lambda: "code")
    books = [write_notebook("01_good", TELL, RECORD), write_notebook("02_bad", TELL, FAIL)]
    out = tmp_path / "results" / "restricted-smoke-own-a"
    result = reproduce(books, out_dir=out, profile="smoke", cohort=str(table))
    assert [s.status for s in result.stamps] == ["done", "failed"]
    found = everything_in(out)
    assert {"01_good.ipynb", "02_bad.failed.ipynb", "index.html", "provenance.json", "tables/of_all.csv",
            "figures/fig.png", "artefacts.json", "observations.jsonl", ".stamps/02_bad.json"} <= set(found)
    leaks = [(file, word) for file, text in found.items() for word in (*NAMED, str(tmp_path), "row 3")
             if word.lower() in text.lower()]
    assert leaks == []
    assert "20817.5" in found["tables/of_all.csv"] and "0.31 mm" in found["artefacts.json"]
    assert "cell 4: ValueError" in found["index.html"] and "log alone" in found["index.html"]
    told = (tmp_path / "cache" / "logs" / f"{out.name}.02_bad.log").read_text(encoding="utf-8")
    for text in (caplog.text, told):
        assert "row 3: P0417, wave-2: scans/P0417/flair.nii.gz is not there" in text
    assert "Traceback" in told and "left out: P0417" in told and str(table) in told


def test_names_are_found_however_a_table_is_written(tmp_path):
    kinds = {
        "a.csv": TABLE.encode("utf-8-sig"), "b.csv": TABLE.replace(",", ";").encode(),
        "c.tsv": TABLE.replace(",", "\t").encode(), "d.csv": TABLE.encode("utf-16"),
        "e.csv": TABLE.encode() + b"J\xe9r\xf4me,M00,1,M,MS,T1w,x.nii\n", "f.csv": ("sep=,\n" + TABLE).encode(),
        "g.csv": TABLE.replace("subject,", " Participant_ID,", 1).encode(),
        "h.csv": TABLE.replace("\n", ",,\n").encode(),
    }
    for name, content in kinds.items():
        (tmp_path / name).write_bytes(content)
        found = set(names_in(tmp_path / name))
        assert {"Anna-Meier", "P0417", "30817", "M00", "wave-2", "flair.nii.gz", name} <= found, name
        assert "baseline" not in found
    (tmp_path / "empty.csv").write_bytes(b"")
    assert set(names_in(tmp_path / "empty.csv")) == {"empty.csv", "own-empty"}
    (tmp_path / "odd.csv").write_bytes(b'\x00\xff"' + b"x" * 200_000)
    assert set(names_in(tmp_path / "odd.csv")) == {"odd.csv", "own-odd"}


def test_names_of_a_bids_folder(tmp_path):
    for path in ("sub-Ax3/ses-M00/anat/sub-Ax3_ses-M00_T1w.nii.gz", "sub-007/anat/sub-007_T1w.nii.gz"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-Gone9\t50\n")
    found = set(names_in(tmp_path))
    assert {"sub-Ax3", "Ax3", "M00", "007", "sub-007_T1w.nii.gz", "Gone9"} <= found
    assert not {"anat", "50", "participants.tsv"} & found


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("P0417 and p0417: (P0417)", f"{HIDDEN} and {HIDDEN}: ({HIDDEN})"), ("XP0417 P04171", "XP0417 P04171"),
        ("sub-Zed9_ses-1_T1w.nii.gz is bad", f"{HIDDEN} is bad"), ("see /mnt/a b/c.nii", f"see {HIDDEN} b/c.nii"),
        ("<td>P0417</td></tr>", f"<td>{HIDDEN}</td></tr>"), ("https://doi.org/10.1/x and/or mm/year", None),
        ("Jan van Eyck came", f"{HIDDEN} came"), ("1.5 mL, 12.5 %, n = 20", None), ("C:\\Users\\me\\x.nii", HIDDEN),
        ("P0417's scan; P0417.", f"{HIDDEN}'s scan; {HIDDEN}."),
    ],
)
def test_what_is_taken_out_of_a_text_and_what_stays(text, left):
    door = Scrubber(names=frozenset({"p0417", "jan van eyck"}), own=True)
    assert door.text(text) == (text if left is None else left)


def test_pictures_and_numbers_are_left_alone():
    door = Scrubber(names=frozenset({"ab", "2081"}), own=True)
    picture = base64.b64encode(os.urandom(30_000)).decode()
    image = f'<img src="data:image/png;base64,{picture}">'
    assert door.text(image) == image
    value = {"image/png": "ab/ab+ab", "value": 2081, "ab": [None, True, "ab", 0.5]}
    assert door.json(value) == {"image/png": "ab/ab+ab", "value": 2081, "ab": [None, True, HIDDEN, 0.5]}


def test_a_page_is_cleaned_and_its_script_runs_on(tmp_path):
    door = Scrubber(names=frozenset({"ab12"}), own=True)
    code = "<script>let ab12 = x.replace( /a/b/g, '')</script>"
    sheet = '"sheet": "data:image/png;base64,/ab12/ab12+"'
    data = f'<script type="application/json">{{"refusal": "ab12 has no scan", {sheet}}}</script>'
    (tmp_path / "explorer.html").write_text(f"<p>AB12</p>{code}{data}<style>.ab12 {{}}</style>")
    door.folder(tmp_path)
    cleaned = data.replace("ab12 has", f"{HIDDEN} has")
    assert (tmp_path / "explorer.html").read_text() == f"<p>{HIDDEN}</p>{code}{cleaned}<style>.ab12 {{}}</style>"


def test_a_file_that_is_not_what_its_ending_says_is_cleaned_as_text(tmp_path):
    (tmp_path / "a.json").write_text("{ab12: half")
    Scrubber(names=frozenset({"ab12"}), own=True).folder(tmp_path)
    assert (tmp_path / "a.json").read_text() == f"{{{HIDDEN}: half"


def test_a_page_keeps_its_scripts_and_nobodys_name(tmp_path):
    """A script that is changed no longer runs, and numbers of its data may look like a person's."""
    kept = '<script type="application/json">{"ml": [2081, 7.2081]}</script><script>a = 2081 / 2; // go/on/so</script>'
    (tmp_path / "a.html").write_text(f"<p>2081 came</p>{kept}", encoding="utf-8")
    Scrubber(names=frozenset({"2081"}), own=True).folder(tmp_path)
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == f"<p>[hidden] came</p>{kept}"


def test_a_run_on_open_data_hides_places_only(tmp_path, write_notebook):
    book = write_notebook("01_a")
    door = scrubber(book, tmp_path / "out", {"cohort": "embedded", "n": 3})
    assert not door.own and door.names == frozenset()
    assert door.text(f"{tmp_path / 'out'}/a {book.parent}/b sub-01 row 3") == "out/a ./b sub-01 row 3"
    assert door.error("cell 1: KeyError", f"{book.parent}/x") == "cell 1: KeyError: ./x"


def test_what_counts_as_a_place(tmp_path):
    assert is_path(str(tmp_path)) and not is_path("embedded") and not is_path("") and not is_path(3)
    assert not is_path("/" + "x" * 5000) and not is_path("a\0/b")


def test_an_own_scan_makes_a_run_private(tmp_path, write_notebook):
    scan = tmp_path / "Meier_T1.nii.gz"
    scan.touch()
    door = scrubber(write_notebook("09_x"), tmp_path / "out", {"cohort": "embedded", "own_scan": str(scan)})
    assert door.own and json.dumps(door.json({"own_scan": str(scan), "a": "Meier_T1.nii.gz"})).count(HIDDEN) == 2
