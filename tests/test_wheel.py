"""From a wheel alone, in an empty folder: the command line, the notebooks, and what comes with the project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nbkit import __version__
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
def nbkit(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """``nbkit("run", ..., cwd=folder)`` of an environment that has the wheel and sees the packages installed here."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--quiet")
    _run(*pip, "--no-index", "--no-deps", wheel, cwd=place)
    asked = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    packages = Path(_run(python, "-c", asked, cwd=place).strip())
    (packages / "here.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    origin = _run(python, "-c", "import nbkit; print(nbkit.__file__)", cwd=place).strip()
    assert Path(origin).is_relative_to(place)
    return lambda *words, cwd, **more: _run(place / "bin" / "nbkit", *words, cwd=cwd, **more)


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


def test_it_says_its_version_and_copies_the_notebooks_once(nbkit, tmp_path):
    assert nbkit("--version", cwd=tmp_path).strip() == f"nbkit {__version__}"
    nbkit("notebooks", "--to", "mine", cwd=tmp_path)
    copied = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}
    assert copied == {path.name: path.read_bytes() for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    with pytest.raises(AssertionError, match="expected a folder without notebooks of these names.*00_start_here.ipynb"):
        nbkit("notebooks", "--to", "mine", cwd=tmp_path)


def test_it_finds_the_manifests_and_the_weights(nbkit, tmp_path):
    listed = nbkit("data", "list", cwd=tmp_path)
    assert "open_ms" in listed and "dlbs" in listed
    code = "from nbkit.data.shipped import shipped_folder as f, weights_list as w; print(*[f(n).name for n in w()])"
    python = next(iter(Path(nbkit.__closure__[0].cell_contents).glob("bin/python")))
    assert _run(python, "-c", code, cwd=tmp_path).split() == list(weights_list())


def test_it_runs_a_notebook_in_an_empty_folder(nbkit, tmp_path):
    nbkit("run", "--nb", "10", "--profile", "smoke", cwd=tmp_path)
    out = tmp_path / "results" / "smoke-embedded"
    assert (out / "index.html").exists() and (out / "10_scorecard.ipynb").exists()
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["system"]["git"] == {"commit": None, "dirty": None}
    for file in out.rglob("*"):
        if file.suffix in (".json", ".ipynb", ".html"):
            assert str(tmp_path) not in file.read_text(), file
