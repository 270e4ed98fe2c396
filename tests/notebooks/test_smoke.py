"""Every notebook runs at its smallest size through the runner, leaves what it declares, and obeys its parameters."""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import nbformat
import pytest

from nbkit.claims.observe import load_artefacts, load_observations
from nbkit.cohorts import NAMES as COHORTS
from nbkit.core.checks import NbkitError
from nbkit.core.files import cache_folder
from nbkit.runner.execute import RunResult, reproduce
from nbkit.runner.parameters import declared
from tests.notebooks import contract

pytestmark = pytest.mark.slow
# the runner decides these two itself: where results go (the whole test looks there), and that nobody is watching
RUNNERS_OWN = {"out_dir", "headless"}
SETTINGS = {"profile": "smoke", "cohort": "embedded", "seed": 7, "device": "cpu"}
OBEYED = [
    (path, name)
    for path in contract.NOTEBOOKS
    for name, parameter in declared(path).items()
    if not parameter.inert and name not in RUNNERS_OWN
]
AGEING = ("05", "06", "08", "09")
GROUPS = {
    "ageing": [path for path in contract.NOTEBOOKS if path.stem.startswith(AGEING)],
    "others": [path for path in contract.NOTEBOOKS if not path.stem.startswith(AGEING)],
}
"""Notebooks on one cohort run one after the other, in one process of the tests; the groups may run side by side."""
each_group = pytest.mark.parametrize("group", GROUPS)
AMOUNTS = [(p, n) for p, n in OBEYED if isinstance(declared(p)[n].default, bool | int | float | list)]
WORDS = [(path, name) for path, name in OBEYED if (path, name) not in AMOUNTS]


def altered(value: object) -> object:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 1.5
        case list():
            return value[:-1]
    raise TypeError(f"{value!r} is no amount")


def beginning(path: Path, folder: Path) -> Path:
    """A copy of the notebook that ends with the first cell that leaves a table or a figure."""
    notebook = contract.read(path)
    cells = notebook.cells
    lengths = (k for k in range(len(cells)) if contract.declared_artefacts(nbformat.NotebookNode(cells=cells[:k])))
    notebook.cells = cells[:next(lengths, len(cells))]
    nbformat.write(notebook, folder / path.name)
    return folder / path.name


def measured(folder: Path, notebook: str) -> dict[str, object]:
    """All that a notebook recorded: its numbers by id, and the bytes of its tables and figures by file."""
    found = [o for o in load_observations(folder).values() if o.notebook == notebook]
    files = [a["file"] for a in load_artefacts(folder)["artefacts"] if a["notebook"] == notebook]
    return {o.id: (o.value, dict(o.per_subject)) for o in found} | {f: (folder / f).read_bytes() for f in files}


@functools.cache
def first_run(group: str) -> RunResult:
    """The notebooks of a group, run once."""
    return reproduce(GROUPS[group], out_dir=fresh("smoke"), **SETTINGS)


