"""Runs: complete, failing, killed, resumed, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nbkit.claims.observe import Run, load_observations
from nbkit.core.checks import NbkitError
from nbkit.core.seeds import numpy_generator
from nbkit.data import shipped
from nbkit.runner import execute
from nbkit.runner.execute import ROOT, choose_notebooks, reproduce
from nbkit.runner.folder import locked, read_stamps, write_stamp
from nbkit.runner.privacy import scrubber
from nbkit.runner.provenance import cpu_count
from nbkit.runner.times import foretold

OBSERVED = "wei2019.table2_2a.mse.fcn"


@pytest.fixture(autouse=True)
def _same_code(monkeypatch):
    """The tree may change under a running test; what that does is tested by itself."""
    monkeypatch.setattr("nbkit.runner.execute.code_digest", lambda: "code")


def expected(*, seed: int, factor: float) -> dict[str, float]:
    draw = numpy_generator(seed, "test").normal(size=8)
    return {f"s{i}": float(factor * 10 + x) for i, x in enumerate(draw)}


def statuses(result) -> dict[str, str]:
    return {s.notebook: s.status for s in result.stamps}


@pytest.mark.slow
def test_a_run_leaves_every_promised_file_and_no_absolute_path(recorder, tmp_path):
    out = tmp_path / "results" / "smoke-embedded"
    result = reproduce([recorder("01_a")], out_dir=out, profile="smoke", parameters={"factor": 3.0})
    assert (result.exit_code, statuses(result)) == (0, {"01_a": "done"})
    assert "none has run" in foretold(out.name, ["01_a"]), "no other run takes as long as one with what was asked here"
    for name in ("01_a.ipynb", "observations.jsonl", "tables/01_a_table.csv", "scorecard.json", "provenance.json"):
        assert (out / name).exists(), name
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "A table." in page and "<script" not in page and "http" not in page.replace("http-equiv", "")
    observation = load_observations(out)[OBSERVED]
    assert (observation.profile, observation.n) == ("smoke", 8)
    assert dict(observation.per_subject) == expected(seed=7, factor=3.0)
    assert read_stamps(out)["01_a"].peak_bytes > 10e6
    for file in out.rglob("*"):
        if file.is_file():
            assert str(tmp_path) not in file.read_text(encoding="utf-8"), file
    provenance = json.loads((out / "provenance.json").read_text(encoding="utf-8"))
    assert {"git", "packages", "cpu", "memory_gb", "torch"} <= set(provenance["system"])


@pytest.mark.slow
def test_a_second_run_does_nothing_and_missing_or_changed_work_is_done_again(recorder, tmp_path):
    book, out = recorder("01_a"), tmp_path / "out"
    reproduce([book], out_dir=out, profile="smoke")
    assert "1 by earlier runs here" in foretold(out.name, ["01_a"])
    first = (out / "observations.jsonl").read_bytes(), (out / "01_a.ipynb").stat().st_mtime_ns
    again = reproduce([book], out_dir=out, profile="smoke", n_jobs=2)
    assert statuses(again) == {"01_a": "unchanged"} and again.exit_code == 0
    assert ((out / "observations.jsonl").read_bytes(), (out / "01_a.ipynb").stat().st_mtime_ns) == first
    (out / "tables" / "01_a_table.csv").unlink()
    assert statuses(reproduce([book], out_dir=out, profile="smoke")) == {"01_a": "done"}
    assert (out / "observations.jsonl").read_bytes() == first[0], "the same seed gives the same observations"
    assert statuses(reproduce([book], out_dir=out, profile="smoke", seed=8)) == {"01_a": "done"}
    assert (out / "observations.jsonl").read_bytes() != first[0]


def test_what_makes_a_notebook_run_again(recorder, write_notebook, tmp_path, monkeypatch):
    book, out = recorder("01_a"), tmp_path / "out"

    def pretend(notebook, values, out_dir, stamp, children, scrub):
        (out_dir / "01_a.ipynb").touch()
        write_stamp(out_dir, done := replace(stamp, status="done"))
        return done

    def status(**given) -> str:
        result = reproduce([book], out_dir=out, **{"profile": "smoke", **given})
        return result.stamps[0].status

    monkeypatch.setattr("nbkit.runner.execute._run_one", pretend)
    assert [status(), status(), status(n_jobs=3)] == ["done", "unchanged", "unchanged"]
    assert [status(data_state="new"), status(data_state="new")] == ["done", "unchanged"]
    assert [status(parameters={"factor": 4.0}), status(device="cpu"), status(profile="laptop")] == ["done"] * 3
    assert [status(), status()] == ["done", "unchanged"]
    recorder("01_a", "1 + 1")
    assert [status(), status()] == ["done", "unchanged"]
    monkeypatch.setattr("nbkit.runner.execute.code_digest", lambda: "other code")
    assert [status(), status()] == ["done", "unchanged"]


def test_a_notebook_that_reads_results_runs_again_when_they_change(recorder, write_notebook, tmp_path, monkeypatch):
    book, out = write_notebook("10_all", "1 + 1"), tmp_path / "out"
    cells = json.loads(book.read_text())
    cells["cells"][-1]["metadata"]["tags"] = ["reads-results"]
    book.write_text(json.dumps(cells))

    def pretend(notebook, values, out_dir, stamp, children, scrub):
        (out_dir / f"{notebook.stem}.ipynb").touch()
        write_stamp(out_dir, done := replace(stamp, status="done"))
        return done

    monkeypatch.setattr("nbkit.runner.execute._run_one", pretend)
    both = [book, recorder("01_a")]
    assert statuses(reproduce(both, out_dir=out)) == dict.fromkeys(("10_all", "01_a"), "done")
    assert statuses(reproduce(both, out_dir=out)) == dict.fromkeys(("10_all", "01_a"), "unchanged")
    Run(out, notebook="01_a", cohort="embedded", profile="laptop", seed=7).number("x.y", value=1.0, extra=True)
    assert statuses(reproduce(both, out_dir=out)) == {"10_all": "done", "01_a": "unchanged"}


@pytest.mark.slow
def test_a_failing_and_a_killed_notebook_do_not_stop_the_others(recorder, write_notebook, tmp_path):
    books = [
        write_notebook("02_bad", "raise KeyError('no such contrast')"),
        write_notebook("03_killed", "import os; os._exit(137)"), recorder("04_good"),
    ]
    out = tmp_path / "out"
    result = reproduce(books, out_dir=out, profile="smoke")
    assert result.exit_code == 1
    assert statuses(result) == {"02_bad": "failed", "03_killed": "failed", "04_good": "done"}
    errors = {s.notebook: s.error for s in result.stamps}
    assert "KeyError" in errors["02_bad"] and "no such contrast" in errors["02_bad"]
    assert errors["03_killed"].startswith("the kernel was ended from outside (SIGKILL), with 0.")
    assert (out / "02_bad.failed.ipynb").exists() and not (out / "02_bad.ipynb").exists()
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "02 · bad" in page and "no such contrast" in page and "SIGKILL" in page


@pytest.mark.slow
def test_notebooks_side_by_side_share_the_cores_and_the_last_waits_for_all(
    recorder, write_notebook, tmp_path, monkeypatch
):
    """Each of two waits until the other is there; both record into the same files."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    here, there, out = tmp_path / "here", tmp_path / "there", tmp_path / "out"
    for pipe in (here, there):
        os.mkfifo(pipe)
    met = ("import os, signal; signal.alarm(120); open({!r}, {!r}); open({!r}, {!r}); "
           "print(os.environ['OMP_NUM_THREADS'])")
    count = "from nbkit.claims.observe import load_observations; print(len(load_observations(out_dir)))"
    books = [
        recorder("01_a", met.format(str(here), "r", str(there), "w")),
        recorder("02_b", met.format(str(here), "w", str(there), "r"), method="rf"),
        write_notebook("10_all", count),
    ]
    cells = json.loads(books[-1].read_text())
    cells["cells"][-1]["metadata"]["tags"] = ["reads-results"]
    books[-1].write_text(json.dumps(cells))
    result = reproduce(books, out_dir=out, profile="smoke", at_once=2)
    assert statuses(result) == dict.fromkeys(("01_a", "02_b", "10_all"), "done"), result.stamps
    printed = {book.stem: "".join(json.loads((out / book.name).read_text())["cells"][-1]["outputs"][0]["text"])
               for book in books}
    share = max(1, cpu_count() // 2)
    said = {name: text.strip() for name, text in printed.items()}
    assert said == {"01_a": f"{share}", "02_b": f"{share}", "10_all": "2"}
    assert set(load_observations(out)) == {OBSERVED, OBSERVED.replace("fcn", "rf")}
    assert [s.parameters["n_jobs"] for s in result.stamps] == [share] * 3


def start(books: list[Path], out: Path, at_once: int = 1) -> subprocess.Popen:
    """A run in a process of its own, returned when its notebook has recorded its number."""
    # in the background of a shell, or by nohup, a test run inherits SIGINT and SIGHUP ignored
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
        "import sys; from pathlib import Path; from nbkit.runner.execute import reproduce; "
        f"sys.exit(reproduce([Path(p) for p in {[str(b) for b in books]!r}], out_dir={str(out)!r}, "
        f"profile='smoke', at_once={at_once}).exit_code)"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while OBSERVED not in load_observations(out) and time.monotonic() < deadline:
        time.sleep(0.1)
    return run


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_numbers(recorder, tmp_path):
    gate, out = tmp_path / "gate", tmp_path / "out"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.05)"
    book = recorder("01_a", wait)
    run = start([book], out)
    run.kill()
    run.wait()
    assert not (out / "01_a.ipynb").exists() and not (out / "index.html").exists()
    gate.touch()
    assert statuses(reproduce([book], out_dir=out, profile="smoke")) == {"01_a": "done"}
    assert dict(load_observations(out)[OBSERVED].per_subject) == expected(seed=7, factor=2.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "whole_group", "at_once"),
    [(signal.SIGINT, True, 1), (signal.SIGTERM, False, 1), (signal.SIGHUP, True, 1), (signal.SIGTERM, False, 2)],
)
def test_a_run_that_is_asked_to_end_leaves_a_readable_folder_and_nothing_else(
    recorder, tmp_path, monkeypatch, number, whole_group, at_once
):
    out, temporary, pids = tmp_path / "out", tmp_path / "tmp", [tmp_path / "pid a", tmp_path / "pid b"]
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    sleeping = "import os, pathlib, time; pathlib.Path({!r}).write_text(str(os.getpid())); time.sleep(300)"
    books = [recorder(name, sleeping.format(str(pid)), method=method)
             for name, pid, method in zip(("01_a", "02_b"), pids, ("fcn", "rf"), strict=True)]
    run = start(books, out, at_once)
    while not all(pid.exists() and pid.read_text() for pid in pids[:at_once]):
        time.sleep(0.05)
    (os.killpg if whole_group else os.kill)(run.pid, number)
    assert run.wait(timeout=60) == 128 + number
    assert {s.notebook: s.status for s in read_stamps(out).values()} == {"01_a": "stopped", "02_b": "stopped"}
    assert "stopped before its end" in (out / "index.html").read_text(encoding="utf-8")
    assert (out / "scorecard.json").exists() and not (out / "01_a.ipynb").exists()
    assert list(temporary.iterdir()) == [] and not [p for p in out.rglob("*") if p.name.endswith(".new")]
    assert [pid.exists() for pid in pids] == [True, at_once == 2]
    for pid in pids[:at_once]:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


