"""From a wheel alone, in an empty folder: the command line, the notebooks, and what comes with the project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest

from nbkit import __version__
from nbkit.claims.observe import load_observations
from nbkit.data.manifest import list_manifests
from nbkit.data.shipped import weights_list
from tests.sources import ROOT

MOST_BYTES = 60e6
pytestmark = pytest.mark.slow


def _run(*command: str | Path, cwd: Path, **more: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | more
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built without a network."""
    place = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-index")
    _run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", place, ROOT, cwd=place)
    found, = place.glob("nbkit-*.whl")
    return found


@pytest.fixture(scope="module")
def bin(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``python`` and ``nbkit`` of an environment that has the wheel and sees the packages installed here."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--quiet")
    _run(*pip, "--no-index", "--no-deps", wheel, cwd=place)
    asked = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    packages = Path(_run(python, "-c", asked, cwd=place).strip())
    (packages / "here.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return place / "bin"


def test_it_is_small_and_holds_what_is_needed_at_run_time_and_no_results(wheel):
    assert wheel.stat().st_size < MOST_BYTES
    names = zipfile.ZipFile(wheel).namelist()
    there = {name.removeprefix("nbkit/_project/") for name in names if name.startswith("nbkit/_project/")}
    wanted = [p.relative_to(ROOT).as_posix() for folder in ("notebooks", "data_manifests", "reference/weights")
              for p in (ROOT / folder).rglob("*") if p.is_file() and ".ipynb_checkpoints" not in p.parts]
    assert there == set(wanted) and len(wanted) > 20
    assert {f"nbkit/papers/{paper.name}/published.toml" for paper in (ROOT / "nbkit/papers").iterdir()
            if (paper / "published.toml").exists()} <= set(names)
    assert {name.split("/")[0] for name in names} == {"nbkit", f"nbkit-{__version__}.dist-info"}


def test_it_says_its_version_and_finds_manifests_and_weights(bin, tmp_path):
    assert _run(bin / "nbkit", "--version", cwd=tmp_path).strip() == f"nbkit {__version__}"
    code = """import nbkit
from nbkit.data.manifest import list_manifests
from nbkit.data.shipped import shipped_folder, weights_list
print(nbkit.__file__, *list_manifests(), *(shipped_folder(name).name for name in weights_list()))"""
    origin, *found = _run(bin / "python", "-c", code, cwd=tmp_path).split()
    assert Path(origin).is_relative_to(bin.parent) and found == [*list_manifests(), *weights_list()]


def test_it_copies_the_notebooks_and_runs_what_lies_with_them_in_an_empty_folder(bin, tmp_path):
    _run(bin / "nbkit", "notebooks", "--to", "mine", cwd=tmp_path)
    copied = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}
    assert copied == {path.name: path.read_bytes() for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    little = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}, cells=[
        nbformat.v4.new_code_cell('out_dir = "."\nprofile = "smoke"', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("from nbkit.claims.observe import Run\nrun = Run(out_dir, notebook='99_little', "
                                  "cohort='embedded', profile=profile, seed=1)\nrun.number('little.one', value=1.0)"),
    ])
    place, = bin.parent.glob("lib/python*/site-packages/nbkit/_project/notebooks")
    nbformat.write(little, place / "99_little.ipynb")
    _run(bin / "nbkit", "run", "--nb", "99", "--profile", "smoke", cwd=tmp_path)
    out = tmp_path / "results" / "smoke-embedded"
    assert (out / "index.html").exists() and load_observations(out)["little.one"].value == 1.0
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["system"]["git"] == {"commit": None, "dirty": None}


def test_a_benchmark_is_written_entered_and_judged_in_an_empty_folder(bin, tmp_path):
    written = _run(bin / "nbkit", "benchmark", "write", "ageing", "--profile", "smoke", "--to", "task", cwd=tmp_path)
    assert "forecasts asked for" in written
    _run("sh", ROOT / "examples" / "volumes_only.sh", "task", "mine", cwd=tmp_path)
    judged = _run(bin / "nbkit", "benchmark", "judge", "task", "mine", "--out", "page.html", cwd=tmp_path)
    assert "lateral ventricle, error (%):" in judged and "mine" in judged
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "mine" in page and "open truth" in page
