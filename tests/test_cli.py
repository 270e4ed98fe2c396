"""The command line: exit codes and messages."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from nbkit import __version__, cli
from nbkit.claims.observe import Run
from nbkit.claims.verdicts import judge_folder
from nbkit.data.manifest import Manifest, ManifestFile, data_folder, load_manifest
from nbkit.figures import marks
from nbkit.runner.execute import finish
from nbkit.runner.folder import Stamp, read_stamps, write_stamp
from tests.data import trees
from tests.data.loopback import serving


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty place to work in, with its own cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NBKIT_DATA", str(tmp_path / "cache" / "data"))
    monkeypatch.delenv("NBKIT_MIRROR", raising=False)
    return tmp_path


def record(folder, fcn: float) -> None:
    run = Run(folder, notebook="01_a", cohort="embedded", profile="smoke", seed=7, paper="wei2019_flair")
    for method, value in (("fcn", fcn), ("rf", 2.0)):
        run.number(f"wei2019.table2_2a.mse.{method}", {f"s{i}": value * (1 + 0.01 * i) for i in range(8)}, unit="z²")
    judge_folder(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--profile", "smok"], "Did you mean 'smoke'"),
        (["run", "--cohort", "embeded"], "Did you mean 'embedded'"),
        (["run", "--cohort", "none.csv"], "none.csv"),
        (["run", "--nb", "77"], "notebooks: NB"),
        (["scorecard"], "make reproduce"),
        (["verify", "--profile", "laptp"], "Did you mean 'laptop'"),
        (["data", "fetch", "opn"], "Did you mean 'open'"),
        (["cache", "clear", "weights"], "cache clear: kind"),
        (["report", "nowhere"], "a results folder with provenance.json"),
        (["site", "results/smoke-embedded"], "make reproduce"),
        (["export-explorer", "--profile", "smok"], "Did you mean 'smoke'"),
        (["data", "check", "nowhere"], "expected a folder"),
        (["run", "--seed", "seven"], "valid integer"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(nbkit, home, arguments, message):
    code, _, err = nbkit(*arguments)
    assert code == 2
    assert message in err and "Traceback" not in err
    assert not list(home.glob("results*"))


def test_run_hands_its_options_on_and_returns_the_runs_exit_code(nbkit, home, monkeypatch):
    seen = {}

    def fake(notebooks, *, out_dir, **given):
        seen.update(given, notebooks=[n.stem for n in notebooks], folder=out_dir.name)
        out_dir.mkdir(parents=True)
        write_stamp(out_dir, Stamp("01_a", "k", "failed", error="cell 2: boom"))
        finish(out_dir, profile="smoke", cohort="embedded", seed=8)
        return type("R", (), {"stamps": tuple(read_stamps(out_dir).values()), "exit_code": 1})

    book = {"cells": [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ["width = 64"]}]}
    (home / "01_a.ipynb").write_text(json.dumps(book), encoding="utf-8")
    monkeypatch.setattr(cli, "choose_notebooks", lambda nb: [home / "01_a.ipynb"])
    monkeypatch.setattr(cli, "reproduce", fake)
    code, out, err = nbkit("run", "--profile", "smoke", "--seed", "8", "-p", "width=32", "--n-jobs", "2")
    assert code == 1 and "cell 2: boom" in err
    assert os.path.join("results", "smoke-embedded", "index.html") in out
    assert seen["folder"] == "smoke-embedded" and seen["parameters"] == {"width": 32}
    assert (seen["seed"], seen["n_jobs"], seen["profile"], seen["device"]) == (8, 2, "smoke", "auto")


def test_a_finished_run_is_reported_again(nbkit, home):
    record(home / "results", 1.0)
    finish(home / "results", profile="smoke", cohort="embedded", seed=7)
    (home / "results" / "index.html").unlink()
    code, out, _ = nbkit("report", "results")
    assert code == 0 and os.path.join("results", "index.html") in out and (home / "results" / "index.html").exists()


@pytest.mark.parametrize("there", [True, False])
def test_an_explorer_that_is_missing_is_made_again(nbkit, home, monkeypatch, there):
    """Notebook 09 runs even if nothing has changed where its page is gone; where it is there, the stamp decides."""
    folder = home / "results" / "smoke-embedded"
    write_stamp(folder, Stamp("09_explore_trajectories", "k", "done"))
    page = folder / "explorer.html"
    if there:
        page.write_text("", encoding="utf-8")

    def fake(notebooks, **given):
        assert [n.stem for n in notebooks] == ["09_explore_trajectories"]
        assert bool(read_stamps(folder)) == there
        page.write_text("made", encoding="utf-8")
        return type("R", (), {"stamps": (), "exit_code": 0})

    monkeypatch.setattr(cli, "reproduce", fake)
    code, out, _ = nbkit("export-explorer", "--profile", "smoke")
    assert code == 0 and os.path.join("smoke-embedded", "explorer.html") in out


def test_data_state_follows_the_files_of_a_table(home):
    (home / "a.nii").write_bytes(b"1")
    (home / "t.csv").write_text("subject,path\ns1,a.nii\n", encoding="utf-8")
    first = cli.data_state("t.csv")
    assert cli.data_state("t.csv") == first
    (home / "a.nii").write_bytes(b"12")
    second = cli.data_state("t.csv")
    (home / "t.csv").write_text("subject,path\ns2,a.nii\n", encoding="utf-8")
    assert len({first, second, cli.data_state("t.csv")}) == 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_data_state_reads_a_table_as_the_check_does(home, encoding):
    (home / "ä.nii").write_bytes(b"1")
    (home / "t.csv").write_bytes("Subject;PATH\r\ns1;ä.nii\r\n".encode(encoding))
    first = cli.data_state("t.csv")
    (home / "ä.nii").write_bytes(b"12")
    second = cli.data_state("t.csv")
    (home / ".nbkit.toml").write_text('diagnosis = "CN"')
    assert len({first, second, cli.data_state("t.csv")}) == 3


TABLES = {
    "bytes": b"\0\1subject,path", "broken utf-16": "subject,path\n".encode("utf-16")[:-1], "no path": b"subject\ns1\n",
    "open quote": b'subject,path\n"s1,a.nii\n', "too many cells": b"subject,path\ns1,a.nii,7\n",
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
def test_run_and_check_refuse_a_table_in_the_same_words(nbkit, home, content):
    (home / "t.csv").write_bytes(content)
    for command in (("run", "--cohort", "t.csv"), ("data", "check", "t.csv")):
        code, _, err = nbkit(*command)
        assert code == 2 and err.startswith("nbkit: t.csv") and "Traceback" not in err


def test_run_names_who_is_read_refused_or_left_out(nbkit, home, monkeypatch):
    people = [*trees.ADNI_PEOPLE, {**trees.ADNI_PEOPLE[1], "participant_id": "sub-ADNI941S1195", "sex": 3}]
    root = trees.adni(home / "adni", people=people)
    trees.scan(root, "sub-ADNI941S1195", "ses-M000")
    (home / "01_a.ipynb").write_text('{"cells": []}', encoding="utf-8")

    def stop(*args, **given):
        raise cli.NbkitError("here", expected="an end", found="one", remedy="Stop.")

    monkeypatch.setattr(cli, "choose_notebooks", lambda nb: [home / "01_a.ipynb"])
    monkeypatch.setattr(cli, "reproduce", stop)
    _, out, _ = nbkit("run", "--cohort", str(root))
    assert out.startswith("adni: 2 of 3 people can be read\n")
    assert "refused: participants.tsv: ADNI941S1195: expected F or M" in out or "sex: F or M" in out


def test_data_state_of_open_scans_changes_when_a_file_appears(home, monkeypatch):
    before = cli.data_state("open")
    manifest = cli.load_manifest("open_ms")
    file = home / "mirror" / manifest.folder / manifest.files[0].path
    file.parent.mkdir(parents=True)
    file.write_bytes(b"scan")
    monkeypatch.setenv("NBKIT_MIRROR", str(home / "mirror"))
    assert cli.data_state("open") != before
    assert cli.data_state("embedded") == cli.data_state("embedded")


def test_scorecard_in_words_and_in_json(nbkit, home):
    record(home / "results" / "laptop-embedded", fcn=1.0)
    code, out, _ = nbkit("scorecard")
    assert code == 0 and "1 reproduced" in out and "Random Forest" in out
    code, out, _ = nbkit("scorecard", "--json")
    verdicts = {c["id"]: c["verdict"] for c in json.loads(out)["claims"]}
    assert verdicts["wei2019.claim.mse_vs_rf"] == "reproduced"


def test_verify_fails_only_when_worse(nbkit, home):
    record(home / "reference" / "laptop-embedded", fcn=1.0)
    record(home / "results" / "laptop-embedded", fcn=1.0)
    assert nbkit("verify", "--reference", "reference")[:2] == (0, "nothing is worse than the reference\n")
    record(home / "results" / "laptop-embedded", fcn=3.0)
    code, out, _ = nbkit("verify", "--reference", "reference")
    assert code == 1 and "wei2019.claim.mse_vs_rf: reproduced -> contradicted" in out


def test_a_reference_holds_observations_scorecard_and_figures_and_verifies(nbkit, home):
    record(home / "results" / "laptop-embedded", fcn=1.0)
    (home / "results" / "laptop-embedded" / "figures").mkdir(exist_ok=True)
    (home / "results" / "laptop-embedded" / "figures" / "a.png").write_bytes(b"png")
    code, out, _ = nbkit("reference", "--to", "reference")
    assert code == 0 and "laptop-embedded" in out
    names = sorted(p.name for p in (home / "reference" / "laptop-embedded").iterdir())
    assert names == ["a.png", "artefacts.json", "observations.jsonl", "scorecard.json", "seconds.json"]
    assert nbkit("verify", "--reference", "reference")[0] == 0
    assert not (home / "docs").exists()


def test_a_reference_of_nothing_is_refused(nbkit, home):
    code, _, err = nbkit("reference", "--to", "reference")
    assert code == 2 and "no observations" in err and "make reproduce" in err
    assert not (home / "reference").exists()


def test_a_reference_of_restricted_data_is_refused(nbkit, home):
    run = Run(home / "results" / "laptop-embedded", notebook="01_a", cohort="/data/mine", profile="smoke", seed=7)
    run.number("a.b", {"sub-01": 1.0, "sub-02": 2.0})
    code, _, err = nbkit("reference", "--to", "reference")
    assert code == 2 and "found restricted data" in err and not (home / "reference").exists()


@pytest.fixture
def bright_brains(monkeypatch):
    """The brain of a drawn head is what is bright."""
    monkeypatch.setattr("nbkit.cli.kept_brain", lambda image: image.with_data(image.data > 70, "bright"))


def test_data_check_gives_verdicts_and_a_page(nbkit, home, bright_brains):
    code, out, _ = nbkit("data", "check", str(trees.adni(home / "adni")))
    assert code == 0 and "pass     ADNI002S0729: 2 scans" in out and "2 of 2 subjects pass" in out
    assert "notebook 00: people: 2\n" in out and "notebook 01: needs at least two people with FLAIR" in out
    assert os.path.join("results", "qc-adni", "index.html") in out
    assert sorted(p.name for p in (home / "results" / "qc-adni").iterdir()) == [
        ".gitignore", "findings.csv", "index.html"]
    assert [p.name for p in (home / "results").iterdir()] == ["qc-adni"]


def test_data_check_fails_when_anybody_is_refused(nbkit, home, bright_brains):
    root = trees.oasis3(home / "oasis")
    code, out, _ = nbkit("data", "check", str(root), "--out", "page")
    assert code == 1 and "refused  the data set: " in out and "0 of 2 subjects pass" in out
    assert "same score vector" in (home / "page" / "findings.csv").read_text(encoding="utf-8")
    assert nbkit("data", "check", str(root), "--clinical", str(trees.clinical(home / "tables")))[0] == 0


def test_data_check_takes_sex_codes_and_csv_files(nbkit, home, bright_brains):
    trees.scan(home, "sub-01", "ses-1")
    (home / "mine.csv").write_text(
        "subject,session,age_years,sex,diagnosis,contrast,path\n"
        "01,1,70,2,CN,T1w,sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz\n", encoding="utf-8")
    code, out, _ = nbkit("data", "check", "mine.csv")
    assert code == 1 and "--sex-codes 1=M,2=F" in out
    code, out, _ = nbkit("data", "check", "mine.csv", "--sex-codes", "1=M, 2=F")
    assert code == 0 and "a run does not know --sex-codes" in out
    (home / ".nbkit.toml").write_text('sex_codes = {1 = "M", 2 = "F"}')
    assert nbkit("data", "check", "mine.csv")[0] == 0
    code, _, err = nbkit("data", "check", "mine.csv", "--sex-codes", "2=female")
    assert code == 2 and "--sex-codes 2: expected one of F, M" in err


def test_restricted_cohorts_are_told_not_fetched(nbkit, home):
    for name, address in (("adni", "adni.loni.usc.edu"), ("oasis3", "oasisbrains")):
        code, _, err = nbkit("data", "fetch", name)
        assert code == 1 and address in err and "restricted" in err


def test_data_state_follows_the_files_of_a_folder(home, monkeypatch):
    monkeypatch.setattr(cli, "cohort_name", str)
    root = trees.adni(home / "adni")
    first = cli.data_state("adni")
    assert cli.data_state("adni") == first
    trees.scan(root, "sub-ADNI011S0005", "ses-M000", suffix="T2w")
    assert cli.data_state("adni") != first


def test_data_commands(nbkit, home):
    code, out, _ = nbkit("data", "list")
    assert code == 0 and "ms_phantom" in out and "0 of 30 subjects" in out and "0 of 0" not in out
    phantoms = ("ms_phantom", "ageing_phantom", "myelin_phantom", "pet_phantom")
    nothing = "".join(f"{name}: nothing to download\n" for name in phantoms)
    assert nbkit("data", "fetch", "embedded")[:2] == (0, nothing)
    assert nbkit("data", "fetch", str(home))[:2] == (0, f"{home.name}: nothing to download\n")
    code, out, _ = nbkit("data", "verify", "open")
    needed = sum(len(load_manifest(name).files) for name in ("open_ms", "ixi_ageing", "myelin_open_ms", "pet_ixi"))
    assert code == 0 and f"0 ok, {needed} missing" in out


def test_fetching_a_part_says_what_it_costs_and_what_cannot_be_checked(nbkit, home, monkeypatch):
    content = {"participants.tsv": b"table", "sub-1/t1.bin": b"1" * 3_000_000}
    content |= {"sub-2/t1.bin": b"2", "sub-3/t1.bin": b"3"}
    files = [ManifestFile(path="participants.tsv", unverified=True)]
    for path, body in list(content.items())[1:]:
        who = path.split("/")[0]
        files.append(ManifestFile(path=path, bytes=len(body), md5=hashlib.md5(body).hexdigest(), participant=who,
                                  session="1", more=who == "sub-3"))
    with serving(content) as server:
        manifest = Manifest(name="study", title="t", access="open", licence="CC0", attribution="By them",
                            folder="study", release="1", partial=True, base_url=f"{server.address}/",
                            files=tuple(files))
        monkeypatch.setattr(cli, "_manifests", lambda cohort: [manifest])
        code, out, _ = nbkit("data", "fetch", "study", "--people", "1")
        assert code == 0 and out == (
            "study: 2 files, 2 to download (3 MB)\n"
            "study: 2 files here and verified, but for participants.tsv: no hash of it is published. By them\n")
        assert "study: 3 files, 1 to download (0 MB)" in nbkit("data", "fetch", "study")[1]
        assert "4 files here" in nbkit("data", "fetch", "study", "--all")[1]
    assert nbkit("data", "verify", "study")[1] == "3 ok, 0 missing, 0 wrong, 1 without a published hash, as at first\n"
    (data_folder() / "study" / "participants.tsv").write_text("other")
    code, out, _ = nbkit("data", "verify", "study")
    assert code == 1 and "participants.tsv: wrong hash" in out
    code, _, err = nbkit("data", "fetch", "study", "--people", "0")
    assert code == 1 and "--people: expected a number above 0" in err


def test_data_state_follows_people_scanned_twice(home, monkeypatch):
    first, embedded = cli.data_state("dlbs"), cli.data_state("embedded")
    place = data_folder() / "ds003823" / "participants.tsv"
    place.parent.mkdir(parents=True)
    place.write_text("table")
    assert cli.data_state("dlbs") != first and cli.data_state("embedded") == embedded


def test_doctor_is_one_line_each_and_leaves_nothing(nbkit, home):
    code, out, _ = nbkit("doctor")
    assert code == 0
    for what in ("python", "torch", "bfloat16", "memory", "disk", "ipyniivue", "cache", "results", "open_ms"):
        assert what in out, what
    assert "make data COHORT=open" in out and "nbkit data check FOLDER" in out
    assert list(home.iterdir()) == []


def test_doctor_names_a_cache_that_cannot_be_written(nbkit, home, monkeypatch):
    (home / "file").touch()
    monkeypatch.setenv("NBKIT_CACHE", str(home / "file" / "cache"))
    code, out, _ = nbkit("doctor")
    assert code == 1 and "cannot be written to" in out and "set NBKIT_CACHE" in out


MINE = "class Mine:\n    def fit(self, cohort): ...\n    def predict(self, history, ages, diagnosis): ..."


def test_run_takes_a_users_model_only_where_there_is_one(nbkit, home, monkeypatch):
    seen = {}
    monkeypatch.setattr(marks, "ENTERED", {})
    monkeypatch.setattr(cli, "reproduce", lambda notebooks, **given: seen.update(given) or 1 / 0)
    (home / "mine.py").write_text(MINE)
    with pytest.raises(ZeroDivisionError):
        nbkit("run", "--nb", "08", "--profile", "smoke", "--model", "mine.py:Mine")
    assert seen["model"] == "mine.py:Mine" and not list(home.glob("results*"))
    wrong = {"mine.py:Mime": "Did you mean 'Mine'", "our.py:Mine": "no such file", "Mine": "Install the package"}
    for address, words in wrong.items():
        code, _, err = nbkit("run", "--nb", "08", "--model", address)
        assert code == 2 and words in err


def test_the_version_is_said_and_notebooks_are_copied_but_never_over_others(nbkit, home):
    assert nbkit("--version") == (0, f"nbkit {__version__}\n", "")
    code, out, _ = nbkit("notebooks", "--to", "mine")
    there = sorted(path.name for path in (home / "mine").iterdir())
    assert code == 0 and f"{len(there)} notebooks in mine" in out and there[0] == "00_start_here.ipynb"
    (home / "mine" / there[0]).write_text("changed")
    (home / "mine" / there[1]).unlink()
    code, _, err = nbkit("notebooks", "--to", "mine")
    assert code == 2 and there[0] in err and "Choose another folder" in err
    assert (home / "mine" / there[0]).read_text() == "changed" and not (home / "mine" / there[1]).exists()
