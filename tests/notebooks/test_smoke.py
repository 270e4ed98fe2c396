"""Every notebook runs at its smallest size through the runner, leaves what it declares, and obeys its parameters."""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from pathlib import Path
from typing import ClassVar

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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every class the notebooks of its own, and their parameters."""
    asked, paths = metafunc.fixturenames, metafunc.cls.paths
    if "name" in asked:
        pairs = [(p, n) for p, n in (WORDS if "word" in metafunc.function.__name__ else AMOUNTS) if p in paths]
        metafunc.parametrize(("path", "name"), pairs, ids=[f"{p.stem}-{n}" for p, n in pairs])
    elif "path" in asked:
        metafunc.parametrize("path", paths, ids=lambda p: p.stem)


class Smoke:
    """What every notebook keeps to; those of a class run one after the other, in one process of the tests."""

    paths: ClassVar[list[Path]]

    @pytest.fixture(scope="class")
    def run(self, request, tmp_path_factory) -> RunResult:
        """The notebooks, run once."""
        return reproduce(request.cls.paths, out_dir=tmp_path_factory.mktemp("smoke"), **SETTINGS)

    @pytest.fixture(scope="class")
    def rerun(self, request, run, tmp_path_factory) -> RunResult:
        """The same again elsewhere, with nothing cached but the people: tests/cohorts makes those twice."""
        cache, people = tmp_path_factory.mktemp("cache"), set(COHORTS) & {f.name for f in cache_folder().iterdir()}
        for name in people:
            shutil.copytree(cache_folder() / name, cache / name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NBKIT_CACHE", str(cache))
            return reproduce(request.cls.paths, out_dir=tmp_path_factory.mktemp("again"), **SETTINGS)

    def test_every_notebook_completes(self, run):
        assert {s.notebook: (s.status, s.error) for s in run.stamps} == {p.stem: ("done", "") for p in self.paths}
        assert run.exit_code == 0

    def test_every_cell_ran_and_no_widget_is_stored(self, run, path):
        executed = contract.read(run.folder / path.name)
        statuses = {cell.metadata.papermill.status for cell in contract.code_cells(executed)}
        assert statuses == {"completed"}
        assert "widgets" not in executed.metadata

    def test_declared_artefacts_exist(self, run, path):
        entries = [a for a in load_artefacts(run.folder)["artefacts"] if a["notebook"] == path.stem]
        assert contract.declared_artefacts(contract.read(path)) <= {(a["kind"], a["name"]) for a in entries}
        for entry in entries:
            assert entry["caption"] and (run.folder / entry["file"]).stat().st_size > 0

    def test_observations_keep_their_schema(self, run):
        observations = load_observations(run.folder).values()
        assert {o.notebook for o in observations} <= {p.stem for p in self.paths}
        for o in observations:
            assert (o.profile, o.level, o.seed) == ("smoke", "embedded", 7), o.id
            assert o.cohort and math.isfinite(o.value), o.id
            assert o.n is None or o.n >= max(1, len(o.per_subject)), o.id

    def test_the_scorecard_judges_every_paper_notebook(self, run):
        card = json.loads((run.folder / "scorecard.json").read_text(encoding="utf-8"))
        assert card["claims"] and all({"id", "verdict", "evidence"} <= set(claim) for claim in card["claims"])
        assert card["numbers"] and all({"id", "published", "observed", "verdict"} <= set(n) for n in card["numbers"])

    def test_the_report_stands_alone(self, run):
        page = (run.folder / "index.html").read_text(encoding="utf-8")
        assert all(path.stem in page for path in self.paths)
        assert 'src="http' not in page and 'rel="stylesheet"' not in page
        assert str(run.folder) not in page

    def test_nothing_is_written_beside_the_notebooks(self, run):
        assert {p.suffix for p in (contract.ROOT / "notebooks").iterdir() if p.is_file()} == {".ipynb"}

    def test_the_same_seed_gives_the_same_numbers(self, run, rerun, path):
        first, second = (measured(r.folder, path.stem) for r in (run, rerun))
        assert first.keys() == second.keys()
        numbers = [o.id for o in load_observations(run.folder).values() if o.notebook == path.stem]
        assert [i for i in numbers if ".seconds" not in i and first[i] != second[i]] == []

    def test_a_parameter_changes_something(self, run, rerun, tmp_path, path, name):
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

    def test_a_word_that_no_choice_knows_is_refused(self, run, tmp_path, monkeypatch, path, name):
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


class TestAgeing(Smoke):
    paths = [path for path in contract.NOTEBOOKS if path.stem.startswith(AGEING)]


class TestOthers(Smoke):
    paths = [path for path in contract.NOTEBOOKS if not path.stem.startswith(AGEING)]


@pytest.mark.skipif(not os.environ.get("NBKIT_MIRROR"), reason="set NBKIT_MIRROR to use the real files")
class TestRealScans:
    """Scans without labels, and few people who can be judged."""

    paths: ClassVar[list[Path]] = [path for path in contract.NOTEBOOKS if path.stem == "05_mrextrap"]

    def test_intervals_are_not_judged_where_nobody_is_left_to_learn_from(self, tmp_path):
        run = reproduce(self.paths, out_dir=tmp_path, **SETTINGS | {"cohort": "open"})
        assert [(s.status, s.error) for s in run.stamps] == [("done", "")]
        assert {o.cohort for o in load_observations(run.folder).values()} == {"ixi_ageing"}
        card = json.loads((run.folder / "scorecard.json").read_text(encoding="utf-8"))
        told = {c["id"]: c["verdict"] for c in card["claims"] if ".covers." in c["id"]}
        assert told and all("nobody to learn" in verdict for verdict in told.values())
