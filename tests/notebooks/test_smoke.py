"""Every notebook runs once at its smallest size through the runner, leaves what it declares, and obeys its parameters.

That the same seed gives the same bits is proved where things are made: on every simulated cohort (tests/cohorts) and
on every fit (tests/papers); here only that a notebook hands its parameters on.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from pathlib import Path
from typing import ClassVar

import pytest

from nbkit import session
from nbkit.claims.observe import load_artefacts, load_observations
from nbkit.core.checks import NbkitError
from nbkit.core.config import PROFILES
from nbkit.runner.execute import RunResult, reproduce
from nbkit.runner.parameters import declared
from tests.notebooks import contract

pytestmark = [pytest.mark.slow, pytest.mark.notebook]
SETTINGS = {"profile": "smoke", "cohort": "embedded", "seed": 7, "device": "cpu"}
AGEING = ("05", "06", "08", "09")
OPENED = {"profile": PROFILES[1], "cohort": "a_cohort", "seed": 8}
"""What :func:`nbkit.session.begin` must be handed, unlike any default."""


class Stopped(Exception):
    """Raised in place of opening a cohort."""


def obeyed(path: Path) -> set[str]:
    """Parameters that must change something; the runner decides itself where results go, and that nobody watches."""
    return {n for n, p in declared(path).items() if not p.inert} - {"out_dir", "headless"}


def amounts(path: Path) -> set[str]:
    """Those of the parameters above that are numbers or lists."""
    return {n for n in obeyed(path) if isinstance(declared(path)[n].default, bool | int | float | list)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every class the notebooks of its own, and their words."""
    if metafunc.cls is None:
        return
    asked, paths = metafunc.fixturenames, metafunc.cls.paths
    if "name" in asked:
        pairs = [(p, n) for p in paths for n in sorted(obeyed(p) - amounts(p))]
        metafunc.parametrize(("path", "name"), pairs, ids=[f"{p.stem}-{n}" for p, n in pairs])
    elif "path" in asked:
        metafunc.parametrize("path", paths, ids=lambda p: p.stem)


def played(path: Path, folder: Path, **given: object) -> None:
    """Run a notebook cell by cell in this process, which has the libraries loaded."""
    parameters, *cells = contract.code_cells(contract.read(path))
    values: dict[str, object] = {}
    exec(parameters.source, values)
    chosen = SETTINGS | {"out_dir": str(folder), "headless": True, "n_jobs": 1} | given
    values |= {key: value for key, value in chosen.items() if key in values}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cell in cells:
            exec(cell.source, values)


class Smoke:
    """What every notebook keeps to; those of a class run one after the other, in one process of the tests."""

    paths: ClassVar[list[Path]]

    @pytest.fixture(scope="class")
    def run(self, request, tmp_path_factory) -> RunResult:
        """The notebooks, run once."""
        return reproduce(request.cls.paths, out_dir=tmp_path_factory.mktemp("smoke"), **SETTINGS)

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
        assert all(f">{path.stem[:2]} · " in page for path in self.paths)
        assert 'src="http' not in page and 'rel="stylesheet"' not in page
        assert str(run.folder) not in page

    def test_nothing_is_written_beside_the_notebooks(self, run):
        assert {p.suffix for p in (contract.ROOT / "notebooks").iterdir() if p.is_file()} == {".ipynb"}

    def test_profile_cohort_and_seed_decide_who_is_opened(self, tmp_path, monkeypatch, path):
        """The cohort that a notebook opens is the one it was asked for; what a seed changes, cohorts show."""
        asked: dict[str, object] = {}

        def refuse(level: str, **options: object) -> None:
            asked.update(options, cohort=level)
            raise Stopped

        monkeypatch.setattr(session.cohorts, "cohort_for", refuse)
        if path.stem.startswith("10"):  # the scorecard opens no cohort: it reads what the others recorded
            pytest.skip("opens no cohort")
        with pytest.raises(Stopped):
            played(path, tmp_path, **OPENED)
        assert OPENED.items() <= asked.items()

    def test_a_word_that_no_choice_knows_is_refused(self, run, tmp_path, monkeypatch, path, name):
        """`run` has filled the cache."""
        monkeypatch.chdir(tmp_path)
        with pytest.raises(NbkitError, match="nonsense"):
            played(path, tmp_path, **{name: "nonsense"})


class TestAgeing(Smoke):
    paths = [path for path in contract.NOTEBOOKS if path.stem.startswith(AGEING)]


class TestOthers(Smoke):
    paths = [path for path in contract.NOTEBOOKS if not path.stem.startswith(AGEING)]


def test_the_seed_is_the_only_amount():
    """Others are words, refused above where no choice knows them; one more amount needs a test that changes it."""
    assert set().union(*(amounts(path) for path in contract.NOTEBOOKS)) == {"seed"}


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