@functools.cache
def second_run(group: str) -> RunResult:
    """The same again elsewhere, with nothing cached but the people: tests/cohorts makes those twice."""
    first_run(group)
    cache, people = fresh("cache"), set(COHORTS) & {f.name for f in cache_folder().iterdir()}
    for name in people:
        shutil.copytree(cache_folder() / name, cache / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBKIT_CACHE", str(cache))
        return reproduce(GROUPS[group], out_dir=fresh("again"), **SETTINGS)


def fresh(name: str) -> Path:
    """A new folder; tests/conftest.py clears what lies here."""
    return Path(tempfile.mkdtemp(prefix=name, dir=os.environ["HOME"]))


def group_of(item: pytest.Item) -> str:
    """The group of a test's notebook, or the one it is about."""
    given = item.callspec.params
    return given.get("group") or next(name for name, paths in GROUPS.items() if given["path"] in paths)


@pytest.fixture
def run(request) -> RunResult:
    """The first run of the test's group."""
    return first_run(group_of(request.node))


@pytest.fixture
def rerun(request) -> RunResult:
    """The second run of the test's group."""
    return second_run(group_of(request.node))


@each_group
def test_every_notebook_completes(run, group):
    assert {s.notebook: (s.status, s.error) for s in run.stamps} == {p.stem: ("done", "") for p in GROUPS[group]}
    assert run.exit_code == 0


@pytest.mark.parametrize("path", contract.NOTEBOOKS, ids=lambda p: p.stem)
def test_every_cell_ran_and_no_widget_is_stored(run, path):
    executed = contract.read(run.folder / path.name)
    statuses = {cell.metadata.papermill.status for cell in contract.code_cells(executed)}
    assert statuses == {"completed"}
    assert "widgets" not in executed.metadata


@pytest.mark.parametrize("path", contract.NOTEBOOKS, ids=lambda p: p.stem)
def test_declared_artefacts_exist(run, path):
    entries = [a for a in load_artefacts(run.folder)["artefacts"] if a["notebook"] == path.stem]
    assert contract.declared_artefacts(contract.read(path)) <= {(a["kind"], a["name"]) for a in entries}
    for entry in entries:
        assert entry["caption"] and (run.folder / entry["file"]).stat().st_size > 0


@each_group
def test_observations_keep_their_schema(run, group):
    observations = load_observations(run.folder).values()
    assert {o.notebook for o in observations} <= {p.stem for p in GROUPS[group]}
    for o in observations:
        assert (o.profile, o.level, o.seed) == ("smoke", "embedded", 7), o.id
        assert o.cohort and math.isfinite(o.value), o.id
        assert o.n is None or o.n >= max(1, len(o.per_subject)), o.id


@each_group
def test_the_scorecard_judges_every_paper_notebook(run, group):
    card = json.loads((run.folder / "scorecard.json").read_text(encoding="utf-8"))
    assert card["claims"] and all({"id", "verdict", "evidence"} <= set(claim) for claim in card["claims"])
    assert card["numbers"] and all({"id", "published", "observed", "verdict"} <= set(n) for n in card["numbers"])


@each_group
def test_the_report_stands_alone(run, group):
    page = (run.folder / "index.html").read_text(encoding="utf-8")
    assert all(path.stem in page for path in GROUPS[group])
    assert 'src="http' not in page and 'rel="stylesheet"' not in page
    assert str(run.folder) not in page


@each_group
def test_nothing_is_written_beside_the_notebooks(run, group):
    assert {p.suffix for p in (contract.ROOT / "notebooks").iterdir() if p.is_file()} == {".ipynb"}


@pytest.mark.parametrize("path", contract.NOTEBOOKS, ids=lambda p: p.stem)
def test_the_same_seed_gives_the_same_numbers(run, rerun, path):
    first, second = (measured(r.folder, path.stem) for r in (run, rerun))
    assert first.keys() == second.keys()
    numbers = [o.id for o in load_observations(run.folder).values() if o.notebook == path.stem]
    assert [i for i in numbers if ".seconds" not in i and first[i] != second[i]] == []


@pytest.mark.parametrize(("path", "name"), AMOUNTS, ids=[f"{p.stem}-{n}" for p, n in AMOUNTS])
def test_a_parameter_changes_something(run, rerun, tmp_path, path, name):
    """Mostly the first table shows it; where it does not, the whole notebook must."""
    # what differs between two equal runs (times) cannot tell that the parameter did anything
    first, second = (measured(r.folder, path.stem) for r in (run, rerun))
    change = {name: altered(SETTINGS.get(name, declared(path)[name].default))}
    for book in (beginning(path, tmp_path), path):
        assert reproduce([book], out_dir=tmp_path / "out", **SETTINGS, parameters=change).exit_code == 0
        now = measured(tmp_path / "out", path.stem)
        recorded = now.keys() | (first.keys() if book == path else set())
        if [key for key in recorded if first.get(key) == second.get(key) != now.get(key)]:
            return
    pytest.fail(f"{name} changes nothing")


@pytest.mark.parametrize(("path", "name"), WORDS, ids=[f"{p.stem}-{n}" for p, n in WORDS])
def test_a_word_that_no_choice_knows_is_refused(run, tmp_path, monkeypatch, path, name):
    """Cell by cell in this process, which has the libraries loaded; `run` has filled the cache."""
    monkeypatch.chdir(tmp_path)
    given = SETTINGS | {"out_dir": str(tmp_path), "headless": True, "n_jobs": 1, name: "nonsense"}
    parameters, *cells = contract.code_cells(contract.read(path))
    values: dict[str, object] = {}
    exec(parameters.source, values)
    values |= {key: value for key, value in given.items() if key in values}
    with pytest.raises(NbkitError, match="nonsense"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cell in cells:
            exec(cell.source, values)