def test_make_hands_what_ends_it_to_the_run():
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nreproduce:")[2].partition("\n\n")[0]
    assert "\texec $(NBKIT) run" in recipe


def test_two_runs_in_one_folder(recorder, tmp_path, monkeypatch):
    monkeypatch.setattr("nbkit.runner.folder.PATIENCE_S", 0.2)
    out = tmp_path / "smoke-embedded"
    with locked(out), pytest.raises(NbkitError, match=f"smoke-embedded.*process {os.getpid()}.*own folder"):
        reproduce([recorder("01_a")], out_dir=out, profile="smoke")
    assert not (out / "01_a.ipynb").exists()


def test_the_lock_of_a_dead_process_does_not_bind(tmp_path):
    code = f"import os; from pathlib import Path; from nbkit.runner.folder import locked\n" \
           f"with locked(Path({str(tmp_path)!r})): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (tmp_path / ".run.lock").read_text(encoding="utf-8").isdigit()
    with locked(tmp_path):
        assert (tmp_path / ".run.lock").read_text(encoding="utf-8") == str(os.getpid())


def test_unwritable_output_folder_is_named(recorder, tmp_path):
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(NbkitError, match="can be written to.*output folder"):
        reproduce([recorder("01_a")], out_dir=tmp_path / "file" / "out", profile="smoke")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "not a folder"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"profile": "smok"}, "Did you mean 'smoke'"),
        ({"device": "gpu"}, "pick_device"),
        ({"parameters": {"factr": 3.0}}, "Did you mean 'factor'"),
        ({"parameters": {"factor": "large"}}, "01_a.ipynb: factor: expected int or float, found 'large'"),
        ({"parameters": {"seed": 1.5}}, "seed: expected int"),
        ({"parameters": {"names": ("a",)}}, "names: expected list"),
        ({"seed": True}, "seed: expected int"),
        ({"cohort": ""}, "COHORT=embedded"),
        ({"at_once": 0}, "at_once: expected 1 or more, found 0"),
    ],
)
def test_wrong_input_is_refused_before_anything_runs(recorder, tmp_path, given, message):
    with pytest.raises(NbkitError) as caught:
        reproduce([recorder("01_a")], out_dir=tmp_path / "out", **{"profile": "smoke", **given})
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_notebooks_are_chosen_by_number_or_name(write_notebook):
    a, b = write_notebook("00_start"), write_notebook("01_flair")
    assert choose_notebooks("all", folder=a.parent) == [a, b]
    assert choose_notebooks("01,00", folder=a.parent) == [a, b]
    assert choose_notebooks("01_flair", folder=a.parent) == [b]
    with pytest.raises(NbkitError, match="Did you mean '01_flair'"):
        choose_notebooks("01_flare", folder=a.parent)
    with pytest.raises(NbkitError, match="no notebooks"):
        choose_notebooks("all", folder=a.parent / "none")


