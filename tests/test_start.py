"""Ways to start without installing, and the workflow that publishes: parsed, and run as far as no network is needed."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.sources import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SCRIPT = ROOT / "binder" / "postBuild"


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, in order."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]


def a_clone(folder: Path) -> Path:
    """What the steps of an image would see: the tracked files that .dockerignore lets pass."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    wanted = ("nbkit/__init__.py", "notebooks/", "binder/", "pyproject.toml", "requirements.lock", "README.md")
    for name in tracked.splitlines():
        if name.startswith(wanted) and not any(fnmatch.fnmatch(name.split("/")[0], i) for i in ignored):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A ``python`` first on the PATH that writes down what it was asked, instead of asking a registry."""
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "python"
    fake.write_text('#!/bin/sh\npwd >> "$ASKED"\necho "$@" >> "$ASKED"\n', encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    return lambda: (tmp_path / "asked").read_text(encoding="utf-8").splitlines()


def test_the_script_installs_the_clone_at_the_versions_of_the_lock(tmp_path, recorded):
    clone = a_clone(tmp_path / "a clone")
    subprocess.run([str(clone / "binder" / "postBuild")], cwd="/", check=True)
    place, first, _, second = recorded()
    assert Path(place) == clone
    assert first.endswith("--constraint requirements.lock --editable .") and "/whl/cpu" in first
    weights = re.search(r"^DEEPBET := (\S+)$", MAKEFILE, re.MULTILINE)[1]
    assert second.endswith(f"--no-deps {weights}")
    assert (clone / "requirements.lock").exists() and (clone / "pyproject.toml").exists()


def test_binder_has_the_python_of_the_project_and_the_script():
    assert os.access(SCRIPT, os.X_OK)
    theirs = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text(encoding="utf-8"))
    ours = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert theirs["dependencies"] == [d for d in ours["dependencies"] if isinstance(d, str)]
    assert theirs["channels"] == ours["channels"]


def test_the_steps_of_the_image_run_in_a_fresh_folder(tmp_path, recorded):
    """RUN steps after the copy, where they would run; no account is made here."""
    steps, clone = instructions(), a_clone(tmp_path / "clone")
    after = steps[[kind for kind, _ in steps].index("COPY"):]
    for kind, text in after:
        if kind == "RUN":
            subprocess.run(["sh", "-ec", text], cwd=clone, check=True)
    assert (clone / "results").is_dir() and "--editable ." in " ".join(recorded())
    places = [text for kind, text in steps if kind == "WORKDIR"]
    assert (clone / Path(places[-1]).relative_to(places[0])).is_dir()


def test_the_image_starts_jupyterlab_as_nobody_special():
    kinds = dict(instructions())
    program, *options = json.loads(kinds["CMD"])
    tool = Path(sys.executable).parent / program
    help_ = subprocess.run([tool, *options, "--version"], capture_output=True, text=True, check=True).stdout
    assert re.match(r"\d+\.", help_) and options[0] == "lab" and f"--port={kinds['EXPOSE']}" in options
    order = [kind for kind, _ in instructions()]
    assert order[0] == "FROM" and order.index("USER") < order.index("COPY") and kinds["USER"] != "root"
    python = kinds["FROM"].removeprefix("python:").removesuffix("-slim")
    assert f"python={python}" in (ROOT / "environment.yml").read_text(encoding="utf-8")


def test_the_workflow_runs_make_targets_and_publishes_what_they_leave():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["site"]["steps"]
    commands = [shlex.split(s["run"]) for s in steps if "run" in s]
    assert [c[:2] for c in commands] == [["make", "reproduce"], ["make", "site"]]
    assert {c[2] for c in commands} == {"PROFILE=smoke"}
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    for command in commands:
        assert command[1] in targets
        assert set(re.findall(r"^([A-Z_]+)\s*\?=", MAKEFILE, re.MULTILINE)) >= {a.split("=")[0] for a in command[2:]}
    upload = next(s for s in steps if s.get("uses", "").startswith("actions/upload-pages-artifact"))
    assert upload["with"]["path"] == re.search(r"^TO\s*\?=\s*(\S+)$", MAKEFILE, re.MULTILINE)[1]
    assert steps[-1]["uses"].startswith("actions/deploy-pages")
    assert workflow["permissions"] == {"contents": "read", "pages": "write", "id-token": "write"}


def test_make_site_builds_from_the_folder_that_make_reproduce_fills():
    told = subprocess.run(["make", "--dry-run", "--always-make", "site", "PROFILE=smoke", "COHORT=open", "OUT=there"],
                          cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert 'nbkit.cli site "there/smoke-open" --to "site"' in told


@pytest.mark.parametrize("given, more", [
    ([], []),
    (["WEIGHTS=train", "N_JOBS=3", "MODEL=my.py:Mine", "AT_ONCE=4"],
     ["--n-jobs", "3", "--model", "my.py:Mine", "--parameter", "weights=train", "--at-once", "4"]),
])
def test_make_reproduce_hands_on_what_is_asked_and_nothing_else(given, more):
    clean = {name: value for name, value in os.environ.items() if not name.isupper() or name in ("PATH", "HOME")}
    told = subprocess.run(["make", "--dry-run", "reproduce", "PYTHON=none", *given], cwd=ROOT, env=clean,
                          capture_output=True, text=True, check=True).stdout.replace("\\\n", " ")
    command, = (shlex.split(line) for line in told.splitlines() if line.startswith("exec "))
    asked = dict(nb="all", profile="laptop", cohort="embedded", seed="7", device="auto", out="results")
    assert command[4:] == ["run", *[word for name, value in asked.items() for word in (f"--{name}", value)], *more]


def test_no_variable_of_make_means_two_things():
    names = re.findall(r"^(?:export )?([A-Z_]+)\s*[?:]?=", MAKEFILE, re.MULTILINE)
    assert sorted(names) == sorted(set(names))


@pytest.mark.slow
def test_make_reproduce_runs_a_notebook_to_its_report(tmp_path):
    made = ROOT / ".venv" / ".installed"
    if not made.is_file() or any((ROOT / name).stat().st_mtime > made.stat().st_mtime
                                 for name in ("pyproject.toml", "requirements.lock")):
        pytest.skip("no environment that make has made: make env")
    told = subprocess.run(["make", "reproduce", "PROFILE=smoke", "NB=00", f"OUT={tmp_path}"], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert (tmp_path / "smoke-embedded" / "index.html").is_file()