def test_weights_that_come_with_the_project_count_by_their_list(write_notebook, tmp_path, monkeypatch):
    reads = write_notebook("01_a", parameters='out_dir = "."\nweights = "shipped"\n')
    other = write_notebook("02_b", parameters='out_dir = "."\n')
    assert execute._WEIGHTS == shipped.LIST
    monkeypatch.setattr(execute, "_WEIGHTS", tmp_path / "weights.toml")
    before = [execute._influential(book, values) for book, values in ((reads, {}), (other, {}))]
    trained = execute._influential(reads, {"weights": "train"})
    (tmp_path / "weights.toml").write_text('[brlp]\nsha256 = "b"\n')
    assert execute._influential(reads, {}) != before[0] and execute._influential(other, {}) == before[1] == {}
    assert execute._influential(reads, {"weights": "train"}) == trained != before[0]


def test_a_users_model_counts_by_its_content_where_it_is_declared(write_notebook, tmp_path, monkeypatch):
    mine = tmp_path / "mine.py"
    mine.write_text("class Mine:\n    pass\n")
    takes = write_notebook("01_a", parameters='out_dir = "."\nmodel = ""\n')
    other = write_notebook("02_b", parameters='out_dir = "."\n')
    asked = []
    monkeypatch.setattr(execute, "_run_all", lambda plan, *_, **__: asked.append(plan) or ([], 0))
    monkeypatch.chdir(tmp_path)
    reproduce([takes, other], out_dir=tmp_path / "out", model="mine.py:Mine")
    (plan,) = asked
    assert plan[takes]["model"] == f"{mine}:Mine" and "model" not in plan[other]
    first = execute._influential(takes, plan[takes])
    assert str(tmp_path) not in json.dumps(first) and execute._influential(other, plan[other]) == {}
    mine.write_text("class Mine:\n    changed = True\n")
    assert execute._influential(takes, plan[takes]) != first
    assert execute._shown(plan[takes])["model"] == "mine.py:Mine"
    assert str(tmp_path) not in scrubber(takes, tmp_path / "out", plan[takes]).text(f"model = '{mine}:Mine'")
    with pytest.raises(NbkitError, match="'model'"):
        reproduce([other], out_dir=tmp_path / "out", model="mine.py:Mine")
